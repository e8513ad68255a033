package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Data keys are replaced while the store serves. The successors are stored
// and become current in one commit; nothing is sealed under the old keys from
// then on. Every value that still is is sealed anew, as the same version of
// the same value, in small batches and in the order of the buckets' keys, which
// for rows is that of time. Then all values are looked at once more, and only
// when none is left on an old key the old keys leave the record. How far it has
// come is stored with each batch: a kill costs a batch at most.

// rotationRecord is the JSON object of the cell "rotation" in meta; After is
// its one section.
type rotationRecord struct {
	Keys     []uint32    `json:"keys"` // that are replaced
	Since    int64       `json:"since"`
	Bucket   string      `json:"bucket"` // in which it is
	Moved    uint64      `json:"moved,omitzero"`
	Checking bool        `json:"checking,omitzero"`
	End      auditRecord `json:"end"` // the entry when it is over; its time is that of the end

	After []byte `json:"-"` // key of the last value that was looked at
}

const (
	rotateBatch = 64   // values that one commit seals anew
	rotateLook  = 2048 // values that one transaction looks at
)

// rotatePause is between two batches, so that the store stays free for those
// who wait for it.
const rotatePause = 10 * time.Millisecond

// cellBuckets are those whose values are looked at, in this order.
func cellBuckets() (list []*bucket) {
	for _, b := range allBuckets {
		if b.cells {
			list = append(list, b)
		}
	}
	return list
}

func (t *txn) rotation() (*rotationRecord, error) {
	value := t.bucket(meta).Get(rotationKey)
	if value == nil {
		return nil, nil
	}
	_, plaintext, err := meta.openCell(t.keys, rotationKey, value)
	if err != nil {
		return nil, err
	}
	r := &rotationRecord{}
	sections, err := decodeRecord(plaintext, r, 1)
	if err != nil {
		return nil, corrupt(err)
	}
	r.After = sections[0]
	return r, nil
}

func (t *txn) saveRotation(r *rotationRecord) error {
	plaintext, err := encodeRecord(r, r.After)
	if err != nil {
		return err
	}
	t.wrote = true
	return t.saveMeta(rotationKey, plaintext)
}

// RotateData begins to replace data keys and says which. It goes on by itself,
// also after a restart; KeyStatus tells how far it is. begin is the audit entry
// of now, end that of the day when the old keys are deleted.
func (db *DB) RotateData(ctx context.Context, scope storage.DataScope, begin, end storage.AuditEntry) (old []uint32, err error) {
	return db.beginRotation(ctx, func(*txn) ([]uint32, error) { return db.inScope(scope), nil }, begin, end)
}

// beginRotation replaces what pick, which may read, says.
func (db *DB) beginRotation(ctx context.Context, pick func(*txn) ([]uint32, error), begin, end storage.AuditEntry) (old []uint32, err error) {
	note, err := prepareAudit(begin)
	if err != nil {
		return nil, err
	}
	var successors []uint32
	err = db.do(ctx, newJob(
		func(t *txn) error {
			r, err := t.rotation()
			if err == nil && r != nil {
				err = storage.ErrRotating
			}
			return err
		},
		func(t *txn) (err error) {
			if successors == nil { // not on a second try
				if old, err = pick(t); err != nil || len(old) == 0 {
					return errors.Join(err, errIf(err == nil))
				}
				if successors, err = db.succeed(old); err != nil {
					return err
				}
			}
			t.rewrap, t.promote = true, append(t.promote, successors...)
			r := &rotationRecord{Keys: old, Since: millis(db.now()), Bucket: cellBuckets()[0].name, End: newAuditRecord(&end)}
			return errors.Join(t.saveRotation(r), note.write(t))
		},
	))
	if errors.Is(err, storage.ErrRotating) {
		db.wake() // it may have stopped
	}
	if err != nil {
		for _, id := range successors {
			db.keys.Discard(id)
		}
		return nil, fmt.Errorf("replace data keys: %w", err)
	}
	db.wake()
	return old, nil
}

func errIf(nothing bool) error {
	if nothing {
		return fmt.Errorf("data key: %w", storage.ErrNotFound)
	}
	return nil
}

