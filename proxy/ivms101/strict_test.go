package ivms101_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
)

var today = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var strict = ivms101.Strict{Now: func() time.Time { return today }}

// A payload that keeps every rule, and whose parts the tables below break.
const (
	goodName    = `"name":{"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"}]}`
	goodAddress = `{"addressType":"HOME","streetName":"High St","buildingNumber":"1","country":"SG"}`
	goodBirth   = `"dateAndPlaceOfBirth":{"dateOfBirth":"1980-01-02","placeOfBirth":"Seoul"}`
	goodNumber  = `"nationalIdentification":{"nationalIdentifier":"S1","nationalIdentifierType":"IDCD","countryOfIssue":"SG"}`
	goodPerson  = `{"naturalPerson":{` + goodName + `,"geographicAddress":[` + goodAddress + `],` + goodBirth + `,` + goodNumber + `,"nationality":"KR","countryOfResidence":"SG"}}`
	goodLEI     = `"nationalIdentification":{"nationalIdentifier":"5493001KJTIIGC8Y1R12","nationalIdentifierType":"LEIX"}`
	goodCompany = `{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":"Acme","legalPersonNameIdentifierType":"LEGL"}]},"geographicAddress":[{"addressType":"GEOG","addressLine":["1 High St"],"country":"SG"}],` + goodLEI + `,"countryOfRegistration":"SG","dateOfIncorporation":"2019-03-27"}}`
	goodPayload = `{"version":"1.0","ivms101":{"originator":{"originatorPersons":[` + goodPerson + `],"accountNumber":["bc1q:7"]},"beneficiary":{"beneficiaryPersons":[` + goodCompany + `,` + `{"naturalPerson":{` + goodName + `}}],"accountNumber":["x"]},"payloadMetadata":{"transliterationMethod":["kore"]},"originatingVASP":` + goodCompany + `}}`

	person  = "/ivms101/originator/originatorPersons/0/naturalPerson"
	legal   = "/ivms101/beneficiary/beneficiaryPersons/0/legalPerson"
	secret  = "Jane-Marker-Doe"
	secret2 = "Jane-Marker-Roe"
)

