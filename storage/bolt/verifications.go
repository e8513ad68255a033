package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// rowChange writes one row: prepared by the caller, run by the writer, and
// reported back when the commit has held.
type rowChange struct {
	v         *storage.Verification // read only until the commit
	plaintext []byte
	head      rowHead
	kind      kind
	period    uint32

	ref rowRef // where it went, as which version
}

func (db *DB) prepareRow(v *storage.Verification) (*rowChange, error) {
	if v.CreatedAt.Before(time.UnixMilli(1)) || v.CreatedAt.Year() > 9999 {
		return nil, errors.New("verification has no usable creation time")
	}
	plaintext, err := encodeRow(v)
	if err != nil {
		return nil, fmt.Errorf("verification: %w", err)
	}
	head := headOf(db.keys, v)
	return &rowChange{
		v:         v,
		plaintext: plaintext,
		head:      head,
		kind:      newKind(db.keys, &head, v),
		period:    db.keys.Period(v.CreatedAt),
	}, nil
}

// check says whether the row is still as the caller read it.
func (c *rowChange) check(t *txn) error {
	ref, err := t.find(uuidKey(c.v.Originating, c.v.UUID))
	switch {
	case errors.Is(err, storage.ErrNotFound) && c.v.Version == 0:
		return nil
	case errors.Is(err, storage.ErrNotFound):
		return storage.ErrConflict
	case err != nil:
		return err
	case ref.version != c.v.Version || ref.key.record() != c.v.Record:
		return storage.ErrConflict
	case ref.key != newRowKey(c.v.CreatedAt, c.v.Record):
		return errors.New("the creation time of a stored verification cannot change")
	}
	return nil
}

func (c *rowChange) write(t *txn) error {
	before, err := c.locate(t)
	if err != nil {
		return err
	}
	h := header{period: c.period, extra: c.head.bytes()}
	if before == nil {
		err = errors.Join(t.insert(verifications, c.ref.key[:], h, c.plaintext), t.enlist(c.ref.key, c.kind))
	} else {
		err = errors.Join(t.put(verifications, c.ref.key[:], h, c.plaintext), t.relist(c.ref.key, c.kind))
	}
	if err != nil {
		return err
	}
	if err := t.moveTags(c.ref.key, before, &c.head); err != nil {
		return err
	}
	return t.putIndex(byUUID, uuidKey(c.v.Originating, c.v.UUID), c.ref.bytes())
}

// locate gives the row its place and version, and the head it has now: nil
// for a new row.
func (c *rowChange) locate(t *txn) (*rowHead, error) {
	if c.v.Version == 0 {
		record, err := t.bucket(verifications).NextSequence()
		c.ref = rowRef{newRowKey(c.v.CreatedAt, record), 1}
		return nil, err
	}
	c.ref = rowRef{newRowKey(c.v.CreatedAt, c.v.Record), c.v.Version + 1}
	h, _, err := t.rowCell(rowRef{c.ref.key, c.v.Version})
	if err != nil {
		return nil, err
	}
	head := parseRowHead(h.extra)
	return &head, nil
}

// dropRow deletes a row with all that leads to it. It opens the row, whose
// name is sealed in it.
func (t *txn) dropRow(k rowKey) error {
	v, head, err := t.listed(k)
	if err != nil {
		return err
	}
	if err := t.countErased(k); err != nil {
		return err
	}
	if err := t.delist(k); err != nil {
		return err
	}
	if err := t.moveTags(k, &head, &rowHead{}); err != nil {
		return err
	}
	if err := t.dropIndex(byUUID, uuidKey(v.Originating, v.UUID)); err != nil {
		return err
	}
	return t.drop(verifications, k[:])
}

// rowCell finds the stored value that an index entry promises.
func (t *txn) rowCell(ref rowRef) (header, []byte, error) {
	value := t.bucket(verifications).Get(ref.key[:])
	if value == nil {
		return header{}, nil, fmt.Errorf("%s: a row is missing: %w", verifications.name, storage.ErrCorrupt)
	}
	h, _, err := verifications.parseCell(ref.key[:], value)
	if err == nil && h.version != ref.version {
		err = fmt.Errorf("%s: row is of version %d, its index says %d: %w",
			verifications.name, h.version, ref.version, storage.ErrCorrupt)
	}
	return h, value, err
}

// done reports to the caller what the store chose.
func (c *rowChange) done() {
	c.v.Record, c.v.Version = c.ref.key.record(), c.ref.version
}

// row opens the row that an index entry promises.
func (t *txn) row(ref rowRef) (*storage.Verification, error) {
	_, value, err := t.rowCell(ref)
	if err != nil {
		return nil, err
	}
	v, _, err := t.openRow(ref.key, value)
	return v, err
}

func (t *txn) openRow(k rowKey, value []byte) (v *storage.Verification, head rowHead, err error) {
	h, plaintext, err := verifications.openCell(t.keys, k[:], value)
	if err != nil {
		return nil, head, err
	}
	if v, err = decodeRow(plaintext); err != nil {
		return nil, head, corrupt(err)
	}
	head = parseRowHead(h.extra)
	v.Record, v.Version, v.CreatedAt = k.record(), h.version, k.created()
	v.Result, v.Sent, v.Received = head.result, head.sent, head.received
	return v, head, nil
}

// Verification finds one row by its originating VASP and UUID.
func (db *DB) Verification(ctx context.Context, originating identity.VASPID, id uuid.UUID) (v *storage.Verification, err error) {
	err = db.read(ctx, "verification", func(t *txn) error {
		ref, err := t.find(uuidKey(originating, id))
		if err != nil {
			return err
		}
		v, err = t.named(ref, uuidKey(originating, id))
		return err
	})
	return v, err
}

// named opens a row found by name and makes sure that it is called so.
func (t *txn) named(ref rowRef, name []byte) (*storage.Verification, error) {
	v, err := t.row(ref)
	if err == nil && !bytes.Equal(uuidKey(v.Originating, v.UUID), name) {
		return nil, fmt.Errorf("%s: entry leads to another row: %w", byUUID.name, storage.ErrCorrupt)
	}
	return v, err
}

// Lookup finds every row of a UUID, ours (Sent) first; ErrNotFound when
// there is none.
func (db *DB) Lookup(ctx context.Context, id uuid.UUID) (rows []*storage.Verification, err error) {
	err = db.read(ctx, "look up verification", func(t *txn) error {
		c := t.bucket(byUUID).Cursor()
		for name, entry := c.Seek(id[:]); bytes.HasPrefix(name, id[:]); name, entry = c.Next() {
			ref, err := parseRowRef(entry)
			if err != nil {
				return err
			}
			v, err := t.named(ref, name)
			if err != nil {
				return err
			}
			rows = append(rows, v)
		}
		if len(rows) == 0 {
			return storage.ErrNotFound
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(rows, sentFirst)
	return rows, nil
}

func sentFirst(a, b *storage.Verification) int {
	switch {
	case a.Sent == b.Sent:
		return 0
	case a.Sent:
		return -1
	}
	return 1
}
