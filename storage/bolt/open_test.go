package bolt_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

func TestOpenMakesOneFileForOurEyesOnly(t *testing.T) {
	path := newPath(t)
	mustClose(t, mustOpen(t, options(t, path)))
	got := footprintOf(t, path)
	if got.Mode != 0o600 {
		t.Errorf("mode is %v, want 0600", got.Mode)
	}
	for _, name := range got.Dir {
		if base := filepath.Base(name); base != "history.db" && base != "." && base != ".." {
			t.Errorf("%s is left over", name)
		}
	}
}

func TestOpenOfAMissingFolderSaysSo(t *testing.T) {
	_, err := bolt.Open(options(t, filepath.Join(t.TempDir(), "no", "history.db")))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open: %v, want not exist", err)
	}
}

// Two programs that start at once on a new volume: one gets the file, and
// neither replaces the other's.
func TestOpenOfANewFileByManyAtOnce(t *testing.T) {
	path := newPath(t)
	var mu sync.Mutex
	var opened []*bolt.DB
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			db, err := bolt.Open(options(t, path))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				opened = append(opened, db)
			} else if !strings.Contains(err.Error(), "another enclave has it open") {
				t.Errorf("Open: %v", err)
			}
		})
	}
	all.Wait()
	if len(opened) != 1 {
		t.Fatalf("%d have it open, want 1", len(opened))
	}
	mustApply(t, opened[0], &storage.Change{Verification: storagetest.Row(1)})
	mustClose(t, opened[0])
	if _, count, err := mustOpen(t, options(t, path)).List(t.Context(), storage.Filter{}); count != 1 || err != nil {
		t.Errorf("List counts %d, %v, want 1", count, err)
	}
}

// S11: the wrong key is said to be wrong, and nothing is written.
func TestOpenWithAnotherKEKTouchesNothing(t *testing.T) {
	path, _ := sampleFile(t)
	before := footprintOf(t, path)
	o := options(t, path)
	right, wrong := o.KEK, testKEK(t, 2)
	o.KEK = wrong
	_, err := bolt.Open(o)
	if !errors.Is(err, atrest.ErrWrongKEK) || !strings.Contains(err.Error(), right.ID()) || !strings.Contains(err.Error(), wrong.ID()) {
		t.Errorf("Open with another KEK: %v, want ErrWrongKEK and the ids %s and %s", err, right.ID(), wrong.ID())
	}
	wantUntouched(t, path, before)

	if o.KEK, err = atrest.NewKEK(make([]byte, 31)); err == nil {
		t.Error("a KEK of 31 bytes is accepted")
	}
	if _, err = bolt.Open(o); err == nil {
		t.Error("Open without a KEK: no error")
	}
	wantUntouched(t, path, before)
}

func TestOpenWhileAnotherHasItOpen(t *testing.T) {
	path := newPath(t)
	mustOpen(t, options(t, path))
	_, err := bolt.Open(options(t, path))
	if err == nil || !strings.Contains(err.Error(), "another enclave has it open") || !strings.Contains(err.Error(), path) {
		t.Errorf("second Open: %v", err)
	}
}

func TestOpenRefusesWhatIsNotAHistory(t *testing.T) {
	put := func(bucket, key, value string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value)) }
	}
	for name, c := range map[string]struct {
		change func(tx *bbolt.Tx) error
		want   string
	}{
		"later schema":     {put("meta", "schema", "vasp-enclave/history/4"), "schema version \"4\" and this program knows version 3"},
		"foreign schema":   {put("meta", "schema", "something"), "not a history"},
		"no schema record": {func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("meta")) }, "not a history"},
		"missing chapters": {func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("chapters")) }, "bucket chapters is missing"},
		"missing bucket":   {func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("outbox")) }, "bucket outbox is missing"},
		"broken keyring":   {put("meta", "keyring", "\x01broken"), atrest.ErrCorruptRecord.Error()},
		"broken state":     {put("meta", "state", "broken"), storage.ErrCorrupt.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := sampleFile(t)
			edit(t, path, c.change)
			before := footprintOf(t, path)
			if _, err := bolt.Open(options(t, path)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open: %v, want %q", err, c.want)
			}
			wantUntouched(t, path, before)
		})
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":   {},
		"text":    bytes.Repeat([]byte("not a database\n"), 2000),
		"zeroes":  make([]byte, 1<<16),
		"one bit": {1},
	} {
		path := newPath(t)
		writeFile(t, path, b)
		before := footprintOf(t, path)
		if _, err := bolt.Open(options(t, path)); err == nil {
			t.Errorf("%s: Open: no error", name)
		}
		wantUntouched(t, path, before)
	}
	if _, err := bolt.Open(options(t, t.TempDir())); err == nil {
		t.Error("a folder: Open: no error")
	}
}

