package bolt

import (
	"context"
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// part is one piece of a Change. It is prepared by the caller's goroutine,
// which does the encoding; check and write run in the writer's, perhaps more
// than once; done runs in the caller's after the commit has held.
type part interface {
	check(*txn) error
	write(*txn) error
	done()
}

// Apply writes one change durably. When it returns nil the change survives a
// crash; ErrConflict, ErrReadOnly, ctx's error and an error about c itself
// mean that nothing was written; after ErrFailed nobody knows.
func (db *DB) Apply(ctx context.Context, c *storage.Change) error {
	parts, err := db.prepare(c)
	if err != nil {
		return fmt.Errorf("apply change: %w", err)
	}
	j := newJob(
		func(t *txn) error { return eachPart(parts, func(p part) error { return p.check(t) }) },
		func(t *txn) error { return eachPart(parts, func(p part) error { return p.write(t) }) },
	)
	j.audit = len(parts) == len(c.Audit)
	if err := db.do(ctx, j); err != nil {
		return fmt.Errorf("apply change: %w", err)
	}
	for _, p := range parts {
		p.done()
	}
	return nil
}

func eachPart(parts []part, fn func(part) error) error {
	for _, p := range parts {
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) prepare(c *storage.Change) (parts []part, err error) {
	add := func(p part, failed error) {
		parts = append(parts, p)
		if err == nil {
			err = failed
		}
	}
	if c.Verification != nil {
		add(db.prepareRow(c.Verification))
	}
	if c.Receipt != nil {
		add(db.prepareReceipt(c.Receipt))
	}
	if c.Peer != nil {
		add(preparePeer(c.Peer))
	}
	if c.Identity != nil {
		add(prepareIdentity(c.Identity))
	}
	if c.Directory != nil {
		add(prepareKept(lastKey, c.Directory))
	}
	if c.Shipped != nil {
		add(prepareKept(shippedKey, c.Shipped))
	}
	for _, k := range c.PutOwnKeys {
		add(prepareOwnKey(k))
	}
	for _, id := range c.DropOwnKeys {
		add(dropCell{ownKeys, id[:]}, nil)
	}
	for _, e := range c.Outbox {
		add(db.prepareOutbox(e))
	}
	for _, seq := range c.DropOutbox {
		add(dropCell{outbox, sequenceKey(seq)}, nil)
	}
	for _, e := range c.Audit {
		add(prepareAudit(e))
	}
	return parts, err
}

// putCell writes the next version of a cell whose key is known.
type putCell struct {
	bucket    *bucket
	key       []byte
	header    header
	plaintext []byte
}

func (putCell) check(*txn) error { return nil }

func (c putCell) write(t *txn) error { return t.put(c.bucket, c.key, c.header, c.plaintext) }

func (putCell) done() {}

// dropCell deletes a cell, if it is there.
type dropCell struct {
	bucket *bucket
	key    []byte
}

func (dropCell) check(*txn) error { return nil }

func (c dropCell) write(t *txn) error { return t.drop(c.bucket, c.key) }

func (dropCell) done() {}
