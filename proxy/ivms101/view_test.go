package ivms101_test

import (
	stdjson "encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101/ivms101test"
)

// Contract 8.2: each member is read into its field and knows its place.
func TestViewReadsEveryMember(t *testing.T) {
	const text = `{"version":"1.0","ivms101":{
		"originator":{"originatorPersons":[{"naturalPerson":{
			"name":{"nameIdentifier":[{"primaryIdentifier":"a","secondaryIdentifier":"b","nameIdentifierType":"c"}],"localNameIdentifier":[{"primaryIdentifier":"d"}],"phoneticNameIdentifier":[{"primaryIdentifier":"e"}]},
			"geographicAddress":[{"addressType":"f","department":"g","subDepartment":"h","streetName":"i","buildingNumber":"j","buildingName":"k","floor":"l","postBox":"m","room":"n","postcode":"o","townName":"p","townLocationName":"q","districtName":"r","countrySubDivision":"s","addressLine":["t","u"],"country":"v"}],
			"nationalIdentification":{"nationalIdentifier":"w","nationalIdentifierType":"x","countryOfIssue":"y","registrationAuthority":"z"},
			"customerIdentification":"A","dateAndPlaceOfBirth":{"dateOfBirth":"B","placeOfBirth":"C"},"countryOfResidence":"D","nationality":"E"}}],"accountNumber":["F"]},
		"beneficiary":{"beneficiaryPersons":[{"legalPerson":{
			"name":{"nameIdentifier":[{"legalPersonName":"G","legalPersonNameIdentifierType":"H"}],"localNameIdentifier":[{"legalPersonName":"I"}],"phoneticNameIdentifier":[{"legalPersonName":"J"}]},
			"geographicAddress":[{"country":"K"}],"nationalIdentification":{"nationalIdentifier":"L"},"customerIdentification":"M","customerNumber":"N","countryOfRegistration":"O","dateOfIncorporation":"P"}}]},
		"originatingVASP":{"legalPerson":{"countryOfRegistration":"Q"}},"beneficiaryVASP":{"legalPerson":{"countryOfRegistration":"R"}},
		"payloadMetadata":{"transliterationMethod":["S"]}}}`
	p, err := ivms101.ParsePayload([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v := p.View()
	if len(v.Remarks) > 0 {
		t.Errorf("remarks: %+v", v.Remarks)
	}
	n, l := v.Originator.Persons[0].Natural, v.Beneficiary.Persons[0].Legal
	a := n.Addresses[0]
	in := []ivms101.Text{
		n.Name.Names[0].Primary, n.Name.Names[0].Secondary, n.Name.Names[0].Type, n.Name.LocalNames[0].Primary, n.Name.PhoneticNames[0].Primary,
		a.Type, a.Department, a.SubDepartment, a.StreetName, a.BuildingNumber, a.BuildingName, a.Floor, a.PostBox, a.Room, a.Postcode, a.TownName, a.TownLocationName,
		a.DistrictName, a.CountrySubDivision, a.Lines[0], a.Lines[1], a.Country,
		n.NationalIdentification.Identifier, n.NationalIdentification.Type, n.NationalIdentification.CountryOfIssue, n.NationalIdentification.Authority,
		n.CustomerIdentification, n.DateAndPlaceOfBirth.Date, n.DateAndPlaceOfBirth.Place, n.CountryOfResidence, n.Nationality, v.Originator.Accounts[0],
		l.Name.Names[0].Name, l.Name.Names[0].Type, l.Name.LocalNames[0].Name, l.Name.PhoneticNames[0].Name, l.Addresses[0].Country, l.NationalIdentification.Identifier,
		l.CustomerIdentification, l.CustomerNumber, l.CountryOfRegistration, l.DateOfIncorporation,
		v.OriginatingVASP.Legal.CountryOfRegistration, v.BeneficiaryVASP.Legal.CountryOfRegistration, v.TransliterationMethods[0],
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRS"
	for i, field := range in {
		if field.Value != letters[i:i+1] || at(t, text, field.At) != field.Value {
			t.Errorf("field %d holds %q from %s, want %q from there", i, field.Value, field.At, letters[i:i+1])
		}
	}
	if diff := cmp.Diff(in, v.Texts); diff != "" {
		t.Errorf("Texts (-fields +got):\n%s", diff)
	}
	if n.At != "/ivms101/originator/originatorPersons/0/naturalPerson" || a.At != n.At+"/geographicAddress/0" || l.Name.Names[0].At != "/ivms101/beneficiary/beneficiaryPersons/0/legalPerson/name/nameIdentifier/0" {
		t.Errorf("places %s, %s, %s", n.At, a.At, l.Name.Names[0].At)
	}
}

// at reads the string at a pointer by another reader's means.
func at(t *testing.T, text string, p jsontext.Pointer) string {
	t.Helper()
	d := stdjson.NewDecoder(strings.NewReader(text))
	d.UseNumber() // some are out of every range
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	for name := range p.Tokens() {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil {
				t.Fatal(err)
			}
			v = in[i]
		}
	}
	s, _ := v.(string)
	return s
}

// Tolerant: what is not of its kind counts as absent, and the rest is read.
func TestViewPassesOverWhatItCannotRead(t *testing.T) {
	const text = `{"ivms101":{"originator":{"originatorPersons":[null,{"naturalPerson":[]},{"legalPerson":null},
		{"naturalPerson":{"name":7,"geographicAddress":{},"nationality":["KR"],"countryOfResidence":"SG","~/ \u00e9":1}}],"accountNumber":null},
		"beneficiary":null,"payloadMetadata":{"transliterationMethod":["kore",7]},"next":{}}}`
	p, err := ivms101.ParsePayload([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v := p.View()
	persons := v.Originator.Persons
	if len(persons) != 4 || persons[3].Natural == nil || persons[3].Natural.CountryOfResidence.Value != "SG" || persons[1].Natural != nil || v.Beneficiary != nil {
		t.Errorf("read as %+v", v)
	}
	const at = "/ivms101/originator/originatorPersons/"
	var got []string
	for _, f := range v.Remarks {
		got = append(got, fmt.Sprint(f.Pointer, " ", f.Code, " ", f.Warning))
	}
	want := []string{
		at + "1/naturalPerson WRONG-KIND false", at + "3/naturalPerson/name WRONG-KIND false", at + "3/naturalPerson/geographicAddress WRONG-KIND false",
		at + "3/naturalPerson/nationality WRONG-KIND false", at + "3/naturalPerson/? UNKNOWN true",
		"/ivms101/payloadMetadata/transliterationMethod/1 WRONG-KIND false", "/ivms101/? UNKNOWN true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("remarks (-want +got):\n%s", diff)
	}
}

// Contract 8.1: both spellings are read, whichever comes first, and the right
// one wins.
func TestViewReadsBothSpellingsOfTheBirth(t *testing.T) {
	right, wrong := `"dateAndPlaceOfBirth":{"dateOfBirth":"right"}`, `"dataAndPlaceOfBirth":{"dateOfBirth":"wrong"}`
	for members, want := range map[string]string{right: "right", wrong: "wrong", right + "," + wrong: "right", wrong + "," + right: "right", wrong + `,"dateAndPlaceOfBirth":null`: "wrong"} {
		p, err := ivms101.ParsePayload([]byte(`{"ivms101":{"originator":{"originatorPersons":[{"naturalPerson":{` + members + `}}]}}}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.View().Originator.Persons[0].Natural.DateAndPlaceOfBirth; got == nil || got.Date.Value != want {
			t.Errorf("%s: read as %+v, want %q", members, got, want)
		}
	}
}

// Every text of every payload is at the place that it says.
func TestViewKnowsWhereEachTextStands(t *testing.T) {
	for seed := range uint64(200) {
		text := ivms101test.New(seed).Text()
		p, err := ivms101.ParsePayload([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		v := p.View()
		for _, i := range []int{0, len(v.Texts) / 2, len(v.Texts) - 1} {
			if got := at(t, text, v.Texts[i].At); got != v.Texts[i].Value {
				t.Fatalf("seed %d: %s holds %q, read as %q", seed, v.Texts[i].At, got, v.Texts[i].Value)
			}
		}
	}
}

func TestParsePersonsNamesWhatItCannotRead(t *testing.T) {
	_, err := ivms101.ParsePersons([]byte(`[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":7}]}}}]`))
	if want := "json at /0/naturalPerson/name/nameIdentifier/0/primaryIdentifier: want a string"; err == nil || err.Error() != want {
		t.Errorf("ParsePersons = %v, want %s", err, want)
	}
	if persons, err := ivms101.ParsePersons([]byte(`[{"naturalPerson":{"tomorrow":1}}]`)); err != nil || persons[0].Natural == nil {
		t.Errorf("ParsePersons = %+v, %v", persons, err)
	}
	for _, text := range []string{`[`, `[{"a":1,"a":2}]`, `{}`} {
		if persons, err := ivms101.ParsePersons([]byte(text)); err == nil {
			t.Errorf("ParsePersons(%s) = %+v", text, persons)
		}
	}
}

// Whatever is JSON can be looked at and judged, in any order, and findings
// name no more than the contract's names.
func FuzzValidate(f *testing.F) {
	for seed := range uint64(8) {
		f.Add([]byte(ivms101test.New(seed).Text()))
	}
	for _, seed := range []string{goodPayload, company, `{}`, `{"ivms101":{"originator":{"originatorPersons":[null,{},{"naturalPerson":{"name":{"nameIdentifier":[null,[],{"primaryIdentifier":null}]}}}]}}}`,
		`{"ivms101":{"beneficiary":{"accountNumber":[":",""],"beneficiaryPersons":[{"legalPerson":{"nationalIdentification":{"nationalIdentifierType":"leix","nationalIdentifier":"\u00e9"}}}]}}}`,
		`{"ivms101":{"originatingVASP":{"naturalPerson":{}},"payloadMetadata":{"transliterationMethod":[[]]}}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ivms101.ParsePayload(text)
		if err != nil {
			return
		}
		for _, o := range []ivms101.Occasion{{}, {Inbound: true}, {AccountCheck: true}, {Inbound: true, AccountCheck: true}} {
			for _, found := range [][]ivms101.Finding{strict.Validate(o, p), ivms101.Lenient{}.Validate(o, p)} {
				for _, f := range found {
					if f.Code == "" || f.Problem == "" || (f.Pointer != "" && f.Pointer[0] != '/') || strings.ContainsFunc(f.Pointer, func(r rune) bool { return r < '!' || r > '~' }) {
						t.Fatalf("finding %+v in %q", f, text)
					}
				}
			}
		}
		for _, text := range p.View().Texts {
			if text.At == "" {
				t.Fatalf("a text without a place: %+v", text)
			}
		}
	})
}

func FuzzParsePersons(f *testing.F) {
	f.Add([]byte(`[` + goodPerson + `,null,` + goodCompany + `]`))
	f.Add([]byte(`[{"naturalPerson":{"dateAndPlaceOfBirth":[]}}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		persons, err := ivms101.ParsePersons(text)
		var decoded []ivms101.Person
		if err == nil && json.Unmarshal(text, &decoded) == nil && len(decoded) != len(persons) {
			t.Fatalf("%d persons, and within a value %d: %q", len(persons), len(decoded), text)
		}
	})
}

func BenchmarkStrict(b *testing.B) {
	p, err := ivms101.ParsePayload([]byte(goodPayload))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		strict.Validate(ivms101.Occasion{}, p)
	}
}
