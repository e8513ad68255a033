package proxy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// rejected is what every refusal says to the other side, whatever the reason
// (attack O4), and problemRejected what our own backend hears of it.
const (
	rejected        = "ENVELOPE-REJECTED"
	problemRejected = `{"code":"ENVELOPE-REJECTED","message":"The exchange with the counterparty was refused."}`
)

// mallory is an identity that nobody knows, in a name of its choice.
func mallory(t testing.TB, name identity.VASPID) *identity.Signer {
	t.Helper()
	s, err := identity.NewSigner(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bundle is a signed key bundle, as good as an enclave's until it is edited.
func bundle(t testing.TB, s *identity.Signer, suite identity.Suite, edit func(*identity.Bundle)) []byte {
	t.Helper()
	private, err := envelope.GenerateKey(suite)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	b := identity.Bundle{
		Suite: suite, PublicKey: private.Public().Bytes(), Type: identity.PerVASP, Serial: uint64(now.UnixMilli()) + 1<<20,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour), Suites: []identity.Suite{suite},
	}
	if edit != nil {
		edit(&b)
	}
	encoded, err := s.SignBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// pieces are the parts of an envelope's bytes, for splicing.
type pieces struct{ header, ciphertext, signature []byte }

func cut(sealed []byte) (p pieces) {
	n := binary.BigEndian.Uint32(sealed[1:])
	p.header, sealed = sealed[5:5+n], sealed[5+n:]
	n = binary.BigEndian.Uint32(sealed)
	p.ciphertext, p.signature = sealed[4:4+n], sealed[4+n+2:]
	return p
}

func (p pieces) join() []byte {
	b := binary.BigEndian.AppendUint32([]byte{1}, uint32(len(p.header)))
	b = binary.BigEndian.AppendUint32(append(b, p.header...), uint32(len(p.ciphertext)))
	b = binary.BigEndian.AppendUint16(append(b, p.ciphertext...), uint16(len(p.signature)))
	return append(b, p.signature...)
}

// otherwise changes the header of a message before it is signed.
func otherwise(edit func(*envelope.Header)) proxytest.Message { return proxytest.Message{Edit: edit} }

// headers are what an honest signature does not excuse: the message is of
// another network, another time, another counterparty.
func headers() map[string]proxytest.Message {
	return map[string]proxytest.Message{
		"network": otherwise(func(h *envelope.Header) { h.Network = "production" }),
		"expired": otherwise(func(h *envelope.Header) {
			h.Created, h.Expires = h.Created.Add(-20*time.Minute), h.Created.Add(-10*time.Minute)
		}),
		"future": otherwise(func(h *envelope.Header) {
			h.Created, h.Expires = h.Created.Add(5*time.Minute), h.Created.Add(6*time.Minute)
		}),
		"lifetime":           otherwise(func(h *envelope.Header) { h.Expires = h.Created.Add(time.Hour) }),
		"recipient-identity": otherwise(func(h *envelope.Header) { h.RecipientIdentity[0] ^= 1 }), // K12
	}
}

// Requests that central changes, makes up or moves, and those of a
// counterparty that does so itself: B refuses them all with the same word,
// counts them under their reason, and its backend never hears of them.
func TestAttacksOnRequests(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	finished(t, w, verify(t, w, request(w))) // A and B know each other
	honest := len(w.B.Backend.Asked())
	good := proxytest.Message{Type: envelope.VerificationRequest, Payload: payload("", ""), ReplyBundle: w.A.EncodedBundle()}
	with := func(m proxytest.Message) proxytest.Message {
		m.Type, m.Payload = good.Type, good.Payload
		if m.ReplyBundle == nil {
			m.ReplyBundle = good.ReplyBundle
		}
		return m
	}
	one, two := cut(w.A.Seal(w.B, good)), cut(w.A.Seal(w.B, good))
	type attack struct {
		name, reason string
		message      []byte
	}
	attacks := []attack{
		{"K4: meant for another VASP", "recipient", w.A.Seal(w.A, good)},
		{"K4: reflected, B's own to A", "recipient", w.B.Seal(w.A, good)},
		{"K4: an answer as a question", "direction", w.A.Seal(w.B, with(proxytest.Message{Direction: envelope.ToOriginator}))},
		{"K3: in A's name by an unknown identity", "other-identity", w.A.Seal(w.B, with(proxytest.Message{Signer: mallory(t, w.A.ID)}))},
		{"K3: in A's name and identity, signed by another", "bad-signature", pretend(w.A, w.A.Seal(w.B, with(proxytest.Message{Signer: mallory(t, w.A.ID)})))},
		{"K3: in the name of a VASP that nobody knows", "unknown-sender", w.A.Seal(w.B, with(proxytest.Message{Signer: mallory(t, 777), Edit: func(h *envelope.Header) { h.Sender = 777 }}))},
		{"K4: header of one, rest of another", "bad-signature", pieces{one.header, two.ciphertext, two.signature}.join()},
		{"K4: ciphertext of another", "bad-signature", pieces{one.header, two.ciphertext, one.signature}.join()},
		{"K4: signature of another", "bad-signature", pieces{one.header, one.ciphertext, two.signature}.join()},
		{"K4: an account check as a verification", "bad-signature", relabel(w.A.Seal(w.B, proxytest.Message{Type: envelope.AccountRequest, ReplyBundle: good.ReplyBundle}), envelope.VerificationRequest)},
		{"K2: reply key of an unknown identity", "other-identity", w.A.Seal(w.B, with(proxytest.Message{ReplyBundle: bundle(t, mallory(t, w.A.ID), identity.SuiteXWing, nil)}))},
		{"K2: reply key of another VASP", "other-vasp", w.A.Seal(w.B, with(proxytest.Message{ReplyBundle: w.B.EncodedBundle()}))},
		{"K2: no reply key", "bad-bundle", w.A.Seal(w.B, proxytest.Message{Type: good.Type, Payload: good.Payload})},
		{"K2: reply key for somebody else", "other-audience", w.A.Seal(w.B, with(proxytest.Message{ReplyBundle: bundle(t, w.A.Signer, identity.SuiteXWing, func(b *identity.Bundle) { b.Audience = 777 })}))},
		{"K7: reply key that has expired", "expired", w.A.Seal(w.B, with(proxytest.Message{ReplyBundle: bundle(t, w.A.Signer, identity.SuiteXWing, func(b *identity.Bundle) {
			b.NotBefore, b.NotAfter = b.NotBefore.Add(-48*time.Hour), b.NotBefore.Add(-24*time.Hour)
		})}))},
		{"K5: reply key of a weaker suite than its owner has", "downgraded", w.A.Seal(w.B, with(proxytest.Message{ReplyBundle: bundle(t, w.A.Signer, identity.SuiteX25519, func(b *identity.Bundle) {
			b.Suites = []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}
		})}))},
		{"K5: not sealed", "malformed", relabel(w.A.Seal(w.B, proxytest.Message{Type: envelope.KeyRequest, Payload: good.Payload}), envelope.VerificationRequest)},
		{"cut off", "malformed", w.A.Seal(w.B, good)[:1000]},
		{"nothing", "malformed", nil},
		{"something else", "malformed", []byte("<html>504</html>")},
		{"with something behind", "malformed", append(w.A.Seal(w.B, good), 0)},
		{"of another format", "malformed", append([]byte{2}, w.A.Seal(w.B, good)[1:]...)},
	}
	for reason, m := range headers() {
		attacks = append(attacks, attack{"K4: honest but for its " + reason, reason, w.A.Seal(w.B, with(m))})
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			before := w.B.Metric("enclave_refused_total", a.reason)
			status, reply := w.Central.Send(w.B.ID, a.message)
			if a.reason == "malformed" {
				if status != http.StatusBadRequest {
					t.Errorf("status %d, want 400", status)
				}
			} else if status != http.StatusOK || proxytest.TypeOf(reply) != envelope.Refusal {
				t.Fatalf("answered with %d, a %s", status, proxytest.TypeOf(reply))
			} else if code := refusal(t, w.B, reply); code != rejected {
				t.Errorf("refused with %s, want %s", code, rejected)
			}
			if n := w.B.Metric("enclave_refused_total", a.reason) - before; n != 1 {
				t.Errorf("enclave_refused_total{reason=%q} rose by %v", a.reason, n)
			}
		})
	}
	if n := len(w.B.Backend.Asked()) - honest; n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
	if page := ask(t, w.B, http.MethodGet, "/v1/verifications", nil); page["count"] != 1.0 {
		t.Errorf("%v rows", page["count"])
	}
	if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
		t.Errorf("an honest one afterwards: %v", r["result"])
	}
}

