package bolt_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// S7: on a full disk the reserve is given up for the audit log, and nothing else
// is written until it can be taken again; then everything is, without a restart.
func TestTheReserveIsForTheAuditLog(t *testing.T) {
	var full atomic.Bool
	defer bolt.PretendAllocate(func(f *os.File, size int64) error {
		if full.Load() && size > 1<<20 { // no more than what was given up
			return unix.ENOSPC
		}
		return f.Truncate(size)
	})()
	registry := prometheus.NewRegistry()
	o := options(t, newPath(t))
	o.Metrics, o.Reserve = registry, 1<<20
	reserve := o.Path + ".reserve"
	db, v := roomy(t, o)
	wantSize := func(want int64) {
		t.Helper()
		if info, err := os.Stat(reserve); err != nil || info.Size() != want || info.Mode().Perm() != 0o600 {
			t.Fatalf("the reserve is %v, %v, want %d bytes of mode 0600", info, err, want)
		}
	}
	wantSize(1 << 20)
	restore := replaceDisk(t, o.Path, "/dev/full", unix.O_RDWR)
	full.Store(true)
	if err := db.Apply(t.Context(), noted(1)); !errors.Is(err, storage.ErrReadOnly) {
		t.Fatalf("on a full disk: %v, want ErrReadOnly", err)
	}
	wantSize(0)
	restore() // there is room for the little that was given up
	entry := &storage.Change{Audit: []storage.AuditEntry{{Time: noon, Verb: "look"}}}
	for range 3 {
		mustApply(t, db, entry)
		if err := db.Apply(t.Context(), noted(1)); !errors.Is(err, storage.ErrReadOnly) {
			t.Fatalf("a row from the reserve: %v, want ErrReadOnly", err)
		}
		if got := metric(t, registry, "enclave_store_read_only"); got != 1 {
			t.Errorf("enclave_store_read_only is %v, want 1", got)
		}
	}
	mustBackup(t, db) // the moment to take one
	if _, err := db.Verification(t.Context(), v.Originating, v.UUID); err != nil {
		t.Error(err)
	}
	full.Store(false)
	mustApply(t, db, noted(1))
	wantSize(1 << 20)
	if got := metric(t, registry, "enclave_store_read_only"); got != 0 {
		t.Errorf("enclave_store_read_only is %v, want 0", got)
	}
	if log, err := db.Audit(t.Context(), 1, 0); err != nil || len(log) != 5 {
		t.Errorf("%d audit entries, %v, want 3 looks, a backup and a row", len(log), err)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
	mustClose(t, db)

	if left, _ := os.ReadDir(filepath.Dir(o.Path)); len(left) != 2 {
		t.Errorf("%d files, want the history and its reserve", len(left))
	}
}
