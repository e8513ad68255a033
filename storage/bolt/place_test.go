package bolt_test

import (
	"bytes"
	"errors"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// cells gives the stored keys and values of a bucket of a closed file.
func cells(tb testing.TB, path, bucket string) (keys, values [][]byte) {
	tb.Helper()
	edit(tb, path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
			keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v))
			return nil
		})
	})
	return keys, values
}

// wantRefused opens a forged file and reads everything: what was forged must
// be ErrCorrupt, at Open or at a read, and whatever is read must be true.
func wantRefused(t *testing.T, path string, want sample) {
	t.Helper()
	db, err := openForged(t, path)
	if err == nil {
		got, errs := readSample(db)
		wantSubset(t, got, want)
		err = errors.Join(append(errs, db.Check(t.Context()))...)
	}
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("reading the forged file: %v, want ErrCorrupt", err)
	}
	if db != nil {
		mustClose(t, db)
	}
}

var sealedBuckets = []string{"verifications", "outbox", "receipts", "peers", "own_keys", "audit"}

// S2: a sealed value opens nowhere but where it was sealed.
func TestTwoValuesSwapped(t *testing.T) {
	for _, bucket := range sealedBuckets {
		t.Run(bucket, func(t *testing.T) {
			path, want := sampleFile(t)
			keys, values := cells(t, path, bucket)
			edit(t, path, func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte(bucket))
				return errors.Join(b.Put(keys[0], values[1]), b.Put(keys[1], values[0]))
			})
			wantRefused(t, path, want)
		})
	}
}

// The sealed part alone, behind the other's header.
func TestTwoSealedPartsSwapped(t *testing.T) {
	const header = 1 + 1 + 8 + 4
	extra := map[string]int{"verifications": 58, "receipts": 8}
	for _, bucket := range sealedBuckets {
		t.Run(bucket, func(t *testing.T) {
			path, want := sampleFile(t)
			keys, values := cells(t, path, bucket)
			end := header + extra[bucket] + 4
			edit(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte(bucket)).Put(keys[0], append(bytes.Clone(values[0][:end]), values[1][end:]...))
			})
			wantRefused(t, path, want)
		})
	}
}

func TestAValueMovedToAnotherKey(t *testing.T) {
	for _, bucket := range append(sealedBuckets, "chapters") {
		t.Run(bucket, func(t *testing.T) {
			path, want := sampleFile(t)
			keys, values := cells(t, path, bucket)
			moved := bytes.Clone(keys[0])
			moved[len(moved)-1] ^= 0x80
			edit(t, path, func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte(bucket))
				return errors.Join(b.Delete(keys[0]), b.Put(moved, values[0]))
			})
			wantRefused(t, path, want)
		})
	}
}

func TestAValueMovedToAnotherBucket(t *testing.T) {
	path, want := sampleFile(t)
	_, values := cells(t, path, "peers")
	keys, _ := cells(t, path, "audit") // the same keyset and header
	edit(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("audit")).Put(keys[0], values[0])
	})
	wantRefused(t, path, want)
}

func TestAValueDeleted(t *testing.T) {
	for _, bucket := range append(sealedBuckets, "chapters", "by_uuid", "by_tx_hash", "by_originator_account", "by_beneficiary_account", "receipts_by_expiry") {
		t.Run(bucket, func(t *testing.T) {
			path, want := sampleFile(t)
			keys, _ := cells(t, path, bucket)
			edit(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte(bucket)).Delete(keys[len(keys)-1])
			})
			wantRefused(t, path, want)
		})
	}
}

// Versions of one row, of which the last one is true.
func rowVersions(t *testing.T) (path string, want sample, key []byte, values [][]byte) {
	path = newPath(t)
	v := storagetest.Row(1)
	for range 3 {
		db := mustOpen(t, options(t, path))
		v.Reason += "+"
		mustApply(t, db, &storage.Change{Verification: v})
		want, _ = readSample(db)
		mustClose(t, db)
		keys, now := cells(t, path, "verifications")
		key, values = keys[0], append(values, now[0])
	}
	return path, want, key, values
}

// An older value of the same row, whole: it authenticates, and its index
// knows a later version.
func TestAnOlderValuePutBack(t *testing.T) {
	path, want, key, values := rowVersions(t)
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("verifications")).Put(key, values[1]) })
	wantRefused(t, path, want)
	db, err := openForged(t, path)
	if err != nil {
		t.Fatal(err)
	}
	v := storagetest.Row(1)
	if _, err := db.Verification(t.Context(), v.Originating, v.UUID); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Verification: %v, want ErrCorrupt", err)
	}
	v.Record, v.Version = 1, 3
	if err := db.Apply(t.Context(), &storage.Change{Verification: v}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Apply on top of it: %v, want ErrCorrupt", err)
	}
}

