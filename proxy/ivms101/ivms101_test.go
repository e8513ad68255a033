package ivms101_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// company is the example of contract 8.5.
const company = `{"version":"1.0","ivms101":{"originator":{"originatorPersons":[{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":"Acme Ltd","legalPersonNameIdentifierType":"LEGL"}]},"geographicAddress":[{"addressType":"GEOG","addressLine":["1 High St"],"country":"SG"},{"addressType":"GEOG","addressLine":["1 High St"],"country":"SG"}],"nationalIdentification":{"nationalIdentifier":"201912345A","nationalIdentifierType":"RAID","registrationAuthority":"RA000523"},"countryOfRegistration":"SG","dateOfIncorporation":"2019-03-27"}},{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Tan","secondaryIdentifier":"Mei","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["rSenderAddress:4711"]},"beneficiary":{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Doe","secondaryIdentifier":"Joe","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["rReceiverAddress:815"]}}}`

func TestParsePayloadOfACompany(t *testing.T) {
	p, err := ivms101.ParsePayload([]byte(company))
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != "1.0" || p.Originator.Account() != "rSenderAddress:4711" || p.Beneficiary.Account() != "rReceiverAddress:815" {
		t.Errorf("ParsePayload gave version %q, accounts %q and %q", p.Version, p.Originator.Accounts, p.Beneficiary.Accounts)
	}
	if o := p.Originator; o.Legal != 1 || o.Natural != 1 {
		t.Errorf("originator has %d legal and %d natural persons, want 1 and 1", o.Legal, o.Natural)
	}
	if b := p.Beneficiary; b.Legal != 0 || b.Natural != 1 {
		t.Errorf("beneficiary has %d legal and %d natural persons, want 0 and 1", b.Legal, b.Natural)
	}
	if p.OriginatingVASP != nil || p.BeneficiaryVASP != nil {
		t.Error("ParsePayload found VASPs that are not there")
	}
}

// The pieces are the text itself, with its order, spaces and unknown members.
func TestPiecesAreTheTextAsItCame(t *testing.T) {
	const (
		originator  = `{ "zeta":1, "accountNumber" : ["a"],"alpha":{"b":[ ]} }`
		beneficiary = `{"accountNumber":["b"],"beneficiaryPersons":[ {"naturalPerson":{"new":"x"}} ]}`
		ours        = `{"legalPerson":{"name":{}},"x": 1.50}`
	)
	text := []byte("{\n\"ivms101\": {\"beneficiary\":" + beneficiary + ",\"originatingVASP\":" + ours +
		", \"originator\":\t" + originator + "}, \"version\":\"1.0\"}")
	p, err := ivms101.ParsePayload(text)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{string(p.Originator.Raw), string(p.Beneficiary.Raw), string(p.OriginatingVASP), string(p.Beneficiary.Persons)}
	want := []string{originator, beneficiary, ours, `[ {"naturalPerson":{"new":"x"}} ]`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pieces differ (-want +got):\n%s", diff)
	}
	if p.BeneficiaryVASP != nil {
		t.Errorf("BeneficiaryVASP = %q, want nil", p.BeneficiaryVASP)
	}
}

