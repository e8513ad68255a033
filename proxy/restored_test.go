package proxy_test

import (
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
)

// older stops a party and gives its history, to be put back with putBack.
func older(t *testing.T, p *proxytest.Party) []byte {
	t.Helper()
	p.Stop()
	b, err := os.ReadFile(p.File)
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	return b
}

func putBack(t *testing.T, p *proxytest.Party, b []byte) {
	t.Helper()
	p.Stop()
	if err := os.WriteFile(p.File, b, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Start()
}

// An older history of the beneficiary does not know what it answered since
// (S3, K4). A message that is repeated while it is valid asks the backend a
// second time, and no third; one that is no longer valid asks nobody.
func TestAnOlderHistoryAsksAgainWhileAMessageIsValid(t *testing.T) {
	clock := proxytest.NewClock(time.Now())
	w := proxytest.NewWorldAt(t, clock.Now)
	verified(w)
	w.Await("B has stored the key that the message will be sealed to", func() bool {
		keys, err := w.B.History.OwnKeys(t.Context())
		return err == nil && len(keys) > 0
	})
	before := older(t, w.B)
	id := uuid.New()
	sealed := question(w, id)
	send := func() envelope.MessageType {
		t.Helper()
		_, reply := w.Central.Send(w.B.ID, sealed)
		return proxytest.TypeOf(reply)
	}
	asks := func(want int) {
		t.Helper()
		if got := len(w.B.Backend.Asked()); got != want {
			t.Errorf("the backend was asked %d times, want %d", got, want)
		}
	}
	if kind := send(); kind != envelope.VerificationAnswer {
		t.Fatalf("answered with a %s", kind)
	}
	asks(1)
	putBack(t, w.B, before)
	for range 3 {
		if kind := send(); kind != envelope.VerificationAnswer {
			t.Errorf("after an older history: answered with a %s", kind)
		}
	}
	asks(2)
	putBack(t, w.B, before)
	clock.Advance(proxy.MaxEnvelopeLife + 2*time.Minute)
	if kind := send(); kind == envelope.VerificationAnswer {
		t.Error("a message that is no longer valid was answered")
	}
	asks(2)
}
