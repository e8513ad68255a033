package bolt

import (
	"fmt"
	"maps"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// state is what the file as a whole should hold. It is rewritten by every
// commit, sealed, so that values lost to a damaged page or cut from the end
// of the audit log are missed.
type state struct {
	Cells    map[string]uint64 `json:"cells"` // by bucket: how many there are
	AuditSeq uint64            `json:"auditSeq"`
	// Writes is the sum of the versions of all chapters, so that one that was
	// put back as it was before is missed.
	Writes uint64 `json:"chapterWrites"`

	// Erased counts rows that were erased, by the number of the data key that
	// sealed them, as long as that key is there.
	Erased map[uint32]uint64 `json:"erased,omitzero"`

	// Sums says, by bucket, which versions of which cells there are. Nil in a
	// file of schema version 2 or before.
	Sums map[string]sum `json:"sums,omitzero"`

	// KEKSince is when the data keys were wrapped under their present KEK, in
	// Unix milliseconds; zero in a file of before this was kept.
	KEKSince int64 `json:"kekSince,omitzero"`

	AuditHash [32]byte `json:"-"`
}

func (s *state) clone() *state {
	c := *s
	c.Cells, c.Erased, c.Sums = maps.Clone(s.Cells), maps.Clone(s.Erased), maps.Clone(s.Sums)
	return &c
}

func encodeState(s *state) ([]byte, error) {
	return encodeRecord(s, s.AuditHash[:])
}

func decodeState(b []byte) (*state, error) {
	s := &state{}
	sections, err := decodeRecord(b, s, 1)
	if err != nil {
		return nil, err
	}
	if len(sections[0]) != len(s.AuditHash) || s.Cells == nil {
		return nil, fmt.Errorf("decode state: incomplete")
	}
	copy(s.AuditHash[:], sections[0])
	return s, nil
}

func (t *txn) loadState() (*state, error) {
	if t.state != nil {
		return t.state, nil
	}
	value := t.bucket(meta).Get(stateKey)
	if value == nil {
		return nil, fmt.Errorf("no state record: %w", storage.ErrCorrupt)
	}
	_, plaintext, err := meta.openCell(t.keys, stateKey, value)
	if err != nil {
		return nil, err
	}
	if t.state, err = decodeState(plaintext); err != nil {
		return nil, corrupt(err)
	}
	return t.state, nil
}

func (t *txn) saveState() error {
	plaintext, err := encodeState(t.state)
	if err != nil {
		return err
	}
	return t.saveMeta(stateKey, plaintext)
}

// saveMeta writes the next version of one of meta's own cells.
func (t *txn) saveMeta(key, plaintext []byte) error {
	h := header{version: 1}
	if old := t.bucket(meta).Get(key); old != nil {
		before, _, err := meta.parseCell(key, old)
		if err != nil {
			return err
		}
		h.version = before.version + 1
	}
	value, err := meta.sealCell(t.keys, key, h, plaintext)
	if err != nil {
		return err
	}
	return t.bucket(meta).Put(key, value)
}

// corrupt says that an authentic plaintext cannot be read: it was written by
// another program than this.
func corrupt(err error) error { return fmt.Errorf("%v: %w", err, storage.ErrCorrupt) }
