package bolt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Erasing a row takes it out of the file. What copies there are of it, in pages
// that are free again, in backups and snapshots, opens as long as the data key
// of its period is there: Shred deletes that when the last row of the period is
// gone, or gives the rows that a hold keeps a key of their own and then deletes
// it. The receipt of a row is not erased with it: it says nothing of people,
// and a repeat is known by it until its envelope has expired (attack K4).

// countErased notes that a row's key must go.
func (t *txn) countErased(k rowKey) error {
	h, _, err := verifications.parseCell(k[:], t.bucket(verifications).Get(k[:]))
	if err != nil {
		return err
	}
	id, err := h.key(t.keys)
	if err != nil {
		return corrupt(err)
	}
	if t.state.Erased == nil {
		t.state.Erased = map[uint32]uint64{}
	}
	t.state.Erased[id]++
	return nil
}

// Erase takes one row out of the history, with what of it waits in the outbox,
// and writes the entry that is made of the SHA-256 of the row as it was stored,
// sealed. A row that is held or under way stays: ErrHeld, ErrUnderWay.
func (db *DB) Erase(ctx context.Context, originating identity.VASPID, id uuid.UUID, entry func(hash [32]byte) storage.AuditEntry) error {
	waiting, err := db.waitingFor(ctx)
	if err != nil {
		return fmt.Errorf("erase: %w", err)
	}
	name := uuidKey(originating, id)
	var ref rowRef
	err = db.do(ctx, newJob(
		func(t *txn) (err error) {
			if ref, err = t.find(name); err != nil {
				return err
			}
			h, _, err := t.rowCell(ref)
			switch head := (rowHead{}); {
			case err != nil:
				return err
			case t.held(ref.key, name):
				return storage.ErrHeld
			default:
				if head = parseRowHead(h.extra); head.result == storage.Wait {
					return storage.ErrUnderWay
				}
			}
			return nil
		},
		func(t *txn) error {
			note, err := prepareAudit(entry(sha256.Sum256(t.bucket(verifications).Get(ref.key[:]))))
			if err != nil {
				return err
			}
			return errors.Join(t.eraseRow(ref.key, waiting[[24]byte(name)]), note.write(t))
		},
	))
	if err != nil {
		return fmt.Errorf("erase: %w", err)
	}
	return nil
}

func (t *txn) eraseRow(k rowKey, outboxEntries [][]byte) error {
	for _, seq := range outboxEntries {
		if err := t.drop(outbox, seq); err != nil {
			return err
		}
	}
	return t.dropRow(k)
}

// waitingFor says which outbox entries belong to which row.
func (db *DB) waitingFor(ctx context.Context) (map[[24]byte][][]byte, error) {
	entries, err := db.Outbox(ctx)
	if err != nil {
		return nil, err
	}
	waiting := map[[24]byte][][]byte{}
	for _, e := range entries {
		name := [24]byte(uuidKey(e.Originating, e.UUID))
		waiting[name] = append(waiting[name], sequenceKey(e.Seq))
	}
	return waiting, nil
}

const (
	eraseBatch = 128                   // rows that one commit erases
	erasePause = 20 * time.Millisecond // between two
)

// EraseBefore erases the rows that were created before a time, oldest first
// and in small commits, each with the entry that note makes of how many. Rows
// that are held, wait for their result or do not open stay.
func (db *DB) EraseBefore(ctx context.Context, before time.Time, note func(rows int) storage.AuditEntry) (storage.Swept, error) {
	var swept storage.Swept
	upper := boundKey(before, 0)
	if before.IsZero() {
		return swept, nil
	}
	waiting, err := db.waitingFor(ctx)
	if err != nil {
		return swept, fmt.Errorf("erase old rows: %w", err)
	}
	for after := []byte(nil); ; {
		s := sweep{upper: upper, waiting: waiting, note: note}
		err := db.do(ctx, newJob(
			func(*txn) error { return nil },
			func(t *txn) error { s.Swept, s.after = storage.Swept{}, after; return s.batch(t) },
		))
		if err != nil {
			return swept, fmt.Errorf("erase old rows: %w", err)
		}
		swept.Erased += s.Erased
		swept.Held += s.Held
		swept.Waiting += s.Waiting
		swept.Damaged += s.Damaged
		if s.end {
			return swept, nil
		}
		after = s.after
		select {
		case <-time.After(erasePause):
		case <-ctx.Done():
			return swept, ctx.Err()
		}
	}
}

