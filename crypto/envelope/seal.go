package envelope

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// Seal encrypts a body to a key, binds it to its header and signs both. For
// the clear message types to is nil and the body is signed only.
//
// Seal fills in the header's Suite, Key, SenderIdentity, ReplyBundle and
// Commitment; Sender must be the signer's VASP. A fresh salt makes every
// envelope differ. ErrTooLarge says that the body exceeds MaxBody.
func Seal(s *identity.Signer, to *PublicKey, h Header, b Body) (sealed []byte, err error) {
	const op = "seal"
	if h.Sender != s.Public().VASP() {
		return nil, errors.New("seal: the header's sender is not the signer")
	}
	var fresh salt
	_, _ = rand.Read(fresh[:]) // never fails (crypto/rand)
	h.fill(s, to, fresh, b)
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("%s: header: %v", op, err)
	}
	plaintext, err := encodeBody(fresh, b, h.Type.Sealed())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	header, ciphertext := h.encode(), plaintext
	if to != nil {
		if ciphertext, err = to.encrypt.Encrypt(plaintext, header); err != nil {
			return nil, fmt.Errorf("%s: the key cannot be sealed to", op)
		}
	}
	signature, err := s.Sign(purposeSignature, signedPart(header, ciphertext))
	if err != nil {
		return nil, fmt.Errorf("%s: %v", op, err)
	}
	return encode(header, ciphertext, signature), nil
}

// fill sets what follows from keys and body.
func (h *Header) fill(s *identity.Signer, to *PublicKey, fresh salt, b Body) {
	h.Suite, h.Key = identity.SuiteClear, identity.KeyID{}
	if to != nil {
		h.Suite, h.Key = to.suite, to.id
	}
	h.SenderIdentity = s.Public().Fingerprint()
	h.ReplyBundle = bundleHash(b.ReplyBundle)
	h.Commitment = commit(fresh, b.Payload)
	h.Created, h.Expires = tlv.Round(h.Created), tlv.Round(h.Expires)
}

// signedPart is the message under the signature: format, header and hash of
// the ciphertext. The header says itself where it ends.
func signedPart(header, ciphertext []byte) []byte {
	sum := sha256.Sum256(ciphertext)
	b := append(make([]byte, 0, 1+len(header)+len(sum)), formatV1)
	return append(append(b, header...), sum[:]...)
}

func encode(header, ciphertext, signature []byte) []byte {
	b := make([]byte, 0, 1+4+len(header)+4+len(ciphertext)+2+len(signature))
	b = append(b, formatV1)
	b = tlv.AppendPart(b, header)
	b = tlv.AppendPart(b, ciphertext)
	b = binary.BigEndian.AppendUint16(b, uint16(len(signature)))
	return append(b, signature...)
}
