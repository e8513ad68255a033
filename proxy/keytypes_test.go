package proxy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

var keyTypes = map[string]identity.KeyType{
	"PerVasp": identity.PerVASP, "PerAddress": identity.PerAddress, "PerEoa": identity.PerAddress, "PerVerification": identity.PerVerification,
}

// ofType is a text with another key type.
func ofType(name string) []string { return []string{`"PerVasp"`, `"` + name + `"`} }

// Each key type carries account checks and verifications, question and answer
// are sealed to keys of just that type, and nothing is left of a reply key
// when its verification has ended (K5, K11).
func TestEveryKeyTypeCarriesAnExchange(t *testing.T) {
	for name, want := range keyTypes {
		t.Run(name, func(t *testing.T) {
			w := proxytest.NewWorld(t)
			verified(w)
			if a := ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, ofType(name)...)); a["accountVerificationResult"] != "VERIFIED" {
				t.Errorf("account check = %v", a)
			}
			id := verify(t, w, request(w, ofType(name)...))
			if r := finished(t, w, id); r["result"] != "VERIFIED" {
				t.Errorf("row = %v", r)
			}
			scopes := map[[32]byte]bool{}
			for _, message := range w.Central.Relayed() {
				parsed, err := envelope.Parse(message)
				if err != nil {
					t.Fatal(err)
				}
				h := parsed.Header
				if h.KeyType != want {
					t.Errorf("a %s is of key type %s, want %s", h.Type, h.KeyType, want)
				}
				if h.Type == envelope.KeyRequest {
					scopes[h.Scope] = true
				}
			}
			if zero := scopes[[32]byte{}]; zero == (want == identity.PerAddress) {
				t.Errorf("key requests have the scopes %v", scopes)
			}
			w.Await("the reply key is gone", func() bool {
				keys, err := w.A.History.OwnKeys(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, k := range keys {
					if k.Type != identity.PerVASP {
						return false
					}
				}
				return true
			})
		})
	}
}

// A PerAddress key is asked for once per address and kept; a PerVerification
// key is asked for each time.
func TestKeysAreKeptByTheirKind(t *testing.T) {
	requests := func(w *proxytest.World) (n int) {
		for _, message := range w.Central.Relayed() {
			if proxytest.TypeOf(message) == envelope.KeyRequest {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name string
		want int // after two verifications to one address and one to another
	}{{"PerVasp", 1}, {"PerAddress", 2}, {"PerVerification", 3}} {
		t.Run(c.name, func(t *testing.T) {
			w := proxytest.NewWorld(t)
			for _, account := range []string{"bc1qreceiver", "bc1qreceiver", "bc1qother"} {
				finished(t, w, verify(t, w, request(w, append(ofType(c.name), "bc1qreceiver", account)...)))
			}
			if got := requests(w); got != c.want {
				t.Errorf("%d key requests, want %d", got, c.want)
			}
		})
	}
}

// Restarts on either side, between acceptance and answer, lose no key that is
// needed: reply keys are stored, PerAddress keys are derived again, and what a
// PerVerification key was lost for is sealed anew (K9, K11).
func TestNoRestartHangsOnALostKey(t *testing.T) {
	for name := range keyTypes {
		t.Run(name, func(t *testing.T) {
			w := proxytest.NewWorld(t)
			asked, goOn := make(chan struct{}, 10), make(chan struct{})
			w.B.Backend.OnUser(func(context.Context, []byte) (*vasp.UserAnswer, error) {
				asked <- struct{}{}
				<-goOn
				return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(said)}, nil
			})
			id := verify(t, w, request(w, ofType(name)...))
			<-asked
			close(goOn)
			w.A.Stop()
			w.B.Stop()
			verified(w)
			w.B.Start()
			w.A.Start()
			if r := finished(t, w, id); r["result"] != "VERIFIED" {
				t.Errorf("row = %v", r)
			}
			if n := len(w.B.Backend.Asked()); n != 1 {
				t.Errorf("the backend was asked %d times", n)
			}
		})
	}
}

// Lost in memory while an envelope is on its way, a PerVerification key is
// asked for again; its type is never replaced (K5, K9).
func TestALostSingleUseKeyIsAskedForAgain(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	restarted := false
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		if proxytest.TypeOf(message) == envelope.VerificationRequest && !restarted {
			restarted = true
			w.B.Stop()
			w.B.Start()
		}
		return message, nil
	})
	id := verify(t, w, request(w, ofType("PerVerification")...))
	if r := finished(t, w, id); r["result"] != "VERIFIED" || !restarted {
		t.Errorf("row = %v, restarted %t", r, restarted)
	}
}

// A single-use key opens one message: what is sealed to it a second time is
// not opened, and no backend hears of it (K4, K9).
func TestASingleUseKeyOpensOnce(t *testing.T) {
	w := proxytest.NewWorld(t)
	var sealed []byte
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		if proxytest.TypeOf(message) == envelope.AccountRequest {
			sealed = message
		}
		return message, nil
	})
	ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, ofType("PerVerification")...))
	for range 10 {
		if _, reply := w.Central.Send(w.B.ID, sealed); proxytest.TypeOf(reply) != envelope.Refusal {
			t.Fatalf("a replayed account check is answered with a %s", proxytest.TypeOf(reply))
		}
	}
	if n := len(w.B.Backend.Asked()); n != 1 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// A counterparty that asks for keys without end gets no more of them, is
// counted, and makes the store no larger; what it gets is never of another
// type (K9, O5).
func TestKeyDrainIsBounded(t *testing.T) {
	w := proxytest.NewWorld(t)
	finished(t, w, verify(t, w, request(w))) // so that pins and PerVasp keys are there
	before, err := w.B.History.OwnKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]identity.KeyType{"PerVasp": identity.PerVASP, "PerAddress": identity.PerAddress, "PerVerification": identity.PerVerification} {
		refused := 0
		for i := range 3000 {
			m := proxytest.Message{Type: envelope.KeyRequest, Payload: make([]byte, 32), Edit: func(h *envelope.Header) {
				h.KeyType = kind
				if kind == identity.PerAddress {
					h.Scope = [32]byte{byte(i), byte(i >> 8), 1}
				}
			}}
			_, reply := w.Central.Send(w.B.ID, w.A.Seal(w.B, m))
			parsed, err := envelope.Parse(reply)
			if err != nil {
				t.Fatal(err)
			}
			switch parsed.Header.Type {
			case envelope.Refusal:
				refused++
			case envelope.KeyAnswer:
				if parsed.Header.KeyType != kind {
					t.Fatalf("asked for %s, got %s", name, parsed.Header.KeyType)
				}
			}
		}
		if refused == 0 || w.B.Metric("enclave_keys_exhausted_total", name) != float64(refused) {
			t.Errorf("%s: %d refused, %v counted", name, refused, w.B.Metric("enclave_keys_exhausted_total", name))
		}
	}
	after, err := w.B.History.OwnKeys(t.Context())
	if err != nil || len(after) > len(before)+1 {
		t.Errorf("%d own keys are stored, %d before: %v", len(after), len(before), err)
	}
	if strings.Contains(w.B.Log.String(), "panic") {
		t.Error("a panic")
	}
}
