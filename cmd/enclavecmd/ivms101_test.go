package enclavecmd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101/ivms101test"
)

// Generated payloads are fine in each of the forms that a file may have, and
// with each personal value as an extra member nothing of it is printed.
func TestExaminePrintsNothingPersonal(t *testing.T) {
	for seed := range uint64(100) {
		p := ivms101test.New(seed)
		for message, text := range map[string]string{"request": string(p.Request("7")), "payload": p.Text(), "ivms101 object": p.IVMS101()} {
			if e := examine([]byte(text), ivms101.Strict{}); e.Errors != 0 || e.Message != message {
				t.Fatalf("seed %d: %s: %+v\n%s", seed, message, e, text)
			}
			broken := strings.NewReplacer("LEGL", "?", "legl", "?", "19", "99", "GEOG", "?", "HOME", "?", "LEIX", "RAID", "1.0", "").Replace(text)
			for _, asJSON := range []bool{false, true} {
				var out bytes.Buffer
				err := examine([]byte(broken), ivms101.Strict{}).print(&out, asJSON)
				if err == nil {
					t.Fatalf("seed %d: a broken %s is fine", seed, message)
				}
				for _, value := range p.Personal {
					if len(value) > 4 && strings.Contains(out.String()+err.Error(), value) {
						t.Fatalf("seed %d: %q is printed:\n%s", seed, value, &out)
					}
				}
			}
		}
	}
}

func TestAnEnclavesLimitIsNamed(t *testing.T) {
	text := `{"payload":{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["x"]}}},"x":[` + strings.Repeat(`"`+strings.Repeat("x", 60<<10)+`",`, 5) + `1]}`
	if e := examine([]byte(text), ivms101.Lenient{}); e.Errors != 1 || e.Findings[0].Code != ivms101.Unreadable || !strings.Contains(e.Findings[0].Problem, "262144") {
		t.Errorf("%+v", e)
	}
}

// Programs go by the exit code.
func TestExitCodesOfTheCheck(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good": ivms101test.New(1).Text(), "bad": `{"ivms101":{}}`, "warning": `{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["x"]},"x":1}}`, "none": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{"good": exitOK, "warning": exitOK, "bad": exitFailed, "none": exitFailed, "absent": exitConfig} {
		var out, problems bytes.Buffer
		if got := Main(standard.Catalog(), []string{"ivms101", "check", filepath.Join(dir, name)}, nil, &out, &problems); got != want || (problems.Len() > 0) != (want > 0) {
			t.Errorf("check %s ends with %d, want %d; it says %q and %q", name, got, want, &out, &problems)
		}
	}
}

// Whatever a file holds, there is something to say of it.
func FuzzExamine(f *testing.F) {
	p := ivms101test.New(1)
	for _, seed := range []string{string(p.Request("7")), p.Text(), p.IVMS101(), `{"legalPerson":{}}`, `{"payload":null}`, `{"payload":7,"ivms101":{}}`, `[]`, ``, `{"ivms101":{"ivms101":{}}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			e := examine(text, ivms101.Strict{})
			if err := e.print(&out, asJSON); (err != nil) != (e.Errors > 0) || out.Len() == 0 {
				t.Fatalf("%q: %v, %d errors, %q", text, err, e.Errors, &out)
			}
		}
	})
}
