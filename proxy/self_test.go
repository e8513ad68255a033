package proxy_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// A VASP may be both sides of a transfer: one row with both roles, one
// question, one callback (contract 1.2 and 5).
func TestATransferToOurselves(t *testing.T) {
	w := proxytest.NewWorld(t)
	for _, c := range []struct {
		says   vasp.UserAnswer
		result string
	}{
		{vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Version: "1.0", Beneficiary: []byte(said)}, "VERIFIED"},
		{vasp.UserAnswer{Result: "DENIED", Reason: "BLACKLISTED"}, "DENIED"},
		{vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(`{"accountNumber":["bc1qother"]}`)}, "ERROR"},
	} {
		t.Run(c.result, func(t *testing.T) {
			says(w.A, c.says)
			before := len(w.A.Backend.Asked())
			id := verify(t, w, requestTo(w.A.ID))
			r := finished(t, w, id)
			if r["result"] != c.result || r["originatingVaspId"] != w.A.ID.String() || r["beneficiaryVaspId"] != w.A.ID.String() {
				t.Errorf("row %v", r)
			}
			if r["ivms101OriginatingVasp"] != proxytest.LegalPerson(w.A.ID) || r["ivms101BeneficiaryVasp"] != proxytest.LegalPerson(w.A.ID) {
				t.Errorf("VASP parts %v, %v", r["ivms101OriginatingVasp"], r["ivms101BeneficiaryVasp"])
			}
			if n := len(w.A.Backend.Asked()) - before; n != 1 {
				t.Errorf("the backend was asked %d times", n)
			}
			for _, action := range []string{"SEND", "RECEIVE"} {
				page := ask(t, w.A, http.MethodGet, "/v1/verifications?rpp=1&actionType="+action, nil)
				if rows := page["verifications"].([]any); rows[0].(map[string]any)["verificationUuid"] != id {
					t.Errorf("%s does not find it: %v", action, page)
				}
			}
			w.Await("the outbox is empty", func() bool { return w.A.Metric("enclave_outbox_entries") == 0 })
			if n := called(w.A, id); n != 1 {
				t.Errorf("%d callbacks", n)
			}
		})
	}
	if page := ask(t, w.A, http.MethodGet, "/v1/verifications", nil); page["count"] != 3.0 {
		t.Errorf("%v rows for three transfers", page["count"])
	}
	answer := ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.A.ID))
	if answer["accountVerificationResult"] != "VERIFIED" {
		t.Errorf("account check %v", answer)
	}
}

// One that times out tells itself so, and calls back once: the report says
// what the row says already.
func TestATransferToOurselvesThatTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Timeout = 5 * time.Second })
		w.Central.Down(true)
		id := verify(t, w, requestTo(w.A.ID))
		time.Sleep(time.Minute)
		w.Central.Down(false)
		time.Sleep(10 * time.Minute)
		if r := row(t, w.A, id); r["result"] != "ERROR" || r["reason"] != "REQUEST-TIMEOUT" {
			t.Errorf("row %v %v", r["result"], r["reason"])
		}
		sameJSON(t, "callback", []byte(callbacks(w.A, id)[0]), fmt.Sprintf(
			`{"callbackType":"VERIFICATION_RESULT","data":{"verificationUuid":%q,"verificationResult":"ERROR","reason":"REQUEST-TIMEOUT","message":"Request timeout.","ivms101":{"originator":%s,"beneficiary":%s,"originatingVASP":%s}}}`,
			id, originator, said, proxytest.LegalPerson(w.A.ID)))
		if n := called(w.A, id); n != 1 {
			t.Errorf("%d callbacks", n)
		}
		if n := w.A.Metric("enclave_outbox_entries"); n != 0 {
			t.Errorf("the outbox is said to hold %v entries", n)
		}
	})
}

// Keys live 24 hours: verifications go on over days without one that fails,
// also when the key changes between the asking for it and its use, and old
// keys are deleted.
func TestKeysAreRenewedWithoutAFailure(t *testing.T) {
	clock := proxytest.NewClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	w := proxytest.NewWorldAt(t, clock.Now)
	verified(w)
	keys := map[string]bool{}
	for range 20 { // a hundred hours in steps that do not divide a day
		ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID)) // caches B's key
		clock.Advance(20 * time.Minute)                                              // within its time in the cache
		if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
			t.Fatalf("row %v %v", r["result"], r["reason"])
		}
		keys[w.B.Bundle().KeyID.String()] = true
		clock.Advance(4*time.Hour + 40*time.Minute)
	}
	if n := len(keys); n < 5 || n > 7 {
		t.Errorf("B used %d keys in a hundred hours", n)
	}
	for _, p := range []*proxytest.Party{w.A, w.B} {
		if n := p.Metric("enclave_refused_total"); n != 0 {
			t.Errorf("%s refused %v messages", p.ID, n)
		}
		if n := p.Metric("enclave_exchanges_total"); n != p.Metric("enclave_exchanges_total", "ok") {
			t.Errorf("%s: %v exchanges, %v of them good", p.ID, n, p.Metric("enclave_exchanges_total", "ok"))
		}
	}
	w.B.Stop() // sweeps when it starts
	w.B.Start()
	w.Await("old keys are deleted", func() bool {
		held, err := w.B.History.OwnKeys(t.Context())
		return err == nil && len(held) <= 2
	})
}

// What was sealed to a key long after its end does not open.
func TestAnEndedKeyOpensNothing(t *testing.T) {
	clock := proxytest.NewClock(time.Now())
	w := proxytest.NewWorldAt(t, clock.Now)
	verified(w)
	old := w.B.Bundle()
	clock.Advance(25 * time.Hour)
	sealed := w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, ReplyBundle: w.A.EncodedBundle(), Payload: payload("", ""), ID: uuid.New(), To: old})
	_, reply := w.Central.Send(w.B.ID, sealed)
	if code := refusal(t, w.B, reply); code != "NEW-KEY-NEEDED" || len(w.B.Backend.Asked()) != 0 {
		t.Errorf("refused with %s, the backend was asked %d times", code, len(w.B.Backend.Asked()))
	}
	if len(audited(t, w.B, audit.Open)) != 0 {
		t.Error("it was opened")
	}
}
