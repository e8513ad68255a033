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

// outboxRecord is the JSON object of an entry's plaintext; Body is its one
// section, and the sequence number is the key.
type outboxRecord struct {
	Kind         uint8     `json:"kind"`
	Originating  uint64    `json:"originating,omitzero"`
	UUID         uuid.UUID `json:"uuid"`
	Counterparty uint64    `json:"counterparty,omitzero"`
	Created      int64     `json:"created,omitzero"`
	Deadline     int64     `json:"deadline,omitzero"`
}

func encodeOutbox(e *storage.OutboxEntry) ([]byte, error) {
	return encodeRecord(&outboxRecord{
		Kind: uint8(e.Kind), Originating: uint64(e.Originating), UUID: e.UUID,
		Counterparty: uint64(e.Counterparty), Created: millis(e.Created), Deadline: millis(e.Deadline),
	}, e.Body)
}

func decodeOutbox(plaintext []byte) (*storage.OutboxEntry, error) {
	var r outboxRecord
	sections, err := decodeRecord(plaintext, &r, 1)
	if err != nil {
		return nil, err
	}
	return &storage.OutboxEntry{
		Kind: storage.OutboxKind(r.Kind), Originating: identity.VASPID(r.Originating), UUID: r.UUID,
		Counterparty: identity.VASPID(r.Counterparty), Body: sections[0],
		Created: fromMillis(r.Created), Deadline: fromMillis(r.Deadline),
	}, nil
}

// outboxChange queues one entry; its number is chosen in the transaction.
type outboxChange struct {
	entry     *storage.OutboxEntry
	plaintext []byte
	period    uint32
	seq       uint64
}

func (db *DB) prepareOutbox(e *storage.OutboxEntry) (*outboxChange, error) {
	if e.Created.Before(time.UnixMilli(1)) {
		return nil, errors.New("outbox entry has no usable creation time")
	}
	plaintext, err := encodeOutbox(e)
	if err != nil {
		return nil, fmt.Errorf("outbox entry: %w", err)
	}
	return &outboxChange{entry: e, plaintext: plaintext, period: db.keys.Period(e.Created)}, nil
}

func (c *outboxChange) check(*txn) error { return nil }

func (c *outboxChange) write(t *txn) (err error) {
	if c.seq, err = t.bucket(outbox).NextSequence(); err != nil {
		return err
	}
	return t.insert(outbox, sequenceKey(c.seq), header{period: c.period}, c.plaintext)
}

func (c *outboxChange) done() { c.entry.Seq = c.seq }

// Outbox gives all undelivered entries, oldest first.
func (db *DB) Outbox(ctx context.Context) (entries []*storage.OutboxEntry, err error) {
	err = db.read(ctx, "read outbox", func(t *txn) error {
		return t.each(outbox, func(key []byte, _ header, plaintext []byte) error {
			e, err := decodeOutbox(plaintext)
			if err != nil {
				return corrupt(err)
			}
			e.Seq = binary.BigEndian.Uint64(key)
			entries = append(entries, e)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// OutboxEntry gives one undelivered entry.
func (db *DB) OutboxEntry(ctx context.Context, seq uint64) (e *storage.OutboxEntry, err error) {
	err = db.read(ctx, "read outbox entry", func(t *txn) error {
		_, plaintext, err := t.get(outbox, sequenceKey(seq))
		if err != nil {
			return err
		}
		if e, err = decodeOutbox(plaintext); err != nil {
			return corrupt(err)
		}
		e.Seq = seq
		return nil
	})
	return e, err
}