func (db *DB) inScope(scope storage.DataScope) (ids []uint32) {
	running := db.keys.Period(db.now())
	for _, i := range db.keys.List() {
		if !i.Current || i.Purpose != atrest.Private && i.Purpose != atrest.Personal {
			continue
		}
		wanted := scope.All || i.Purpose == atrest.Private || i.Period >= running
		if !scope.Period.IsZero() {
			wanted = i.Purpose == atrest.Personal && i.Period == db.keys.Period(scope.Period)
		}
		if wanted {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

func (db *DB) succeed(old []uint32) (successors []uint32, err error) {
	for _, id := range old {
		next, err := db.keys.Succeed(id)
		if err != nil {
			return successors, err
		}
		successors = append(successors, next)
	}
	return successors, nil
}

// wake has a rotation go on, or begin.
func (db *DB) wake() {
	db.stalled.Store(nil)
	select {
	case db.rotate <- struct{}{}:
	default:
	}
}

// tend does what is done in the background, until Close.
func (db *DB) tend() {
	defer close(db.tended)
	for {
		select {
		case <-db.closing:
			return
		case <-db.rotate:
		}
		if err := db.rotateAll(); err != nil && !errors.Is(err, ErrClosed) {
			text := err.Error()
			db.stalled.Store(&text)
			db.log.Error("data keys cannot be replaced; the old ones are kept until they can: try again with rotate-data, or restart", "error", err)
		}
	}
}

// rotateAll goes on with the rotation under way until it is over.
func (db *DB) rotateAll() error {
	for {
		done, err := db.rotateSome(context.Background())
		if errors.Is(err, storage.ErrReadOnly) { // there may be room in a while
			err = nil
			if !db.pause(time.Second) {
				return ErrClosed
			}
		}
		if done || err != nil {
			return err
		}
		if !db.pause(time.Duration(db.rotatePause.Load())) {
			return ErrClosed
		}
	}
}

func (db *DB) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-db.closing:
		return false
	}
}

// found is what one look at some values has found.
type found struct {
	keys  [][]byte // of values that are under an old key
	after []byte   // the last one that was looked at
	end   bool     // of the bucket
}

// rotateSome takes one step of the rotation under way: looks at some values,
// and seals anew those that need it. done says that none is under way any more.
func (db *DB) rotateSome(ctx context.Context) (done bool, err error) {
	var r *rotationRecord
	var f found
	err = db.read(ctx, "replace data keys", func(t *txn) (err error) {
		if r, err = t.rotation(); err != nil || r == nil {
			return err
		}
		if check := db.checking; r.Checking && check != nil && slices.Equal(check.Keys, r.Keys) {
			r = check // goes on in memory: it writes nothing
		}
		f, err = t.look(r)
		return err
	})
	if err != nil || r == nil {
		return err == nil, err
	}
	next := *r
	next.After, next.Moved = f.after, r.Moved+uint64(len(f.keys))
	if f.end {
		next.After = nil
		if next.Bucket = bucketAfter(r.Bucket); next.Bucket == "" {
			if r.Checking && len(f.keys) == 0 {
				db.checking = nil
				return true, db.endRotation(ctx, r)
			}
			next.Bucket, next.Checking = cellBuckets()[0].name, true
		}
	}
	if r.Checking && len(f.keys) == 0 {
		db.checking = &next
		return false, nil
	}
	if r.Checking { // it must not be: whatever wrote it may have written more
		db.log.Warn("a value was found under an old data key; all are looked at again", "bucket", r.Bucket)
		next.Bucket, next.After, db.checking = cellBuckets()[0].name, nil, nil
	}
	if !f.end && len(f.keys) == 0 {
		return false, db.saveStep(ctx, &next, nil, nil)
	}
	return false, db.saveStep(ctx, &next, bucketNamed(r.Bucket), f.keys)
}

func bucketNamed(name string) *bucket {
	for _, b := range cellBuckets() {
		if b.name == name {
			return b
		}
	}
	return nil
}

// bucketAfter is "" after the last one.
func bucketAfter(name string) string {
	list := cellBuckets()
	for i, b := range list[:len(list)-1] {
		if b.name == name {
			return list[i+1].name
		}
	}
	return ""
}

// look finds the next values that are under an old key. A value whose header
// does not say is damaged, and then no key may be deleted.
func (t *txn) look(r *rotationRecord) (f found, err error) {
	b := bucketNamed(r.Bucket)
	if b == nil {
		return f, fmt.Errorf("bucket %.20q is unknown: %w", r.Bucket, storage.ErrCorrupt)
	}
	lower, upper := t.keyRange(b, r.Keys)
	c := t.bucket(b).Cursor()
	f.after = r.After
	key, value := c.Seek(lower)
	if r.After != nil {
		if key, value = c.Seek(r.After); bytes.Equal(key, r.After) {
			key, value = c.Next()
		}
	}
	for n := 0; ; n++ {
		if key == nil || upper != nil && bytes.Compare(key, upper) >= 0 {
			f.end = true
			return f, nil
		}
		if n == rotateLook || len(f.keys) == rotateBatch {
			return f, nil
		}
		old, err := t.isUnder(b, key, value, r.Keys)
		if err != nil {
			return f, err
		}
		f.after = bytes.Clone(key)
		if old {
			f.keys = append(f.keys, f.after)
		}
		key, value = c.Next()
	}
}

func (t *txn) isUnder(b *bucket, key, value []byte, keys []uint32) (bool, error) {
	h, _, err := b.parseCell(key, value)
	if err != nil {
		return false, err
	}
	id, err := h.key(t.keys)
	if err != nil {
		return false, fmt.Errorf("%s: %v: %w", b.name, err, storage.ErrCorrupt)
	}
	return slices.Contains(keys, id), nil
}

// keyRange leaves out what cannot be under any of the keys: rows of other
// periods, and all of a bucket of the other keyset.
func (t *txn) keyRange(b *bucket, keys []uint32) (lower, upper []byte) {
	first, last, any := ^uint32(0), uint32(0), false
	for _, id := range keys {
		i, ok := t.keys.Info(id)
		if !ok || i.Purpose != b.keyset.purpose() {
			continue
		}
		any, first, last = true, min(first, i.Period), max(last, i.Period)
	}
	switch {
	case !any:
		return nil, []byte{} // before every key
	case b == verifications:
		return t.db.rowsFrom(uint64(first)), t.db.rowsFrom(uint64(last) + 1)
	}
	return nil, nil
}

// rowsFrom is before the first row of a period, and after the last of the one
// before.
func (db *DB) rowsFrom(period uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, period*uint64(db.keys.PeriodLength().Milliseconds()))
}