// Contract 8.2 and 8.3, rule by rule: what is broken, and what is said.
func TestStrictRules(t *testing.T) {
	long := func(n int) string { return strings.Repeat("é", n) }
	for _, c := range []struct {
		name, from, to string
		at             string
		code           ivms101.Fault
	}{
		{"no version", `"version":"1.0",`, ``, "/version", ivms101.Missing},
		{"no originator", `"originator":`, `"originators":`, "/ivms101/originator", ivms101.Missing},
		{"no persons", `"originatorPersons":[` + goodPerson + `]`, `"originatorPersons":[]`, "/ivms101/originator/originatorPersons", ivms101.Missing},
		{"no account of the originator", `,"accountNumber":["bc1q:7"]`, ``, "/ivms101/originator/accountNumber", ivms101.Missing},
		{"empty account", `"bc1q:7"`, `""`, "/ivms101/originator/accountNumber/0", ivms101.Empty},
		{"account of two words around", `"bc1q:7"`, `"bc1q "`, "/ivms101/originator/accountNumber/0", ivms101.WrongForm},
		{"address without its tag", `"bc1q:7"`, `"bc1q:"`, "/ivms101/originator/accountNumber/0", ivms101.WrongForm},
		{"tag without an address", `"bc1q:7"`, `":7"`, "/ivms101/originator/accountNumber/0", ivms101.WrongForm},
		{"chain prefix", `"bc1q:7"`, `"bitcoincash:qq"`, "/ivms101/originator/accountNumber/0", ivms101.WrongForm},
		{"chain prefix in capitals and a tag", `"bc1q:7"`, `"Ethereum:0x1:7"`, "/ivms101/originator/accountNumber/0", ivms101.WrongForm},
		{"long account", `"bc1q:7"`, `"` + long(101) + `"`, "/ivms101/originator/accountNumber/0", ivms101.TooLong},

		{"no name", goodName + `,"geo`, `"geo`, person + "/name/nameIdentifier", ivms101.Missing},
		{"no name identifiers", `"name":{"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"}]},"geo`, `"name":{"nameIdentifier":[]},"geo`, person + "/name/nameIdentifier", ivms101.Missing},
		{"local name only", `"name":{"nameIdentifier":`, `"name":{"localNameIdentifier":`, person + "/name/nameIdentifier", ivms101.Missing},
		{"no legal name", `"nameIdentifierType":"LEGL"`, `"nameIdentifierType":"ALIA"`, person + "/name/nameIdentifier", ivms101.Missing},
		{"two legal names", `"nameIdentifier":[`, `"nameIdentifier":[{"primaryIdentifier":"R","nameIdentifierType":"legl"},`, person + "/name/nameIdentifier/1/nameIdentifierType", ivms101.TooMany},
		{"type of name", `"nameIdentifierType":"LEGL"`, `"nameIdentifierType":"LEGL"},{"primaryIdentifier":"a","nameIdentifierType":"` + secret + `"`, person + "/name/nameIdentifier/1/nameIdentifierType", ivms101.WrongForm},
		{"type in the standard's spelling", `"nameIdentifierType"`, `"naturalPersonNameIdentifierType"`, person + "/name/nameIdentifier/0/nameIdentifierType", ivms101.Missing},
		{"no primary identifier", `"primaryIdentifier":"Roe",`, ``, person + "/name/nameIdentifier/0/primaryIdentifier", ivms101.Missing},
		{"blank primary identifier", `"Roe"`, `" \t"`, person + "/name/nameIdentifier/0/primaryIdentifier", ivms101.Empty},
		{"long name", `"Roe"`, `"` + long(101) + `"`, person + "/name/nameIdentifier/0/primaryIdentifier", ivms101.TooLong},
		{"number for a name", `"Roe"`, `7`, person + "/name/nameIdentifier/0/primaryIdentifier", ivms101.WrongKind},
		{"a name that is a text", goodName + `,"geo`, `"name":"` + secret + `","geo`, person + "/name", ivms101.WrongKind},

		{"address that is an object", `"geographicAddress":[` + goodAddress + `]`, `"geographicAddress":` + goodAddress, person + "/geographicAddress", ivms101.WrongKind},
		{"no type of address", `"addressType":"HOME",`, ``, person + "/geographicAddress/0/addressType", ivms101.Missing},
		{"type of address", `"HOME"`, `"HOUSE"`, person + "/geographicAddress/0/addressType", ivms101.WrongForm},
		{"no country", `,"country":"SG"}],"dateAnd`, `}],"dateAnd`, person + "/geographicAddress/0/country", ivms101.Missing},
		{"country in three letters", `"1","country":"SG"`, `"1","country":"SGP"`, person + "/geographicAddress/0/country", ivms101.WrongForm},
		{"no country of the list", `"1","country":"SG"`, `"1","country":"ZZ"`, person + "/geographicAddress/0/country", ivms101.WrongForm},
		{"reserved country code", `"1","country":"SG"`, `"1","country":"UK"`, person + "/geographicAddress/0/country", ivms101.WrongForm},
		{"street without a building", `"buildingNumber":"1",`, ``, person + "/geographicAddress/0", ivms101.Missing},
		{"building without a street", `"streetName":"High St",`, ``, person + "/geographicAddress/0", ivms101.Missing},
		{"town only", `"streetName":"High St","buildingNumber":"1"`, `"townName":"S"`, person + "/geographicAddress/0", ivms101.Missing},
		{"eight lines", `"streetName":"High St","buildingNumber":"1"`, `"addressLine":["1","2","3","4","5","6","7","8"]`, person + "/geographicAddress/0/addressLine", ivms101.TooMany},
		{"line that is long", `"streetName":"High St","buildingNumber":"1"`, `"addressLine":["` + long(71) + `"]`, person + "/geographicAddress/0/addressLine/0", ivms101.TooLong},
		{"postcode that is long", `"buildingNumber":"1"`, `"buildingNumber":"1","postcode":"` + long(17) + `"`, person + "/geographicAddress/0/postcode", ivms101.TooLong},
		{"town that is long", `"buildingNumber":"1"`, `"buildingNumber":"1","townName":"` + long(36) + `"`, person + "/geographicAddress/0/townName", ivms101.TooLong},

		{"no date of birth", `"dateOfBirth":"1980-01-02",`, ``, person + "/dateAndPlaceOfBirth/dateOfBirth", ivms101.Missing},
		{"no place of birth", `,"placeOfBirth":"Seoul"`, ``, person + "/dateAndPlaceOfBirth/placeOfBirth", ivms101.Missing},
		{"no day of the calendar", `1980-01-02`, `1981-02-29`, person + "/dateAndPlaceOfBirth/dateOfBirth", ivms101.WrongForm},
		{"birth tomorrow", `1980-01-02`, `2026-01-03`, person + "/dateAndPlaceOfBirth/dateOfBirth", ivms101.WrongForm},
		{"date another way round", `1980-01-02`, `02/01/1980`, person + "/dateAndPlaceOfBirth/dateOfBirth", ivms101.WrongForm},
		{"misspelt member", goodBirth, `"dataAndPlaceOfBirth":{"dateOfBirth":"2999-01-01","placeOfBirth":"Seoul"}`, person + "/dataAndPlaceOfBirth/dateOfBirth", ivms101.WrongForm},

		{"no number", `"nationalIdentifier":"S1",`, ``, person + "/nationalIdentification/nationalIdentifier", ivms101.Missing},
		{"no type of number", `"nationalIdentifierType":"IDCD",`, ``, person + "/nationalIdentification/nationalIdentifierType", ivms101.Missing},
		{"type of number", `"IDCD"`, `"PASS"`, person + "/nationalIdentification/nationalIdentifierType", ivms101.WrongForm},
		{"a person's LEI", `"IDCD"`, `"LEIX"`, person + "/nationalIdentification/nationalIdentifierType", ivms101.NotAllowed},
		{"country of issue", `"countryOfIssue":"SG"`, `"countryOfIssue":"Singapore"`, person + "/nationalIdentification/countryOfIssue", ivms101.WrongForm},
		{"nationality", `"nationality":"KR"`, `"nationality":"Korean"`, person + "/nationality", ivms101.WrongForm},
		{"residence", `"countryOfResidence":"SG"`, `"countryOfResidence":"EU"`, person + "/countryOfResidence", ivms101.WrongForm},

		{"a company's passport", goodLEI, `"nationalIdentification":{"nationalIdentifier":"1","nationalIdentifierType":"CCPT","registrationAuthority":"RA000001"}`, legal + "/nationalIdentification/nationalIdentifierType", ivms101.NotAllowed},
		{"LEI of 19", `5493001KJTIIGC8Y1R12`, `5493001KJTIIGC8Y1R1`, legal + "/nationalIdentification/nationalIdentifier", ivms101.WrongForm},
		{"LEI with a wrong check", `5493001KJTIIGC8Y1R12`, `5493001KJTIIGC8Y1R13`, legal + "/nationalIdentification/nationalIdentifier", ivms101.WrongForm},
		{"LEI with two letters exchanged", `5493001KJTIIGC8Y1R12`, `5493001KJTIIGC8YR112`, legal + "/nationalIdentification/nationalIdentifier", ivms101.WrongForm},
		{"authority beside an LEI", `"LEIX"`, `"LEIX","registrationAuthority":"RA000001"`, legal + "/nationalIdentification/registrationAuthority", ivms101.NotAllowed},
		{"country beside a company's number", `"LEIX"`, `"LEIX","countryOfIssue":"SG"`, legal + "/nationalIdentification/countryOfIssue", ivms101.NotAllowed},
		{"authority of five digits", goodLEI, `"nationalIdentification":{"nationalIdentifier":"1","nationalIdentifierType":"RAID","registrationAuthority":"RA00001"}`, legal + "/nationalIdentification/registrationAuthority", ivms101.WrongForm},
		{"incorporation in the future", `2019-03-27`, `2026-02-01`, legal + "/dateOfIncorporation", ivms101.WrongForm},
		{"incorporation that is no date", `2019-03-27`, `2019`, legal + "/dateOfIncorporation", ivms101.WrongForm},
		{"empty incorporation", `2019-03-27`, ``, legal + "/dateOfIncorporation", ivms101.Empty},
		{"registration", `"countryOfRegistration":"SG"`, `"countryOfRegistration":"S"`, legal + "/countryOfRegistration", ivms101.WrongForm},
		{"type of a company's name", `"legalPersonNameIdentifierType":"LEGL"`, `"legalPersonNameIdentifierType":"LEGL"},{"legalPersonName":"a","legalPersonNameIdentifierType":"ALIA"`, legal + "/name/nameIdentifier/1/legalPersonNameIdentifierType", ivms101.WrongForm},
		{"no company name", `"legalPersonName":"Acme",`, ``, legal + "/name/nameIdentifier/0/legalPersonName", ivms101.Missing},

		{"two originators", `"originatorPersons":[`, `"originatorPersons":[` + goodPerson + `,`, "/ivms101/originator/originatorPersons/1", ivms101.TooMany},
		{"two companies", `"beneficiaryPersons":[`, `"beneficiaryPersons":[` + goodCompany + `,`, "/ivms101/beneficiary/beneficiaryPersons/1", ivms101.TooMany},
		{"representative first", `"beneficiaryPersons":[`, `"beneficiaryPersons":[{"naturalPerson":{` + goodName + `}},`, "/ivms101/beneficiary/beneficiaryPersons/1", ivms101.WrongPlace},
		{"both in one", `"originatorPersons":[{`, `"originatorPersons":[{` + goodCompany[1:len(goodCompany)-1] + `,`, "/ivms101/originator/originatorPersons/0", ivms101.NotAllowed},
		{"neither", `"originatorPersons":[` + goodPerson, `"originatorPersons":[{}`, "/ivms101/originator/originatorPersons/0", ivms101.Missing},
		{"transliteration", `"kore"`, `"klingon"`, "/ivms101/payloadMetadata/transliterationMethod/0", ivms101.WrongForm},
		{"a natural VASP", `"originatingVASP":` + goodCompany, `"originatingVASP":` + goodPerson, "/ivms101/originatingVASP/legalPerson", ivms101.Missing},
		{"a VASP without a legal name", `"originatingVASP":` + goodCompany, `"originatingVASP":` + strings.Replace(goodCompany, "LEGL", "SHRT", 1), "/ivms101/originatingVASP/legalPerson/name/nameIdentifier", ivms101.Missing},
	} {
		text := strings.Replace(goodPayload, c.from, c.to, 1)
		if text == goodPayload {
			t.Fatalf("%s: nothing is broken", c.name)
		}
		for _, o := range []ivms101.Occasion{{}, {Inbound: true}} {
			found := judged(t, strict, o, text)
			if !slices.ContainsFunc(found, func(f ivms101.Finding) bool { return f.Pointer == c.at && f.Code == c.code && !f.Warning }) {
				t.Errorf("%s: found %+v\nwant %s at %s", c.name, found, c.code, c.at)
			}
		}
	}
	if found := judged(t, strict, ivms101.Occasion{}, goodPayload); len(found) > 0 {
		t.Errorf("a good payload: %+v", found)
	}
}

