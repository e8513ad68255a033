package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// singleUse is a key of B's that A may seal one message to.
func singleUse(t testing.TB, w *proxytest.World) *identity.Bundle {
	t.Helper()
	encoded, err := w.B.Own.PerVerification(w.A.ID, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := identity.ParseBundle(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealedTo makes a message that is sealed to a single-use key of B's, with a
// key of the same type to answer to.
func sealedTo(t testing.TB, w *proxytest.World, key *identity.Bundle, m proxytest.Message) []byte {
	t.Helper()
	m.To, m.Edit = key, func(h *envelope.Header) { h.KeyType = identity.PerVerification }
	if m.ReplyBundle == nil {
		reply, err := w.A.Own.NewReplyKey(identity.PerVerification, w.B.ID)
		if err != nil {
			t.Fatal(err)
		}
		m.ReplyBundle = reply.Bundle
	}
	return w.A.Seal(w.B, m)
}

const (
	accountQuestion = `{"symbol":"ETH","version":"1.0","ivms101":{"beneficiary":{"accountNumber":["0xAbC1"]}}}`
	errorText       = `{"result":"ERROR","reason":"REQUEST-TIMEOUT"}`
)

// However B's work on an envelope ends, the single-use key that it was sealed
// to is gone: each next attempt of the sender's has a key of its own, and a
// key that lingers takes one of its thousand places (K9, K11).
func TestASingleUseKeyEndsWithItsEnvelope(t *testing.T) {
	w := proxytest.NewWorld(t)
	full := errors.New("disk full")
	var refuses atomic.Bool // B's disk
	w.B.Stop()
	w.B.Tweak(func(c *proxy.Config) {
		c.History = &failing{c.History, func(*storage.Change) error {
			if refuses.Load() {
				return full
			}
			return nil
		}}
	})
	w.B.Start()
	verified(w)
	other := bytes.Replace(payload("", ""), []byte("Roe"), []byte("Poe"), 1)
	ask := func(id uuid.UUID, text []byte) proxytest.Message {
		return proxytest.Message{Type: envelope.VerificationRequest, ID: id, Payload: text}
	}
	send := func(m proxytest.Message) { w.Central.Send(w.B.ID, w.A.Seal(w.B, m)) }
	known := func() uuid.UUID { // a verification that B has answered
		id := uuid.New()
		send(proxytest.Message{Type: envelope.VerificationRequest, ID: id, Payload: payload("", ""), ReplyBundle: w.A.EncodedBundle()})
		return id
	}
	away := func() (back func()) {
		gone := &vasp.Error{Problem: vasp.Unreachable}
		w.B.Backend.OnUser(unreachable)
		w.B.Backend.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) { return nil, gone })
		return func() {
			verified(w)
			w.B.Backend.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) {
				return &vasp.AccountAnswer{Result: "VERIFIED"}, nil
			})
		}
	}
	broken := func() (back func()) {
		refuses.Store(true)
		return func() { refuses.Store(false) }
	}
	for _, c := range []struct {
		name    string
		during  func() (back func())
		message func() proxytest.Message
		code    string // of the refusal; "" for an answer
	}{
		{"a verification answered", nil, func() proxytest.Message { return ask(uuid.New(), payload("", "")) }, ""},
		{"a verification repeated", nil, func() proxytest.Message { return ask(known(), payload("", "")) }, ""},
		{"a verification with another content", nil, func() proxytest.Message { return ask(known(), other) }, rejected},
		{"a verification withdrawn", nil, func() proxytest.Message {
			id := uuid.New()
			send(proxytest.Message{Type: envelope.ErrorReport, ID: id, Payload: []byte(errorText), ReplyBundle: w.A.EncodedBundle()})
			return ask(id, payload("", ""))
		}, rejected},
		{"a verification without a backend", away, func() proxytest.Message { return ask(uuid.New(), payload("", "")) }, "BUSY"},
		{"a verification without a disk", broken, func() proxytest.Message { return ask(uuid.New(), payload("", "")) }, "BUSY"},
		{"a verification with a bad reply key", nil, func() proxytest.Message {
			m := ask(uuid.New(), payload("", ""))
			m.ReplyBundle = w.B.EncodedBundle()
			return m
		}, rejected},
		{"an account check answered", nil, func() proxytest.Message {
			return proxytest.Message{Type: envelope.AccountRequest, Payload: []byte(accountQuestion)}
		}, ""},
		{"an account check without a backend", away, func() proxytest.Message {
			return proxytest.Message{Type: envelope.AccountRequest, Payload: []byte(accountQuestion)}
		}, "BUSY"},
		{"an account check without a disk", broken, func() proxytest.Message {
			return proxytest.Message{Type: envelope.AccountRequest, Payload: []byte(accountQuestion)}
		}, "BUSY"},
		{"an error report answered", nil, func() proxytest.Message {
			return proxytest.Message{Type: envelope.ErrorReport, ID: known(), Payload: []byte(errorText)}
		}, ""},
		{"an error report that cannot be read", nil, func() proxytest.Message {
			return proxytest.Message{Type: envelope.ErrorReport, ID: known(), Payload: []byte("ERROR")}
		}, rejected},
		{"an error report without a disk", broken, func() proxytest.Message {
			return proxytest.Message{Type: envelope.ErrorReport, ID: uuid.New(), Payload: []byte(errorText)}
		}, "BUSY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			message := c.message()
			key := singleUse(t, w)
			sealed := sealedTo(t, w, key, message)
			use := keyring.Use{ID: key.KeyID, Type: identity.PerVerification, Peer: w.A.ID}
			if _, err := w.B.Own.PrivateFor(use); err != nil {
				t.Fatal(err)
			}
			if c.during != nil {
				defer c.during()()
			}
			_, reply := w.Central.Send(w.B.ID, sealed)
			if code := wordOf(w.B, reply); code != c.code {
				t.Errorf("refused with %q, want %q", code, c.code)
			}
			if _, err := w.B.Own.PrivateFor(use); !errors.Is(err, keyring.ErrUnknownKey) {
				t.Errorf("the key is there still: %v", err)
			}
		})
	}
}