// The contract validates little: what is absent, null or new is no error.
func TestParsePayloadIsLenient(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"version":"1.0"}`, `{"version":null,"ivms101":null}`,
		`{"ivms101":{"originator":null,"beneficiary":{}}}`,
		`{"ivms101":{"beneficiary":{"beneficiaryPersons":null,"accountNumber":null}}}`,
		`{"ivms101":{"beneficiary":{"beneficiaryPersons":[null,{},{"naturalPerson":null},{"legalPerson":7}]}}}`,
		`{"ivms101":{"beneficiary":{"beneficiaryPersons":[{"naturalPerson":{"dataAndPlaceOfBirth":{"dateOfBirth":"1980-01-02"}}}]}}}`,
		`{"ivms101":{"payloadMetadata":{"transliterationMethod":["hang"]}}}`,
	} {
		if _, err := ivms101.ParsePayload([]byte(text)); err != nil {
			t.Errorf("ParsePayload(%s) = %v, want nil", text, err)
		}
	}
}

// Attacks P1, P2 and P3 on payloads, and the place that each error names.
func TestParsePayloadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                                  "json: empty; send one value",
		`[]`:                                "json: want an object",
		`"x"`:                               "json: want an object",
		`{"version":1}`:                     "json at /version: want a string",
		`{"ivms101":[]}`:                    "json at /ivms101: want an object",
		`{"ivms101":{"originator":"x"}}`:    "json at /ivms101/originator: want an object",
		`{"ivms101":{"beneficiaryVASP":1}}`: "json at /ivms101/beneficiaryVASP: want an object",
		`{"ivms101":{"beneficiary":{"accountNumber":"x"}}}`:                              "json at /ivms101/beneficiary/accountNumber: want an array",
		`{"ivms101":{"beneficiary":{"accountNumber":["x",1]}}}`:                          "json at /ivms101/beneficiary/accountNumber/1: want a string",
		`{"ivms101":{"beneficiary":{"beneficiaryPersons":{}}}}`:                          "json at /ivms101/beneficiary/beneficiaryPersons: want an array",
		`{"ivms101":{"originator":{"originatorPersons":["x"]}}}`:                         "json at /ivms101/originator/originatorPersons/0: want an object",
		`{"ivms101":{"beneficiary":{"accountNumber":["a"],"accountNumber":["b"]}}}`:      "json at /ivms101/beneficiary/accountNumber: the same member twice; send it once",
		`{"ivms101":{"beneficiary":{"accountNumber":["a` + "\u202e" + `b"]}}}`:           "json at /ivms101/beneficiary/accountNumber/0: a control character or direction override is in a string; remove it",
		`{"ivms101":{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}`:    "json at /ivms101/?" + strings.Repeat("/0", 30) + ": nested deeper than 32; send a flatter value",
		`{"ivms101":{"beneficiary":{"accountNumber":["a"],"accountNumb\u0065r":["b"]}}}`: "json at /ivms101/beneficiary/accountNumber: the same member twice; send it once",
	} {
		_, err := ivms101.ParsePayload([]byte(text))
		var refused *wirejson.Error
		if !errors.As(err, &refused) || err.Error() != want {
			t.Errorf("ParsePayload(%s)\n = %v\nwant %v", text, err, want)
		}
	}
}

func TestParsePayloadTakesHundredsOfKilobytes(t *testing.T) {
	line := strings.Repeat("가나다라", 1000) // 12 KB
	text := `{"version":"1.0","ivms101":{"originator":{"originatorPersons":[{"legalPerson":{"geographicAddress":[` +
		strings.Repeat(`{"addressLine":["`+line+`"]},`, 39) + `{}]}}],"accountNumber":["a"]}}}`
	p, err := ivms101.ParsePayload([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(text) < 400_000 || len(p.Originator.Raw) < 400_000 || p.Originator.Legal != 1 {
		t.Errorf("ParsePayload of %d bytes gave an originator of %d", len(text), len(p.Originator.Raw))
	}
}

func TestParsePersons(t *testing.T) {
	p, err := ivms101.ParseParty([]byte(`{"beneficiaryPersons":[null,
		{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Doe","secondaryIdentifier":"Joe"}]},"dataAndPlaceOfBirth":{"dateOfBirth":"1980-01-02","placeOfBirth":"Seoul"}}},
		{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":"Acme"}]}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	persons, err := ivms101.ParsePersons(p.Persons)
	if err != nil || len(persons) != 3 {
		t.Fatalf("ParsePersons = %v, %v, want three", persons, err)
	}
	if n := persons[1].Natural; n == nil || n.Name.Names[0].Primary.Value != "Doe" || n.DateAndPlaceOfBirth == nil || n.DateAndPlaceOfBirth.Date.Value != "1980-01-02" {
		t.Errorf("natural person read as %+v", n)
	}
	if l := persons[2].Legal; l == nil || l.Name.Names[0].Name.Value != "Acme" {
		t.Errorf("legal person read as %+v", l)
	}
}

func FuzzParsePayload(f *testing.F) {
	for _, seed := range []string{company, `{"ivms101":{"beneficiary":{"accountNumber":["\ud83d\ude00"]}}}`, `{"version":"1.0","version":"2"}`, "{\"a\":\"\u202e\"}", `{"ivms101":{"originator":{"originatorPersons":[null]}}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		was := bytes.Clone(text)
		p, err := ivms101.ParsePayload(text)
		if !bytes.Equal(text, was) {
			t.Fatal("ParsePayload changed the text")
		}
		if err != nil {
			return
		}
		for _, piece := range [][]byte{p.IVMS101, p.Originator.Raw, p.Beneficiary.Raw, p.OriginatingVASP, p.BeneficiaryVASP} {
			if !bytes.Contains(text, piece) || (piece != nil && wirejson.Check(piece, wirejson.Limits{}) != nil) {
				t.Fatalf("piece %q of %q is no value in it", piece, text)
			}
		}
	})
}

func BenchmarkParsePayload(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ivms101.ParsePayload([]byte(company)); err != nil {
			b.Fatal(err)
		}
	}
}
