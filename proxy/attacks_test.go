package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"testing"
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

// Attack K4: not one bit of a request can be changed on its way.
func TestNoBitOfARequestCanBeFlipped(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	sealed := w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, Payload: payload("", ""), ReplyBundle: w.A.EncodedBundle()})
	end := proxytest.HeaderEnd(sealed)
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
