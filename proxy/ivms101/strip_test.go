package ivms101_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
)

// Every value that a code can ask for is here with a mark of its own, and so
// is much that no code asks for (x...).
const (
	markedPerson = `{"beneficiaryPersons":[{"naturalPerson":{
		"name":{"nameIdentifier":[{"primaryIdentifier":"m-name"}],"localNameIdentifier":[{"primaryIdentifier":"m-local"}],"phoneticNameIdentifier":["x-phonetic"]},
		"dateAndPlaceOfBirth":{"dateOfBirth":"m-birth"},"dataAndPlaceOfBirth":{"dateOfBirth":"m-birth-misspelt"},
		"nationality":"m-nationality","geographicAddress":[{"country":"m-address"},{"country":"m-address-2"}],
		"nationalIdentification":{"nationalIdentifier":"m-national"},"customerIdentification":"m-customer",
		"countryOfResidence":"m-residence","shoeSize":"x-shoe"},"x":"x-element"},
		{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"x-second"}]}}}],
		"accountNumber":["m-account"],"extra":{"a":["x-extra"]}}`
	markedCompany = `{"accountNumber":["m-account"],"beneficiaryPersons":[{"legalPerson":{
		"name":{"nameIdentifier":[{"legalPersonName":"m-name"}],"localNameIdentifier":[{"legalPersonName":"m-local"}]},
		"geographicAddress":[{"country":"m-head"},{"country":"m-branch"},{"country":"m-branch-2"}],
		"customerIdentification":"m-customer","customerNumber":"m-customer-old","nationalIdentification":{"nationalIdentifier":"m-national"},
		"countryOfRegistration":"m-registration","dateOfIncorporation":"m-incorporation","owner":"x-owner"}},
		{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"r-name"}],"localNameIdentifier":[{"primaryIdentifier":"r-local"}]},
		"dateAndPlaceOfBirth":{"placeOfBirth":"r-birth"},"nationality":"r-nationality",
		"geographicAddress":[{"country":"x-address"}],"customerIdentification":"x-customer","countryOfResidence":"x-residence"}}]}`
)

// The table is contract 8.4: what each code asks for, of a person and of a
// company. The account always stays.
func TestStripLeavesWhatWasAskedFor(t *testing.T) {
	for _, c := range []struct{ codes, person, company string }{
		{"ACCOUNT_NUMBER", "", ""},
		{"", "", ""},
		{"NATURAL_PERSON_NAME", "m-name", ""},
		{"LOCAL_NATURAL_PERSON_NAME", "m-name m-local", ""},
		{"NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH", "m-birth m-birth-misspelt", ""},
		{"NATURAL_PERSON_NATIONALITY", "m-nationality", ""},
		{"NATURAL_PERSON_GEOGRAPHIC_ADDRESS", "m-address m-address-2", ""},
		{"NATURAL_PERSON_NATIONAL_IDENTIFICATION", "m-national", ""},
		{"NATURAL_PERSON_CUSTOMER_IDENTIFICATION", "m-customer", ""},
		{"NATURAL_PERSON_COUNTRY_OF_RESIDENCE", "m-residence", ""},
		{"LEGAL_PERSON_NAME", "", "m-name"},
		{"LOCAL_LEGAL_PERSON_NAME", "", "m-name m-local"},
		{"CORPORATE_REPRESENTATIVE_NAME", "", "r-name"},
		{"LOCAL_CORPORATE_REPRESENTATIVE_NAME", "", "r-name r-local"},
		{"CORPORATE_REPRESENTATIVE_DATE_AND_PLACE_OF_BIRTH", "", "r-birth"},
		{"CORPORATE_REPRESENTATIVE_NATIONALITY", "", "r-nationality"},
		{"HEAD_OFFICE_GEOGRAPHIC_ADDRESS", "", "m-head"},
		{"BRANCH_OFFICE_GEOGRAPHIC_ADDRESS", "", "m-branch m-branch-2"},
		{"LEGAL_PERSON_CUSTOMER_IDENTIFICATION", "", "m-customer m-customer-old"},
		{"LEGAL_PERSON_NATIONAL_IDENTIFICATION", "", "m-national"},
		{"LEGAL_PERSON_COUNTRY_OF_REGISTRATION", "", "m-registration"},
		{"LEGAL_PERSON_DATE_OF_INCORPORATION", "", "m-incorporation"},
		{"NATURAL_PERSON_NAME,LEGAL_PERSON_NAME,CORPORATE_REPRESENTATIVE_NAME", "m-name", "m-name r-name"},
	} {
		for text, want := range map[string]string{markedPerson: c.person, markedCompany: c.company} {
			kept, removed, err := strip(text, c.codes)
			if err != nil {
				t.Fatal(err)
			}
			wanted := append([]string{"m-account"}, strings.Fields(want)...)
			slices.Sort(wanted)
			if diff := cmp.Diff(wanted, marks(kept)); diff != "" {
				t.Errorf("Strip of %.40s for %q leaves (-want +got):\n%s", text, c.codes, diff)
			}
			if len(removed) == 0 || !json.Valid([]byte(kept)) {
				t.Errorf("Strip for %q removed %q and gave %s", c.codes, removed, kept)
			}
		}
	}
}

