package bolt_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// A compacted file is smaller, the same in every value, and goes on counting
// where it was.
func TestCompact(t *testing.T) {
	o := options(t, newPath(t))
	db := mustOpen(t, o)
	fillSample(t, db)
	v := storagetest.Row(100)
	for _, size := range []int{8 << 20, 0, 0} {
		v.Answer = make([]byte, size)
		mustApply(t, db, &storage.Change{Verification: v})
	}
	want, errs := readSample(db)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	before, after, err := bolt.Compact(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(o.Path)
	if err != nil || info.Size() != after || after >= before/2 || info.Mode().Perm() != 0o600 {
		t.Errorf("from %d to %d bytes; the file is %v, %v", before, after, info, err)
	}
	db = mustOpen(t, o)
	got, errs := readSample(db)
	if err := errors.Join(errs...); err != nil || text(got) != text(want) {
		t.Errorf("%v, got %s\nwant %s", err, text(got), text(want))
	}
	next := storagetest.Row(101)
	mustApply(t, db, &storage.Change{Verification: next})
	if next.Record <= v.Record {
		t.Errorf("record %d follows %d: the counter went back", next.Record, v.Record)
	}
	var last, all uint64
	err = db.CheckTelling(t.Context(), func(done, of uint64) {
		if done < last || of == 0 || all != 0 && of != all {
			t.Errorf("after %d of %d, %d of %d", last, all, done, of)
		}
		last, all = done, of
	})
	if err != nil || last != all || all == 0 {
		t.Errorf("the check ended at %d of %d, %v", last, all, err)
	}
}

// An enclave that has the file keeps it from being compacted, and a file with
// a damaged value stays as it is.
func TestCompactRefuses(t *testing.T) {
	path, _ := sampleFile(t)
	o := options(t, path)
	db := mustOpen(t, o)
	if _, _, err := bolt.Compact(t.Context(), o); err == nil || !strings.Contains(err.Error(), "another enclave") {
		t.Errorf("while an enclave has it: %v", err)
	}
	mustClose(t, db)
	edit(t, path, breakPeer)
	before := readFile(t, path)
	if _, _, err := bolt.Compact(t.Context(), o); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("with a damaged value: %v, want ErrCorrupt", err)
	}
	if string(readFile(t, path)) != string(before) {
		t.Error("the file was changed")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
}
