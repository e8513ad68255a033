package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// A hold lies under the name of its row (UUID ‖ originating VASP), or under
// the number of its period.

// holdRecord is the JSON object of a hold.
type holdRecord struct {
	Reason string `json:"reason,omitzero"`
	By     string `json:"by,omitzero"`
	Since  int64  `json:"since"`
}

func periodKey(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func (db *DB) holdKey(h *storage.Hold) []byte {
	if h.UUID == (uuid.UUID{}) {
		return periodKey(db.keys.Period(h.From))
	}
	return uuidKey(h.Originating, h.UUID)
}

// PutHold keeps a row from being erased, or, when no UUID is given, all rows
// of the period that From is in. A row must be there; else ErrNotFound.
func (db *DB) PutHold(ctx context.Context, h *storage.Hold, entry storage.AuditEntry) error {
	plaintext, err := encodeRecord(&holdRecord{h.Reason, h.By, millis(h.Since)})
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	note, err := prepareAudit(entry)
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	key := db.holdKey(h)
	err = db.do(ctx, newJob(
		func(t *txn) (err error) {
			if h.UUID != (uuid.UUID{}) {
				_, err = t.find(key)
			}
			return err
		},
		func(t *txn) error { return errors.Join(t.put(holds, key, header{}, plaintext), note.write(t)) },
	))
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	return nil
}

// DropHold ends a hold; ErrNotFound when there is none.
func (db *DB) DropHold(ctx context.Context, h *storage.Hold, entry storage.AuditEntry) error {
	note, err := prepareAudit(entry)
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	key := db.holdKey(h)
	err = db.do(ctx, newJob(
		func(t *txn) error {
			if t.bucket(holds).Get(key) == nil {
				return storage.ErrNotFound
			}
			return nil
		},
		func(t *txn) error { return errors.Join(t.drop(holds, key), note.write(t)) },
	))
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

// Holds gives all holds: of periods first, then of rows.
func (db *DB) Holds(ctx context.Context) (all []storage.Hold, err error) {
	var rows []storage.Hold
	err = db.read(ctx, "holds", func(t *txn) error {
		return t.each(holds, func(key []byte, _ header, plaintext []byte) error {
			var r holdRecord
			if _, err := decodeRecord(plaintext, &r, 0); err != nil {
				return corrupt(err)
			}
			h := storage.Hold{Reason: r.Reason, By: r.By, Since: fromMillis(r.Since)}
			switch len(key) {
			case 4:
				h.From, h.To = db.periodBounds(binary.BigEndian.Uint32(key))
				all = append(all, h)
			case 16 + 8:
				copy(h.UUID[:], key)
				h.Originating = identity.VASPID(binary.BigEndian.Uint64(key[16:]))
				rows = append(rows, h)
			default:
				return fmt.Errorf("%s: key of %d bytes: %w", holds.name, len(key), storage.ErrCorrupt)
			}
			return nil
		})
	})
	return append(all, rows...), err
}

// held says whether a hold keeps a row.
func (t *txn) held(k rowKey, name []byte) bool {
	b := t.bucket(holds)
	return b.Get(name) != nil || b.Get(periodKey(t.keys.Period(k.created()))) != nil
}

// periodHeld is the end of the period of a row key, when the whole period is
// held.
func (t *txn) periodHeld(at time.Time) (end []byte, held bool) {
	n := t.keys.Period(at)
	return t.db.rowsFrom(uint64(n) + 1), t.bucket(holds).Get(periodKey(n)) != nil
}