// refusal reads why a party refused, which it has signed.
func refusal(t *testing.T, by *proxytest.Party, reply []byte) string {
	t.Helper()
	parsed, err := envelope.Parse(reply)
	if err != nil {
		t.Fatal(err)
	}
	authentic, err := parsed.Authenticate(by.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	body, err := authentic.Clear()
	if err != nil {
		t.Fatal(err)
	}
	return string(body.Payload)
}

// pretend writes a party's identity over that of the one who signed.
func pretend(p *proxytest.Party, sealed []byte) []byte {
	parsed, err := envelope.Parse(sealed)
	if err != nil {
		panic(err)
	}
	was, to := parsed.Header.SenderIdentity, p.Signer.Public().Fingerprint()
	return bytes.Replace(sealed, was[:], to[:], 1)
}

// relabel writes another message type into a header: tag 2, one byte.
func relabel(sealed []byte, to envelope.MessageType) []byte {
	sealed = bytes.Clone(sealed)
	at := bytes.Index(sealed, []byte{0, 2, 0, 0, 0, 1})
	sealed[at+6] = byte(to)
	return sealed
}

// Attack K4: not one bit of a request can be changed on its way.
func TestNoBitOfARequestCanBeFlipped(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	sealed := w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, Payload: payload("", ""), ReplyBundle: w.A.EncodedBundle()})
	p := cut(sealed)
	end := 5 + len(p.header)
	for i := range sealed {
		if i > end+64 && i < len(sealed)-70 && i%97 != 0 { // every byte of header and signature, some of the ciphertext
			continue
		}
		changed := bytes.Clone(sealed)
		changed[i] ^= 1 << (i % 8)
		status, reply := w.Central.Send(w.B.ID, changed)
		switch {
		case status == http.StatusBadRequest:
		case status != http.StatusOK || proxytest.TypeOf(reply) != envelope.Refusal:
			t.Errorf("byte %d: answered with %d, a %s", i, status, proxytest.TypeOf(reply))
		case refusal(t, w.B, reply) != rejected:
			t.Errorf("byte %d: refused with %s", i, refusal(t, w.B, reply))
		}
	}
	if n := len(w.B.Backend.Asked()); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
	if _, reply := w.Central.Send(w.B.ID, sealed); proxytest.TypeOf(reply) != envelope.VerificationAnswer {
		t.Errorf("the unchanged one is answered with a %s", proxytest.TypeOf(reply))
	}
}

