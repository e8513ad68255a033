package validator_test

import (
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
)

// poor can be sent as the contract has it, and breaks its rules.
const poor = `{"version":"1.0","ivms101":{"originator":{"accountNumber":["a"]},"beneficiary":{"accountNumber":["b"]}}}`

func TestEachURLJudgesAsItSays(t *testing.T) {
	p, err := ivms101.ParsePayload([]byte(poor))
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]struct{ outbound, inbound bool }{
		"lenient:":                {false, false},
		"LENIENT:":                {false, false},
		"strict:":                 {true, true},
		"strict:?":                {true, true},
		"strict:?inbound=strict":  {true, true},
		"strict:?inbound=lenient": {true, false},
	} {
		v, err := standard.Catalog().PayloadValidators.Open(t.Context(), url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		out := len(ivms101.Errors(v.Validate(ivms101.Occasion{}, p))) > 0
		in := len(ivms101.Errors(v.Validate(ivms101.Occasion{Inbound: true}, p))) > 0
		if out != want.outbound || in != want.inbound {
			t.Errorf("%s: refuses outbound %v, inbound %v, want %+v", url, out, in, want)
		}
	}
}

func TestOtherURLsAreRefused(t *testing.T) {
	for url, want := range map[string]string{
		"lenient:x":                "lenient: takes nothing behind the colon",
		"lenient:?inbound=lenient": "lenient: takes nothing behind the colon",
		"strict:x":                 "must be strict: or strict:?inbound=lenient",
		"strict://host":            "must be strict: or strict:?inbound=lenient",
		"strict:?inbound=none":     "has one option",
		"strict:?outbound=lenient": "has one option",
		"strict:#x":                "must be strict:",
		"harsh:":                   "schemes known: lenient:, strict:",
		"":                         "schemes known: lenient:, strict:",
	} {
		if _, err := standard.Catalog().PayloadValidators.Open(t.Context(), url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", url, err, want)
		}
	}
}