// The same, behind the header of the last version.
func TestAnOlderValueUnderTheNewVersion(t *testing.T) {
	const end = 14 + 58 + 4
	path, want, key, values := rowVersions(t)
	forged := append(bytes.Clone(values[2][:end]), values[0][end:]...)
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("verifications")).Put(key, forged) })
	wantRefused(t, path, want)
}

// A value of another enclave's file, made with the same KEK.
func TestAValueOfAnotherFile(t *testing.T) {
	path, want := sampleFile(t)
	other, _ := sampleFile(t)
	for _, bucket := range sealedBuckets {
		keys, values := cells(t, other, bucket)
		edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put(keys[0], values[0]) })
	}
	wantRefused(t, path, want)
}

// The two head records are bound to the file too.
func TestAnOlderStateRecord(t *testing.T) {
	path, _, _, _ := rowVersions(t)
	keys, values := cells(t, path, "meta")
	db := mustOpen(t, options(t, path))
	mustApply(t, db, &storage.Change{Verification: storagetest.Row(2), Audit: []storage.AuditEntry{{Time: noon, Verb: "open"}}})
	want, _ := readSample(db)
	mustClose(t, db)
	for i, key := range keys {
		if string(key) == "state" {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put(key, values[i]) })
		}
	}
	wantRefused(t, path, want)
}

// An index that leads elsewhere is not followed.
func TestAnIndexThatLeadsToAnotherRow(t *testing.T) {
	for _, bucket := range []string{"by_uuid", "by_tx_hash", "by_originator_account", "by_beneficiary_account"} {
		t.Run(bucket, func(t *testing.T) {
			path := newPath(t)
			db := mustOpen(t, options(t, path))
			mustApply(t, db, rowChange(1))
			mustApply(t, db, rowChange(2))
			mustClose(t, db)
			keys, values := cells(t, path, bucket)
			edit(t, path, func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte(bucket))
				if bucket == "by_uuid" {
					return errors.Join(b.Put(keys[0], values[1]), b.Put(keys[1], values[0]))
				}
				return b.Put(append(bytes.Clone(keys[0][:16]), keys[1][16:]...), []byte{})
			})
			db = mustOpen(t, options(t, path))
			var errs []error
			for n := 1; n < 3; n++ {
				v := storagetest.Row(n)
				if _, err := db.Verification(t.Context(), v.Originating, v.UUID); bucket == "by_uuid" && !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("Verification: %v, want ErrCorrupt", err)
				}
				for _, f := range []storage.Filter{{TxHash: v.TxHash}, {OriginatorAccount: v.OriginatorAccount}, {BeneficiaryAccount: v.BeneficiaryAccount}} {
					_, _, err := db.List(t.Context(), f)
					errs = append(errs, err)
				}
			}
			if !errors.Is(errors.Join(errs...), storage.ErrCorrupt) {
				t.Errorf("reads: %v, want ErrCorrupt", errs)
			}
			if err := db.Check(t.Context()); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Check: %v, want ErrCorrupt", err)
			}
		})
	}
}

// A row that is not there any more is missed by a list that should show it,
// and counted by none as if it had never been.
func TestAListMissesALostRow(t *testing.T) {
	path, _ := sampleFile(t)
	keys, _ := cells(t, path, "verifications")
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("verifications")).Delete(keys[3]) })
	db := mustOpen(t, options(t, path))
	for _, f := range []storage.Filter{{}, {Result: storage.Verified}, {Received: true, Offset: sampleRows/2 - 2, Limit: 1}} {
		if _, count, err := db.List(t.Context(), f); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("List(%+v) counts %d, %v, want ErrCorrupt", f, count, err)
		}
	}
	if _, count, err := db.List(t.Context(), storage.Filter{Received: true, Limit: 1}); count != sampleRows/2 || err != nil {
		t.Errorf("List of another page counts %d, %v, want the %d that were written", count, err, sampleRows/2)
	}
}

// What was lost with a chapter is missed by every list over it: the state
// knows how many rows there are.
func TestAListMissesALostChapter(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	fillChapters(t, db, 600)
	mustClose(t, db)
	keys, values := cells(t, path, "chapters")
	if len(keys) != 3 {
		t.Fatalf("%d chapters, want 3", len(keys))
	}
	for i, key := range keys {
		edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("chapters")).Delete(key) })
		db := mustOpen(t, options(t, path))
		for _, f := range []storage.Filter{{}, {Result: storage.Verified, Limit: 1}, {Limit: 1, Offset: 599}} {
			if _, count, err := db.List(t.Context(), f); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("chapter %d lost: List(%+v) counts %d, %v, want ErrCorrupt", i, f, count, err)
			}
		}
		if err := db.Check(t.Context()); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("chapter %d lost: Check: %v, want ErrCorrupt", i, err)
		}
		mustClose(t, db)
		edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("chapters")).Put(key, values[i]) })
	}
}

