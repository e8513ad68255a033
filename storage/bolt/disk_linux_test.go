package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// descriptor finds the file descriptor by which the store writes.
func descriptor(t *testing.T, path string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == path {
			fd, _ := strconv.Atoi(filepath.Base(link))
			return fd
		}
	}
	t.Fatalf("%s is not open", path)
	return 0
}

// replaceDisk puts another file under the store's descriptor; the store goes
// on reading its own, by the mapping.
func replaceDisk(t *testing.T, path, other string, flags int) (restore func()) {
	t.Helper()
	fd := descriptor(t, path)
	kept, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := unix.Open(other, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Dup3(bad, fd, unix.O_CLOEXEC), unix.Close(bad)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(unix.Dup3(kept, fd, unix.O_CLOEXEC), unix.Close(kept)); err != nil {
			t.Fatal(err)
		}
	}
}

// roomy opens a store in whose file there are free pages, so that a commit
// writes pages before it asks for a longer file.
func roomy(t *testing.T, o bolt.Options) (*bolt.DB, *storage.Verification) {
	t.Helper()
	db := mustOpen(t, o)
	v := storagetest.Row(0)
	for _, size := range []int{1 << 20, 0, 0} {
		v.Answer = make([]byte, size)
		mustApply(t, db, &storage.Change{Verification: v})
	}
	return db, v
}

// S7: after a write or a sync that failed nobody knows what is on the disk,
// so nothing is answered any more and the program is told to stop. bbolt by
// itself would go on, and show a write whose sync had failed.
func TestAFailedWriteStopsTheStore(t *testing.T) {
	for name, c := range map[string]struct {
		file  string
		flags int
		want  string
	}{
		"write": {os.DevNull, unix.O_RDONLY, "bad file descriptor"},
		"sync":  {os.DevNull, unix.O_RDWR, "invalid argument"}, // takes what is written, and cannot sync
	} {
		t.Run(name, func(t *testing.T) {
			registry, failed := prometheus.NewRegistry(), make(chan error, 10)
			o := options(t, newPath(t))
			o.Metrics, o.OnFail = registry, func(err error) { failed <- err }
			db, v := roomy(t, o)
			mustClose(t, db)
			db = mustOpen(t, o)
			restore := replaceDisk(t, o.Path, c.file, c.flags)
			before := v.Version
			v.Reason = "LOST"
			for range 2 {
				err := db.Apply(t.Context(), &storage.Change{Verification: v})
				if !errors.Is(err, storage.ErrFailed) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("Apply: %v, want ErrFailed and %q", err, c.want)
				}
			}
			restore()
			if err := db.Apply(t.Context(), rowChange(2)); !errors.Is(err, storage.ErrFailed) {
				t.Errorf("Apply on a disk that works again: %v, want ErrFailed", err)
			}
			if _, err := db.Verification(t.Context(), v.Originating, v.UUID); !errors.Is(err, storage.ErrFailed) {
				t.Errorf("Verification: %v, want ErrFailed", err)
			}
			if err := <-failed; !errors.Is(err, storage.ErrFailed) || len(failed) != 0 {
				t.Errorf("OnFail was told %v and %d times more", err, len(failed))
			}
			if got := metric(t, registry, "enclave_store_failed"); got != 1 {
				t.Errorf("enclave_store_failed is %v, want 1", got)
			}
			mustClose(t, db)
			db = mustOpen(t, options(t, o.Path))
			if got, err := db.Verification(t.Context(), v.Originating, v.UUID); err != nil || got.Version != before {
				t.Errorf("after a restart: %+v, %v, want version %d", got, err, before)
			}
		})
	}
}

// A change that waited behind the failure is not tried.
func TestNothingIsWrittenAfterAFailure(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	if err := db.ApplyBehindAFailure(t.Context(), rowChange(1)); !errors.Is(err, storage.ErrFailed) {
		t.Errorf("Apply: %v, want ErrFailed", err)
	}
	mustClose(t, db)
	if _, count, err := mustOpen(t, options(t, path)).List(t.Context(), storage.Filter{}); count != 0 || err != nil {
		t.Errorf("List counts %d, %v, want none", count, err)
	}
}

// S7: a full disk refuses changes; reads go on, and changes when there is
// room. The key of a period that began meanwhile is not lost: it was in
// memory only, and the first commit that holds has to keep it.
func TestAFullDiskIsReadOnly(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := options(t, newPath(t))
	o.Metrics = registry
	o.OnFail = func(err error) { t.Errorf("OnFail: %v", err) }
	db, v := roomy(t, o)
	restore := replaceDisk(t, o.Path, "/dev/full", unix.O_RDWR)
	later := storagetest.Row(1)
	later.CreatedAt = later.CreatedAt.AddDate(1, 0, 0)
	for range 3 {
		err := db.Apply(t.Context(), &storage.Change{Verification: later, Outbox: []*storage.OutboxEntry{{Created: later.CreatedAt}}})
		if !errors.Is(err, storage.ErrReadOnly) {
			t.Fatalf("Apply on a full disk: %v, want ErrReadOnly", err)
		}
		if _, err := db.Verification(t.Context(), v.Originating, v.UUID); err != nil {
			t.Errorf("Verification: %v", err)
		}
	}
	if got := metric(t, registry, "enclave_store_read_only"); got != 1 {
		t.Errorf("enclave_store_read_only is %v, want 1", got)
	}
	restore()
	mustApply(t, db, &storage.Change{Verification: later})
	if got := metric(t, registry, "enclave_store_read_only"); got != 0 {
		t.Errorf("enclave_store_read_only is %v, want 0", got)
	}
	mustClose(t, db)
	db = mustOpen(t, options(t, o.Path))
	if _, err := db.Verification(t.Context(), later.Originating, later.UUID); err != nil {
		t.Errorf("the row of the new period, after a restart: %v", err)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
}

// A limit on the length of files, in a process of its own, is how a disk
// fills up where the file must grow.
func TestAFileThatCannotGrow(t *testing.T) {
	path := newPath(t)
	out, err := child("grow", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all well") {
		t.Fatalf("%v: %s", err, out)
	}
	db := mustOpen(t, options(t, path))
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func init() { children["grow"] = growUntilFull }

// growUntilFull is the child: it writes until there is no room, reads, gets
// room and writes again.
func growUntilFull(path string) error {
	signal.Ignore(unix.SIGXFSZ)
	db, err := openInChild(path)
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 6 << 20, Max: limit.Max}); err != nil {
		return err
	}
	written, err := writeUntilRefused(db)
	if !errors.Is(err, storage.ErrReadOnly) {
		return fmt.Errorf("after %d rows: %v, want ErrReadOnly", written, err)
	}
	if _, count, err := db.List(background, storage.Filter{}); err != nil || count != written {
		return fmt.Errorf("List counts %d, %v, want %d", count, err, written)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := db.Apply(background, bigRow(written)); err != nil {
		return fmt.Errorf("with room again: %v", err)
	}
	if err := errors.Join(db.Check(background), db.Close()); err != nil {
		return err
	}
	fmt.Println("all well,", written, "rows")
	return nil
}

func bigRow(n int) *storage.Change {
	c := rowChange(n)
	c.Verification.Answer = make([]byte, 100<<10)
	return c
}

func writeUntilRefused(db *bolt.DB) (written int, err error) {
	for ; written < 1000; written++ {
		if err := db.Apply(background, bigRow(written)); err != nil {
			return written, err
		}
	}
	return written, nil
}
