package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// auditRecord is the JSON object of an audit entry, which lies under its
// sequence number; its sections are Prev and Hash.
type auditRecord struct {
	Time    int64  `json:"time"`
	Actor   string `json:"actor,omitzero"`
	Verb    string `json:"verb,omitzero"`
	Object  string `json:"object,omitzero"`
	Peer    uint64 `json:"peer,omitzero"`
	Outcome string `json:"outcome,omitzero"`
	Reason  string `json:"reason,omitzero"`
}

func encodeAudit(e *storage.AuditEntry) ([]byte, error) {
	r := newAuditRecord(e)
	return encodeRecord(&r, e.Prev[:], e.Hash[:])
}

func newAuditRecord(e *storage.AuditEntry) auditRecord {
	return auditRecord{
		Time: e.Time.UnixMilli(), Actor: e.Actor, Verb: e.Verb, Object: e.Object,
		Peer: uint64(e.Peer), Outcome: e.Outcome, Reason: e.Reason,
	}
}

func (r *auditRecord) entry() storage.AuditEntry {
	return storage.AuditEntry{
		Time: fromMillis(r.Time), Actor: r.Actor, Verb: r.Verb, Object: r.Object,
		Peer: identity.VASPID(r.Peer), Outcome: r.Outcome, Reason: r.Reason,
	}
}

func decodeAudit(plaintext []byte) (e storage.AuditEntry, err error) {
	var r auditRecord
	sections, err := decodeRecord(plaintext, &r, 2)
	if err != nil {
		return e, err
	}
	e = r.entry()
	if copy(e.Prev[:], sections[0]) != 32 || copy(e.Hash[:], sections[1]) != 32 {
		return e, errors.New("decode audit entry: short hash")
	}
	return e, nil
}

// auditChange appends to the chain, whose head is in the state record.
type auditChange struct{ entry storage.AuditEntry }

func prepareAudit(e storage.AuditEntry) (auditChange, error) {
	if e.Time.UnixMilli() <= 0 {
		return auditChange{}, errors.New("audit entry has no usable time")
	}
	if _, err := encodeAudit(&e); err != nil {
		return auditChange{}, fmt.Errorf("audit entry: %w", err)
	}
	return auditChange{e}, nil
}

func (auditChange) check(*txn) error { return nil }

func (c auditChange) write(t *txn) error {
	e := c.entry
	e.Seq, e.Prev = t.state.AuditSeq+1, t.state.AuditHash
	e.Hash = e.Sum()
	plaintext, err := encodeAudit(&e)
	if err != nil {
		return err
	}
	t.state.AuditSeq, t.state.AuditHash = e.Seq, e.Hash
	return t.insert(auditLog, sequenceKey(e.Seq), header{}, plaintext)
}

func (auditChange) done() {}

// Audit gives at most limit entries (0: all) from sequence number from on,
// which is 1 for the first. The chain is verified on the way: an entry that
// was changed, left out or cut off is ErrCorrupt.
func (db *DB) Audit(ctx context.Context, from uint64, limit int) (entries []storage.AuditEntry, err error) {
	err = db.read(ctx, "audit", func(t *txn) error {
		entries, err = t.chain(max(from, 1), limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// AuditLength is the number of the last entry, 0 when there is none.
func (db *DB) AuditLength(ctx context.Context) (n uint64, err error) {
	err = db.read(ctx, "audit", func(t *txn) error {
		s, err := t.loadState()
		if err == nil {
			n = s.AuditSeq
		}
		return err
	})
	return n, err
}

// chain reads the entry before the first too, for its hash.
func (t *txn) chain(from uint64, limit int) (entries []storage.AuditEntry, err error) {
	s, err := t.loadState()
	if err != nil {
		return nil, err
	}
	var prev [32]byte
	if from > 1 && from-1 <= s.AuditSeq {
		before, err := t.auditEntry(from - 1)
		if err != nil {
			return nil, err
		}
		prev = before.Hash
	}
	for seq := from; seq <= s.AuditSeq && (limit <= 0 || len(entries) < limit); seq++ {
		e, err := t.auditEntry(seq)
		if err != nil {
			return nil, err
		}
		if e.Prev != prev || seq == s.AuditSeq && e.Hash != s.AuditHash {
			return nil, fmt.Errorf("audit: the chain breaks at entry %d: %w", seq, storage.ErrCorrupt)
		}
		prev = e.Hash
		entries = append(entries, e)
	}
	return entries, nil
}

func (t *txn) auditEntry(seq uint64) (storage.AuditEntry, error) {
	_, plaintext, err := t.get(auditLog, binary.BigEndian.AppendUint64(nil, seq))
	if errors.Is(err, storage.ErrNotFound) {
		return storage.AuditEntry{}, fmt.Errorf("audit: entry %d is missing: %w", seq, storage.ErrCorrupt)
	}
	if err != nil {
		return storage.AuditEntry{}, err
	}
	e, err := decodeAudit(plaintext)
	if err != nil {
		return e, corrupt(err)
	}
	if e.Seq = seq; e.Hash != e.Sum() {
		return e, fmt.Errorf("audit: entry %d does not match its hash: %w", seq, storage.ErrCorrupt)
	}
	return e, nil
}
