package proxytest

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// The messages under attack: every question, and in the same order the answers.
var (
	questions = []envelope.MessageType{
		envelope.KeyRequest, envelope.AccountRequest, envelope.TxInquiry, envelope.VerificationRequest, envelope.TxReport, envelope.ErrorReport,
	}
	answers = []envelope.MessageType{
		envelope.KeyAnswer, envelope.AccountAnswer, envelope.TxInquiryAnswer, envelope.VerificationAnswer, envelope.TxReportAnswer, envelope.ErrorReportAnswer,
	}
	sealedQs = questions[1:]
	sealedAs = answers[1:]
	// A backend waits for these; the same envelope is answered once.
	onceQs = questions[1:3]
	onceAs = answers[1:3]
	// Their sender keeps these until they are answered; they are done once,
	// however often they come.
	keptQs            = questions[3:]
	keptAs            = answers[3:]
	reports, reported = questions[4:], answers[4:]
)

// Attacked are the types of messages that attacks are tried on.
func Attacked() []envelope.MessageType { return slices.Concat(questions, answers) }

type refusals = map[envelope.MessageType][]Refused

func by(r Role, reason string) Refused { return Refused{r, reason} }

// on is for messages of some types. The catalogue says originator of who asks
// and beneficiary of who answers: on turns the roles round for an inquiry.
func on(types []envelope.MessageType, by ...Refused) refusals {
	all := refusals{}
	for _, t := range types {
		all[t] = slices.Clone(by)
		for i := range by {
			if Asker(t) == Beneficiary {
				all[t][i].By = by[i].By.Other()
			}
		}
	}
	return all
}

func only(types ...envelope.MessageType) []envelope.MessageType { return types }

func merge(of ...refusals) refusals {
	all := refusals{}
	for _, r := range of {
		maps.Copy(all, r)
	}
	return all
}

// asked is for a question that is refused. Who refuses it signs that of what
// it got, which is not what was sent: the asker does not believe that either.
func asked(reason string) refusals { return askedAnd(reason, "in-reply-to") }

func askedAnd(reason, then string) refusals {
	return on(questions, by(Beneficiary, reason), by(Originator, then))
}

// answered is for an answer that the asker refuses.
func answered(reason string) refusals { return on(answers, by(Originator, reason)) }

// everywhere is for what fails with one reason, whoever reads it.
func everywhere(reason string) refusals { return merge(asked(reason), answered(reason)) }

// unread is for what is no envelope: nobody signs anything of a question.
func unread() refusals {
	return merge(on(questions, by(Beneficiary, "malformed")), answered("malformed"))
}

// Attacks is the catalogue of what a hostile central server does to messages.
func Attacks() []Attack {
	return slices.Concat(relabellings(), malformations(), splices(), inventions(), replays(), swappedKeys(), swappedReplyKeys(), untimely(), lies(), orders())
}

// with changes a copy of a message.
func with(change func(p *Passage, m []byte) []byte) func(*Passage) ([]byte, error) {
	return func(p *Passage) ([]byte, error) { return change(p, bytes.Clone(p.Message)), nil }
}

// relabel writes another value over a field of a header.
func relabel(field int, value ...byte) func(*Passage) ([]byte, error) {
	return with(func(_ *Passage, m []byte) []byte { return Relabel(m, field, value...) })
}

// flip flips the last bit of a field.
func flip(field int) func(*Passage) ([]byte, error) {
	return with(func(_ *Passage, m []byte) []byte {
		f := Fields(m)[field]
		f[len(f)-1] ^= 1
		return m
	})
}

