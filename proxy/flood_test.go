package proxy_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// Attack N5: a counterparty that sends faster than it may is told to wait, by
// 429 and Retry-After; it loses nothing by that, for each of its verifications
// ends as it should, later.
func TestACounterpartyThatSendsTooFastIsDelayedAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t, func(c *proxy.Config) { c.MessagesPerSecond = 2 })
		verified(w)
		const many = 60 // and the burst is 10, with the messages for keys
		var ids []string
		start := time.Now()
		for range many {
			ids = append(ids, verify(t, w, request(w)))
		}
		for _, id := range ids {
			w.AwaitWithin(5*time.Minute, "A is called back", func() bool { return called(w.A, id) > 0 })
			if r := row(t, w.A, id); r["result"] != "VERIFIED" {
				t.Errorf("row %v %v", r["result"], r["reason"])
			}
		}
		took := time.Since(start)
		if took < (many-10)/2*time.Second || took > 4*many/2*time.Second {
			t.Errorf("%d verifications took %v at 2 a second", many, took)
		}
		refused := w.B.Metric("enclave_peer_messages_refused_total")
		if refused == 0 || refused > 3*many {
			t.Errorf("%v messages were refused: want some, and no storm of them", refused)
		}
		if n := len(w.B.Backend.Asked()); n != many {
			t.Errorf("B's backend was asked %d times about %d", n, many)
		}
	})
}

// The answer to a message too many is 429 with a Retry-After, and when that is
// over the message is taken. Another's flood in its name costs it nothing.
func TestAMessageTooManyIsRefusedWithRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t, func(c *proxy.Config) { c.MessagesPerSecond = 1 })
		inquiry := func() []byte {
			return w.A.Seal(w.B, proxytest.Message{Type: envelope.AccountRequest, ReplyBundle: w.A.EncodedBundle(), Payload: []byte(`{"symbol":"ETH","version":"1.0","ivms101":{"beneficiary":{"accountNumber":["0xAbC1"]}}}`)})
		}
		send := func(message []byte) *httptest.ResponseRecorder { return w.B.Post(message) }
		if got := send(inquiry()); got.Code != 200 {
			t.Fatalf("the first message: %d", got.Code)
		}
		forged := inquiry()
		forged[len(forged)-1] ^= 1 // its signature
		for range 100 {
			if got := send(forged); got.Code != 200 {
				t.Fatalf("a forged message: %d, want a signed refusal", got.Code)
			}
		}
		passed := 1
		for ; passed < 100; passed++ {
			if got := send(inquiry()); got.Code == http.StatusTooManyRequests {
				break
			}
		}
		if passed != 5 {
			t.Errorf("%d messages passed at once, want 5", passed)
		}
		got := send(inquiry())
		wait, err := strconv.Atoi(got.Header().Get("Retry-After"))
		if got.Code != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 2 {
			t.Fatalf("%d, Retry-After %q", got.Code, got.Header().Get("Retry-After"))
		}
		if got := send(forged); got.Code != http.StatusTooManyRequests {
			t.Errorf("a forged message, when the budget is used up: %d", got.Code)
		}
		time.Sleep(time.Duration(wait) * time.Second)
		if got := send(inquiry()); got.Code != 200 {
			t.Errorf("after %d s: %d", wait, got.Code)
		}
	})
}

// Retry-After of central holds the whole lane to that recipient, not only the
// message that met it, and no longer than 30 s whatever central says.
func TestRetryAfterHoldsTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		verified(w)
		finished(t, w, verify(t, w, request(w))) // and the key is known
		var attempts atomic.Int32
		var refusing atomic.Bool
		refusing.Store(true)
		w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
			if !refusing.Load() {
				return message, nil
			}
			attempts.Add(1)
			return nil, &relay.Error{Code: relay.CodeBusy, Status: 429, Retryable: true, RetryAfter: 20 * time.Second}
		})
		start := time.Now()
		first := verify(t, w, request(w))
		w.Await("an attempt", func() bool { return attempts.Load() == 1 })
		second := verify(t, w, request(w))
		time.Sleep(19 * time.Second)
		if n := attempts.Load(); n != 1 {
			t.Errorf("%d attempts within 19 s of a Retry-After of 20 s", n)
		}
		refusing.Store(false)
		for _, id := range []string{first, second} {
			if r := finished(t, w, id); r["result"] != "VERIFIED" {
				t.Errorf("row %v %v", r["result"], r["reason"])
			}
		}
		if took := time.Since(start); took < 20*time.Second || took > 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// What cannot wait is the backend's to repeat: it is told when.
func TestRetryAfterReachesTheBackend(t *testing.T) {
	w := proxytest.NewWorld(t)
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		return nil, &relay.Error{Code: relay.CodeBusy, Status: 429, Retryable: true, RetryAfter: 7 * time.Second}
	})
	got := w.A.Serve("", httptest.NewRequest(http.MethodPost, "/v1/verifications/account", bytes.NewReader(accountTo(w.B.ID))), accountTo(w.B.ID))
	if got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") != "7" {
		t.Errorf("%d, Retry-After %q, %s", got.Code, got.Header().Get("Retry-After"), got.Body)
	}
}