// What is there and of another kind is not missing as well, nor is what would
// stand in it.
func TestAMistakeIsFoundOnce(t *testing.T) {
	for _, c := range []struct{ from, to, at string }{
		{`"Roe"`, `7`, person + "/name/nameIdentifier/0/primaryIdentifier"},
		{goodName + `,"geo`, `"name":"` + secret + `","geo`, person + "/name"},
		{`"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"}]}`, `"nameIdentifier":{}}`, person + "/name/nameIdentifier"},
		{`"1980-01-02"`, `1980`, person + "/dateAndPlaceOfBirth/dateOfBirth"},
	} {
		text := strings.Replace(goodPayload, c.from, c.to, 1)
		if text == goodPayload {
			t.Fatalf("%s: nothing is broken", c.at)
		}
		found := judged(t, strict, ivms101.Occasion{}, text)
		if len(found) != 1 || found[0].Pointer != c.at || found[0].Code != ivms101.WrongKind {
			t.Errorf("%+v\nwant one WRONG-KIND at %s", found, c.at)
		}
	}
	// Beside it something may be missing all the same.
	text := strings.Replace(goodPayload, `"primaryIdentifier":"Roe","secondaryIdentifier":"Ann"`, `"secondaryIdentifier":7`, 1)
	if found := judged(t, strict, ivms101.Occasion{}, text); len(found) != 2 || found[0].Code != ivms101.Missing {
		t.Errorf("%+v\nwant the missing name, and the number for the other", found)
	}
}

