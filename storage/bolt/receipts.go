package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// A receipt lies under originating ‖ UUID. Its sections are the envelope's
// hash, the payload's MAC and the reply bundle; its extra header is the
// expiry (u64 milliseconds), so that it can be forgotten unopened.

func receiptKey(originating identity.VASPID, id uuid.UUID) []byte {
	return join(vaspKey(originating), id[:])
}

type receiptRecord struct{}

func encodeReceipt(r *storage.Receipt) ([]byte, error) {
	return encodeRecord(receiptRecord{}, r.EnvelopeHash[:], r.PayloadMAC[:], r.ReplyBundle)
}

func decodeReceipt(plaintext []byte) (*storage.Receipt, error) {
	sections, err := decodeRecord(plaintext, &receiptRecord{}, 3)
	if err != nil {
		return nil, err
	}
	r := &storage.Receipt{ReplyBundle: sections[2]}
	if copy(r.EnvelopeHash[:], sections[0]) != 32 || copy(r.PayloadMAC[:], sections[1]) != 32 {
		return nil, errors.New("decode receipt: short hash")
	}
	return r, nil
}

type receiptChange struct {
	putCell
	expiry []byte // its key in the expiry index
}

func (db *DB) prepareReceipt(r *storage.Receipt) (*receiptChange, error) {
	if r.Expires.Before(time.UnixMilli(1)) {
		return nil, errors.New("receipt has no usable expiry")
	}
	plaintext, err := encodeReceipt(r)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	key := receiptKey(r.Originating, r.UUID)
	expires := binary.BigEndian.AppendUint64(nil, uint64(r.Expires.UnixMilli()))
	h := header{period: db.keys.Period(r.Expires), extra: expires}
	return &receiptChange{putCell{receipts, key, h, plaintext}, join(expires, key)}, nil
}

func (c *receiptChange) write(t *txn) error {
	if err := t.dropExpiry(c.key); err != nil {
		return err
	}
	if err := c.putCell.write(t); err != nil {
		return err
	}
	return t.putIndex(byExpiry, c.expiry, []byte{})
}

// dropExpiry takes the stored receipt of a key, if any, out of the index.
func (t *txn) dropExpiry(key []byte) error {
	old := t.bucket(receipts).Get(key)
	if old == nil {
		return nil
	}
	h, _, err := receipts.parseCell(key, old)
	if err != nil {
		return err
	}
	return t.dropIndex(byExpiry, join(h.extra, key))
}

// Receipt finds what is remembered of an inbound request. An expired receipt
// is found until Sweep forgets it.
func (db *DB) Receipt(ctx context.Context, originating identity.VASPID, id uuid.UUID) (r *storage.Receipt, err error) {
	err = db.read(ctx, "receipt", func(t *txn) error {
		h, plaintext, err := t.get(receipts, receiptKey(originating, id))
		if err != nil {
			return err
		}
		if r, err = decodeReceipt(plaintext); err != nil {
			return corrupt(err)
		}
		r.Originating, r.UUID = originating, id
		r.Expires = fromMillis(int64(binary.BigEndian.Uint64(h.extra)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// sweepBatch bounds what one commit of a sweep deletes, so that the list of
// free pages, which every commit writes out, stays short.
const sweepBatch = 128

// readersEnd is how long a reading may take that began before a data key was
// deleted. Until then the key is in memory, though in no record any more.
const readersEnd = 10 * time.Minute

// Sweep forgets receipts whose envelopes have expired, oldest first and in
// small transactions, and says how many. Call it now and then.
func (db *DB) Sweep(ctx context.Context) (removed int, err error) {
	db.keys.Forget(time.Now().Add(-readersEnd))
	now := binary.BigEndian.AppendUint64(nil, uint64(max(0, db.now().UnixMilli())))
	for {
		n := 0
		err := db.do(ctx, newJob(
			func(*txn) error { return nil },
			func(t *txn) (err error) { n, err = t.sweep(now); return err },
		))
		if err != nil {
			return removed, fmt.Errorf("sweep: %w", err)
		}
		if removed += n; n < sweepBatch {
			return removed, nil
		}
	}
}

func (t *txn) sweep(now []byte) (n int, err error) {
	for _, entry := range t.expired(now) {
		if err := t.drop(receipts, entry[8:]); err != nil {
			return n, err
		}
		if err := t.dropIndex(byExpiry, entry); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (t *txn) expired(now []byte) (entries [][]byte) {
	c := t.bucket(byExpiry).Cursor()
	for key, _ := c.First(); len(key) > 8 && bytes.Compare(key[:8], now) < 0 && len(entries) < sweepBatch; key, _ = c.Next() {
		entries = append(entries, bytes.Clone(key))
	}
	return entries
}
