package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// backupEntry is the audit entry of a backup.
func backupEntry() storage.AuditEntry {
	return storage.AuditEntry{Time: noon, Actor: "operator", Verb: "history.backup", Outcome: "ok", Reason: "uid 7"}
}

func mustBackup(tb testing.TB, db *bolt.DB) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := db.Backup(tb.Context(), &b, backupEntry()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// largeBackup is of a file with the sample in it and more than two segments
// of the stream.
func largeBackup(tb testing.TB) []byte {
	tb.Helper()
	db := mustOpen(tb, options(tb, newPath(tb)))
	fillSample(tb, db)
	v := storagetest.Row(100)
	v.Answer = make([]byte, 5<<19)
	mustApply(tb, db, &storage.Change{Verification: v})
	b := mustBackup(tb, db)
	mustClose(tb, db)
	return b
}

// A backup is of one moment, whatever is written meanwhile, and has all that
// was acknowledged before.
func TestABackupWhileServing(t *testing.T) {
	db := mustOpen(t, options(t, newPath(t)))
	fillSample(t, db)
	ctx, stop := context.WithCancel(t.Context())
	var acknowledged atomic.Int64
	acknowledged.Store(99)
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := 100; ctx.Err() == nil; n++ {
			c := rowChange(n)
			c.Audit = []storage.AuditEntry{{Time: noon, Verb: "write"}}
			if err := db.Apply(t.Context(), c); err != nil {
				t.Error(err)
				return
			}
			acknowledged.Store(int64(n))
		}
	})
	for round := range 5 {
		want := acknowledged.Load()
		b := mustBackup(t, db)
		path := newPath(t)
		restored, err := bolt.Restore(t.Context(), bytes.NewReader(b), options(t, path))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		copied := mustOpen(t, options(t, path))
		for n := 100; n <= int(want); n++ {
			row := storagetest.Row(n)
			if _, err := copied.Verification(t.Context(), row.Originating, row.UUID); err != nil {
				t.Errorf("round %d: row %d of %d: %v", round, n, want, err)
			}
		}
		log, err := copied.Audit(t.Context(), 1, 0)
		if err != nil || uint64(len(log)) != restored.AuditEntries {
			t.Fatalf("%d audit entries, %v, want %d", len(log), err, restored.AuditEntries)
		}
		backups := 0
		for _, e := range log {
			if e.Verb == "history.backup" {
				backups++
			}
		}
		if backups != round+1 {
			t.Errorf("backup %d has %d audit entries about backups, its own included", round+1, backups)
		}
		mustClose(t, copied)
	}
	stop()
	writer.Wait()
	if acknowledged.Load() < 105 {
		t.Errorf("only %d rows were written meanwhile", acknowledged.Load()-99)
	}
}

// S1: a backup shows its head and nothing of the file, not even what the file
// itself shows.
func TestABackupHidesTheFile(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	fillSample(t, db)
	b := mustBackup(t, db)
	mustClose(t, db)
	file := readFile(t, path)
	for _, name := range []string{"verifications", "by_uuid", "own_keys", "vasp-enclave/history/"} {
		if !bytes.Contains(file, []byte(name)) {
			t.Errorf("the file does not hold %q: this test tests nothing", name)
		}
		if found := bytes.Count(b, []byte(name)); found > 1 || found == 1 && !bytes.Contains(b[:300], []byte(name)) {
			t.Errorf("the backup shows %q", name)
		}
	}
	for at := 0; at+32 <= len(file); at += 32 {
		if piece := file[at : at+32]; bytes.Count(piece, piece[:1]) < 16 && bytes.Contains(b, piece) {
			t.Fatalf("the backup shows bytes %d to %d of the file", at, at+32)
		}
	}
}

