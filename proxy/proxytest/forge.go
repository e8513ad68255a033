package proxytest

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Message is an envelope by a party's own hands, for tests in which a party
// or central is hostile. What is zero is filled in as its enclave would.
type Message struct {
	Type        envelope.MessageType
	Direction   envelope.Direction // zero: to the beneficiary
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
	h := envelope.Header{
		Type: m.Type, Direction: max(m.Direction, envelope.ToBeneficiary), Network: Network, Verification: m.ID,
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