// A code from a newer contract may ask for a member that is new too.
func TestStripWithAnUnknownCodeLeavesUnknownMembers(t *testing.T) {
	kept, _, err := strip(markedPerson, "NATURAL_PERSON_SHOE_SIZE")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"m-account", "x-element", "x-extra", "x-phonetic", "x-shoe"}, marks(kept)); diff != "" {
		t.Errorf("Strip leaves (-want +got):\n%s", diff)
	}
}

func TestStripEditsTheTextOnly(t *testing.T) {
	for _, c := range []struct{ codes, text, want string }{
		{ // nothing to remove: not a byte changes
			"NATURAL_PERSON_NAME",
			"{ \"beneficiaryPersons\" : [ {\"naturalPerson\":{\"name\":{\n\"nameIdentifier\": [ {\"z\":1, \"a\":\"\\u0041\"} ]}}} ] ,\"accountNumber\":[ \"b\" ] }",
			"{ \"beneficiaryPersons\" : [ {\"naturalPerson\":{\"name\":{\n\"nameIdentifier\": [ {\"z\":1, \"a\":\"\\u0041\"} ]}}} ] ,\"accountNumber\":[ \"b\" ] }",
		},
		{ // first, middle and last members go, the others keep their spacing
			"NATURAL_PERSON_NATIONALITY,NATURAL_PERSON_COUNTRY_OF_RESIDENCE",
			"{\"beneficiaryPersons\":[{\"naturalPerson\":{\n  \"a\": 1,\n  \"nationality\": \"KR\",\n  \"b\": 2,\n  \"countryOfResidence\": \"SG\",\n  \"c\": 3\n}}]}",
			"{\"beneficiaryPersons\":[{\"naturalPerson\":{\n  \"nationality\": \"KR\",\n  \"countryOfResidence\": \"SG\"\n}}]}",
		},
		{ // a position that counts is held
			"BRANCH_OFFICE_GEOGRAPHIC_ADDRESS,CORPORATE_REPRESENTATIVE_NAME",
			`{"beneficiaryPersons":[{"legalPerson":{"geographicAddress":[{"head":1}, {"branch":2}]}},{"naturalPerson":{"name":{"nameIdentifier":[7]}}}]}`,
			`{"beneficiaryPersons":[{"legalPerson":{"geographicAddress":[{},{"branch":2}]}},{"naturalPerson":{"name":{"nameIdentifier":[7]}}}]}`,
		},
		{
			"CORPORATE_REPRESENTATIVE_NAME",
			`{"beneficiaryPersons":[{"legalPerson":{"name":{}}},{"naturalPerson":{"name":{"nameIdentifier":[7]}}}]}`,
			`{"beneficiaryPersons":[{},{"naturalPerson":{"name":{"nameIdentifier":[7]}}}]}`,
		},
		{ // the representative first
			"LEGAL_PERSON_NAME",
			`{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[7]}}},{"legalPerson":{"name":{"nameIdentifier":[8]}}}]}`,
			`{"beneficiaryPersons":[{},{"legalPerson":{"name":{"nameIdentifier":[8]}}}]}`,
		},
		{"", `{"accountNumber":["b"],"beneficiaryPersons":[{"naturalPerson":{"name":{}}}]}`, `{"accountNumber":["b"],"beneficiaryPersons":[]}`},
		{"", `{}`, `{}`},
		{"", `{"x":"y"}`, `{}`},
		{"", `{"accountNumber":["b"]}`, `{"accountNumber":["b"]}`},
		{"NATURAL_PERSON_NAME", `{"beneficiaryPersons":[{"naturalPerson":{"name":"Joe"}},null]}`, `{"beneficiaryPersons":[]}`},
	} {
		got, _, err := strip(c.text, c.codes)
		if err != nil || got != c.want {
			t.Errorf("Strip(%s, %s)\n = %s, %v\nwant %s", c.text, c.codes, got, err, c.want)
		}
	}
}