// What strict lets pass: what the contract leaves open, with a warning where
// the standard or the guide would rather have it otherwise.
func TestStrictAllows(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		warning        string // where, "" for none
	}{
		{"values without case", `"HOME"`, `"home"`, ""},
		{"countries without case", `"nationality":"KR"`, `"nationality":"kr"`, ""},
		{"an LEI without case", `5493001KJTIIGC8Y1R12`, `5493001kjtiigc8y1r12`, ""},
		{"null for absent", `"nationality":"KR"`, `"nationality":null`, ""},
		{"hundred characters", `"Roe"`, `"` + strings.Repeat("é", 100) + `"`, ""},
		{"hundred characters, decomposed", `"Roe"`, `"` + strings.Repeat("e\u0301", 100) + `"`, ""},
		{"seven lines", `"streetName":"High St","buildingNumber":"1"`, `"addressLine":["1","2","3","4","5","6","7"]`, ""},
		{"building with a name", `"buildingNumber":"1"`, `"buildingName":"Tower"`, ""},
		{"no town", `"buildingNumber":"1"`, `"buildingNumber":"1","postcode":"1"`, ""},
		{"birth today", `1980-01-02`, `2026-01-02`, ""},
		{"misspelt birth", `dateAndPlaceOfBirth`, `dataAndPlaceOfBirth`, ""},
		{"a member of tomorrow", `"nationality":"KR"`, `"` + secret + `":{"x":[1]}`, person + "/?"},
		{"a country that is not known", `"nationality":"KR"`, `"nationality":"XX"`, person + "/nationality"},
		{"name only, as the guide's samples", goodPerson, `{"naturalPerson":{` + goodName + `}}`, person},
		{"number without its authority", goodLEI, `"nationalIdentification":{"nationalIdentifier":"1","nationalIdentifierType":"TXID"}`, legal + "/nationalIdentification/registrationAuthority"},
	} {
		text := strings.Replace(goodPayload, c.from, c.to, 1)
		if text == goodPayload {
			t.Fatalf("%s: nothing is changed", c.name)
		}
		found := judged(t, strict, ivms101.Occasion{}, text)
		var at string
		if len(found) > 0 {
			at = found[0].Pointer
		}
		if len(ivms101.Errors(found)) > 0 || at != c.warning || len(found) > 1 {
			t.Errorf("%s: %+v, want a warning at %q", c.name, found, c.warning)
		}
	}
	if found := judged(t, strict, ivms101.Occasion{}, company); len(ivms101.Errors(found)) > 0 {
		t.Errorf("the guide's company: %+v", found)
	}
}

