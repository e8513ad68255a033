package proxytest

import (
	"slices"
	"sync"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Attack is one thing that a hostile central server, alone or together with a
// hostile counterparty, does to a message on its way.
type Attack struct {
	Name string // one of its kind
	ID   string // in docs/threat-model.md
	Does string // in a sentence

	// On are the types of the messages that it is tried on, one at a time,
	// and with each who must refuse what comes of it, for which reasons:
	// exactly these rise in enclave_refused_total, and no others.
	On map[envelope.MessageType][]Refused
	// Hand does it to each message of that type.
	Hand func(*Passage) ([]byte, error)

	// Harmless attacks do not even delay the exchange: it ends well while
	// they last.
	Harmless bool
	// Reaches says that the backend of who answers is asked or called back,
	// once for each exchange, for the honest question gets through.
	Reaches bool
	// Exchanges are how many are under way together; 0 is 1.
	Exchanges int
	// KeyType is what the exchange uses, where it matters.
	KeyType string
}

// Role is a party's part in an exchange.
type Role uint8

// A is the originator of every transfer under attack, B its beneficiary.
const (
	Originator Role = iota + 1
	Beneficiary
)

// Other is the other role.
func (r Role) Other() Role { return Originator + Beneficiary - r }

// Question is the type of the questions that messages of a type answer, or are.
func Question(t envelope.MessageType) envelope.MessageType {
	if i := slices.Index(answers, t); i >= 0 {
		return questions[i]
	}
	return t
}

// Asker is who asks the questions that messages of a type answer, or are. The
// originator asks for keys here.
func Asker(t envelope.MessageType) Role {
	if Question(t).Direction() == envelope.ToOriginator {
		return Beneficiary
	}
	return Originator
}

// Refused is a refusal that is counted at a party.
type Refused struct {
	By     Role
	Reason string // of enclave_refused_total
}

// Party is who has a role.
func (w *World) Party(r Role) *Party {
	if r == Originator {
		return w.A
	}
	return w.B
}

// Passage is a message in the hands of a hostile central server.
type Passage struct {
	World   *World
	Type    envelope.MessageType
	Message []byte // as its sender gave it
	Asked   []byte // the question, when the message is an answer
	Old     []byte // the last message of this type, of an exchange that is over
	Other   []byte // the last message of another type in this direction
	Nth     int    // which message it is since the attack began, from 1

	hostile *Hostile
}

// Answer says whether the message is one.
func (p *Passage) Answer() bool { return p.Asked != nil }

// Sender and Recipient are the message's.
func (p *Passage) Sender() *Party {
	if p.Answer() {
		return p.World.Party(Asker(p.Type).Other())
	}
	return p.World.Party(Asker(p.Type))
}

// Recipient is whom the message is for.
func (p *Passage) Recipient() *Party { return p.Sender().Other() }

// Forge makes a message of the same type about the same exchange, by the
// sender's own hands or, with a Signer, in its name. What is zero is filled
// in as the sender's enclave would.
func (p *Passage) Forge(m Message) []byte {
	if m.Type == 0 {
		m.Type = p.Type
	}
	if m.ReplyBundle == nil && !p.Answer() && m.Type.Sealed() {
		m.ReplyBundle = p.Sender().EncodedBundle()
	}
	if m.Payload == nil {
		m.Payload = p.payload(m.Type)
	}
	if p.Answer() {
		return p.Sender().Reply(p.Recipient(), p.Asked, m)
	}
	m.ID = headerOf(p.Message).Verification
	return p.Sender().Seal(p.Recipient(), m)
}

// payload is what each type may hold, and says yes where it can.
func (p *Passage) payload(t envelope.MessageType) []byte {
	switch t {
	case envelope.KeyRequest:
		return make([]byte, 32)
	case envelope.KeyAnswer:
		return p.Sender().EncodedBundle()
	case envelope.AccountRequest:
		return []byte(`{"symbol":"ETH","version":"1.0","ivms101":{"beneficiary":{"accountNumber":["0xAbC1"]}}}`)
	case envelope.ErrorReport:
		return []byte(`{"result":"ERROR","reason":"REQUEST-TIMEOUT"}`)
	case envelope.TxReport:
		return []byte(`{"txHash":"forged","orderedAt":"` + p.soon() + `"}`)
	case envelope.TxReportAnswer, envelope.ErrorReportAnswer:
		return []byte(`{"result":true}`)
	case envelope.TxInquiry:
		return []byte(`{}`)
	case envelope.TxInquiryAnswer:
		return []byte(`{"transactionStatus":"CONFIRMED","txHash":"forged"}`)
	case envelope.AccountAnswer, envelope.VerificationAnswer:
		return []byte(`{"accountVerificationResult":"VERIFIED","verifiedAt":"2026-01-02T03:04:05.000Z","result":"VERIFIED","reason":"OK"}`)
	default:
		return []byte(`{"assetInfo":{"symbol":"BTC","amount":"1"},"version":"1.0","ivms101":{"originator":{},"beneficiary":{"accountNumber":["0xAbC1"]}}}`)
	}
}

// soon is a time that is later than that of every report there is, and not so
// late that it must be wrong.
func (p *Passage) soon() string {
	return p.World.now().Add(time.Second).UTC().Format("2006-01-02T15:04:05.000Z")
}

// Instead puts a message before a party's enclave, out of turn, and lets the
// one that was to pass be lost.
func (p *Passage) Instead(to *Party, message []byte) ([]byte, error) {
	p.World.Central.Send(to.ID, message)
	return nil, ErrDown
}

// Meanwhile does something else while the message passes, and afterwards: see
// Settle.
func (p *Passage) Meanwhile(do func()) { p.hostile.behind.Go(do) }

// Hostile is a central server that attacks when it is told to, and knows all
// that it has relayed.
type Hostile struct {
	world *World

	mu     sync.Mutex
	attack *Attack
	kind   envelope.MessageType
	tried  int
	asked  map[[16]byte][]byte             // the questions, by exchange
	old    map[envelope.MessageType][]byte // the last that passed untouched
	first  *Passage                        // see Cross
	second chan *Passage
	behind sync.WaitGroup // what Meanwhile has begun
}

// Hostile takes the world's central server over.
func (w *World) Hostile() *Hostile {
	h := &Hostile{world: w, asked: map[[16]byte][]byte{}, old: map[envelope.MessageType][]byte{}}
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		h.mu.Lock()
		h.asked[headerOf(message).Verification] = message
		h.mu.Unlock()
		return h.pass(message, nil)
	})
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		h.mu.Lock()
		asked := h.asked[headerOf(reply).Verification]
		h.mu.Unlock()
		return h.pass(reply, asked)
	})
	return h
}