// relabellings: central writes something else over each field of a header,
// which it can read and nobody hinders it to change.
func relabellings() []Attack {
	forged := everywhere("bad-signature")
	clear := merge(on(only(envelope.KeyRequest), by(Beneficiary, "malformed")), on(only(envelope.KeyAnswer), by(Originator, "malformed")))
	times := func(created, expires time.Duration) func(*Passage) ([]byte, error) {
		return with(func(_ *Passage, m []byte) []byte {
			h := headerOf(m)
			f := Fields(m)
			copy(f[FieldCreated], millis(h.Created.Add(created)))
			copy(f[FieldExpires], millis(h.Expires.Add(expires)))
			return m
		})
	}
	return []Attack{
		{Name: "relabel suite", ID: "K5", Does: "says that a weaker suite sealed it", On: merge(forged, clear), Hand: relabel(FieldSuite, byte(identity.SuiteX25519))},
		{Name: "relabel as not sealed", ID: "K5", Does: "says that nothing sealed it", On: merge(on(sealedQs, by(Beneficiary, "malformed")), on(sealedAs, by(Originator, "malformed"))), Hand: relabel(FieldSuite, byte(identity.SuiteClear))},
		{Name: "relabel type", ID: "K4", Does: "says that it is another message of its kind", // no other question goes the way of an inquiry
			On: merge(asked("bad-signature"), answered("type"), on(only(envelope.TxInquiry), by(Beneficiary, "direction"), by(Originator, "in-reply-to"))),
			Hand: with(func(p *Passage, m []byte) []byte {
				to := map[envelope.MessageType]envelope.MessageType{
					envelope.KeyRequest: envelope.KeyAnswer, envelope.AccountRequest: envelope.VerificationRequest, envelope.VerificationRequest: envelope.AccountRequest,
					envelope.KeyAnswer: envelope.KeyRequest, envelope.AccountAnswer: envelope.VerificationAnswer, envelope.VerificationAnswer: envelope.AccountAnswer,
					envelope.TxReport: envelope.ErrorReport, envelope.ErrorReport: envelope.TxReport, envelope.TxInquiry: envelope.TxReport,
					envelope.TxReportAnswer: envelope.ErrorReportAnswer, envelope.ErrorReportAnswer: envelope.TxReportAnswer, envelope.TxInquiryAnswer: envelope.TxReportAnswer,
				}[p.Type]
				return Relabel(m, FieldType, byte(to))
			})},
		{Name: "relabel as an unknown type", ID: "K4", Does: "gives it a type that nobody knows", On: unread(), Hand: relabel(FieldType, 99)},
		{Name: "relabel direction", ID: "K4", Does: "turns a question into an answer and the other way round", On: everywhere("direction"),
			Hand: with(func(_ *Passage, m []byte) []byte {
				return Relabel(m, FieldDirection, byte(headerOf(m).Direction.Opposite()))
			})},
		{Name: "relabel as of no direction", ID: "K4", Does: "gives it a direction that there is not", On: unread(), Hand: relabel(FieldDirection, 3)},
		{Name: "relabel network", ID: "K4", Does: "moves it to another alliance", On: everywhere("network"), Hand: flip(FieldNetwork)},
		{Name: "relabel verification", ID: "K4", Does: "moves it to another exchange", On: merge(asked("bad-signature"), answered("verification")), Hand: flip(FieldVerification)},
		{Name: "relabel sender", ID: "K3", Does: "says that another VASP has sent it", On: merge(askedAnd("unknown-sender", "recipient"), answered("sender")), Hand: relabel(FieldSender, 0, 0, 0, 0, 0, 0, 3, 9)},
		{Name: "relabel recipient", ID: "K4", Does: "gives it to another VASP than it is for", On: everywhere("recipient"), Hand: relabel(FieldRecipient, 0, 0, 0, 0, 0, 0, 3, 9)},
		{Name: "relabel as from nobody", ID: "K3", Does: "takes the sender away", On: unread(), Hand: relabel(FieldSender, make([]byte, 8)...)},
		{Name: "relabel sender identity", ID: "K3", Does: "says that another identity has signed it", On: merge(askedAnd("other-identity", "recipient-identity"), answered("other-identity")), Hand: flip(FieldSenderIdentity)},
		{Name: "relabel recipient identity", ID: "K12", Does: "hides which identity of the recipient the sender knows", On: everywhere("recipient-identity"), Hand: flip(FieldRecipientIdentity)},
		{Name: "strip recipient identity", ID: "K12", Does: "says that the sender knows no identity of the recipient", On: forged, Hand: relabel(FieldRecipientIdentity, make([]byte, 32)...)},
		{Name: "relabel key", ID: "K1", Does: "says that it is sealed to another key", On: merge(forged, clear), Hand: flip(FieldKey)},
		{Name: "relabel serial", ID: "K7", Does: "says that it is sealed to a newer key", On: forged, Hand: flip(FieldSerial)},
		{Name: "relabel key type", ID: "K5", Does: "asks for, or gives, a key that serves longer", On: forged,
			Hand: with(func(_ *Passage, m []byte) []byte {
				if headerOf(m).KeyType == identity.PerVASP {
					return Relabel(m, FieldKeyType, byte(identity.PerAddress))
				}
				return Relabel(m, FieldKeyType, byte(identity.PerVASP))
			})},
		{Name: "relabel scope", ID: "K4", Does: "moves it to another address's key", On: forged, Hand: flip(FieldScope)},
		{Name: "relabel created", ID: "K4", Does: "makes it younger", On: forged, Hand: times(time.Second, 0)},
		{Name: "relabel expires", ID: "K4", Does: "lets it live longer", On: forged, Hand: times(0, time.Second)},
		{Name: "relabel as over", ID: "K4", Does: "says that its time is over", On: everywhere("expired"), Hand: times(-20*time.Minute, -20*time.Minute)},
		{Name: "relabel as of the future", ID: "K4", Does: "says that its time has not come", On: everywhere("future"), Hand: times(20*time.Minute, 20*time.Minute)},
		{Name: "relabel as everlasting", ID: "K4", Does: "lets it live for an hour", On: everywhere("lifetime"), Hand: times(0, time.Hour)},
		{Name: "relabel as without time", ID: "K4", Does: "lets it end before it begins", On: unread(), Hand: times(0, -time.Hour)},
		{Name: "relabel in-reply-to", ID: "K4", Does: "attaches it to another question", On: merge(asked("bad-signature"), answered("in-reply-to")), Hand: flip(FieldInReplyTo)},
		{Name: "relabel reply key", ID: "K2", Does: "names another key to answer to", On: forged, Hand: flip(FieldReplyBundle)},
		{Name: "relabel commitment", ID: "K4", Does: "commits it to another content", On: forged, Hand: flip(FieldCommitment)},
		{Name: "relabel epoch", ID: "K4", Does: "moves it to another epoch's key", On: forged, Hand: flip(FieldEpoch)},
	}
}