// Contract 8.2, word by word: strict lets each through where it belongs, and
// one that the contract does not have nowhere.
func TestStrictKnowsEveryWord(t *testing.T) {
	for _, c := range []struct{ member, words, from, to string }{
		{"nameIdentifierType", "LEGL ALIA BIRT MAID MISC", `"nameIdentifier":[{"primaryIdentifier":"Roe"`, `"localNameIdentifier":[{"primaryIdentifier":"a","nameIdentifierType":"?"}],"nameIdentifier":[{"primaryIdentifier":"Roe"`},
		{"legalPersonNameIdentifierType", "LEGL SHRT TRAD", `"nameIdentifier":[{"legalPersonName":"Acme"`, `"localNameIdentifier":[{"legalPersonName":"a","legalPersonNameIdentifierType":"?"}],"nameIdentifier":[{"legalPersonName":"Acme"`},
		{"addressType", "HOME BIZZ GEOG", `"HOME"`, `"?"`},
		{"nationalIdentifierType of a person", "ARNU CCPT RAID DRLC FIIN TXID SOCS IDCD MISC", `"IDCD"`, `"?"`},
		{"nationalIdentifierType of a company", "RAID TXID MISC", goodLEI, `"nationalIdentification":{"nationalIdentifier":"1","nationalIdentifierType":"?","registrationAuthority":"RA000001"}`},
		{"transliterationMethod", "arab aran armn cyrl deva geor grek hani hebr kana kore thai othr", `"kore"`, `"?"`},
	} {
		for _, word := range append(strings.Fields(c.words), "NONE") {
			text := strings.Replace(goodPayload, c.from, strings.Replace(c.to, "?", word, 1), 1)
			if text == goodPayload && !strings.Contains(c.from, word) {
				t.Fatalf("%s: nothing is changed", c.member)
			}
			if refused := len(ivms101.Errors(judged(t, strict, ivms101.Occasion{}, text))) > 0; refused != (word == "NONE") {
				t.Errorf("%s %s: refused is %v", c.member, word, refused)
			}
		}
	}
}

