package bolt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// The keyring record is wrapped under the KEK. It is read when the file is
// opened, and written whole, in the transaction that needs another one.

// choose is the one of the keys that a record is wrapped under, or the first:
// OpenRecord then says what is wrong.
func choose(record []byte, keks []*atrest.KEK) *atrest.KEK {
	id, err := atrest.RecordKEK(record)
	for _, kek := range keks {
		if err == nil && kek.ID() == id {
			return kek
		}
	}
	return keks[0]
}

// renewRecord brings a file whose keys had no numbers to the present form of
// its record, in one commit: from then on a program of before refuses it.
func (db *DB) renewRecord() error {
	t, err := db.begin()
	if err != nil {
		return err
	}
	err = attempt(func() error {
		t.wrote, t.rewrap = true, true
		_, err := t.CreateBucketIfNotExists([]byte(holds.name))
		return err
	})
	if err != nil {
		db.rollback(t)
		return err
	}
	if err := db.commit(t, 0); err != nil {
		return fmt.Errorf("give the data keys numbers: %w", err)
	}
	db.log.Info("the data keys of the history have numbers now")
	return nil
}

func outdatedRecord(tx *bbolt.Tx) bool {
	b := tx.Bucket([]byte(meta.name))
	return b != nil && atrest.Outdated(b.Get(keyringKey))
}

// saveRecord writes the keyring record, if the transaction asks for it.
func (t *txn) saveRecord() error {
	if !t.newPeriod && !t.rewrap {
		return nil
	}
	kek := t.db.kek
	if t.kek != nil {
		kek = t.kek
	}
	record, err := t.keys.WrapRecord(kek, t.without...)
	if err == nil && t.rewrap {
		_, err = atrest.OpenRecord(kek, record) // nothing opens without it: look before it is written
	}
	if err != nil {
		return fmt.Errorf("keyring record: %w", err)
	}
	return t.bucket(meta).Put(keyringKey, record)
}

// savedRecord is what follows in memory when saveRecord has held.
func (t *txn) savedRecord() {
	if t.newPeriod || t.rewrap {
		clear(t.db.unsaved)
	}
	if t.kek != nil {
		t.db.kek = t.kek
	}
	for _, id := range t.promote {
		t.keys.Promote(id)
	}
	t.keys.Retire(t.without...)
}

// RotateKEK wraps the data keys under another KEK, with an audit entry. From
// the moment it returns, and perhaps a little before, the file opens with the
// new key only; whoever may be killed meanwhile should know both. The same key
// again is an error.
func (db *DB) RotateKEK(ctx context.Context, kek *atrest.KEK, entry storage.AuditEntry) error {
	note, err := prepareAudit(entry)
	if err != nil {
		return err
	}
	err = db.do(ctx, newJob(
		func(t *txn) error {
			if t.db.kek.ID() == kek.ID() {
				return errors.New("the data keys are wrapped under this key already")
			}
			return nil
		},
		func(t *txn) error {
			t.wrote, t.rewrap, t.kek = true, true, kek
			t.state.KEKSince = entry.Time.UnixMilli()
			return note.write(t)
		},
	))
	if err != nil {
		return fmt.Errorf("rotate the key-encryption key: %w", err)
	}
	return nil
}

// KeyStatus tells of the keys of this file; none of their bytes. The writer
// is asked, who alone knows what is in the file and in memory at one moment.
func (db *DB) KeyStatus(ctx context.Context) (*storage.KeyStatus, error) {
	var status *storage.KeyStatus
	err := db.do(ctx, newJob(func(t *txn) (err error) {
		status = &storage.KeyStatus{}
		if status.KEK, err = atrest.RecordKEK(t.bucket(meta).Get(keyringKey)); err != nil {
			return err
		}
		s, err := t.loadState()
		if err != nil {
			return err
		}
		if s.KEKSince > 0 {
			status.KEKSince = fromMillis(s.KEKSince)
		}
		for _, i := range db.keys.List() {
			status.Keys = append(status.Keys, db.dataKey(i, s.Erased[i.ID]))
		}
		r, err := t.rotation()
		if err == nil && r != nil {
			status.Rotation = &storage.Rotation{Keys: r.Keys, Since: fromMillis(r.Since), Moved: r.Moved, Checking: r.Checking}
			if problem := db.stalled.Load(); problem != nil {
				status.Rotation.Problem = *problem
			}
		}
		return err
	}, func(*txn) error { return nil }))
	if err != nil {
		return nil, fmt.Errorf("status of the keys: %w", err)
	}
	return status, nil
}

func (db *DB) dataKey(i atrest.KeyInfo, erased uint64) storage.DataKey {
	k := storage.DataKey{ID: i.ID, Purpose: string(i.Purpose), Created: i.Created, Current: i.Current, Erased: erased}
	if i.Purpose == atrest.Personal {
		k.From, k.To = db.periodBounds(i.Period)
	}
	return k
}

// periodBounds are the times [from, to) of a period.
func (db *DB) periodBounds(n uint32) (from, to time.Time) {
	length := db.keys.PeriodLength().Milliseconds()
	return time.UnixMilli(int64(n) * length).UTC(), time.UnixMilli((int64(n) + 1) * length).UTC()
}
