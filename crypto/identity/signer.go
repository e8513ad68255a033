package identity

import (
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/signature"
	"github.com/tink-crypto/tink-go/v2/signature/ed25519"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/redact"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

type secret = redact.Secret

// Signer is our own identity: it signs, and it can be kept wrapped. Nothing
// returns its private bytes, and it prints as [redacted]. It is safe for
// concurrent use.
type Signer struct {
	secret
	public *Public
	handle *keyset.Handle
	signer tink.Signer
}

// NewSigner makes a fresh identity for a VASP.
func NewSigner(vasp VASPID) (*Signer, error) {
	parameters := signingParameters()
	h, err := onekey.New(&parameters)
	if err != nil {
		return nil, fmt.Errorf("make identity: %v", err)
	}
	return newSigner(vasp, h)
}

// UnwrapSigner reads what Wrap made, for the same VASP, key and associated
// data. What was wrapped for another VASP or place is refused.
func UnwrapSigner(vasp VASPID, wrapped []byte, kek AEAD, associatedData []byte) (*Signer, error) {
	parameters := signingParameters()
	h, err := onekey.Unwrap(wrapped, kek, wrapPlace(vasp, associatedData), &parameters)
	if err != nil {
		return nil, fmt.Errorf("unwrap identity: %v", err)
	}
	return newSigner(vasp, h)
}

func newSigner(vasp VASPID, h *keyset.Handle) (*Signer, error) {
	k, err := onekey.Key(h)
	if err != nil {
		return nil, fmt.Errorf("identity: %v", err)
	}
	private, ok := k.(*ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("identity: keyset holds no Ed25519 key")
	}
	k, err = private.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("identity: %v", err)
	}
	raw := append([]byte{algorithmEd25519}, k.(*ed25519.PublicKey).KeyBytes()...)
	public, err := ParsePublic(vasp, raw)
	if err != nil {
		return nil, err
	}
	signer, err := signature.NewSigner(h)
	if err != nil {
		return nil, fmt.Errorf("identity: %v", err)
	}
	return &Signer{public: public, handle: h, signer: signer}, nil
}

// Public is the part that peers pin.
func (s *Signer) Public() *Public { return s.public }

// Sign signs a message for one domain; a signature for one domain never
// counts for another. The signature has 64 bytes.
func (s *Signer) Sign(domain string, message []byte) ([]byte, error) {
	sig, err := s.signer.Sign(signed(domain, message))
	if err != nil {
		return nil, fmt.Errorf("sign: %v", err)
	}
	return sig, nil
}

// Wrap encrypts the identity under kek, bound to its VASP and to the
// associated data, which names the place where it is kept.
func (s *Signer) Wrap(kek AEAD, associatedData []byte) ([]byte, error) {
	wrapped, err := onekey.Wrap(s.handle, kek, wrapPlace(s.public.vasp, associatedData))
	if err != nil {
		return nil, fmt.Errorf("wrap identity: %v", err)
	}
	return wrapped, nil
}

func wrapPlace(vasp VASPID, associatedData []byte) []byte {
	return append(append(tlv.Domain(purposeWrap), vasp.bytes()...), associatedData...)
}