// The same for checks over the budget, of which none is opened.
func TestASingleUseKeyEndsWithoutBeingUsed(t *testing.T) {
	w := proxytest.NewWorld(t)
	finished(t, w, verify(t, w, request(w)))
	w.B.Backend.OnAccount(nobodys)
	for range 100 {
		w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: envelope.AccountRequest, ReplyBundle: w.A.EncodedBundle(), Payload: []byte(accountQuestion)}))
	}
	key := singleUse(t, w)
	_, reply := w.Central.Send(w.B.ID, sealedTo(t, w, key, proxytest.Message{Type: envelope.AccountRequest, Payload: []byte(accountQuestion)}))
	if code := wordOf(w.B, reply); code != "BUSY" {
		t.Errorf("refused with %q", code)
	}
	if _, err := w.B.Own.PrivateFor(keyring.Use{ID: key.KeyID, Type: identity.PerVerification, Peer: w.A.ID}); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("the key is there still: %v", err)
	}
}

// A hostile counterparty that seals many messages to one single-use key, and
// sends them at once, has one of them opened (K4, K11).
func TestManyMessagesToOneSingleUseKey(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for range 10 {
		key := singleUse(t, w)
		before := len(w.B.Backend.Asked())
		var all sync.WaitGroup
		for range 8 {
			sealed := sealedTo(t, w, key, proxytest.Message{Type: envelope.VerificationRequest, Payload: payload("", "")})
			all.Go(func() { w.Central.Send(w.B.ID, sealed) })
		}
		all.Wait()
		if n := len(w.B.Backend.Asked()) - before; n != 1 {
			t.Errorf("the backend was asked %d times", n)
		}
	}
}

// A verification that B's backend keeps waiting leaves no key behind, however
// often it is tried: not one of A's places is taken when it ends.
func TestRetriesLeaveNoSingleUseKeys(t *testing.T) {
	w := proxytest.NewWorld(t)
	w.B.Backend.OnUser(unreachable)
	id := verify(t, w, request(w, ofType("PerVerification")...))
	w.Await("some attempts", func() bool { return len(w.B.Backend.Asked()) > 3 })
	verified(w)
	if r := finished(t, w, id); r["result"] != "VERIFIED" {
		t.Errorf("row = %v", r)
	}
	tried := 0
	for _, message := range w.Central.Relayed() {
		parsed, err := envelope.Parse(message)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Header.Type != envelope.VerificationRequest {
			continue
		}
		tried++
		if _, err := w.B.Own.PrivateFor(keyring.UseOf(&parsed.Header)); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("the key of attempt %d is there still: %v", tried, err)
		}
	}
	if tried < 4 {
		t.Errorf("%d attempts", tried)
	}
}

func nobodys(context.Context, []byte) (*vasp.AccountAnswer, error) {
	return &vasp.AccountAnswer{Result: "DENIED", Reason: "UNKNOWN-ADDRESS"}, nil
}