// S7: a file that was cut, at creation or later, is an error and not a SIGBUS.
func TestOpenRefusesATruncatedFile(t *testing.T) {
	path, _ := sampleFile(t)
	whole := readFile(t, path)
	used := int64(0)
	edit(t, path, func(tx *bbolt.Tx) error { used = tx.Size(); return nil })
	writeFile(t, path, whole)
	cut := newPath(t)
	for length := int64(0); length < used; length += 509 {
		writeFile(t, cut, whole[:length])
		db, err := bolt.Open(options(t, cut))
		if err == nil || !strings.Contains(err.Error(), "cut short") {
			t.Errorf("cut to %d of %d bytes: Open: %v, want an error that says so", length, used, err)
		}
		if err == nil {
			mustClose(t, db)
		}
	}
	writeFile(t, cut, whole[:used])
	db := mustOpen(t, options(t, cut)) // the rest was never written
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("cut to the %d bytes in use: Check: %v", used, err)
	}
}

func TestPeriodIsASettingOfTheFile(t *testing.T) {
	path := newPath(t)
	o := options(t, path)
	o.Period = 48 * time.Hour
	mustClose(t, mustOpen(t, o))
	o.Period = time.Hour
	if got := mustOpen(t, o).Keys().PeriodLength(); got != 48*time.Hour {
		t.Errorf("period is %v, want the one the file was made with", got)
	}
	o = options(t, newPath(t))
	if got := mustOpen(t, o).Keys().PeriodLength(); got != bolt.DefaultPeriod {
		t.Errorf("period of a new file is %v, want %v", got, bolt.DefaultPeriod)
	}
	o = options(t, newPath(t))
	o.Period = time.Nanosecond
	if _, err := bolt.Open(o); err == nil {
		t.Error("a period of a nanosecond: no error")
	}
}

func TestAClosedStoreAnswersSo(t *testing.T) {
	db := mustOpen(t, options(t, newPath(t)))
	mustClose(t, db)
	if err := db.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := db.Apply(t.Context(), &storage.Change{Verification: storagetest.Row(1)}); !errors.Is(err, bolt.ErrClosed) {
		t.Errorf("Apply: %v, want ErrClosed", err)
	}
	if _, err := db.Outbox(t.Context()); !errors.Is(err, bolt.ErrClosed) {
		t.Errorf("Outbox: %v, want ErrClosed", err)
	}
}

func TestMetricsAreGivenBack(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := options(t, newPath(t))
	o.Metrics = registry
	for range 2 {
		db := mustOpen(t, o)
		mustApply(t, db, &storage.Change{Verification: storagetest.Row(1), DropOutbox: []uint64{1}})
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range families {
			names = append(names, f.GetName())
		}
		want := "enclave_audit_entries enclave_data_key_oldest_timestamp_seconds enclave_database_key_since_timestamp_seconds enclave_store_batch_changes enclave_store_commit_seconds enclave_store_disk_free_bytes enclave_store_failed enclave_store_read_only enclave_store_size_bytes enclave_store_write_seconds"
		if got := strings.Join(names, " "); got != want {
			t.Errorf("metrics are %s, want %s", got, want)
		}
		other := options(t, newPath(t))
		other.Metrics = registry
		if _, err := bolt.Open(other); err == nil {
			t.Error("two stores on one registry: no error")
		}
		mustClose(t, db)
		if left, err := registry.Gather(); len(left) != 0 || err != nil {
			t.Errorf("after Close there are %d metrics, %v", len(left), err)
		}
		o.Path = newPath(t)
	}
}
