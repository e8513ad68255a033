package envelope

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// maxOverhead is what the larger suite adds to a plaintext: X-Wing's 1120
// byte encapsulated key and the 16 byte tag.
const maxOverhead = 1120 + 16

// MaxEnvelope is the most bytes an envelope can have. A reader may stop there.
const MaxEnvelope = 1 + 4 + 1<<10 + 4 + maxClass + maxOverhead + 2 + signatureSize

// Envelope is a parsed envelope of which nothing is believed yet: see
// Authenticate.
type Envelope struct {
	Header     Header
	raw        []byte
	header     []byte
	ciphertext []byte
	signature  []byte
}

// Parse reads the one canonical encoding of an envelope and checks that its
// header makes sense. It uses no key. It copies b. An error is a
// RefusedError with the reason Malformed.
func Parse(b []byte) (*Envelope, error) {
	if len(b) > MaxEnvelope {
		return nil, malformed(errors.New("too large"))
	}
	if len(b) == 0 || b[0] != formatV1 {
		return nil, malformed(errors.New("unknown format"))
	}
	e := &Envelope{raw: append([]byte(nil), b...)}
	var ok bool
	rest := e.raw[1:]
	if e.header, rest, ok = cutPart(rest, maxHeader); !ok {
		return nil, malformed(errors.New("header length"))
	}
	if e.ciphertext, rest, ok = cutPart(rest, maxClass+maxOverhead); !ok {
		return nil, malformed(errors.New("ciphertext length"))
	}
	if len(rest) != 2+signatureSize || binary.BigEndian.Uint16(rest) != signatureSize {
		return nil, malformed(errors.New("signature length"))
	}
	e.signature = rest[2:]
	h, err := decodeHeader(e.header)
	if err != nil {
		return nil, malformed(err)
	}
	e.Header = h
	return e, nil
}

// Hash names the envelope: SHA-256 of all its bytes. Answers carry it, and
// repeats are known by it (attack K4).
func (e *Envelope) Hash() [32]byte { return Hash(e.raw) }

// Hash is SHA-256 of the bytes of an envelope.
func Hash(sealed []byte) [32]byte { return sha256.Sum256(sealed) }

// Authenticate checks that an envelope was made by the given identity, which
// the caller has pinned for Header.Sender. Nothing of the body is read before
// (attack K3).
func (e *Envelope) Authenticate(from *identity.Public) (*Authentic, error) {
	if from.VASP() != e.Header.Sender {
		return nil, refuse(OtherSender)
	}
	if from.Fingerprint() != e.Header.SenderIdentity {
		return nil, refuse(OtherIdentity)
	}
	if from.Verify(purposeSignature, signedPart(e.header, e.ciphertext), e.signature) != nil {
		return nil, refuse(BadSignature)
	}
	return &Authentic{Header: e.Header, envelope: e}, nil
}

// Authentic is an envelope whose sender is certain. Whether it is meant for
// us, fresh and no repeat is for the caller to check.
type Authentic struct {
	Header   Header
	envelope *Envelope
}

// Hash names the envelope: see Envelope.Hash.
func (a *Authentic) Hash() [32]byte { return a.envelope.Hash() }

// Open decrypts the body with the key that Header.Key names.
func (a *Authentic) Open(k *PrivateKey) (*Body, error) {
	h := &a.envelope.Header
	if h.Suite != k.public.suite || h.Key != k.public.id {
		return nil, refuse(OtherKey)
	}
	plaintext, err := k.decrypt.Decrypt(a.envelope.ciphertext, a.envelope.header)
	if err != nil {
		return nil, refuse(Undecryptable)
	}
	return a.body(plaintext, true)
}

// Clear reads the body of a message that is signed and not sealed.
func (a *Authentic) Clear() (*Body, error) {
	if a.envelope.Header.Suite != identity.SuiteClear {
		return nil, refuse(OtherKey)
	}
	return a.body(a.envelope.ciphertext, false)
}

// body checks what the header promised of the body.
func (a *Authentic) body(plaintext []byte, padded bool) (*Body, error) {
	h := &a.envelope.Header
	s, b, err := decodeBody(plaintext, padded)
	if err != nil {
		return nil, refuse(BadBody)
	}
	if !equal(commit(s, b.Payload), h.Commitment) {
		return nil, refuse(BadCommitment)
	}
	if !equal(bundleHash(b.ReplyBundle), h.ReplyBundle) {
		return nil, refuse(BadReplyKey)
	}
	return &b, nil
}

func equal(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