// malformations: what arrives is no envelope.
func malformations() []Attack {
	a := func(name, does string, change func(m []byte) []byte) Attack {
		return Attack{Name: name, ID: "K4", Does: does, On: unread(), Hand: with(func(_ *Passage, m []byte) []byte { return change(m) })}
	}
	larger := a("oversize", "sends more than any envelope has", func([]byte) []byte { return make([]byte, envelope.MaxEnvelope+1) })
	larger.On = merge(on(questions, by(Beneficiary, "size")), answered("malformed"))
	return []Attack{
		larger,
		a("truncate the end", "cuts off the last byte", func(m []byte) []byte { return m[:len(m)-1] }),
		a("truncate in the middle", "cuts off half", func(m []byte) []byte { return m[:len(m)/2] }),
		a("truncate to the header", "cuts off all but the header", func(m []byte) []byte { return m[:HeaderEnd(m)] }),
		a("truncate to a byte", "cuts off all but the format", func(m []byte) []byte { return m[:1] }),
		a("truncate to nothing", "sends nothing", func([]byte) []byte { return nil }),
		a("extend", "adds a byte", func(m []byte) []byte { return append(m, 0) }),
		a("double", "sends it twice in one", func(m []byte) []byte { return append(m, m...) }),
		a("other format", "says that it is of another version", func(m []byte) []byte { m[0]++; return m }),
		a("endless header", "says that the header is larger than everything", func(m []byte) []byte { copy(m[1:], "\xff\xff\xff\xff"); return m }),
		a("endless ciphertext", "says that the ciphertext is larger than everything", func(m []byte) []byte { copy(m[HeaderEnd(m):], "\xff\xff\xff\xff"); return m }),
		a("strip the signature", "takes the signature away", func(m []byte) []byte { return append(m[:len(m)-66], 0, 0) }),
		a("plain JSON", "sends what it would like to be inside", func([]byte) []byte {
			return []byte(`{"accountVerificationResult":"VERIFIED","result":"VERIFIED","transactionStatus":"CONFIRMED"}`)
		}),
		a("an error page", "sends what a proxy would", func([]byte) []byte { return []byte("<html>504 Gateway Time-out</html>") }),
	}
}

// splices: parts of two messages, and bits of one.
func splices() []Attack {
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	forged := everywhere("bad-signature")
	old := merge(asked("bad-signature"), answered("in-reply-to"))
	return []Attack{
		{Name: "splice header", ID: "K4", Does: "puts the header of an old message before a new one", On: old,
			Hand: with(func(p *Passage, m []byte) []byte {
				return join(Parts(p.Old)[0], Parts(m)[1], Parts(m)[2])
			})},
		{Name: "splice content", ID: "K4", Does: "puts content and signature of an old message behind a new header", On: forged,
			Hand: with(func(p *Passage, m []byte) []byte {
				return join(Parts(m)[0], Parts(p.Old)[1], Parts(p.Old)[2])
			})},
		{Name: "splice ciphertext", ID: "K4", Does: "exchanges the ciphertext for an old one", On: forged,
			Hand: with(func(p *Passage, m []byte) []byte {
				return join(Parts(m)[0], Parts(p.Old)[1], Parts(m)[2])
			})},
		{Name: "splice signature", ID: "K4", Does: "exchanges the signature for an old one", On: forged,
			Hand: with(func(p *Passage, m []byte) []byte {
				return join(Parts(m)[0], Parts(m)[1], Parts(p.Old)[2])
			})},
		{Name: "splice content of another type", ID: "K4", Does: "puts what another type of message holds behind a header", On: forged,
			Hand: with(func(p *Passage, m []byte) []byte {
				return join(Parts(m)[0], Parts(p.Other)[1], Parts(p.Other)[2])
			})},
		{Name: "flip a bit of the ciphertext", ID: "K4", Does: "changes one bit of what is inside", On: forged,
			Hand: with(func(_ *Passage, m []byte) []byte { m[len(m)-100] ^= 1; return m })},
		{Name: "flip a bit of the signature", ID: "K3", Does: "changes one bit of the signature", On: forged,
			Hand: with(func(_ *Passage, m []byte) []byte { m[len(m)-1] ^= 1; return m })},
		{Name: "blank the signature", ID: "K3", Does: "writes zeros over the signature", On: forged,
			Hand: with(func(_ *Passage, m []byte) []byte { copy(m[len(m)-64:], make([]byte, 64)); return m })},
		{Name: "blank the ciphertext", ID: "K4", Does: "writes zeros over what is inside", On: forged,
			Hand: with(func(_ *Passage, m []byte) []byte { clear(Parts(m)[1][4:]); return m })},
	}
}

