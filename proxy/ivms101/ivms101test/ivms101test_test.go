package ivms101test_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101/ivms101test"
)

const many = 600

// What the generator makes keeps every rule, in all its variety.
func TestStrictAcceptsEveryPayload(t *testing.T) {
	scripts := map[string]int{}
	for seed := range uint64(many) {
		p := ivms101test.New(seed)
		scripts[p.Script]++
		payload, err := ivms101.ParsePayload([]byte(p.Text()))
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, p.Text())
		}
		for _, o := range []ivms101.Occasion{{}, {Inbound: true}} {
			for _, f := range ivms101.Errors(ivms101.Strict{}.Validate(o, payload)) {
				t.Fatalf("seed %d: %+v\n%s", seed, f, p.Text())
			}
			if found := (ivms101.Lenient{}).Validate(o, payload); len(found) > 0 {
				t.Fatalf("seed %d: %+v\n%s", seed, found, p.Text())
			}
		}
		if string(payload.Originator.Raw) != p.Originator || string(payload.Beneficiary.Raw) != p.Beneficiary || string(payload.IVMS101) != p.IVMS101() {
			t.Fatalf("seed %d: the parts are not those of\n%s", seed, p.Text())
		}
	}
	if names := ivms101test.Scripts(); len(scripts) != len(names) || len(names) < 20 {
		t.Errorf("payloads in %d scripts of %d: %v", len(scripts), len(names), scripts)
	}
}

func TestTheSameNumberGivesTheSamePayload(t *testing.T) {
	for seed := range uint64(200) {
		a, b := ivms101test.New(seed), ivms101test.New(seed)
		if a.Text() != b.Text() || string(a.Request("7")) != string(b.Request("7")) {
			t.Fatalf("seed %d gives two payloads", seed)
		}
		if next := ivms101test.New(seed + 1); next.Text() == a.Text() {
			t.Fatalf("seeds %d and %d give one payload", seed, seed+1)
		}
	}
}

func TestTheRequestHoldsThePayload(t *testing.T) {
	for seed := range uint64(many) {
		p := ivms101test.New(seed)
		var request struct {
			BeneficiaryVaspID       string
			RequiredBeneficiaryInfo string
			Payload                 json.RawMessage
		}
		if err := json.Unmarshal(p.Request("16384656509591635927"), &request); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, p.Request("7"))
		}
		if string(request.Payload) != p.Text() || request.BeneficiaryVaspID != "16384656509591635927" || request.RequiredBeneficiaryInfo != p.Required {
			t.Fatalf("seed %d: %+v", seed, request)
		}
		const part = `{"legalPerson":{ "a":1}}`
		with, err := ivms101.ParsePayload([]byte(`{"ivms101":` + p.WithOriginatingVASP(part) + `}`))
		if err != nil || (string(with.OriginatingVASP) != part && !strings.Contains(p.Text(), "Own Part S.A.")) {
			t.Fatalf("seed %d: WithOriginatingVASP gives %s, %v", seed, with.OriginatingVASP, err)
		}
	}
}

// The oddities are there, or the tests that use them show less than they say.
func TestPayloadsAreOdd(t *testing.T) {
	var all strings.Builder
	personal := 0
	for seed := range uint64(many) {
		p := ivms101test.New(seed)
		all.WriteString(p.Text())
		personal += len(p.Personal)
	}
	for _, odd := range []string{`\/`, `\u00e9`, `\u00E`, "\u200c", "\u200f", "1E400", "18446744073709551616", ":null", ": null", "\r\n", "e\u0301", `\ud`,
		"dataAndPlaceOfBirth", "ACCOUNTNUMBER", `"originatingVASP"`, "null,[null"} {
		if !strings.Contains(all.String(), odd) {
			t.Errorf("%d payloads hold no %q", many, odd)
		}
	}
	if mean := all.Len() / many; mean < 1500 || personal < 5*many {
		t.Errorf("%d bytes and %d personal values in a payload", mean, personal/many)
	}
	t.Logf("%d bytes and %d personal values in a payload", all.Len()/many, personal/many)
}