// Replies that central changes, makes up or moves, and those of a counterparty
// that does so itself: A takes none for an answer. Its backend hears one and
// the same error, and a verification goes on waiting for its real answer.
func TestAttacksOnReplies(t *testing.T) { synctest.Test(t, attacksOnReplies) }

func attacksOnReplies(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	finished(t, w, verify(t, w, request(w)))
	var mu sync.Mutex
	var asked, old []byte // the question under way, and an answer to another one
	var forge func(reply []byte) []byte
	var kind envelope.MessageType // of the replies that are tampered with
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = message
		return message, nil
	})
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if forge == nil || proxytest.TypeOf(reply) != kind {
			old = reply
			return reply, nil
		}
		return forge(reply), nil
	})
	ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
	byB := func(m proxytest.Message) func([]byte) []byte {
		return func([]byte) []byte {
			m := m
			if m.Type == 0 {
				m.Type = kind
			}
			if m.Payload == nil {
				m.Payload = []byte(`{"accountVerificationResult":"VERIFIED","verifiedAt":"2026-01-02T03:04:05.000Z","result":"VERIFIED","reason":"OK"}`)
			}
			return w.B.Reply(w.A, asked, m)
		}
	}
	type attack struct {
		name, reason string
		forge        func(reply []byte) []byte
	}
	attacks := []attack{
		{"K4: the answer to another question", "in-reply-to", func([]byte) []byte { return old }},
		{"K4: the question itself", "recipient", func([]byte) []byte { return asked }},
		{"K4: header of the old, rest of the new", "bad-signature", func(reply []byte) []byte {
			return pieces{cut(reply).header, cut(old).ciphertext, cut(old).signature}.join()
		}},
		{"K4: ciphertext of another", "bad-signature", func(reply []byte) []byte {
			return pieces{cut(reply).header, cut(old).ciphertext, cut(reply).signature}.join()
		}},
		{"K4: a flipped bit in the ciphertext", "bad-signature", func(reply []byte) []byte { reply = bytes.Clone(reply); reply[len(reply)-100] ^= 1; return reply }},
		{"K4: a flipped bit in the signature", "bad-signature", func(reply []byte) []byte { reply = bytes.Clone(reply); reply[len(reply)-1] ^= 1; return reply }},
		{"K3: by an unknown identity in B's name", "other-identity", byB(proxytest.Message{Signer: mallory(t, w.B.ID)})},
		{"K3: by an unknown identity that says it is B's", "bad-signature", func(reply []byte) []byte {
			return pretend(w.B, byB(proxytest.Message{Signer: mallory(t, w.B.ID)})(reply))
		}},
		{"K3: by another VASP", "sender", byB(proxytest.Message{Signer: mallory(t, 777), Edit: func(h *envelope.Header) { h.Sender = 777 }})},
		{"an invented refusal", "other-identity", byB(proxytest.Message{Type: envelope.Refusal, Payload: []byte("NEW-KEY-NEEDED"), Signer: mallory(t, w.B.ID)})},
		{"B's refusal of something else", "in-reply-to", func([]byte) []byte {
			_, reply := w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: envelope.TxReport}))
			return reply
		}},
		{"an answer of another type", "type", byB(proxytest.Message{Type: envelope.TxInquiryAnswer})},
		{"a question as the answer", "type", byB(proxytest.Message{Type: envelope.TxReport})},
		{"about another verification", "verification", byB(otherwise(func(h *envelope.Header) { h.Verification = uuid.New() }))},
		{"in the other direction", "direction", byB(otherwise(func(h *envelope.Header) { h.Direction = envelope.ToBeneficiary }))},
		{"K5: not sealed", "malformed", func(reply []byte) []byte {
			return relabel(byB(proxytest.Message{Type: envelope.KeyAnswer})(reply), envelope.AccountAnswer)
		}},
		{"cut off", "malformed", func(reply []byte) []byte { return reply[:len(reply)-1] }},
		{"nothing", "malformed", func([]byte) []byte { return nil }},
		{"something else", "malformed", func([]byte) []byte { return []byte(`{"accountVerificationResult":"VERIFIED","result":"VERIFIED"}`) }},
		{"not JSON inside", "answer", byB(proxytest.Message{Payload: []byte("VERIFIED")})},
		{"no result inside", "answer", byB(proxytest.Message{Payload: []byte("{}")})},
		{"duplicate keys inside", "answer", byB(proxytest.Message{Payload: []byte(`{"accountVerificationResult":"DENIED","accountVerificationResult":"VERIFIED","result":"DENIED","result":"VERIFIED"}`)})},
	}
	for reason, m := range headers() {
		attacks = append(attacks, attack{"honest but for its " + reason, reason, byB(m)})
	}
	for _, a := range attacks {
		set := func(k envelope.MessageType, f func([]byte) []byte) {
			mu.Lock()
			defer mu.Unlock()
			kind, forge = k, f
		}
		before := w.A.Metric("enclave_refused_total", a.reason)
		set(envelope.AccountAnswer, a.forge)
		status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
		if status != http.StatusBadGateway || string(answer) != problemRejected {
			t.Errorf("%s: an account check = %d %s", a.name, status, answer)
		}
		if n := w.A.Metric("enclave_refused_total", a.reason) - before; n != 1 {
			t.Errorf("%s: enclave_refused_total{reason=%q} rose by %v", a.name, a.reason, n)
		}
		before = w.A.Metric("enclave_refused_total", a.reason)
		set(envelope.VerificationAnswer, a.forge)
		id := verify(t, w, request(w))
		w.Await("refused: "+a.name, func() bool { return w.A.Metric("enclave_refused_total", a.reason) > before })
		if r := row(t, w.A, id); r["result"] != "WAIT" || called(w.A, id) != 0 {
			t.Errorf("%s: row %v, %d callbacks", a.name, r["result"], called(w.A, id))
		}
		set(0, nil)
		if r := finished(t, w, id); r["result"] != "VERIFIED" || r["ivms101Beneficiary"] != said {
			t.Errorf("%s: row %v", a.name, r)
		}
	}
}