// inventions: central makes messages up, in whose name it likes.
func inventions() []Attack {
	invent := func(m Message) func(*Passage) ([]byte, error) {
		return func(p *Passage) ([]byte, error) {
			m := m
			m.Signer = p.World.Mallory(p.Sender().ID)
			return p.Forge(m), nil
		}
	}
	refusal := func(code string) func(*Passage) ([]byte, error) {
		return invent(Message{Type: envelope.Refusal, Payload: []byte(code)})
	}
	out := func(kind envelope.MessageType) func(*Passage) ([]byte, error) {
		return func(p *Passage) ([]byte, error) {
			from, to := p.World.Party(Asker(kind)), p.World.Party(Asker(kind).Other())
			p.World.Central.Send(to.ID, from.Seal(to, Message{
				Type: kind, ID: headerOf(p.Message).Verification, Signer: p.World.Mallory(from.ID), Payload: p.payload(kind), ReplyBundle: from.EncodedBundle(),
			}))
			return p.Message, nil
		}
	}
	strange := by(Beneficiary, "other-identity")
	return []Attack{
		{Name: "invent", ID: "K3", Does: "makes a message up in the sender's name", On: merge(askedAnd("other-identity", "recipient-identity"), answered("other-identity")), Hand: invent(Message{})},
		{Name: "invent and pretend", ID: "K3", Does: "makes a message up, and names the sender's identity in it", On: everywhere("bad-signature"),
			Hand: func(p *Passage) ([]byte, error) {
				return Pretend(p.Sender(), p.Forge(Message{Signer: p.World.Mallory(p.Sender().ID)})), nil
			}},
		{Name: "invent a VASP", ID: "K3", Does: "makes a message up by a VASP that there is not", On: merge(askedAnd("unknown-sender", "recipient"), answered("sender")),
			Hand: func(p *Passage) ([]byte, error) {
				return p.Forge(Message{Signer: p.World.Mallory(777), Edit: func(h *envelope.Header) { h.Sender = 777 }}), nil
			}},
		{Name: "invent a refusal: new key", ID: "K3", Does: "says that the key is gone, so that another is asked for", On: answered("other-identity"), Hand: refusal("NEW-KEY-NEEDED")},
		{Name: "invent a refusal: busy", ID: "K3", Does: "says that the counterparty is busy", On: answered("other-identity"), Hand: refusal("BUSY")},
		{Name: "invent a refusal: key type", ID: "K5", Does: "says that the counterparty has no such keys, so that a weaker type is taken", On: answered("other-identity"), Hand: refusal("INVALID-KEY-TYPE")},
		{Name: "invent an error report", ID: "K3", Does: "tells the beneficiary that the originator has given the verification up",
			On: on(only(envelope.VerificationAnswer, envelope.TxReport, envelope.TxReportAnswer), strange), Hand: out(envelope.ErrorReport), Harmless: true, Reaches: true},
		{Name: "invent a transaction report", ID: "K3", Does: "tells the beneficiary of a transaction that there is not",
			On: on(only(envelope.VerificationAnswer, envelope.TxReport, envelope.TxReportAnswer, envelope.ErrorReport), strange), Hand: out(envelope.TxReport), Harmless: true, Reaches: true},
		{Name: "invent an inquiry", ID: "K3", Does: "asks where a transfer stands in the beneficiary's name",
			On: on(only(envelope.TxInquiry, envelope.TxInquiryAnswer), strange), Hand: out(envelope.TxInquiry), Harmless: true, Reaches: true},
		{Name: "invent an account check", ID: "K3", Does: "asks about an account in the originator's name", On: on(only(envelope.KeyAnswer, envelope.AccountAnswer, envelope.VerificationAnswer), strange), Hand: out(envelope.AccountRequest), Harmless: true, Reaches: true},
		{Name: "invent another content", ID: "K3", Does: "sends the same verification with another content before the real one",
			On: on(only(envelope.VerificationRequest), strange), Hand: out(envelope.VerificationRequest), Harmless: true, Reaches: true},
	}
}

