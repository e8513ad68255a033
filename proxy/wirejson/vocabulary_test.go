package wirejson_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/proxy/openapi"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// A bad value is answered with INVALID- and its field's name, wherever it
// stands; the API's document has these codes for the same names.
func TestTheDocumentKnowsEveryName(t *testing.T) {
	var document struct {
		Components struct {
			Schemas struct {
				BadBodyCode struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(openapi.Enclave, &document); err != nil {
		t.Fatal(err)
	}
	letters := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "")) }
	var coded, known []string
	for _, code := range document.Components.Schemas.BadBodyCode.Enum {
		if name, ok := strings.CutPrefix(code, "INVALID-"); ok && name != "JSON" {
			coded = append(coded, letters(name))
		}
	}
	for _, name := range wirejson.Vocabulary() {
		known = append(known, letters(name))
	}
	slices.Sort(coded)
	slices.Sort(known)
	known = slices.Compact(known) // tradeISODatetime has two spellings
	if diff := cmp.Diff(known, coded); diff != "" {
		t.Errorf("BadBodyCode (-vocabulary +document):\n%s", diff)
	}
}
