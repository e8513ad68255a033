package bolt_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// sample is what the file of sampleFile holds.
type sample struct {
	Rows      []*storage.Verification // newest first
	Outbox    []*storage.OutboxEntry
	Receipts  []*storage.Receipt
	Peers     []*storage.Peer
	Keys      []keyring.OwnKey
	Identity  *storage.OwnIdentity
	Directory []byte
	Audit     []storage.AuditEntry
}

const sampleRows = 24

// fillSample writes something of everything, with updates and deletions, in
// several retention periods.
func fillSample(tb testing.TB, db *bolt.DB) {
	tb.Helper()
	for n := range sampleRows {
		v := storagetest.Row(n)
		v.CreatedAt = v.CreatedAt.AddDate(0, n/10, 0)
		e := &storage.OutboxEntry{Kind: storage.ToBackend, UUID: v.UUID, Originating: v.Originating, Body: []byte("call back"), Created: v.CreatedAt}
		mustApply(tb, db, &storage.Change{
			Verification: v,
			Receipt:      &storage.Receipt{Originating: v.Originating, UUID: v.UUID, EnvelopeHash: [32]byte{byte(n)}, ReplyBundle: []byte("bundle"), Expires: v.Deadline},
			Peer:         &storage.Peer{VASP: identity.VASPID(n%5 + 1), State: storage.PeerTOFU, Identity: []byte("identity"), Serial: uint64(n), Since: noon},
			PutOwnKeys:   []keyring.OwnKey{{ID: identity.KeyID{byte(n % 4)}, Type: identity.PerVASP, Bundle: []byte("bundle"), Wrapped: []byte{byte(n)}, NotAfter: noon}},
			Outbox:       []*storage.OutboxEntry{e},
			Audit:        []storage.AuditEntry{{Time: v.CreatedAt, Actor: "backend", Verb: "accept", Object: v.UUID.String(), Outcome: "ok"}},
		})
		if n%3 == 0 {
			v.Reason, v.Result = "OK", storage.Verified
			mustApply(tb, db, &storage.Change{Verification: v, DropOutbox: []uint64{e.Seq}})
		}
	}
	mustApply(tb, db, &storage.Change{Identity: &storage.OwnIdentity{Wrapped: []byte("wrapped"), Chain: []byte("chain")}, Directory: []byte("{}")})
}

// readSample reads everything back. What gives an error is left out and the
// error is in the list.
func readSample(db *bolt.DB) (s sample, errs []error) {
	ctx := context.Background()
	note := func(err error) { errs = append(errs, err) }
	rows, _, err := db.List(ctx, storage.Filter{})
	s.Rows = rows
	note(err)
	s.Outbox, err = db.Outbox(ctx)
	note(err)
	s.Peers, err = db.Peers(ctx)
	note(err)
	s.Keys, err = db.OwnKeys(ctx)
	note(err)
	s.Identity, err = db.Identity(ctx)
	note(err)
	s.Directory, err = db.Directory(ctx)
	note(err)
	s.Audit, err = db.Audit(ctx, 1, 0)
	note(err)
	for n := range sampleRows {
		v := storagetest.Row(n)
		r, err := db.Receipt(ctx, v.Originating, v.UUID)
		note(err)
		if err == nil {
			s.Receipts = append(s.Receipts, r)
		}
	}
	kept := errs[:0]
	for _, err := range errs {
		if err != nil {
			kept = append(kept, err)
		}
	}
	return s, kept
}

// sampleFile makes a closed file and says what is in it.
func sampleFile(tb testing.TB) (path string, want sample) {
	tb.Helper()
	path = newPath(tb)
	db := mustOpen(tb, options(tb, path))
	fillSample(tb, db)
	want, errs := readSample(db)
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	if err := db.Check(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	mustClose(tb, db)
	return path, want
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func writeFile(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// edit changes a closed file with bbolt itself.
func edit(tb testing.TB, path string, change func(tx *bbolt.Tx) error) {
	tb.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		tb.Fatal(err)
	}
}

// footprint is what must not change when a file is refused.
type footprint struct {
	Sum  [32]byte
	Time time.Time
	Mode os.FileMode
	Dir  []string
}

func footprintOf(tb testing.TB, path string) footprint {
	tb.Helper()
	info, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil {
		tb.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil {
		tb.Fatal(err)
	}
	return footprint{sha256.Sum256(readFile(tb, path)), info.ModTime(), info.Mode(), append(names, hidden...)}
}

// wantUntouched fails when the file is not as it was.
func wantUntouched(tb testing.TB, path string, before footprint) {
	tb.Helper()
	if diff := cmp.Diff(before, footprintOf(tb, path)); diff != "" {
		tb.Errorf("the file was touched (-before +after):\n%s", diff)
	}
}