// replays: messages that were real, elsewhere or before.
func replays() []Attack {
	old := func(p *Passage) ([]byte, error) { return p.Old, nil }
	stale := by(Originator, "in-reply-to")
	return []Attack{
		{Name: "replay", ID: "K4", Does: "sends an old message instead of the new one", Hand: old,
			On: merge(on(questions, stale), on(answers, stale), on(onceQs, by(Beneficiary, "replay"), stale))},
		{Name: "replay another type", ID: "K4", Does: "sends an old message of another type", On: on(answers, stale),
			Hand: func(p *Passage) ([]byte, error) { return p.Other, nil }},
		{Name: "reflect as the answer", ID: "K4", Does: "answers with the question itself", On: answered("recipient"),
			Hand: func(p *Passage) ([]byte, error) { return p.Asked, nil }},
		{Name: "reflect to the sender", ID: "K4", Does: "brings a message back to its own sender", On: merge(on(questions, by(Originator, "recipient")), on(answers, by(Beneficiary, "recipient"))),
			Hand: func(p *Passage) ([]byte, error) { return p.Instead(p.Sender(), p.Message) }},
		{Name: "answer as a question", ID: "K4", Does: "brings an answer as if it asked",
			// the answer to an inquiry goes as a question may; it is none all the same
			On:   merge(answered("direction"), on(only(envelope.TxInquiryAnswer))),
			Hand: func(p *Passage) ([]byte, error) { return p.Instead(p.Recipient(), p.Message) }},
		{Name: "refusal of something else", ID: "K4", Does: "makes who answers refuse something, and brings that as the answer", On: on(answers, by(Beneficiary, "bad-signature"), stale),
			Hand: func(p *Passage) ([]byte, error) {
				_, refusal := p.World.Central.Send(p.Sender().ID, Relabel(p.Asked, FieldSerial, 1))
				return refusal, nil
			}},
		{Name: "answer of the attempt before", ID: "K4", Does: "keeps the first answer, and gives it to the next attempt", On: on(keptAs, stale),
			Hand: func(p *Passage) ([]byte, error) {
				if first := p.First(); p.Nth > 1 {
					return first, nil
				}
				return nil, ErrDown
			}},
	}
}

// ofType makes a bundle one for A's present exchange, as B's enclave would,
// until it is edited.
func (p *Passage) bundle(signer *identity.Signer, suite identity.Suite, edit func(*identity.Bundle)) []byte {
	h := headerOf(p.Asked)
	return p.World.BundleBy(signer, suite, func(b *identity.Bundle) {
		if b.Type = h.KeyType; b.Type != identity.PerVASP {
			b.Audience, b.Scope = h.Sender, h.Scope
			copy(b.Nonce[:], p.World.B.Open(p.World.A, p.Asked).Payload)
		}
		if edit != nil {
			edit(b)
		}
	})
}

// swappedKeys: the key that A is to seal to is not B's, or not that one. All
// but the first two need B's hand, or a thief of B's identity.
func swappedKeys() []Attack {
	keys := only(envelope.KeyAnswer)
	a := func(name, id, does, reason string, bundle func(p *Passage) []byte) Attack {
		return Attack{Name: name, ID: id, Does: does, On: on(keys, by(Originator, reason)), Hand: func(p *Passage) ([]byte, error) {
			return p.Forge(Message{Payload: bundle(p)}), nil
		}}
	}
	edited := func(edit func(*identity.Bundle)) func(p *Passage) []byte {
		return func(p *Passage) []byte { return p.bundle(p.World.B.Signer, identity.SuiteXWing, edit) }
	}
	scoped := a("key of another scope", "K4", "gives the key of another address", "other-scope", edited(func(b *identity.Bundle) { b.Scope[0] ^= 1 }))
	scoped.KeyType = "PerAddress"
	older := a("key of an older serial", "K7", "gives a key from before the one already seen", "old-serial", edited(func(b *identity.Bundle) { b.Serial = 1 }))
	older.KeyType = "PerVasp"
	return []Attack{
		{Name: "swap key", ID: "K1", Does: "exchanges the key in the counterparty's answer for its own", On: on(keys, by(Originator, "bad-signature")),
			Hand: with(func(p *Passage, m []byte) []byte {
				real := p.World.A.Open(p.World.B, m).Payload
				mine := p.bundle(p.World.Mallory(p.World.B.ID), identity.SuiteXWing, nil)
				if len(mine) != len(real) {
					p.World.t.Fatal("bundles of two lengths")
				}
				return bytes.Replace(m, real, mine, 1)
			})},
		{Name: "swap key and signature", ID: "K1", Does: "answers with a key and an identity of its own", On: on(keys, by(Originator, "other-identity")),
			Hand: func(p *Passage) ([]byte, error) {
				mallory := p.World.Mallory(p.World.B.ID)
				return p.Forge(Message{Signer: mallory, Payload: p.bundle(mallory, identity.SuiteXWing, nil)}), nil
			}},
		a("key of another identity", "K1", "gives a key that another identity vouches for", "other-identity", func(p *Passage) []byte {
			return p.bundle(p.World.Mallory(p.World.B.ID), identity.SuiteXWing, nil)
		}),
		a("key of another VASP", "K1", "gives the asking side's own key", "other-vasp", func(p *Passage) []byte { return p.World.A.EncodedBundle() }),
		a("key for another audience", "K4", "gives a key that was made for somebody else", "other-audience", edited(func(b *identity.Bundle) { b.Audience = 777 })),
		a("key of yesterday", "K7", "gives a key that has expired", "expired", edited(func(b *identity.Bundle) {
			b.NotBefore, b.NotAfter = b.NotBefore.Add(-48*time.Hour), b.NotBefore.Add(-24*time.Hour)
		})),
		a("key of tomorrow", "K7", "gives a key that is not valid yet", "not-yet-valid", edited(func(b *identity.Bundle) {
			b.NotBefore, b.NotAfter = b.NotBefore.Add(24*time.Hour), b.NotBefore.Add(48*time.Hour)
		})),
		a("downgrade suite", "K5", "gives a key of a weaker suite than its owner has", "downgraded", func(p *Passage) []byte {
			return p.bundle(p.World.B.Signer, identity.SuiteX25519, func(b *identity.Bundle) {
				b.Suites = []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}
				slices.Sort(b.Suites)
			})
		}),
		a("downgrade key type", "K5", "gives the key that serves everybody for one that serves once", "other-type", func(p *Passage) []byte { return p.World.B.EncodedBundle() }),
		a("key for another request", "K7", "gives a key that does not answer this request", "other-nonce", edited(func(b *identity.Bundle) { b.Nonce[0] ^= 1 })),
		a("key with a changed bit", "K10", "changes a bit of the key that its owner has signed", "bad-bundle", func(p *Passage) []byte {
			b := p.bundle(p.World.B.Signer, identity.SuiteXWing, nil)
			b[len(b)/2] ^= 1
			return b
		}),
		a("no key", "K10", "gives something that is no key", "bad-bundle", func(*Passage) []byte { return []byte("key") }),
		scoped, older,
	}
}

