package bolt_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// rowIndexes lead to rows, allOfIt is every bucket but meta and the audit log.
var (
	rowIndexes = []string{"by_uuid", "by_originator_account", "by_beneficiary_account", "by_tx_hash"}
	allOfIt    = append([]string{"verifications", "chapters", "outbox", "receipts", "receipts_by_expiry", "peers", "own_keys", "identity", "directory", "holds"}, rowIndexes...)
)

// moment is what a file's buckets held once.
type moment map[string][2][][]byte

func momentOf(t *testing.T, path string, buckets ...string) moment {
	t.Helper()
	m := moment{}
	for _, bucket := range buckets {
		keys, values := cells(t, path, bucket)
		m[bucket] = [2][][]byte{keys, values}
	}
	return m
}

// putBack makes buckets what they were then.
func (m moment) putBack(t *testing.T, path string, buckets ...string) {
	t.Helper()
	edit(t, path, func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			b := tx.Bucket([]byte(name))
			var now [][]byte
			errs := []error{b.ForEach(func(k, _ []byte) error { now = append(now, bytes.Clone(k)); return nil })}
			for _, k := range now {
				errs = append(errs, b.Delete(k))
			}
			for i, k := range m[name][0] {
				errs = append(errs, b.Put(k, m[name][1][i]))
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
		}
		return nil
	})
}

// twoMoments makes a closed file that was changed in every bucket since the
// moment, and holds as many values as then.
func twoMoments(t *testing.T) (path string, before moment) {
	t.Helper()
	path, _ = sampleFile(t)
	hold := &storage.Hold{UUID: storagetest.RowID(1), Originating: storagetest.Row(1).Originating, Reason: "CASE-1", By: "ops", Since: noon}
	change := func(text string) {
		db := mustOpen(t, options(t, path))
		v, err := db.Verification(t.Context(), storagetest.Row(1).Originating, storagetest.RowID(1))
		if err != nil {
			t.Fatal(err)
		}
		v.Reason, v.TxHash, v.Result = text, text, map[string]storage.Result{"before": storage.Denied, "after": storage.Verified}[text]
		entries, err := db.Outbox(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mustApply(t, db, &storage.Change{
			Verification: v,
			Receipt:      &storage.Receipt{Originating: v.Originating, UUID: v.UUID, ReplyBundle: []byte(text), Expires: v.Deadline},
			Peer:         &storage.Peer{VASP: 1, State: storage.PeerTOFU, Identity: []byte(text), Since: noon},
			PutOwnKeys:   []keyring.OwnKey{{ID: identity.KeyID{1}, Type: identity.PerVASP, Bundle: []byte(text), NotAfter: noon}},
			Identity:     &storage.OwnIdentity{Wrapped: []byte(text), Chain: []byte(text)},
			Directory:    []byte(text),
			DropOutbox:   []uint64{entries[0].Seq},
			Outbox:       []*storage.OutboxEntry{{Kind: storage.ToBackend, UUID: v.UUID, Originating: v.Originating, Body: []byte(text), Created: v.CreatedAt}},
			Audit:        []storage.AuditEntry{{Time: noon, Actor: "backend", Verb: "accept", Outcome: "ok"}},
		})
		if err := db.PutHold(t.Context(), hold, storage.AuditEntry{Time: noon, Verb: text}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, db)
	}
	change("before")
	before = momentOf(t, path, allOfIt...)
	change("after")
	return path, before
}

// S2, S3: what was put back as it was in an older copy of the same file is
// found, each bucket alone and all of them with all that leads to them; what is
// believed at start, pins, keys and the identity, before anything is served.
func TestWhatIsOfBeforeIsFound(t *testing.T) {
	path, before := twoMoments(t)
	good := readFile(t, path)
	for name, buckets := range map[string][]string{
		"a row alone":                        {"verifications"},
		"a row and its index":                {"verifications", "by_uuid"},
		"a row and all indexes":              append([]string{"verifications"}, rowIndexes...),
		"a row, all indexes and its chapter": append([]string{"verifications", "chapters"}, rowIndexes...),
		"a chapter":                          {"chapters"},
		"an outbox entry":                    {"outbox"},
		"a receipt":                          {"receipts", "receipts_by_expiry"},
		"a pin":                              {"peers"},
		"one of our keys":                    {"own_keys"},
		"our identity":                       {"identity"},
		"the directory":                      {"directory"},
		"a hold":                             {"holds"},
		"everything":                         allOfIt,
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			writeFile(t, path, good)
			before.putBack(t, path, buckets...)
			db := mustOpen(t, options(t, path))
			defer mustClose(t, db)
			if err := db.Check(t.Context()); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Check: %v, want ErrCorrupt", err)
			}
			for bucket, read := range map[string]func() error{
				"peers":     func() error { _, err := db.Peers(t.Context()); return err },
				"own_keys":  func() error { _, err := db.OwnKeys(t.Context()); return err },
				"identity":  func() error { _, err := db.Identity(t.Context()); return err },
				"directory": func() error { _, err := db.Directory(t.Context()); return err },
				"outbox":    func() error { _, err := db.Outbox(t.Context()); return err },
				"holds":     func() error { _, err := db.Holds(t.Context()); return err },
			} {
				if of := strings.Join(buckets, " "); strings.Contains(" "+of+" ", " "+bucket+" ") {
					if err := read(); !errors.Is(err, storage.ErrCorrupt) {
						t.Errorf("read of %s: %v, want ErrCorrupt", bucket, err)
					}
				}
			}
		})
	}
	if db := mustOpen(t, options(t, path)); db.Check(t.Context()) != nil {
		t.Error("the file itself is not whole: this test tests nothing")
	} else {
		mustClose(t, db)
	}
}

// A row that was erased is put back in the place of another one, with all that
// belongs to it: there are as many rows as there should be, and not those.
func TestAnErasedRowPutBackForAnother(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	mustApply(t, db, rowChange(1))
	mustClose(t, db)
	before := momentOf(t, path, allOfIt...)
	db = mustOpen(t, options(t, path))
	v, err := db.Verification(t.Context(), storagetest.Row(1).Originating, storagetest.RowID(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.DropRow(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	mustApply(t, db, rowChange(2))
	mustClose(t, db)
	before.putBack(t, path, append([]string{"verifications"}, rowIndexes...)...)
	wantRefused(t, path, sample{})
	before.putBack(t, path, "chapters")
	wantRefused(t, path, sample{})
}

// A file of version 2 has no sums: they are made of what it holds, and from
// then on what is of before is found in it as well.
func TestAFileWithoutSumsGetsThem(t *testing.T) {
	path := newPath(t)
	writeFile(t, path, unzip(t, frozenFile("2")))
	old := momentOf(t, path, "peers")
	open := func() *bolt.DB { return mustOpen(t, frozenOptions(t, path)) }
	db := open()
	if err := db.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	pins, err := db.Peers(t.Context())
	if err != nil || len(pins) == 0 {
		t.Fatalf("%d pins, %v", len(pins), err)
	}
	pins[0].State = storage.PeerBlocked
	mustApply(t, db, &storage.Change{Peer: pins[0]})
	mustClose(t, db)
	if schema := schemaOf(t, path); schema != "vasp-enclave/history/3" {
		t.Errorf("schema is %q", schema)
	}
	old.putBack(t, path, "peers")
	db = open()
	defer mustClose(t, db)
	if _, err := db.Peers(t.Context()); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Peers: %v, want ErrCorrupt: a blocked counterparty is none any more", err)
	}
}