// sweep is one commit of EraseBefore.
type sweep struct {
	upper   []byte
	waiting map[[24]byte][][]byte
	note    func(rows int) storage.AuditEntry

	storage.Swept
	after []byte // the last row that was looked at
	end   bool
}

func (s *sweep) batch(t *txn) error {
	s.end = false
	c := t.bucket(verifications).Cursor()
	var erase []rowKey
	names := map[rowKey][24]byte{}
	key, _ := s.next(c)
	for n := 0; len(erase) < eraseBatch && n < rotateLook; n++ {
		if key == nil || bytes.Compare(key, s.upper) >= 0 {
			s.end = true
			break
		}
		if len(key) != len(rowKey{}) {
			return fmt.Errorf("%s: key of %d bytes: %w", verifications.name, len(key), storage.ErrCorrupt)
		}
		k := rowKey(key)
		s.after = k[:]
		if end, held := t.periodHeld(k.created()); held {
			s.Held++
			s.after = end
			key, _ = c.Seek(end)
			continue
		}
		v, _, err := t.listed(k)
		switch {
		case err != nil:
			s.Damaged++
			t.db.log.Error("an old row of the history is damaged and is not erased", "record", k.record(), "error", err)
		case t.held(k, uuidKey(v.Originating, v.UUID)):
			s.Held++
		case v.Result == storage.Wait:
			s.Waiting++
		default:
			names[k] = [24]byte(uuidKey(v.Originating, v.UUID))
			erase = append(erase, k)
		}
		key, _ = c.Next()
	}
	for _, k := range erase {
		if err := t.eraseRow(k, s.waiting[names[k]]); err != nil {
			return err
		}
	}
	if s.Erased = len(erase); s.Erased == 0 {
		return nil
	}
	entry, err := prepareAudit(s.note(s.Erased))
	if err != nil {
		return err
	}
	return entry.write(t)
}

func (s *sweep) next(c *bbolt.Cursor) (key, value []byte) {
	if s.after == nil {
		return c.First()
	}
	if key, value = c.Seek(s.after); bytes.Equal(key, s.after) {
		return c.Next()
	}
	return key, value
}

// shredGrace is how long after its end a period's key is left alone: what
// was made in its last moment may be on its way here.
const shredGrace = time.Hour

// Shred deletes the keys of the periods that are over and of which nothing is
// left, each with the entry that note makes of its bounds. Of the periods that
// ended by before and of which only held rows are left, one gets another key
// for these, so that the one that opens the erased rows goes, too: that takes a
// while, and the next call sees to the next.
func (db *DB) Shred(ctx context.Context, before time.Time, note, rekey func(from, to time.Time) storage.AuditEntry) (shredded int, err error) {
	running := db.keys.Period(db.now().Add(-shredGrace))
	for _, n := range db.keys.Periods() {
		if n >= running {
			break
		}
		gone, err := db.shred(ctx, n, note)
		if err != nil {
			return shredded, fmt.Errorf("delete the key of a period: %w", err)
		}
		if gone {
			shredded++
			continue
		}
		if _, end := db.periodBounds(n); end.After(before) {
			continue
		}
		if err := db.separate(ctx, n, rekey); err != nil {
			return shredded, fmt.Errorf("replace the key of a period: %w", err)
		}
	}
	return shredded, nil
}

func (db *DB) shred(ctx context.Context, n uint32, note func(from, to time.Time) storage.AuditEntry) (gone bool, err error) {
	if empty, err := db.periodEmpty(ctx, n); err != nil || !empty { // a look before anybody has to wait
		return false, err
	}
	err = db.do(ctx, newJob(
		func(*txn) error { return nil },
		func(t *txn) (err error) {
			r, err := t.rotation()
			if err != nil || r != nil {
				return err // it may be of this key: later
			}
			if gone, err = t.periodEmpty(n); err != nil || !gone {
				return err
			}
			for _, i := range t.keys.List() {
				if i.Purpose == atrest.Personal && i.Period == n {
					t.without = append(t.without, i.ID)
					delete(t.state.Erased, i.ID)
				}
			}
			entry, err := prepareAudit(note(t.db.periodBounds(n)))
			if err != nil {
				return err
			}
			t.wrote, t.rewrap = true, true
			return errors.Join(t.drop(holds, periodKey(n)), entry.write(t))
		},
	))
	return gone && err == nil, err
}

func (db *DB) periodEmpty(ctx context.Context, n uint32) (empty bool, err error) {
	err = db.read(ctx, "look at a period", func(t *txn) error {
		empty, err = t.periodEmpty(n)
		return err
	})
	return empty, err
}

