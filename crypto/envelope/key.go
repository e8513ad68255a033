package envelope

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/hybrid/hpke"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/redact"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

type secret = redact.Secret

// PublicKey is a key to seal to, with its cipher built once. It is immutable
// and safe for concurrent use.
type PublicKey struct {
	suite   identity.Suite
	raw     []byte
	id      identity.KeyID
	encrypt tink.HybridEncrypt
}

// ParsePublicKey builds a key from its raw bytes; a peer's protobuf is never
// parsed (attack K10). Whether the owner is the right one is the business of
// the bundle it came in.
func ParsePublicKey(suite identity.Suite, raw []byte) (*PublicKey, error) {
	parameters, err := hpkeParameters(suite)
	if err != nil {
		return nil, err
	}
	k, err := hpke.NewPublicKey(raw, 0, parameters)
	if err != nil {
		return nil, fmt.Errorf("%s public key of %d bytes does not fit", suite, len(raw))
	}
	h, err := onekey.Of(k)
	if err != nil {
		return nil, fmt.Errorf("public key: %v", err)
	}
	encrypt, err := hybrid.NewHybridEncrypt(h)
	if err != nil {
		return nil, fmt.Errorf("public key: %v", err)
	}
	return &PublicKey{suite: suite, raw: bytes.Clone(raw), id: identity.NewKeyID(suite, raw), encrypt: encrypt}, nil
}

// hpkeParameters is the fixed table of suites: HPKE (RFC 9180) base mode,
// HKDF-SHA256, AES-256-GCM, raw output. Our header carries suite and key id.
func hpkeParameters(suite identity.Suite) (*hpke.Parameters, error) {
	opts := hpke.ParametersOpts{KDFID: hpke.HKDFSHA256, AEADID: hpke.AES256GCM, Variant: hpke.VariantNoPrefix}
	switch suite {
	case identity.SuiteXWing:
		opts.KEMID = hpke.X_WING
	case identity.SuiteX25519:
		opts.KEMID = hpke.DHKEM_X25519_HKDF_SHA256
	default:
		return nil, fmt.Errorf("suite %d does not seal", suite)
	}
	return hpke.NewParameters(opts)
}

// Suite is the key's suite.
func (k *PublicKey) Suite() identity.Suite { return k.suite }

// Bytes are the raw bytes that ParsePublicKey reads. The caller owns them.
func (k *PublicKey) Bytes() []byte { return bytes.Clone(k.raw) }

// ID names the key.
func (k *PublicKey) ID() identity.KeyID { return k.id }

// String names the key, for logs.
func (k *PublicKey) String() string { return fmt.Sprintf("%s key %s", k.suite, k.id) }

// PrivateKey opens what was sealed to its public key. Nothing returns its
// bytes, and it prints as [redacted]. It is safe for concurrent use.
type PrivateKey struct {
	secret
	public  *PublicKey
	handle  *keyset.Handle
	decrypt tink.HybridDecrypt
}

// GenerateKey makes a fresh key of a suite that seals.
func GenerateKey(suite identity.Suite) (*PrivateKey, error) {
	parameters, err := hpkeParameters(suite)
	if err != nil {
		return nil, fmt.Errorf("generate key: %v", err)
	}
	h, err := onekey.New(parameters)
	if err != nil {
		return nil, fmt.Errorf("generate key: %v", err)
	}
	return newPrivateKey(suite, h)
}

// UnwrapPrivateKey reads what Wrap made, for the same suite, key and
// associated data.
func UnwrapPrivateKey(suite identity.Suite, wrapped []byte, kek identity.AEAD, associatedData []byte) (*PrivateKey, error) {
	parameters, err := hpkeParameters(suite)
	if err != nil {
		return nil, fmt.Errorf("unwrap key: %v", err)
	}
	h, err := onekey.Unwrap(wrapped, kek, wrapPlace(suite, associatedData), parameters)
	if err != nil {
		return nil, fmt.Errorf("unwrap key: %v", err)
	}
	return newPrivateKey(suite, h)
}

func newPrivateKey(suite identity.Suite, h *keyset.Handle) (*PrivateKey, error) {
	k, err := onekey.Key(h)
	if err != nil {
		return nil, fmt.Errorf("private key: %v", err)
	}
	private, ok := k.(*hpke.PrivateKey)
	if !ok {
		return nil, errors.New("private key: keyset holds no HPKE key")
	}
	if k, err = private.PublicKey(); err != nil {
		return nil, fmt.Errorf("private key: %v", err)
	}
	public, err := ParsePublicKey(suite, k.(*hpke.PublicKey).PublicKeyBytes())
	if err != nil {
		return nil, err
	}
	decrypt, err := hybrid.NewHybridDecrypt(h)
	if err != nil {
		return nil, fmt.Errorf("private key: %v", err)
	}
	return &PrivateKey{public: public, handle: h, decrypt: decrypt}, nil
}

// Public is the key that peers seal to.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// Wrap encrypts the key under kek, bound to its suite and to the associated
// data, which names the place where it is kept.
func (k *PrivateKey) Wrap(kek identity.AEAD, associatedData []byte) ([]byte, error) {
	wrapped, err := onekey.Wrap(k.handle, kek, wrapPlace(k.public.suite, associatedData))
	if err != nil {
		return nil, fmt.Errorf("wrap key: %v", err)
	}
	return wrapped, nil
}

func wrapPlace(suite identity.Suite, associatedData []byte) []byte {
	return append(append(tlv.Domain(purposeWrap), byte(suite)), associatedData...)
}
