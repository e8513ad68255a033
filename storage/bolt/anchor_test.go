package bolt_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

func mustAnchor(t *testing.T, db *bolt.DB, path string) {
	t.Helper()
	if err := db.SaveAnchor(t.Context(), path); err != nil {
		t.Fatal(err)
	}
}

// noted is a change with an audit entry.
func noted(n int) *storage.Change {
	c := rowChange(n)
	c.Audit = []storage.AuditEntry{{Time: noon, Verb: "write", Object: strconv.Itoa(n)}}
	return c
}

// S3: of 100 older copies of the file, each put back whole, the anchor finds
// every one; and those too that were then used until they were as long.
func TestTheAnchorFindsEveryOlderCopy(t *testing.T) {
	const copies = 100
	path, anchor := newPath(t), filepath.Join(t.TempDir(), "anchor")
	var older [][]byte
	db := mustOpen(t, options(t, path))
	for n := range copies {
		change := noted(n)
		if n%2 == 1 {
			change = rowChange(n) // a commit that the audit log does not show
		}
		mustApply(t, db, change)
		mustClose(t, db)
		older = append(older, readFile(t, path))
		db = mustOpen(t, options(t, path))
	}
	mustApply(t, db, noted(copies))
	mustAnchor(t, db, anchor)
	if err := db.CheckAnchor(t.Context(), anchor); err != nil {
		t.Fatalf("the file that it is of: %v", err)
	}
	mustApply(t, db, noted(copies+1))
	if err := db.CheckAnchor(t.Context(), anchor); err != nil {
		t.Errorf("a commit later: %v", err)
	}
	mustClose(t, db)
	found, forks := 0, 0
	for n, b := range older {
		writeFile(t, path, b)
		db := mustOpen(t, options(t, path))
		if err := db.CheckAnchor(t.Context(), anchor); errors.Is(err, bolt.ErrRollback) {
			found++
		} else {
			t.Errorf("copy %d: %v", n, err)
		}
		if n >= copies-10 { // and go on with it, past the anchor
			for more := range 2 * (copies - n + 2) {
				mustApply(t, db, noted(1000+more))
			}
			if err := db.CheckAnchor(t.Context(), anchor); errors.Is(err, bolt.ErrRollback) {
				forks++
			} else {
				t.Errorf("copy %d, used again: %v", n, err)
			}
		}
		mustClose(t, db)
	}
	t.Logf("%d of %d older copies found, %d of 10 that were used again", found, copies, forks)
}

// Another history in its place is found, and an anchor that somebody wrote is
// not believed.
func TestAForgedAnchorIsRefused(t *testing.T) {
	db, anchor := mustOpen(t, options(t, newPath(t))), filepath.Join(t.TempDir(), "anchor")
	if err := db.CheckAnchor(t.Context(), anchor); !errors.Is(err, bolt.ErrNoAnchor) {
		t.Errorf("without an anchor: %v", err)
	}
	mustApply(t, db, noted(1))
	mustApply(t, db, noted(2))
	mustAnchor(t, db, anchor)
	if info, err := os.Stat(anchor); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	whole := readFile(t, anchor)
	for old, new := range map[string]string{`"auditSeq":2`: `"auditSeq":1`, `"commits":3`: `"commits":1`, `"auditHash":"`: `"auditHash":"0`, `{`: `[`, `"mac":"`: `"mac":"0`} {
		b := bytes.Replace(whole, []byte(old), []byte(new), 1)
		if bytes.Equal(b, whole) {
			t.Fatalf("the anchor %s has no %s", whole, old)
		}
		writeFile(t, anchor, b)
		if err := db.CheckAnchor(t.Context(), anchor); err == nil {
			t.Errorf("%s for %s: believed", new, old)
		}
	}
	writeFile(t, anchor, whole)
	other := mustOpen(t, options(t, newPath(t)))
	if err := other.CheckAnchor(t.Context(), anchor); !errors.Is(err, bolt.ErrRollback) {
		t.Errorf("another history: %v, want ErrRollback", err)
	}
}