// saveStep seals values anew and notes how far the rotation is. A value that
// was changed or deleted meanwhile needs nothing.
func (db *DB) saveStep(ctx context.Context, r *rotationRecord, b *bucket, keys [][]byte) error {
	return db.do(ctx, newJob(
		func(*txn) error { return nil },
		func(t *txn) error {
			for _, key := range keys {
				if err := t.reseal(b, key, r.Keys); err != nil {
					return err
				}
			}
			return t.saveRotation(r)
		},
	))
}

func (t *txn) reseal(b *bucket, key []byte, old []uint32) error {
	value := t.bucket(b).Get(key)
	if value == nil {
		return nil
	}
	if under, err := t.isUnder(b, key, value, old); err != nil || !under {
		return err
	}
	h, plaintext, err := b.openCell(t.keys, key, value)
	if err != nil {
		return err
	}
	id, err := h.key(t.keys)
	if err != nil {
		return err
	}
	info, _ := t.keys.Info(id)
	h = header{version: h.version, period: info.Period, extra: bytes.Clone(h.extra)}
	sealed, err := b.sealCell(t.keys, key, h, plaintext)
	if err != nil {
		return err
	}
	t.wrote = true
	return t.bucket(b).Put(key, sealed)
}

// endRotation deletes the old keys. Nothing is under them: all has been looked
// at since the last value was written that could be.
func (db *DB) endRotation(ctx context.Context, r *rotationRecord) error {
	end := r.End.entry()
	end.Time = db.now()
	note, err := prepareAudit(end)
	if err != nil {
		return err
	}
	err = db.do(ctx, newJob(
		func(*txn) error { return nil },
		func(t *txn) error {
			t.wrote, t.rewrap, t.without = true, true, append(t.without, r.Keys...)
			for _, id := range r.Keys {
				delete(t.state.Erased, id)
			}
			return errors.Join(t.bucket(meta).Delete(rotationKey), note.write(t))
		},
	))
	if err == nil {
		db.log.Info("data keys were replaced and the old ones deleted", "values", r.Moved)
	}
	return err
}