// An account check needs no name, and has one account (contract 2.3).
func TestStrictOnAccountChecks(t *testing.T) {
	check := ivms101.Occasion{AccountCheck: true}
	for text, want := range map[string][]string{
		`{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["x"]}}}`:                                                             nil,
		`{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["x"],"beneficiaryPersons":[]}}}`:                                     nil,
		`{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["x"],"beneficiaryPersons":[{"naturalPerson":{` + goodName + `}}]}}}`: nil,
		`{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["x","y"]}}}`:                                                         {"/ivms101/beneficiary/accountNumber"},
		`{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["x"],"beneficiaryPersons":[{"naturalPerson":{"name":{}}}]}}}`:        {"/ivms101/beneficiary/beneficiaryPersons/0/naturalPerson/name/nameIdentifier"},
		`{"version":"1.0","ivms101":{"beneficiary":{}}}`:                                                                                  {"/ivms101/beneficiary/accountNumber"},
		`{"version":"1.0","ivms101":{}}`: {"/ivms101/beneficiary"},
		`{}`:                             {"/ivms101", "/version"},
		`{"version":"1.0","ivms101":{"originator":{"originatorPersons":[{}],"accountNumber":["z"]},"beneficiary":{"accountNumber":["x"]}}}`: {"/ivms101/originator/originatorPersons/0"},
	} {
		var at []string
		for _, f := range ivms101.Errors(judged(t, strict, check, text)) {
			at = append(at, f.Pointer)
		}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestLenientAsksLittle(t *testing.T) {
	date := func(value string) string { return strings.Replace(goodPayload, `"2019-03-27"`, value, 1) }
	for _, c := range []struct {
		text string
		o    ivms101.Occasion
		want string
	}{
		{goodPayload, ivms101.Occasion{}, ""},
		{strings.NewReplacer("LEGL", "?", "HOME", "", "1980-01-02", "soon", "5493001KJTIIGC8Y1R12", "1").Replace(goodPayload), ivms101.Occasion{}, ""},
		{date(`"soon"`), ivms101.Occasion{}, legal + "/dateOfIncorporation WRONG-FORM"},
		{date(`7`), ivms101.Occasion{}, legal + "/dateOfIncorporation WRONG-KIND"},
		{date(`"2019-3-27"`), ivms101.Occasion{}, legal + "/dateOfIncorporation WRONG-FORM"},
		{strings.ReplaceAll(date(`"soon"`), `"dateOfIncorporation"`, `"dateOf\u0049ncorporation"`), ivms101.Occasion{}, legal + "/dateOfIncorporation WRONG-FORM"},
		{date(`""`), ivms101.Occasion{}, ""},
		{date(`null`), ivms101.Occasion{}, ""},
		{date(`"soon"`), ivms101.Occasion{Inbound: true}, ""},
		{`{}`, ivms101.Occasion{Inbound: true}, ""},
		{`{}`, ivms101.Occasion{}, "/version MISSING /ivms101 MISSING"},
		{`{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":[""]}}}`, ivms101.Occasion{}, "/ivms101/originator MISSING /ivms101/beneficiary/accountNumber/0 EMPTY"},
		{`{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["x"]}}}`, ivms101.Occasion{AccountCheck: true}, ""},
	} {
		var got []string
		for _, f := range judged(t, ivms101.Lenient{}, c.o, c.text) {
			got = append(got, f.Pointer+" "+string(f.Code))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%+v %s\n got %s\nwant %s", c.o, c.text, s, c.want)
		}
	}
	outbound := ivms101.Strict{OutboundOnly: true}
	if found := judged(t, outbound, ivms101.Occasion{Inbound: true}, `{}`); len(found) > 0 {
		t.Errorf("strict outbound only, inbound: %+v", found)
	}
	if found := judged(t, outbound, ivms101.Occasion{}, `{}`); len(found) == 0 {
		t.Error("strict outbound only, outbound, finds nothing")
	}
}

// Attack L3: every rule can be broken by personal data, and none repeats it.
func TestFindingsQuoteNothing(t *testing.T) {
	text := goodPayload
	for _, value := range []string{`"Roe"`, `"HOME"`, `"1980-01-02"`, `"S1"`, `"IDCD"`, `"LEGL"`, `"SG"`, `"KR"`, `"LEIX"`, `"2019-03-27"`, `"kore"`, `"GEOG"`, `"nationality"`, `"geographicAddress"`, `"payloadMetadata"`} {
		text = strings.ReplaceAll(text, value, `"`+secret+`"`)
	}
	text = strings.Replace(strings.Replace(text, `"bc1q:7"`, `"`+secret2+`:"`, 1), `"secondaryIdentifier":"Ann"`, `"secondaryIdentifier":7`, 1)
	// A name may not be there twice.
	for i := 0; strings.Contains(text, `"`+secret+`":`); i++ {
		text = strings.Replace(text, `"`+secret+`":`, fmt.Sprintf(`"%s%d":`, secret, i), 1)
	}
	found := judged(t, strict, ivms101.Occasion{}, text)
	said, err := json.Marshal(found)
	if err != nil || len(found) < 15 || strings.Contains(string(said), "Jane") || strings.Contains(string(said), "Marker") {
		t.Errorf("%d findings, %v: %s", len(found), err, said)
	}
}

func judged(t *testing.T, v interface {
	Validate(ivms101.Occasion, *ivms101.Payload) []ivms101.Finding
}, o ivms101.Occasion, text string) []ivms101.Finding {
	t.Helper()
	p, err := ivms101.ParsePayload([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return v.Validate(o, p)
}
