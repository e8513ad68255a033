package bolt_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

func TestMain(m *testing.M) {
	if child := os.Getenv(childVariable); child != "" {
		os.Exit(runChild(child))
	}
	_ = flag.Set("rapid.checks", "30") // more from the command line
	goleak.VerifyTestMain(m)
}

// noon is the clock of tests that do not move it.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testKEK(tb testing.TB, b byte) *atrest.KEK {
	tb.Helper()
	kek, err := atrest.NewKEK(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		tb.Fatal(err)
	}
	return kek
}

func options(tb testing.TB, path string) bolt.Options {
	return bolt.Options{Path: path, KEK: testKEK(tb, 1), Now: func() time.Time { return noon }}
}

// newPath is a path for a file that the test removes.
func newPath(tb testing.TB) string { return filepath.Join(tb.TempDir(), "history.db") }

func mustOpen(tb testing.TB, o bolt.Options) *bolt.DB {
	tb.Helper()
	db, err := bolt.Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

func mustClose(tb testing.TB, db *bolt.DB) {
	tb.Helper()
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
}

func mustApply(tb testing.TB, db *bolt.DB, c *storage.Change) {
	tb.Helper()
	if err := db.Apply(tb.Context(), c); err != nil {
		tb.Fatal(err)
	}
}

func TestDBIsAHistory(t *testing.T) {
	storagetest.History(t, func(t *testing.T) (storage.History, func() storage.History) {
		path := newPath(t)
		db := mustOpen(t, options(t, path))
		return db, func() storage.History {
			mustClose(t, db)
			db = mustOpen(t, options(t, path))
			if err := db.Check(t.Context()); err != nil {
				t.Errorf("Check: %v", err)
			}
			return db
		}
	})
}
