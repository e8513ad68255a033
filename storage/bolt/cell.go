package bolt

import (
	"encoding/binary"
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// A cell is what every bucket but the indexes holds under a key:
//
//	format u8 ‖ keyset u8 ‖ version u64 ‖ period u32 ‖ extra ‖ sealed
//
// The part before sealed is the header. It is in clear and authenticated:
// sealed opens only under the same bucket, key and header.
const (
	cellFormat   = 1
	headerLength = 1 + 1 + 8 + 4
)

// keyset says which data keyset of the keyring record sealed a cell.
type keyset uint8

const (
	private  keyset = 0 // own keys, identity, pins, directory, audit, state
	personal keyset = 1 // what a retention period's key seals, and erases
)

// header is the clear part of a cell. Version counts the writes of the cell,
// from 1. Period is zero in a private cell. The length of Extra is fixed by
// the bucket.
type header struct {
	keyset  keyset
	version uint64
	period  uint32
	extra   []byte
}

func (h header) bytes() []byte {
	b := make([]byte, headerLength, headerLength+len(h.extra))
	b[0], b[1] = cellFormat, byte(h.keyset)
	binary.BigEndian.PutUint64(b[2:], h.version)
	binary.BigEndian.PutUint32(b[10:], h.period)
	return append(b, h.extra...)
}

// parseCell splits a stored value; extra and sealed alias it.
func (b *bucket) parseCell(value []byte) (h header, sealed []byte, err error) {
	end := headerLength + b.extra
	switch {
	case len(value) < end:
		return h, nil, fmt.Errorf("%s: a value of %d bytes has no header: %w", b.name, len(value), storage.ErrCorrupt)
	case value[0] != cellFormat:
		return h, nil, fmt.Errorf("%s: value format %d is unknown: %w", b.name, value[0], storage.ErrCorrupt)
	case keyset(value[1]) != b.keyset:
		return h, nil, fmt.Errorf("%s: value is of keyset %d: %w", b.name, value[1], storage.ErrCorrupt)
	}
	h.keyset = keyset(value[1])
	h.version = binary.BigEndian.Uint64(value[2:])
	h.period = binary.BigEndian.Uint32(value[10:])
	h.extra = value[headerLength:end:end]
	return h, value[end:], nil
}

func (b *bucket) place(key []byte, version uint64) atrest.Place {
	return atrest.Place{Bucket: b.name, Record: key, Version: version}
}

// sealCell makes the stored value; plaintext is not kept.
func (b *bucket) sealCell(keys *atrest.Keys, key []byte, h header, plaintext []byte) ([]byte, error) {
	h.keyset = b.keyset
	if len(h.extra) != b.extra {
		return nil, fmt.Errorf("%s: header extra of %d bytes, want %d", b.name, len(h.extra), b.extra)
	}
	cipher, err := h.cipher(keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.name, err)
	}
	clear := h.bytes()
	sealed, err := cipher.Seal(b.place(key, h.version), clear, plaintext)
	if err != nil {
		return nil, fmt.Errorf("%s: seal: %w", b.name, err)
	}
	return append(clear, sealed...), nil
}

// openCell authenticates a stored value for its place and gives its header
// (aliasing value) and its plaintext. Whatever is wrong is ErrCorrupt.
func (b *bucket) openCell(keys *atrest.Keys, key, value []byte) (header, []byte, error) {
	h, sealed, err := b.parseCell(value)
	if err != nil {
		return h, nil, err
	}
	cipher, err := h.cipher(keys)
	if err != nil {
		return h, nil, fmt.Errorf("%s: %v: %w", b.name, err, storage.ErrCorrupt)
	}
	plaintext, err := cipher.Open(b.place(key, h.version), value[:headerLength+b.extra], sealed)
	if err != nil {
		return h, nil, fmt.Errorf("%s: %w", b.name, storage.ErrCorrupt)
	}
	return h, plaintext, nil
}

func (h header) cipher(keys *atrest.Keys) (atrest.Cipher, error) {
	if h.keyset == personal {
		return keys.Personal(h.period)
	}
	return keys.Private(), nil
}
