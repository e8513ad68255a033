package atrest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// ErrCorrupt says that bytes do not authenticate for their place: they were
// damaged, moved, or are an older version put back (attacks S2, S8).
var ErrCorrupt = errors.New("sealed value does not authenticate for its place")

// Place names where a value is kept. Bucket and Record may be any bytes.
type Place struct {
	Bucket  string
	Record  []byte
	Version uint64
}

// Cipher seals values for their places in one database. It prints as
// [redacted] and is safe for concurrent use. The zero Cipher is of no use.
type Cipher struct {
	secret
	instance [16]byte
	id       uint32
	aead     tink.AEAD
}

// Key is the number of the data key, which the caller keeps beside what was
// sealed.
func (c Cipher) Key() uint32 { return c.id }

// Overhead is how many bytes Seal adds.
const Overhead = 1 + 24 + 16

// Seal encrypts a value for its place. clear is what the store keeps in clear
// beside the value; it is authenticated, not stored in the result.
func (c Cipher) Seal(p Place, clear, plaintext []byte) ([]byte, error) {
	sealed, err := c.aead.Encrypt(plaintext, c.associatedData(p, clear))
	if err != nil {
		return nil, fmt.Errorf("seal value in %s: %v", p.Bucket, err)
	}
	return append([]byte{formatV1}, sealed...), nil
}

// Open decrypts what Seal made for the same place and clear bytes; anything
// else is ErrCorrupt.
func (c Cipher) Open(p Place, clear, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != formatV1 {
		return nil, fmt.Errorf("open value in %s: %w", p.Bucket, ErrCorrupt)
	}
	plaintext, err := c.aead.Decrypt(sealed[1:], c.associatedData(p, clear))
	if err != nil {
		return nil, fmt.Errorf("open value in %s: %w", p.Bucket, ErrCorrupt)
	}
	return plaintext, nil
}

// associatedData names the place. Every part has its length in front, so no
// byte can move from one part to the next.
func (c Cipher) associatedData(p Place, clear []byte) []byte {
	b := tlv.Domain(purposeValue)
	b = tlv.AppendPart(b, c.instance[:])
	b = tlv.AppendPart(b, []byte(p.Bucket))
	b = tlv.AppendPart(b, p.Record)
	b = tlv.AppendPart(b, binary.BigEndian.AppendUint64(nil, p.Version))
	return tlv.AppendPart(b, clear)
}

// privateAEAD puts the database in front of the caller's associated data.
type privateAEAD struct {
	secret
	cipher Cipher
}

func (a privateAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.cipher.aead.Encrypt(plaintext, a.place(associatedData))
}

func (a privateAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.cipher.aead.Decrypt(ciphertext, a.place(associatedData))
}

func (a privateAEAD) place(associatedData []byte) []byte {
	return tlv.AppendPart(tlv.AppendPart(tlv.Domain(purposePrivate), a.cipher.instance[:]), associatedData)
}