// Whatever was changed, cut or put behind a backup, it is refused, and no
// file is left, not even a hidden one.
func TestADamagedBackupIsRefused(t *testing.T) {
	whole := largeBackup(t)
	path := newPath(t)
	try := func(what string, b []byte) {
		t.Helper()
		_, err := bolt.Restore(t.Context(), bytes.NewReader(b), options(t, path))
		if err == nil {
			t.Errorf("%s: restored", what)
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
			t.Fatalf("%s: %s was left (%v)", what, left[0].Name(), err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range short(150, 3000) {
		at := random.IntN(len(whole))
		b := bytes.Clone(whole)
		b[at] ^= 1 << random.IntN(8)
		try("a bit changed", b)
		try("cut", whole[:at])
	}
	for at := range 400 { // the head and the beginning of the stream
		b := bytes.Clone(whole[:min(len(whole), 1<<20)])
		b[at] ^= 0x20
		try("head changed", append(b, whole[len(b):]...))
	}
	_, head, err := bolt.ReadBackupHead(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	for segment := 1; len(head)+segment<<20 < len(whole); segment++ {
		try("cut between segments", whole[:len(head)+segment<<20])
	}
	try("nothing", nil)
	try("bytes behind it", append(bytes.Clone(whole), 0))
	try("twice", append(bytes.Clone(whole), whole...))
	if _, err := bolt.Restore(t.Context(), bytes.NewReader(whole), options(t, path)); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}

func TestABackupOpensWithItsKeyOnly(t *testing.T) {
	whole := largeBackup(t)
	o := options(t, newPath(t))
	o.KEK = testKEK(t, 2)
	if _, err := bolt.Restore(t.Context(), bytes.NewReader(whole), o); !errors.Is(err, atrest.ErrWrongKEK) {
		t.Errorf("with another key: %v, want ErrWrongKEK", err)
	}
	if _, err := os.Stat(o.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made")
	}
	if _, err := bolt.Restore(t.Context(), bytes.NewReader(whole), bolt.Options{Path: o.Path}); err == nil {
		t.Error("restored without a key")
	}
}

func TestRestoreReplacesNothing(t *testing.T) {
	whole := largeBackup(t)
	path := newPath(t)
	writeFile(t, path, []byte("precious"))
	if _, err := bolt.Restore(t.Context(), bytes.NewReader(whole), options(t, path)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v, want ErrExist", err)
	}
	if got := readFile(t, path); string(got) != "precious" {
		t.Error("the file was replaced")
	}
}

// What restores is the same in every value, readable by its owner only.
func TestARestoredFileIsTheSame(t *testing.T) {
	db := mustOpen(t, options(t, newPath(t)))
	fillSample(t, db)
	b := mustBackup(t, db)
	want, errs := readSample(db)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	path := newPath(t)
	restored, err := bolt.Restore(t.Context(), bytes.NewReader(b), options(t, path))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v, want 0600", info.Mode(), err)
	}
	copied := mustOpen(t, options(t, path))
	got, errs := readSample(copied)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if text(got) != text(want) {
		t.Errorf("got %s\nwant %s", text(got), text(want))
	}
	contents, err := copied.Contents(t.Context())
	if err != nil || contents.Rows != restored.Rows || contents.AuditEntries != restored.AuditEntries || restored.Rows == 0 {
		t.Errorf("Restore told %+v, the file has %+v, %v", restored.Contents, contents, err)
	}
	if _, err := bolt.Restore(t.Context(), bytes.NewReader(b[:len(b)-1]), options(t, newPath(t))); !errors.Is(err, atrest.ErrCorrupt) {
		t.Errorf("cut by a byte: %v, want ErrCorrupt", err)
	}
}

// fullWriter takes so many bytes.
type fullWriter struct {
	bytes.Buffer
	room int
}

var errFull = errors.New("no room")

func (f *fullWriter) Write(p []byte) (int, error) {
	if f.Len()+len(p) > f.room {
		return 0, errFull
	}
	return f.Buffer.Write(p)
}

// A backup whose reader goes away fails, and what it has does not open. The
// store goes on.
func TestABackupThatBreaksOff(t *testing.T) {
	db := mustOpen(t, options(t, newPath(t)))
	fillSample(t, db)
	v := storagetest.Row(100)
	v.Answer = make([]byte, 5<<19)
	mustApply(t, db, &storage.Change{Verification: v})
	for _, room := range []int{0, 100, 1 << 20, 2 << 20} {
		w := &fullWriter{room: room}
		if err := db.Backup(t.Context(), w, backupEntry()); !errors.Is(err, errFull) {
			t.Errorf("room for %d bytes: %v, want the writer's error", room, err)
		}
		if _, err := bolt.Restore(t.Context(), &w.Buffer, options(t, newPath(t))); err == nil {
			t.Errorf("the first %d bytes were restored", room)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &cancelWriter{cancel: cancel}
	if err := db.Backup(ctx, w, backupEntry()); !errors.Is(err, context.Canceled) {
		t.Errorf("its caller gone: %v", err)
	}
	mustApply(t, db, rowChange(101))
}

// cancelWriter has its caller go after the first piece.
type cancelWriter struct{ cancel func() }

func (c *cancelWriter) Write(p []byte) (int, error) { c.cancel(); return len(p), nil }
