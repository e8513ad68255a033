package identity

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/signature"
	"github.com/tink-crypto/tink-go/v2/signature/ed25519"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

const (
	algorithmEd25519 = 1
	publicSize       = 1 + 32
	signatureSize    = 64
)

// Public is a VASP's public identity: what verifies its signatures. It is
// immutable and safe for concurrent use.
type Public struct {
	vasp        VASPID
	raw         []byte
	fingerprint Fingerprint
	verifier    tink.Verifier
}

// ParsePublic reads the public identity of a VASP: the algorithm byte 1
// (Ed25519) and 32 bytes. A key under which some signature is valid for every
// message is refused.
func ParsePublic(vasp VASPID, b []byte) (*Public, error) {
	switch {
	case vasp == 0:
		return nil, errors.New("public identity: VASP id is zero")
	case len(b) != publicSize:
		return nil, fmt.Errorf("public identity: %d bytes, want %d", len(b), publicSize)
	case b[0] != algorithmEd25519:
		return nil, fmt.Errorf("public identity: unknown algorithm %d", b[0])
	case smallOrder(b[1:]):
		return nil, errors.New("public identity: point of small order")
	}
	verifier, err := newVerifier(b[1:])
	if err != nil {
		return nil, fmt.Errorf("public identity: %v", err)
	}
	raw := bytes.Clone(b)
	return &Public{
		vasp: vasp, raw: raw, verifier: verifier,
		fingerprint: tlv.Hash(purposeFingerprint, vasp.bytes(), raw),
	}, nil
}

// newVerifier builds the key from its raw bytes: a peer's protobuf is never
// parsed (attack K10).
func newVerifier(raw []byte) (tink.Verifier, error) {
	k, err := ed25519.NewPublicKey(raw, 0, signingParameters())
	if err != nil {
		return nil, err
	}
	h, err := onekey.Of(k)
	if err != nil {
		return nil, err
	}
	return signature.NewVerifier(h)
}

// signingParameters: Ed25519 (RFC 8032), 64-byte signatures without prefix.
func signingParameters() ed25519.Parameters {
	p, err := ed25519.NewParameters(ed25519.VariantNoPrefix)
	if err != nil {
		panic("identity: " + err.Error()) // the variant is a constant
	}
	return p
}

// VASP is whose identity it is.
func (p *Public) VASP() VASPID { return p.vasp }

// Bytes are the 33 bytes that ParsePublic reads. The caller owns them.
func (p *Public) Bytes() []byte { return bytes.Clone(p.raw) }

// Fingerprint names the identity.
func (p *Public) Fingerprint() Fingerprint { return p.fingerprint }

// String names the VASP and the fingerprint, for logs.
func (p *Public) String() string { return fmt.Sprintf("vasp %s %s", p.vasp, p.fingerprint) }

// Verify checks a signature that Sign made over message for the same domain.
func (p *Public) Verify(domain string, message, signature []byte) error {
	if err := p.verifier.Verify(signature, signed(domain, message)); err != nil {
		return errors.New("signature does not verify")
	}
	return nil
}

func signed(domain string, message []byte) []byte { return append(tlv.Domain(domain), message...) }

// smallOrderPoints are the encodings, sign bit cleared, of the points whose
// order divides eight, with their non-canonical forms (see "Taming the many
// EdDSAs", 2020). For such a key one signature fits many messages, so nobody
// could be held to what was signed.
var smallOrderPoints = [...][32]byte{
	{},
	{1},
	{0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
	{0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
	nearPrime(0xec), nearPrime(0xed), nearPrime(0xee), // p-1, p, p+1
}

func nearPrime(low byte) (b [32]byte) {
	for i := range b {
		b[i] = 0xff
	}
	b[0], b[31] = low, 0x7f
	return b
}

func smallOrder(raw []byte) bool {
	point := [32]byte(raw)
	point[31] &= 0x7f
	for _, small := range smallOrderPoints {
		if point == small {
			return true
		}
	}
	return false
}
