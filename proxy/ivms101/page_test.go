package ivms101

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/ivms101.md tells all that a person may hold, and its examples are right
// by every rule.
func TestThePageIsTheDialect(t *testing.T) {
	text, err := os.ReadFile("../../docs/ivms101.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for member, codes := range words {
		for _, name := range append([]string{member}, codes...) {
			if !strings.Contains(page, "`"+name+"`") {
				t.Errorf("the page does not name %s", name)
			}
		}
	}
	for member, most := range longest {
		if !regexp.MustCompile(fmt.Sprintf("`%s`(\\*\\*)?[^`]*(\\(%[2]d\\)| %[2]d )", member, most)).MatchString(page) {
			t.Errorf("the page does not say that %s has at most %d characters", member, most)
		}
	}
	examples := regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindAllStringSubmatch(page, -1)
	if len(examples) != 2 {
		t.Fatalf("the page has %d examples, want a natural and a legal person", len(examples))
	}
	for _, example := range examples {
		person := example[1]
		payload := `{"version":"1.0","ivms101":{"originator":{"originatorPersons":[` + person + `],"accountNumber":["a"]},"beneficiary":{"beneficiaryPersons":[` + person + `],"accountNumber":["b"]}}}`
		p, err := ParsePayload([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		if found := (Strict{}).Validate(Occasion{}, p); len(found) > 0 {
			t.Errorf("%s\n%+v", person, found)
		}
	}
	for kind, rule := range map[string]map[string]*rule{"naturalPerson": naturalPerson.members, "legalPerson": legalPerson.members} {
		for member := range rule {
			inExample := strings.Contains(examples[0][1]+examples[1][1], `"`+member+`":`)
			older := member == "dataAndPlaceOfBirth" || member == "customerNumber"
			if !strings.Contains(page, "`"+member+"`") || !inExample && !older {
				t.Errorf("the page does not tell of %s of a %s, or shows none", member, kind)
			}
		}
	}
}
