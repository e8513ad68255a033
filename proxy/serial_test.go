package proxy_test

import (
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
)

// A key bundle that is older than one already seen is refused, also after a
// restart in between: central cannot freeze a counterparty on an old key (K7).
func TestAnOldKeyIsRefusedAfterARestart(t *testing.T) {
	clock := proxytest.NewClock(time.Now())
	w := proxytest.NewWorldAt(t, clock.Now, func(*proxy.Config) {})
	verified(w)
	var answers [][]byte
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		if proxytest.TypeOf(reply) == envelope.KeyAnswer {
			answers = append(answers, reply)
		}
		return reply, nil
	})
	finished(t, w, verify(t, w, request(w)))
	old := w.B.EncodedBundle()
	clock.Advance(19 * time.Hour) // the next key is handed out
	finished(t, w, verify(t, w, request(w)))
	newer := w.B.Bundle().Serial
	if len(answers) < 2 || newer <= mustBundle(t, old).Serial {
		t.Fatalf("%d key answers, serials %d and %d", len(answers), mustBundle(t, old).Serial, newer)
	}
	w.Await("the serial is stored", func() bool {
		peer, err := w.A.History.Peer(t.Context(), w.B.ID)
		return err == nil && peer.Serial == newer
	})
	w.A.Stop()
	w.A.Start()
	refused := w.A.Metric("enclave_refused_total", "old-serial")
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		if proxytest.TypeOf(reply) != envelope.KeyAnswer {
			return reply, nil
		}
		parsed, err := envelope.Parse(reply)
		if err != nil {
			return nil, err
		}
		h := parsed.Header
		// By B's own hand, as an old answer that fits the new question.
		return envelope.Seal(w.B.Signer, nil, h, envelope.Body{Sequence: 1, Payload: old})
	})
	verify(t, w, request(w))
	w.Await("the old key is refused and counted", func() bool { return w.A.Metric("enclave_refused_total", "old-serial") > refused })
}

func mustBundle(t *testing.T, encoded []byte) *identity.Bundle {
	t.Helper()
	b, err := identity.ParseBundle(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