// fillChapters writes Row(0) to Row(n-1) in one batch after the other.
func fillChapters(tb testing.TB, db *bolt.DB, n int) {
	tb.Helper()
	rows := make([]*storage.Verification, n)
	for i := range rows {
		rows[i] = storagetest.Row(i)
	}
	if err := db.InsertTogether(tb.Context(), rows); err != nil {
		tb.Fatal(err)
	}
}

// A chapter put back as it was says what is not so any more of a row: a list
// that shows the row finds out, and so does every one over the chapters, for
// the state knows how often they were written.
func TestAnOlderChapterPutBack(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	fillChapters(t, db, 3)
	mustClose(t, db)
	keys, values := cells(t, path, "chapters")
	db = mustOpen(t, options(t, path))
	v, err := db.Verification(t.Context(), storagetest.Row(1).Originating, storagetest.RowID(1))
	if err != nil {
		t.Fatal(err)
	}
	old := v.Result
	v.Result = storage.TransferError
	mustApply(t, db, &storage.Change{Verification: v})
	mustClose(t, db)
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("chapters")).Put(keys[0], values[0]) })
	db = mustOpen(t, options(t, path))
	for _, f := range []storage.Filter{{Result: old}, {Result: storage.TransferError}, {Result: old, From: v.CreatedAt}} {
		if _, count, err := db.List(t.Context(), f); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("List(%+v) counts %d, %v, want ErrCorrupt", f, count, err)
		}
	}
	if err := db.Check(t.Context()); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Check: %v, want ErrCorrupt", err)
	}
}

// A damaged header is not counted by: the chapters know what it said.
func TestADamagedHeaderIsNotCountedBy(t *testing.T) {
	const header = 14 + 58 + 4
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	mustApply(t, db, rowChange(1))
	mustApply(t, db, rowChange(2))
	mustClose(t, db)
	keys, values := cells(t, path, "verifications")
	for at := range header {
		damaged := bytes.Clone(values[0])
		damaged[at] ^= 1
		edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("verifications")).Put(keys[0], damaged) })
		db := mustOpen(t, options(t, path))
		for _, f := range []storage.Filter{{From: epochOfRows}, {Result: storagetest.Row(1).Result}} {
			if _, count, err := db.List(t.Context(), f); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("byte %d: List(%+v) counts %d, %v, want ErrCorrupt", at, f, count, err)
			}
			f.Limit = 1
			f.Offset = 2
			if _, count, err := db.List(t.Context(), f); count == 0 || err != nil {
				t.Errorf("byte %d: List(%+v) counts %d, %v, want what was written", at, f, count, err)
			}
		}
		mustClose(t, db)
	}
}

var epochOfRows = storagetest.Row(0).CreatedAt

// Two futures of one file: an audit entry of one, put in the place of the
// other's, authenticates; the last one links to the entry before, too.
func TestAnAuditEntryOfAnotherFuture(t *testing.T) {
	path, other := newPath(t), newPath(t)
	db := mustOpen(t, options(t, path))
	mustApply(t, db, &storage.Change{Audit: []storage.AuditEntry{{Time: noon, Verb: "start"}}})
	mustClose(t, db)
	writeFile(t, other, readFile(t, path))
	for file, verb := range map[string]string{path: "refuse", other: "accept"} {
		db := mustOpen(t, options(t, file))
		mustApply(t, db, &storage.Change{Audit: []storage.AuditEntry{{Time: noon, Verb: verb}}})
		mustApply(t, db, &storage.Change{Audit: []storage.AuditEntry{{Time: noon, Verb: "stop"}}})
		mustClose(t, db)
	}
	keys, foreign := cells(t, other, "audit")
	_, ours := cells(t, path, "audit")
	for _, i := range []int{1, 2} {
		edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("audit")).Put(keys[i], foreign[i]) })
		db, err := bolt.Open(options(t, path)) // which looks at the last entry
		if err == nil {
			_, err = db.Audit(t.Context(), 1, 0)
			mustClose(t, db)
		}
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("entry %d: %v, want ErrCorrupt", i+1, err)
		}
		edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("audit")).Put(keys[i], ours[i]) })
	}
	mustOpen(t, options(t, path))
}

// A number that was given already does not overwrite what has it.
func TestACounterThatWentBack(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	first := &storage.OutboxEntry{Kind: storage.ToBackend, Body: []byte("first"), Created: noon}
	mustApply(t, db, &storage.Change{Outbox: []*storage.OutboxEntry{first}})
	mustClose(t, db)
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("outbox")).SetSequence(0) })
	db = mustOpen(t, options(t, path))
	second := &storage.OutboxEntry{Kind: storage.ToBackend, Body: []byte("second"), Created: noon}
	if err := db.Apply(t.Context(), &storage.Change{Outbox: []*storage.OutboxEntry{second}}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Apply: %v, want ErrCorrupt", err)
	}
	if got, err := db.Outbox(t.Context()); err != nil || len(got) != 1 || string(got[0].Body) != "first" {
		t.Errorf("Outbox = %+v, %v, want the first entry", got, err)
	}
}
