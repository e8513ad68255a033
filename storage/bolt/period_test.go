package bolt_test

import (
	"bytes"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// The key of a period that began in a change which was rolled back, because
// its neighbour failed, is in memory only: the next commit has to keep it.
func TestTheKeyOfARolledBackPeriodIsKept(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	mustApply(t, db, &storage.Change{Peer: &storage.Peer{VASP: 1}})
	mustClose(t, db)
	edit(t, path, breakPeer)
	db = mustOpen(t, options(t, path))
	errs := db.Together(t.Context(), rowChange(1), &storage.Change{Verification: storagetest.Row(2), Peer: &storage.Peer{VASP: 1}})
	if errs[0] != nil || errs[1] == nil {
		t.Fatalf("Apply: %v, want the first alone to be written", errs)
	}
	mustApply(t, db, rowChange(3))
	mustClose(t, db)
	db = mustOpen(t, options(t, path))
	for _, n := range []int{1, 3} {
		v := storagetest.Row(n)
		if _, err := db.Verification(t.Context(), v.Originating, v.UUID); err != nil {
			t.Errorf("row %d, after a restart: %v", n, err)
		}
	}
}

// And the record is left alone when there is nothing new in it.
func TestTheKeyringRecordIsWrittenOncePerPeriod(t *testing.T) {
	path, snapshot := newPath(t), newPath(t)
	db := mustOpen(t, options(t, path))
	record := func() []byte {
		writeFile(t, snapshot, readFile(t, path))
		keys, values := cells(t, snapshot, "meta")
		if string(keys[0]) != "keyring" {
			t.Fatalf("the first key of meta is %q", keys[0])
		}
		return values[0]
	}
	last := record()
	for n, changed := range []bool{true, false, false, true, false} {
		v := storagetest.Row(n)
		v.CreatedAt = v.CreatedAt.AddDate(n/3, 0, 0)
		mustApply(t, db, &storage.Change{Verification: v})
		if got := !bytes.Equal(record(), last); got != changed {
			t.Errorf("row %d: the record was written is %v, want %v", n, got, changed)
		}
		last = record()
	}
}
