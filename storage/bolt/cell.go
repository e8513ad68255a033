package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// A cell is what every bucket but the indexes holds under a key:
//
//	format u8 ‖ keyset u8 ‖ version u64 ‖ key u32 ‖ extra ‖ checksum u32 ‖ sealed
//
// Key is the number of the data key that sealed it. A cell of format 1, which
// is not written any more, has the number of its retention period there, zero
// in a private one: it was sealed by the first key of that period.
//
// The part before sealed is the header. It is in clear and authenticated:
// sealed opens only under the same bucket, key and header. The checksum, a
// CRC-32C of bucket, key and what is before it, finds a damaged header where
// a cell is judged by it and not opened.
const (
	cellFormat     = 2
	cellUnnumbered = 1
	headerLength   = 1 + 1 + 8 + 4
	checksumLength = 4
)

// keyset says which data keyset of the keyring record sealed a cell.
type keyset uint8

const (
	private  keyset = 0 // own keys, identity, pins, directory, audit, state
	personal keyset = 1 // what a retention period's key seals, and erases
)

// purpose is the keyset's name in the keyring record.
func (k keyset) purpose() atrest.Purpose {
	if k == personal {
		return atrest.Personal
	}
	return atrest.Private
}

// header is the clear part of a cell. Version counts the writes of the cell,
// from 1; the length of Extra is fixed by the bucket. Period is that of a
// personal cell which is to be sealed. Number is what a sealed one has: of its
// key, or of its period in format 1.
type header struct {
	keyset  keyset
	version uint64
	period  uint32
	extra   []byte

	format byte
	number uint32
}

func (b *bucket) header(key []byte, h header) []byte {
	clear := make([]byte, headerLength, b.headerEnd())
	clear[0], clear[1] = h.format, byte(h.keyset)
	binary.BigEndian.PutUint64(clear[2:], h.version)
	binary.BigEndian.PutUint32(clear[10:], h.number)
	clear = append(clear, h.extra...)
	return binary.BigEndian.AppendUint32(clear, b.checksum(key, clear))
}

func (b *bucket) headerEnd() int { return headerLength + b.extra + checksumLength }

func (b *bucket) checksum(key, clear []byte) uint32 {
	return crc32.Update(crc32.Update(b.seed, castagnoli, key), castagnoli, clear)
}

// parseCell splits a stored value; extra and sealed alias it.
func (b *bucket) parseCell(key, value []byte) (h header, sealed []byte, err error) {
	if len(value) < b.headerEnd() {
		return h, nil, fmt.Errorf("%s: a value of %d bytes has no header: %w", b.name, len(value), storage.ErrCorrupt)
	}
	clear, sealed := value[:headerLength+b.extra], value[b.headerEnd():]
	switch {
	case binary.BigEndian.Uint32(value[len(clear):]) != b.checksum(key, clear):
		return h, nil, fmt.Errorf("%s: a header is damaged: %w", b.name, storage.ErrCorrupt)
	case clear[0] != cellFormat && clear[0] != cellUnnumbered:
		return h, nil, fmt.Errorf("%s: value format %d is unknown: %w", b.name, clear[0], storage.ErrCorrupt)
	case keyset(clear[1]) != b.keyset:
		return h, nil, fmt.Errorf("%s: value is of keyset %d: %w", b.name, clear[1], storage.ErrCorrupt)
	}
	h.keyset = keyset(clear[1])
	h.version = binary.BigEndian.Uint64(clear[2:])
	h.format, h.number = clear[0], binary.BigEndian.Uint32(clear[10:])
	h.extra = clear[headerLength:]
	return h, sealed, nil
}

func (b *bucket) place(key []byte, version uint64) atrest.Place {
	return atrest.Place{Bucket: b.name, Record: key, Version: version}
}

// sealCell makes the stored value under the current key; plaintext is not
// kept.
func (b *bucket) sealCell(keys *atrest.Keys, key []byte, h header, plaintext []byte) ([]byte, error) {
	h.keyset = b.keyset
	if len(h.extra) != b.extra {
		return nil, fmt.Errorf("%s: header extra of %d bytes, want %d", b.name, len(h.extra), b.extra)
	}
	cipher, err := b.current(keys, h.period)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.name, err)
	}
	h.format, h.number = cellFormat, cipher.Key()
	clear := b.header(key, h)
	sealed, err := cipher.Seal(b.place(key, h.version), clear, plaintext)
	if err != nil {
		return nil, fmt.Errorf("%s: seal: %w", b.name, err)
	}
	return append(clear, sealed...), nil
}

// current is the cipher for new cells of a bucket, in a period.
func (b *bucket) current(keys *atrest.Keys, period uint32) (atrest.Cipher, error) {
	if b.keyset == personal {
		return keys.Personal(period)
	}
	return keys.Private(), nil
}

// openCell authenticates a stored value for its place and gives its header
// (aliasing value) and its plaintext. Whatever is wrong is ErrCorrupt.
func (b *bucket) openCell(keys *atrest.Keys, key, value []byte) (header, []byte, error) {
	h, sealed, err := b.parseCell(key, value)
	if err != nil {
		return h, nil, err
	}
	cipher, err := h.cipher(keys)
	if err != nil {
		return h, nil, fmt.Errorf("%s: %v: %w", b.name, err, storage.ErrCorrupt)
	}
	plaintext, err := cipher.Open(b.place(key, h.version), value[:b.headerEnd()], sealed)
	if err != nil {
		return h, nil, fmt.Errorf("%s: %w", b.name, storage.ErrCorrupt)
	}
	return h, plaintext, nil
}

// key is the number of the key that sealed a cell.
func (h header) key(keys *atrest.Keys) (uint32, error) {
	if h.format == cellUnnumbered {
		return keys.First(h.keyset.purpose(), h.number)
	}
	return h.number, nil
}

func (h header) cipher(keys *atrest.Keys) (atrest.Cipher, error) {
	id, err := h.key(keys)
	if err != nil {
		return atrest.Cipher{}, err
	}
	return keys.Cipher(h.keyset.purpose(), id)
}
