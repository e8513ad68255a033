package bolt

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// tag is a blind index: a keyed hash of a value, so that equal values can be
// found without the file saying what they are (attack S9). The zero tag
// stands for no value.
type tag [16]byte

// tagIndex is a bucket of tag ‖ row key, with no values. The entries of one
// tag lie in the order of time.
type tagIndex struct {
	*bucket
	purpose string
}

// tagIndexes are in the order of rowHead.tags; never reorder.
var tagIndexes = [3]tagIndex{
	{byOriginatorAccount, "originator-account"},
	{byBeneficiaryAccount, "beneficiary-account"},
	{byTxHash, "tx-hash"},
}

func newTag(keys *atrest.Keys, index tagIndex, value string) tag {
	if value == "" {
		return tag{}
	}
	return keys.Index(index.purpose, []byte(value))
}

func (t tag) entry(k rowKey) []byte { return join(t[:], k[:]) }

// oppositeTag hides which counterparty a row is about, and lets a filter
// compare.
func oppositeTag(keys *atrest.Keys, id identity.VASPID) short {
	if id == 0 {
		return 0
	}
	return shorten(keys.Index("opposite-vasp", vaspKey(id)))
}

func oppositeOf(v *storage.Verification) identity.VASPID {
	if v.Sent {
		return v.Beneficiary
	}
	return v.Originating
}

func vaspKey(id identity.VASPID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

func sequenceKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// moveTags brings the tag indexes from a row's old head (nil: a new row) to
// its new one.
func (t *txn) moveTags(k rowKey, before, after *rowHead) error {
	for i, index := range tagIndexes {
		if before != nil && before.tags[i] == after.tags[i] {
			continue
		}
		if before != nil && before.tags[i] != (tag{}) {
			if err := t.dropIndex(index.bucket, before.tags[i].entry(k)); err != nil {
				return err
			}
		}
		if after.tags[i] == (tag{}) {
			continue
		}
		if err := t.putIndex(index.bucket, after.tags[i].entry(k), []byte{}); err != nil {
			return err
		}
	}
	return nil
}

// uuidKey is a row's name: UUIDs are chosen by the originating VASP, so two
// of them may choose the same.
func uuidKey(originating identity.VASPID, id uuid.UUID) []byte {
	return join(id[:], vaspKey(originating))
}

// rowRef is what by_uuid says of a row: where it is, and its version, so
// that an older value of the same row is not taken for the last one (S2).
type rowRef struct {
	key     rowKey
	version uint64
}

func (r rowRef) bytes() []byte {
	return binary.BigEndian.AppendUint64(r.key[:], r.version)
}

func parseRowRef(b []byte) (r rowRef, err error) {
	if len(b) != len(r.key)+8 {
		return r, fmt.Errorf("%s: entry of %d bytes: %w", byUUID.name, len(b), storage.ErrCorrupt)
	}
	copy(r.key[:], b)
	r.version = binary.BigEndian.Uint64(b[len(r.key):])
	return r, nil
}

// find looks a row up by its name; ErrNotFound when there is none.
func (t *txn) find(name []byte) (rowRef, error) {
	entry := t.bucket(byUUID).Get(name)
	if entry == nil {
		return rowRef{}, storage.ErrNotFound
	}
	return parseRowRef(entry)
}