// Attacks K1, K5, K6, K7: the key that is not B's. Nothing personal is sealed
// to it; A's backend hears of a refusal.
func TestAttacksOnKeyAnswers(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		bundle       func(t *testing.T, w *proxytest.World) []byte
	}{
		{"of another VASP", "other-vasp", func(_ *testing.T, w *proxytest.World) []byte { return w.A.EncodedBundle() }},
		{"of an unknown identity", "other-identity", func(t *testing.T, w *proxytest.World) []byte {
			return bundle(t, mallory(t, w.B.ID), identity.SuiteXWing, nil)
		}},
		{"for somebody else", "other-audience", func(t *testing.T, w *proxytest.World) []byte {
			return bundle(t, w.B.Signer, identity.SuiteXWing, func(b *identity.Bundle) { b.Audience = 777 })
		}},
		{"that has expired", "expired", func(t *testing.T, w *proxytest.World) []byte {
			return bundle(t, w.B.Signer, identity.SuiteXWing, func(b *identity.Bundle) {
				b.NotBefore, b.NotAfter = b.NotBefore.Add(-48*time.Hour), b.NotBefore.Add(-24*time.Hour)
			})
		}},
		{"of tomorrow", "not-yet-valid", func(t *testing.T, w *proxytest.World) []byte {
			return bundle(t, w.B.Signer, identity.SuiteXWing, func(b *identity.Bundle) {
				b.NotBefore, b.NotAfter = b.NotBefore.Add(24*time.Hour), b.NotBefore.Add(48*time.Hour)
			})
		}},
		{"of a weaker suite than B has", "downgraded", func(t *testing.T, w *proxytest.World) []byte {
			return bundle(t, w.B.Signer, identity.SuiteX25519, func(b *identity.Bundle) { b.Suites = []identity.Suite{identity.SuiteXWing, identity.SuiteX25519} })
		}},
		{"of another type", "other-type", func(t *testing.T, w *proxytest.World) []byte {
			return bundle(t, w.B.Signer, identity.SuiteXWing, func(b *identity.Bundle) { b.Type = identity.PerVerification })
		}},
		{"that is none", "bad-bundle", func(*testing.T, *proxytest.World) []byte { return []byte("key") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := proxytest.NewWorld(t)
			verified(w)
			var mu sync.Mutex
			var asked []byte
			hostile := true
			w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				asked = message
				return message, nil
			})
			w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if !hostile || proxytest.TypeOf(reply) != envelope.KeyAnswer {
					return reply, nil
				}
				return w.B.Reply(w.A, asked, proxytest.Message{Type: envelope.KeyAnswer, Payload: c.bundle(t, w)}), nil
			})
			status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
			if status != http.StatusBadGateway || string(answer) != problemRejected {
				t.Errorf("an account check = %d %s", status, answer)
			}
			if n := w.A.Metric("enclave_refused_total", c.reason); n != 1 {
				t.Errorf("enclave_refused_total{reason=%q} = %v", c.reason, n)
			}
			id := verify(t, w, request(w))
			w.Await("the key is refused again", func() bool { return w.A.Metric("enclave_refused_total", c.reason) > 1 })
			for _, message := range w.Central.Relayed() {
				if kind := proxytest.TypeOf(message); kind.Sealed() {
					t.Errorf("a %s was sealed and sent", kind)
				}
			}
			mu.Lock()
			hostile = false
			mu.Unlock()
			if r := finished(t, w, id); r["result"] != "VERIFIED" {
				t.Errorf("row %v", r["result"])
			}
		})
	}
}

