package envelope_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, int(3*time.Millisecond), time.UTC)

var suites = []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}

// world is an originator (VASP 7) who writes to a beneficiary (VASP 9).
type world struct {
	alice, bob, mallory *identity.Signer // 7, 9, 11
	key                 *envelope.PrivateKey
}

func newWorld(t testing.TB, suite identity.Suite) *world {
	t.Helper()
	w := &world{alice: newSigner(t, 7), bob: newSigner(t, 9), mallory: newSigner(t, 11)}
	var err error
	if w.key, err = envelope.GenerateKey(suite); err != nil {
		t.Fatal(err)
	}
	return w
}

func newSigner(t testing.TB, vasp identity.VASPID) *identity.Signer {
	t.Helper()
	s, err := identity.NewSigner(vasp)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// header is one in which every field that the sender chooses differs from zero.
func (w *world) header(m envelope.MessageType) envelope.Header {
	return envelope.Header{
		Type: m, Direction: envelope.ToBeneficiary, Network: "test", Verification: [16]byte{1, 2, 3},
		Sender: 7, Recipient: 9, RecipientIdentity: w.bob.Public().Fingerprint(),
		Serial: 5, KeyType: identity.PerVASP, Scope: [32]byte{6}, Epoch: 7,
		Created: noon, Expires: noon.Add(10 * time.Minute), InReplyTo: [32]byte{8},
	}
}

var body = envelope.Body{Sequence: 3, ReplyBundle: []byte("bundle"), Payload: []byte(`{"name":"Kim"}`)}

func (w *world) seal(t testing.TB) []byte {
	t.Helper()
	sealed, err := envelope.Seal(w.alice, w.key.Public(), w.header(envelope.VerificationRequest), body)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func (w *world) clear(t testing.TB) []byte {
	t.Helper()
	sealed, err := envelope.Seal(w.alice, nil, w.header(envelope.KeyRequest), body)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// open takes all three steps of a recipient who pinned from.
func open(sealed []byte, from *identity.Public, k *envelope.PrivateKey) (*envelope.Body, error) {
	e, err := envelope.Parse(sealed)
	if err != nil {
		return nil, err
	}
	a, err := e.Authenticate(from)
	if err != nil {
		return nil, err
	}
	if k == nil {
		return a.Clear()
	}
	return a.Open(k)
}

// reason is why an envelope was refused, or "" when err is no refusal.
func reason(err error) envelope.Reason {
	var r *envelope.RefusedError
	if !errors.As(err, &r) || !errors.Is(err, envelope.ErrRefused) {
		return ""
	}
	return r.Reason
}

// raw is an envelope taken apart, so that a hostile sender or relay can write
// it as he likes. It follows FORMAT.md and shares no code with the package.
type raw struct {
	format     byte
	fields     []field
	ciphertext []byte
	signature  []byte
	tail       []byte
}

type field struct {
	tag   uint16
	value []byte
}

func takeApart(t testing.TB, sealed []byte) *raw {
	t.Helper()
	n := binary.BigEndian.Uint32(sealed[1:])
	header, rest := sealed[5:5+n], sealed[5+n:]
	r := &raw{format: sealed[0]}
	for len(header) > 0 {
		l := binary.BigEndian.Uint32(header[2:])
		r.fields = append(r.fields, field{binary.BigEndian.Uint16(header), bytes.Clone(header[6 : 6+l])})
		header = header[6+l:]
	}
	n = binary.BigEndian.Uint32(rest)
	r.ciphertext, rest = bytes.Clone(rest[4:4+n]), rest[4+n:]
	r.signature = bytes.Clone(rest[2:])
	if len(r.fields) != 19 || len(r.signature) != 64 {
		t.Fatalf("taken apart: %d fields, signature of %d bytes", len(r.fields), len(r.signature))
	}
	return r
}

func (r *raw) header() []byte {
	var b []byte
	for _, f := range r.fields {
		b = tlv.Append(b, f.tag, f.value)
	}
	return b
}

// sign replaces the signature by one of s.
func (r *raw) sign(t testing.TB, s *identity.Signer) *raw {
	t.Helper()
	sum := sha256.Sum256(r.ciphertext)
	sig, err := s.Sign("vasp-enclave/v1/envelope", append(append([]byte{r.format}, r.header()...), sum[:]...))
	if err != nil {
		t.Fatal(err)
	}
	r.signature = sig
	return r
}

func (r *raw) bytes() []byte {
	b := tlv.AppendPart([]byte{r.format}, r.header())
	b = tlv.AppendPart(b, r.ciphertext)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.signature)))
	return append(append(b, r.signature...), r.tail...)
}

// set changes the field with a tag.
func (r *raw) set(tag uint16, value []byte) {
	for i := range r.fields {
		if r.fields[i].tag == tag {
			r.fields[i].value = value
		}
	}
}

// fill encrypts a plaintext of the hostile sender's choice to a key, under
// the header as it stands, with the standard library.
func (r *raw) fill(t testing.TB, to *envelope.PublicKey, plaintext []byte) {
	t.Helper()
	public, err := kem(to.Suite()).NewPublicKey(to.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if r.ciphertext, err = hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), r.header(), plaintext); err != nil {
		t.Fatal(err)
	}
}

func kem(suite identity.Suite) hpke.KEM {
	if suite == identity.SuiteXWing {
		return hpke.MLKEM768X25519()
	}
	return hpke.DHKEM(ecdh.X25519())
}

// plain writes a body by FORMAT.md, padded to size.
func plain(salt [32]byte, sequence uint64, bundle, payload []byte, size int) []byte {
	b := append([]byte(nil), salt[:]...)
	b = binary.BigEndian.AppendUint64(b, sequence)
	b = binary.BigEndian.AppendUint32(b, uint32(len(bundle)))
	b = append(b, bundle...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	if n := size - len(b); n > 0 {
		b = append(b, make([]byte, n)...)
	}
	return b
}

func domain(purpose string, parts ...[]byte) [32]byte {
	b := append([]byte{0, byte(len(purpose))}, purpose...)
	return sha256.Sum256(append(b, bytes.Join(parts, nil)...))
}