// periodEmpty says that no value is under a key of a period.
func (t *txn) periodEmpty(n uint32) (bool, error) {
	if key, _ := t.bucket(verifications).Cursor().Seek(t.db.rowsFrom(uint64(n))); key != nil && bytes.Compare(key, t.db.rowsFrom(uint64(n)+1)) < 0 {
		return false, nil
	}
	for _, b := range []*bucket{outbox, receipts} {
		c := t.bucket(b).Cursor()
		for key, value := c.First(); key != nil; key, value = c.Next() {
			h, _, err := b.parseCell(key, value)
			if err != nil {
				return false, err
			}
			id, err := h.key(t.keys)
			if err != nil {
				return false, corrupt(err)
			}
			if i, _ := t.keys.Info(id); i.Period == n {
				return false, nil
			}
		}
	}
	return true, nil
}

// separate begins to give what is left of a period a key of its own, when rows
// of it were erased and a hold keeps all others.
func (db *DB) separate(ctx context.Context, n uint32, entry func(from, to time.Time) storage.AuditEntry) error {
	var ids []uint32
	err := db.read(ctx, "look at a period", func(t *txn) (err error) {
		ids, err = t.separable(n)
		return err
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	e := entry(db.periodBounds(n))
	_, err = db.beginRotation(ctx, func(t *txn) ([]uint32, error) { return t.separable(n) }, e, e)
	if errors.Is(err, storage.ErrRotating) {
		return nil // another time
	}
	return err
}

func (t *txn) separable(n uint32) ([]uint32, error) {
	c, err := t.keys.Personal(n)
	if err != nil {
		return nil, nil
	}
	s, err := t.loadState()
	if err != nil || s.Erased[c.Key()] == 0 {
		return nil, err
	}
	if t.bucket(holds).Get(periodKey(n)) != nil {
		return []uint32{c.Key()}, nil
	}
	rows, upper := t.bucket(verifications).Cursor(), t.db.rowsFrom(uint64(n)+1)
	for key, _ := rows.Seek(t.db.rowsFrom(uint64(n))); key != nil && bytes.Compare(key, upper) < 0; key, _ = rows.Next() {
		v, _, err := t.listed(rowKey(key))
		if err != nil || !t.held(rowKey(key), uuidKey(v.Originating, v.UUID)) {
			return nil, nil
		}
	}
	return []uint32{c.Key()}, nil
}

// Rows gives at most limit rows that match, in the order of time and from the
// place on that the last call gave, "" for the first; and the next place, ""
// when there are no more. Unlike List it may be called again and again over a
// long history: nothing is held between two calls.
func (db *DB) Rows(ctx context.Context, f storage.Filter, place string, limit int) (rows []*storage.Verification, next string, err error) {
	lower, upper := boundKey(f.From, 0), boundKey(f.To, 1<<64-1)
	matches := db.matcher(&f)
	err = db.read(ctx, "read verifications", func(t *txn) error {
		c := t.bucket(verifications).Cursor()
		key, _ := c.Seek(lower)
		if place != "" {
			if key, _ = c.Seek([]byte(place)); string(key) == place {
				key, _ = c.Next()
			}
		}
		for n := 0; key != nil && bytes.Compare(key, upper) < 0; n++ {
			if len(rows) == limit || n == rotateLook {
				return nil
			}
			v, head, err := t.listed(rowKey(key))
			if err != nil {
				return err
			}
			if matches(&head, v) {
				rows = append(rows, v)
			}
			next = string(key)
			if key, _ = c.Next(); key == nil {
				break
			}
		}
		next = ""
		return nil
	})
	return rows, next, err
}

// matcher says of a row whether a list would find it.
func (db *DB) matcher(f *storage.Filter) func(*rowHead, *storage.Verification) bool {
	asked := &storage.Verification{
		Originating: f.Opposite, Asset: storage.Asset{Symbol: f.Symbol, Network: f.Network},
		Result: f.Result, Sent: f.Sent, Received: f.Received,
	}
	head := headOf(db.keys, asked)
	head.opposite = oppositeTag(db.keys, f.Opposite)
	want := newPattern(newKind(db.keys, &head, asked))
	return func(h *rowHead, v *storage.Verification) bool {
		of := newKind(db.keys, h, v)
		return want.matches(&of) && (f.TxHash == "" || f.TxHash == v.TxHash) &&
			(f.OriginatorAccount == "" || f.OriginatorAccount == v.OriginatorAccount) &&
			(f.BeneficiaryAccount == "" || f.BeneficiaryAccount == v.BeneficiaryAccount)
	}
}