// A key that B has no more is its sender's to replace, and the one refusal that
// says so; other messages and key types that are not served say that.
func TestRefusalsThatTellWhy(t *testing.T) {
	w := proxytest.NewWorld(t)
	other := w.A.Bundle() // a key that is not B's
	key, err := envelope.ParsePublicKey(other.Suite, other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	h := envelope.Header{
		Type: envelope.VerificationRequest, Direction: envelope.ToBeneficiary, Network: proxytest.Network, Verification: uuid.New(), Sender: w.A.ID, Recipient: w.B.ID,
		KeyType: identity.PerVASP, Created: now, Expires: now.Add(time.Minute), Serial: other.Serial,
	}
	sealed, err := envelope.Seal(w.A.Signer, key, h, envelope.Body{Payload: payload("", "")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code    string
		message []byte
	}{
		{"NEW-KEY-NEEDED", sealed},
		{rejected, w.A.Seal(w.B, proxytest.Message{Type: envelope.TxInquiry})}, // from an originator, who has nothing to inquire
		{"UNKNOWN-MESSAGE-TYPE", w.A.Seal(w.B, proxytest.Message{Type: envelope.Refusal, Payload: []byte("BUSY")})},
		{"UNKNOWN-MESSAGE-TYPE", w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationAnswer})},
		{"INVALID-KEY-TYPE", w.A.Seal(w.B, proxytest.Message{Type: envelope.KeyRequest, Edit: func(h *envelope.Header) { h.KeyType = 0 }})},
		{"ENVELOPE-REJECTED", w.A.Seal(w.B, proxytest.Message{Type: envelope.KeyRequest, Payload: make([]byte, 32), Edit: func(h *envelope.Header) { h.KeyType = identity.PerAddress }})}, // without a scope
		{"NEW-KEY-NEEDED", w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, Edit: func(h *envelope.Header) { h.KeyType = identity.PerVerification }})},
	} {
		_, reply := w.Central.Send(w.B.ID, c.message)
		if code := refusal(t, w.B, reply); code != c.code {
			t.Errorf("a %s is refused with %s, want %s", proxytest.TypeOf(c.message), code, c.code)
		}
	}
	w.B.Backend.OnUser(unreachable)
	_, reply := w.Central.Send(w.B.ID, question(w, uuid.New()))
	if code := refusal(t, w.B, reply); code != "BUSY" {
		t.Errorf("without a backend refused with %s", code)
	}
}

// Refusing strangers costs no memory for each: their names are whatever the
// caller wrote.
func TestStrangersAreNotRemembered(t *testing.T) {
	w := proxytest.NewWorld(t)
	before := fmt.Sprint(w.B.History.Peers(t.Context()))
	for i := range 50 {
		name := identity.VASPID(1000 + i)
		message := w.A.Seal(w.B, proxytest.Message{Type: envelope.KeyRequest, Signer: mallory(t, name), Edit: func(h *envelope.Header) { h.Sender = name }})
		if _, reply := w.Central.Send(w.B.ID, message); refusal(t, w.B, reply) != rejected {
			t.Errorf("refused with %s", refusal(t, w.B, reply))
		}
	}
	if n := w.B.Enclave.Remembered(); n > 2 {
		t.Errorf("%d counterparties are remembered", n)
	}
	if after := fmt.Sprint(w.B.History.Peers(t.Context())); after != before {
		t.Errorf("pins %s, were %s", after, before)
	}
}

func unreachable(context.Context, []byte) (*vasp.UserAnswer, error) {
	return nil, &vasp.Error{API: "user", Problem: vasp.Unreachable}
}