// swappedReplyKeys: the key to answer to is not the asking side's. The header
// names its hash under the signature, so this needs the asker's hand, or a
// thief of its identity.
func swappedReplyKeys() []Attack {
	a := func(name, id, does, reason string, bundle func(p *Passage) []byte) Attack {
		return Attack{Name: name, ID: id, Does: does, On: on(sealedQs, by(Beneficiary, reason), by(Originator, "in-reply-to")), Hand: func(p *Passage) ([]byte, error) {
			return p.Forge(Message{ReplyBundle: bundle(p)}), nil
		}}
	}
	edited := func(edit func(*identity.Bundle)) func(p *Passage) []byte {
		return func(p *Passage) []byte { return p.World.BundleBy(p.Sender().Signer, identity.SuiteXWing, edit) }
	}
	return []Attack{
		a("swap reply key", "K2", "lets the answer be sealed to a key of its own", "other-identity", func(p *Passage) []byte {
			return p.World.BundleBy(p.World.Mallory(p.Sender().ID), identity.SuiteXWing, nil)
		}),
		a("reply key of another VASP", "K2", "lets the answer be sealed to somebody else", "other-vasp", func(p *Passage) []byte { return p.Recipient().EncodedBundle() }),
		a("no reply key", "K2", "leaves nothing to seal the answer to", "bad-bundle", func(*Passage) []byte { return []byte{} }),
		a("reply key for another audience", "K2", "gives a key to answer to that is not for who answers", "other-audience", edited(func(b *identity.Bundle) { b.Audience = 777 })),
		a("reply key of yesterday", "K7", "gives a key to answer to that has expired", "expired", edited(func(b *identity.Bundle) {
			b.NotBefore, b.NotAfter = b.NotBefore.Add(-48*time.Hour), b.NotBefore.Add(-24*time.Hour)
		})),
		a("downgrade reply key", "K5", "gives a key to answer to of a weaker suite than its owner has", "downgraded", func(p *Passage) []byte {
			return p.World.BundleBy(p.Sender().Signer, identity.SuiteX25519, func(b *identity.Bundle) {
				b.Suites = []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}
				slices.Sort(b.Suites)
			})
		}),
		a("downgrade type of reply key", "K5", "gives a key to answer to of another type than the question's", "other-type", func(p *Passage) []byte {
			return p.World.BundleBy(p.Sender().Signer, identity.SuiteXWing, func(b *identity.Bundle) { b.Type, b.Audience = identity.PerVerification, p.Recipient().ID })
		}),
	}
}

