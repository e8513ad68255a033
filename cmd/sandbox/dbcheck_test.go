package sandbox_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
)

// An older value of a row is put back together with all that leads to it: db
// check finds it, of a stopped enclave and through a running one (S2, S3).
func TestAnOlderRowPutBackWithItsIndexIsFound(t *testing.T) {
	a := start(t, sandbox.Options{})
	v := a.VASPs[0]
	said := func(want string, wantCode int) {
		t.Helper()
		if code, said := operate(t, v, "db", "check"); code != wantCode || !strings.Contains(said, want) {
			t.Fatalf("db check: exit %d, said %q, want %d and %q", code, said, wantCode, want)
		} else if wantCode == 0 && !strings.Contains(said, "values (100 %)") {
			t.Errorf("db check does not show how far it came: %q", said)
		}
	}
	if err := a.VASPs[1].Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	accepted, err := v.Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
	if err != nil {
		t.Fatal(err)
	}
	said("the history of the running enclave is whole", 0)
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	said("is whole: 1 verifications", 0)
	older := bucketsOf(t, v.Database)
	for _, p := range []*sandbox.Program{v.Enclave, a.VASPs[1].Enclave} {
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, a, []string{accepted.VerificationUUID})
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	said("is whole: 1 verifications", 0)
	putBuckets(t, v.Database, older)
	said("verifications: the values are not those that were written last", 1)
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	row, err := v.Row(t.Context(), accepted.VerificationUUID)
	if err != nil || row.Result != "WAIT" {
		t.Errorf("the older row is %+v, %v: this test tests nothing", row, err)
	}
	said("restore the newest backup", 1)
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	checks := 0
	for _, e := range auditOf(t, v) {
		if e.Verb == audit.CheckHistory {
			checks++
		}
	}
	if checks != 2 {
		t.Errorf("%d checks of the running enclave are in its audit log, want 2", checks)
	}
}

// rowBuckets are those of a row and what leads to it.
var rowBuckets = []string{"verifications", "chapters", "by_uuid", "by_originator_account", "by_beneficiary_account", "by_tx_hash"}

func bucketsOf(t *testing.T, file string) map[string]map[string][]byte {
	t.Helper()
	all := map[string]map[string][]byte{}
	withFile(t, file, func(tx *bbolt.Tx) error {
		for _, name := range rowBuckets {
			all[name] = map[string][]byte{}
			if err := tx.Bucket([]byte(name)).ForEach(func(k, value []byte) error {
				all[name][string(k)] = bytes.Clone(value)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return all
}

func putBuckets(t *testing.T, file string, all map[string]map[string][]byte) {
	t.Helper()
	withFile(t, file, func(tx *bbolt.Tx) error {
		for name, values := range all {
			for k, value := range values {
				if err := tx.Bucket([]byte(name)).Put([]byte(k), value); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func withFile(t *testing.T, file string, do func(*bbolt.Tx) error) {
	t.Helper()
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(do); err != nil {
		t.Fatal(err)
	}
}