// Begin attacks messages of one type from now on.
func (h *Hostile) Begin(a *Attack, on envelope.MessageType) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attack, h.kind, h.tried, h.first, h.second = a, on, 0, nil, make(chan *Passage, 1)
}

// End lets everything pass.
func (h *Hostile) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attack = nil
}

// Settle waits until nothing of the attack is on its way any more.
func (h *Hostile) Settle() { h.behind.Wait() }

// Tried counts the messages that were attacked since Begin.
func (h *Hostile) Tried() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tried
}

func (h *Hostile) pass(message, asked []byte) ([]byte, error) {
	kind := TypeOf(message)
	h.mu.Lock()
	if h.attack == nil || h.kind != kind {
		h.old[kind] = message
		h.mu.Unlock()
		return message, nil
	}
	h.tried++
	p := &Passage{
		World: h.world, Type: kind, Message: message, Asked: asked, Old: h.old[kind], Other: h.old[another[kind]],
		Nth: h.tried, hostile: h,
	}
	hand := h.attack.Hand
	h.mu.Unlock()
	return hand(p)
}

// another is the other type of message that goes the same way.
var another = map[envelope.MessageType]envelope.MessageType{
	envelope.KeyRequest: envelope.VerificationRequest, envelope.AccountRequest: envelope.VerificationRequest, envelope.VerificationRequest: envelope.AccountRequest,
	envelope.KeyAnswer: envelope.VerificationAnswer, envelope.AccountAnswer: envelope.VerificationAnswer, envelope.VerificationAnswer: envelope.AccountAnswer,
	envelope.TxReport: envelope.VerificationRequest, envelope.ErrorReport: envelope.VerificationRequest, envelope.TxInquiry: envelope.VerificationAnswer,
	envelope.TxReportAnswer: envelope.VerificationAnswer, envelope.ErrorReportAnswer: envelope.VerificationAnswer, envelope.TxInquiryAnswer: envelope.VerificationRequest,
}

// Cross waits for the other of the first two messages under attack and gives
// it; later ones have no other.
func (p *Passage) Cross() *Passage {
	h := p.hostile
	h.mu.Lock()
	switch {
	case p.Nth > 2:
		h.mu.Unlock()
		return nil
	case h.first == nil:
		h.first = p
		h.mu.Unlock()
		select {
		case other := <-h.second:
			return other
		case <-time.After(3 * time.Second):
			return nil
		}
	}
	other := h.first
	h.mu.Unlock()
	h.second <- p
	return other
}

// First is the first message under attack.
func (p *Passage) First() []byte {
	h := p.hostile
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first == nil {
		h.first = p
	}
	return h.first.Message
}

func headerOf(message []byte) (h envelope.Header) {
	if parsed, err := envelope.Parse(message); err == nil {
		h = parsed.Header
	}
	return h
}