// untimely: rightly signed, and for another network, time, exchange or key.
// The signature is a hostile counterparty's own.
func untimely() []Attack {
	edit := func(name, id, does string, on refusals, edit func(*envelope.Header)) Attack {
		return Attack{Name: name, ID: id, Does: does, On: on, Hand: func(p *Passage) ([]byte, error) { return p.Forge(Message{Edit: edit}), nil }}
	}
	elsewhere := func(p *Passage) *identity.Bundle {
		b, err := identity.ParseBundle(p.World.BundleBy(p.Recipient().Signer, identity.SuiteXWing, nil))
		if err != nil {
			p.World.t.Fatal(err)
		}
		return b
	}
	return []Attack{
		edit("cross network id", "K4", "signs for another alliance", everywhere("network"), func(h *envelope.Header) { h.Network = "production" }),
		edit("expired", "K4", "signs what is over", everywhere("expired"), func(h *envelope.Header) {
			h.Created, h.Expires = h.Created.Add(-20*time.Minute), h.Created.Add(-10*time.Minute)
		}),
		edit("future", "K4", "signs what has not begun", everywhere("future"), func(h *envelope.Header) {
			h.Created, h.Expires = h.Created.Add(5*time.Minute), h.Created.Add(6*time.Minute)
		}),
		edit("everlasting", "K4", "signs for an hour", everywhere("lifetime"), func(h *envelope.Header) { h.Expires = h.Created.Add(time.Hour) }),
		edit("wrong audience", "K4", "signs for another VASP", everywhere("recipient"), func(h *envelope.Header) { h.Recipient = 777 }),
		edit("wrong identity of the recipient", "K12", "knows the recipient by another identity", everywhere("recipient-identity"), func(h *envelope.Header) { h.RecipientIdentity[0] ^= 1 }),
		edit("wrong direction", "K4", "signs a question as an answer, an answer as a question", everywhere("direction"), func(h *envelope.Header) {
			h.Direction = h.Direction.Opposite()
		}),
		edit("wrong exchange", "K4", "signs an answer to this question about another verification", answered("verification"), func(h *envelope.Header) { h.Verification = uuid.New() }),
		{Name: "answer of another type", ID: "K4", Does: "answers this question with an answer to others", On: answered("type"),
			Hand: func(p *Passage) ([]byte, error) {
				if p.Type == envelope.TxInquiryAnswer {
					return p.Forge(Message{Type: envelope.TxReportAnswer}), nil
				}
				return p.Forge(Message{Type: envelope.TxInquiryAnswer}), nil
			}},
		{Name: "question as the answer", ID: "K4", Does: "answers with a question", On: answered("type"),
			Hand: func(p *Passage) ([]byte, error) { return p.Forge(Message{Type: envelope.TxReport}), nil }},
		{Name: "answer to nothing", ID: "K4", Does: "signs an answer that names no question", On: answered("in-reply-to"),
			Hand: func(p *Passage) ([]byte, error) {
				return p.Forge(Message{Edit: func(h *envelope.Header) { h.InReplyTo = [32]byte{} }}), nil
			}},
		{Name: "downgrade to clear", ID: "K5", Does: "signs in clear what must be sealed", On: merge(on(sealedQs, by(Beneficiary, "malformed")), on(sealedAs, by(Originator, "malformed"))),
			Hand: func(p *Passage) ([]byte, error) {
				return Relabel(p.Forge(Message{Type: envelope.Refusal}), FieldType, byte(p.Type)), nil
			}},
		{Name: "seal to another key", ID: "K1", Does: "seals to a key that is not the recipient's", Hand: func(p *Passage) ([]byte, error) { return p.Forge(Message{To: elsewhere(p)}), nil },
			On: merge(on(sealedQs, by(Beneficiary, "key"), by(Originator, "in-reply-to")), on(sealedAs, by(Originator, "key")))},
	}
}

// lies: a counterparty's answer, rightly sealed, that is none; and what
// central says of itself.
func lies() []Attack {
	says := func(name, does, payload string) Attack {
		return Attack{Name: name, ID: "P1", Does: does, On: on(sealedAs, by(Originator, "answer")), Hand: func(p *Passage) ([]byte, error) {
			return p.Forge(Message{Payload: []byte(payload)}), nil
		}}
	}
	central := func(name, does, code string, status int) Attack {
		return Attack{Name: name, ID: "K13", Does: does, On: merge(on(questions), on(answers)), Hand: func(*Passage) ([]byte, error) {
			return nil, &relay.Error{Code: code, Status: status, Retryable: status >= 500}
		}}
	}
	tells := func(name, does, payload string, kinds ...envelope.MessageType) Attack {
		return Attack{Name: name, ID: "P1", Does: does, On: on(kinds, by(Beneficiary, "payload"), by(Originator, "in-reply-to")), Hand: func(p *Passage) ([]byte, error) {
			return p.Forge(Message{Payload: []byte(strings.ReplaceAll(payload, "NOW", p.soon()))}), nil
		}}
	}
	empty := says("answer without a result", "answers with nothing", "{}")
	for _, t := range reported { // there it says that there is no such verification, which is its sender's to say
		delete(empty.On, t)
	}
	return []Attack{
		empty,
		says("answer that is no JSON", "answers with a word", "VERIFIED"),
		tells("report that is no JSON", "reports a word", "VERIFIED", reports...),
		tells("report in two minds", "reports two results, and two transactions, under one name",
			`{"result":"ERROR","result":"DENIED","txHash":"a","txHash":"b","orderedAt":"NOW"}`, reports...),
		tells("report without a transaction", "reports a time and no transaction", `{"orderedAt":"NOW"}`, envelope.TxReport),
		tells("report of no time", "reports a transaction that no other can take the place of", `{"txHash":"forged"}`, envelope.TxReport),
		says("answer that is undecided", "answers with a result that is not final", `{"accountVerificationResult":"WAIT","result":"WAIT","transactionStatus":"WAIT"}`),
		says("answer in two minds", "answers with two results under one name", `{"accountVerificationResult":"DENIED","accountVerificationResult":"VERIFIED","result":"DENIED","result":"VERIFIED","transactionStatus":"PENDING","transactionStatus":"CONFIRMED"}`),
		says("answer that nests", "answers with JSON of a depth that breaks readers", `{"result":"VERIFIED","accountVerificationResult":"VERIFIED","transactionStatus":"CONFIRMED","x":`+string(bytes.Repeat([]byte("["), 10_000))+string(bytes.Repeat([]byte("]"), 10_000))+`}`),
		central("lie: no such VASP", "says that there is no such recipient", relay.CodeUnknownVASP, 404),
		central("lie: not registered", "says that the sender has no lease", relay.CodeNotRegistered, 412),
		central("lie: too large", "says that the message is too large", relay.CodeTooLarge, 413),
		central("lie: unreachable", "says that the recipient cannot be reached", relay.CodeUnreachable, 502),
		central("lie: a code of its own", "says something that nobody knows", "VERIFIED", 418),
	}
}