// Attack L1: what was removed can be logged.
func TestStripNamesWhatItRemovedWithoutData(t *testing.T) {
	_, removed, err := strip(`{"beneficiaryPersons":[{"naturalPerson":{"nationality":"KR","Joe Doe":1}}],"rich@example.com":{}}`, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/beneficiaryPersons/0/naturalPerson/nationality", "/beneficiaryPersons/0/naturalPerson/?", "/?"}
	if diff := cmp.Diff(want, removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
}

func TestParseRequired(t *testing.T) {
	for text, want := range map[string][]ivms101.Code{
		"":                                      nil,
		" , ":                                   nil,
		"ACCOUNT_NUMBER":                        {"ACCOUNT_NUMBER"},
		" ACCOUNT_NUMBER , NEW_1,account,NEW_1": {"ACCOUNT_NUMBER", "NEW_1", "account"},
	} {
		got, err := ivms101.ParseRequired(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseRequired(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"A B", "ACCOUNT_NUMBER;NAME", "이름", strings.Repeat("A", 65), "A\x00", many(65)} {
		if got, err := ivms101.ParseRequired(text); err == nil {
			t.Errorf("ParseRequired(%.20q) = %q, want refusal", text, got)
		}
	}
	if !ivms101.LocalLegalPersonName.Known() || ivms101.Code("account_number").Known() {
		t.Error("Known does not tell the contract's codes from others")
	}
}

// What stays is always JSON, never more than was there, and the account.
func FuzzStrip(f *testing.F) {
	f.Add(markedPerson, "NATURAL_PERSON_NAME")
	f.Add(markedCompany, "BRANCH_OFFICE_GEOGRAPHIC_ADDRESS,X")
	f.Add(`{"beneficiaryPersons":[[],null,{}],"accountNumb\u0065r":[]}`, "")
	f.Fuzz(func(t *testing.T, text, codes string) {
		bare, _, err := strip(text, "ACCOUNT_NUMBER")
		if err != nil {
			return
		}
		var left map[string]any
		if err := json.Unmarshal([]byte(bare), &left); err != nil {
			t.Fatalf("Strip(%q) = %q: %v", text, bare, err)
		}
		for name, v := range left {
			if name != "accountNumber" && (name != "beneficiaryPersons" || fmt.Sprint(v) != "[]" && v != nil) {
				t.Fatalf("Strip(%q) left %q", text, bare)
			}
		}
		kept, _, err := strip(text, codes)
		if err != nil {
			return
		}
		was, _ := ivms101.ParseParty([]byte(text))
		is, err := ivms101.ParseParty([]byte(kept))
		if err != nil || !slices.Equal(was.Accounts, is.Accounts) || is.Legal > was.Legal || is.Natural > was.Natural {
			t.Fatalf("Strip(%q, %q) = %q, %v", text, codes, kept, err)
		}
	})
}

func FuzzParseRequired(f *testing.F) {
	f.Add("ACCOUNT_NUMBER, NATURAL_PERSON_NAME")
	f.Add(",,\xff")
	f.Fuzz(func(t *testing.T, text string) {
		codes, err := ivms101.ParseRequired(text)
		if err != nil {
			return
		}
		words := make([]string, len(codes))
		for i, c := range codes {
			words[i] = string(c)
		}
		if again, err := ivms101.ParseRequired(strings.Join(words, ",")); err != nil || !slices.Equal(again, codes) {
			t.Fatalf("ParseRequired(%q) = %q, and of that %q, %v", text, codes, again, err)
		}
	})
}

func BenchmarkStrip(b *testing.B) {
	codes := []ivms101.Code{ivms101.AccountNumber, ivms101.NaturalPersonName}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ivms101.Strip([]byte(markedPerson), codes); err != nil {
			b.Fatal(err)
		}
	}
}

func strip(text, codes string) (kept string, removed []string, err error) {
	required, err := ivms101.ParseRequired(codes)
	if err != nil {
		return "", nil, err
	}
	b, removed, err := ivms101.Strip([]byte(text), required)
	return string(b), removed, err
}

var mark = regexp.MustCompile(`[mrx]-[a-z0-9-]+`)

// marks are the marks in text, sorted.
func marks(text string) []string {
	found := mark.FindAllString(text, -1)
	slices.Sort(found)
	return found
}

// many is n different codes.
func many(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "CODE_%d,", i)
	}
	return s.String()
}
