package proxytest

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Message is an envelope by a party's own hands, for tests in which a party
// or central is hostile. What is zero is filled in as its enclave would.
type Message struct {
	Type        envelope.MessageType
	Direction   envelope.Direction // zero: as a question of the type goes
	ID          uuid.UUID          // zero: a fresh one
	Payload     []byte
	ReplyBundle []byte
	InReplyTo   [32]byte
	To          *identity.Bundle // nil: the recipient's present key

	// Edit changes the header before it is sealed and signed.
	Edit func(*envelope.Header)
	// Signer signs instead of the party.
	Signer *identity.Signer
}

// Seal makes an envelope from the party to another.
func (p *Party) Seal(to *Party, m Message) []byte {
	t := p.world.t
	now := p.world.now()
	if m.Direction == 0 {
		m.Direction = m.Type.Direction()
	}
	h := envelope.Header{
		Type: m.Type, Direction: m.Direction, Network: Network, Verification: m.ID,
		Sender: p.ID, Recipient: to.ID, RecipientIdentity: to.Signer.Public().Fingerprint(),
		KeyType: identity.PerVASP, Created: now, Expires: now.Add(time.Minute), InReplyTo: m.InReplyTo,
	}
	if m.ID == uuid.Nil {
		h.Verification = uuid.New()
	}
	var key *envelope.PublicKey
	if m.Type.Sealed() {
		bundle := m.To
		if bundle == nil {
			bundle = to.Bundle()
		}
		var err error
		if key, err = envelope.ParsePublicKey(bundle.Suite, bundle.PublicKey); err != nil {
			t.Fatal(err)
		}
		h.Serial = bundle.Serial
	}
	if m.Edit != nil {
		m.Edit(&h)
	}
	signer := p.Signer
	if m.Signer != nil {
		signer = m.Signer
	}
	sealed, err := envelope.Seal(signer, key, h, envelope.Body{Sequence: 1, ReplyBundle: m.ReplyBundle, Payload: m.Payload})
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// Reply makes an envelope that answers a message to the party, as central
// relayed it.
func (p *Party) Reply(to *Party, asked []byte, m Message) []byte {
	parsed, err := envelope.Parse(asked)
	if err != nil {
		p.world.t.Fatal(err)
	}
	m.Direction, m.ID, m.InReplyTo = parsed.Header.Direction.Opposite(), parsed.Header.Verification, parsed.Hash()
	return p.Seal(to, m)
}

// Open reads what an envelope to the party holds.
func (p *Party) Open(from *Party, sealed []byte) *envelope.Body {
	t := p.world.t
	parsed, err := envelope.Parse(sealed)
	if err != nil {
		t.Fatal(err)
	}
	authentic, err := parsed.Authenticate(from.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	if !parsed.Header.Type.Sealed() {
		body, err := authentic.Clear()
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	private, err := p.Own.Private(parsed.Header.Key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := authentic.Open(private)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// EncodedBundle is the party's present key, signed.
func (p *Party) EncodedBundle() []byte {
	encoded, err := p.Own.PerVASP(context.Background())
	if err != nil {
		p.world.t.Fatal(err)
	}
	return encoded
}

// Bundle is the party's present key.
func (p *Party) Bundle() *identity.Bundle {
	bundle, err := identity.ParseBundle(p.EncodedBundle())
	if err != nil {
		p.world.t.Fatal(err)
	}
	return bundle
}

// TypeOf is the type of an envelope, zero when it is none.
func TypeOf(message []byte) envelope.MessageType {
	parsed, err := envelope.Parse(message)
	if err != nil {
		return 0
	}
	return parsed.Header.Type
}

// Mallory is an identity that nobody knows, in a name of its choice.
func (w *World) Mallory(name identity.VASPID) *identity.Signer {
	s, err := identity.NewSigner(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// BundleBy is a key bundle by anybody's hands, as good as an enclave's until
// it is edited.
func (w *World) BundleBy(s *identity.Signer, suite identity.Suite, edit func(*identity.Bundle)) []byte {
	private, err := envelope.GenerateKey(suite)
	if err != nil {
		w.t.Fatal(err)
	}
	now := w.now()
	b := identity.Bundle{
		Suite: suite, PublicKey: private.Public().Bytes(), Type: identity.PerVASP, Serial: uint64(now.UnixMilli()) + 1<<20,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour), Suites: []identity.Suite{suite},
	}
	if edit != nil {
		edit(&b)
	}
	encoded, err := s.SignBundle(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return encoded
}

// Fields of an envelope's header, as Fields gives them (crypto/FORMAT.md).
const (
	FieldSuite = iota
	FieldType
	FieldDirection
	FieldNetwork
	FieldVerification
	FieldSender
	FieldRecipient
	FieldSenderIdentity
	FieldRecipientIdentity
	FieldKey
	FieldSerial
	FieldKeyType
	FieldScope
	FieldCreated
	FieldExpires
	FieldInReplyTo
	FieldReplyBundle
	FieldCommitment
	FieldEpoch
)

// HeaderEnd is where the header of an envelope ends.
func HeaderEnd(sealed []byte) int { return 5 + int(binary.BigEndian.Uint32(sealed[1:])) }

// Parts are format and header, ciphertext, and signature of an envelope, each
// with its length; they share its bytes.
func Parts(sealed []byte) [3][]byte {
	h := HeaderEnd(sealed)
	c := h + 4 + int(binary.BigEndian.Uint32(sealed[h:]))
	return [3][]byte{sealed[:h], sealed[h:c], sealed[c:]}
}

// Fields are the values of the header's fields, in their place: changing one
// relabels the envelope.
func Fields(sealed []byte) (values [][]byte) {
	for header := sealed[5:HeaderEnd(sealed)]; len(header) > 0; {
		n := 6 + binary.BigEndian.Uint32(header[2:])
		values, header = append(values, header[6:n]), header[n:]
	}
	return values
}

// Relabel writes another value of the same length over a header field.
func Relabel(sealed []byte, field int, value ...byte) []byte {
	sealed = bytes.Clone(sealed)
	copy(Fields(sealed)[field], value)
	return sealed
}

// Pretend writes a party's identity over that of the one who signed.
func Pretend(p *Party, sealed []byte) []byte {
	to := p.Signer.Public().Fingerprint()
	return Relabel(sealed, FieldSenderIdentity, to[:]...)
}