// orders: nothing is changed; it comes late, twice, in another order, or not
// at all. Nothing is lost and nothing is done twice.
func orders() []Attack {
	untouched := merge(on(questions), on(answers))
	later := func(after time.Duration) func(*Passage) ([]byte, error) {
		return func(p *Passage) ([]byte, error) {
			p.Meanwhile(func() {
				time.Sleep(after)
				p.World.Central.Send(p.Recipient().ID, p.Message)
			})
			return nil, ErrDown
		}
	}
	again := func(p *Passage) ([]byte, error) {
		for range 20 {
			p.World.Central.Send(p.Sender().ID, p.Asked)
		}
		return p.Message, nil
	}
	return []Attack{
		{Name: "withhold", ID: "K13", Does: "lets a message be lost, and says so", On: untouched, Hand: func(*Passage) ([]byte, error) { return nil, ErrDown }},
		{Name: "withhold in silence", ID: "K13", Does: "lets a message be lost, and says nothing for as long as it can", On: untouched,
			Hand: func(*Passage) ([]byte, error) { time.Sleep(12 * time.Second); return nil, ErrDown }},
		{Name: "delay", ID: "K13", Does: "keeps a message for two seconds", On: untouched, Harmless: true, Reaches: true,
			Hand: func(p *Passage) ([]byte, error) { time.Sleep(2 * time.Second); return p.Message, nil }},
		{Name: "reorder", ID: "K13", Does: "lets the second message pass the first", On: merge(on(keptQs), on(keptAs)), Harmless: true, Reaches: true, Exchanges: 2,
			Hand: func(p *Passage) ([]byte, error) {
				if p.Nth == 1 {
					time.Sleep(time.Second)
				}
				return p.Message, nil
			}},
		{Name: "cross", ID: "K4", Does: "gives each of two exchanges the other's message", Exchanges: 2, Reaches: true,
			On: merge(on(keptQs, by(Originator, "in-reply-to")), on(keptAs, by(Originator, "in-reply-to"))),
			Hand: func(p *Passage) ([]byte, error) {
				if other := p.Cross(); other != nil {
					return other.Message, nil
				}
				return nil, ErrDown
			}},
		{Name: "duplicate before", ID: "K4", Does: "brings a question twice, and the first answer to nobody", On: merge(on(only(envelope.KeyRequest)), on(keptQs)), Harmless: true, Reaches: true,
			Hand: func(p *Passage) ([]byte, error) {
				p.World.Central.Send(p.Recipient().ID, p.Message)
				return p.Message, nil
			}},
		{Name: "duplicate at once", ID: "K4", Does: "brings a question many times in the same moment", On: on(keptQs), Harmless: true, Reaches: true,
			Hand: func(p *Passage) ([]byte, error) {
				for range 8 {
					p.Meanwhile(func() { p.World.Central.Send(p.Recipient().ID, p.Message) })
				}
				return p.Message, nil
			}},
		{Name: "duplicate before, of what is answered once", ID: "K4", Does: "brings an account check or an inquiry twice, and the first answer to nobody", On: on(onceQs, by(Beneficiary, "replay")), Reaches: true,
			Hand: func(p *Passage) ([]byte, error) {
				p.World.Central.Send(p.Recipient().ID, p.Message)
				return p.Message, nil
			}},
		{Name: "duplicate after", ID: "K4", Does: "brings a question twenty times again when it was answered", Harmless: true, Reaches: true, Hand: again,
			On: merge(on(answers), on(onceAs, by(Beneficiary, "replay")))},
		{Name: "too late", ID: "K4", Does: "brings a question when its time is over", On: on(onceQs, by(Beneficiary, "expired")), Hand: later(70 * time.Second)},
		{Name: "late", ID: "K13", Does: "brings a question when its sender has asked again", On: on(keptQs), Hand: later(20 * time.Second), Reaches: true},
	}
}

func millis(t time.Time) []byte { return binary.BigEndian.AppendUint64(nil, uint64(t.UnixMilli())) }
