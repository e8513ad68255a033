package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// question is a verification of A's as its enclave seals it, a new envelope
// each time.
func question(w *proxytest.World, id uuid.UUID) []byte {
	return w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, ID: id, ReplyBundle: w.A.EncodedBundle(), Payload: payload("", "")})
}

// Attack K4: whoever sends one envelope again and again, one after the other,
// at once, and after a restart, hears the first answer; the backend is asked
// once.
func TestAReplayedRequestGetsTheStoredAnswer(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := uuid.New()
	sealed := question(w, id)
	var want []byte
	check := func(reply []byte) {
		t.Helper()
		if kind := proxytest.TypeOf(reply); kind != envelope.VerificationAnswer {
			t.Errorf("answered with a %s", kind)
			return
		}
		got := w.A.Open(w.B, reply).Payload
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Errorf("answer %s, the first was %s", got, want)
		}
	}
	_, reply := w.Central.Send(w.B.ID, sealed)
	check(reply)
	says(w.B, vasp.UserAnswer{Result: "DENIED", Reason: "BLACKLISTED"}) // it would say something else now
	for range 100 {
		_, reply := w.Central.Send(w.B.ID, sealed)
		check(reply)
	}
	var replies [100][]byte
	var all sync.WaitGroup
	for i := range replies {
		all.Go(func() {
			again := sealed
			if i%2 == 0 { // as A's own enclave repeats it: sealed anew
				again = question(w, id)
			}
			_, replies[i] = w.Central.Send(w.B.ID, again)
		})
	}
	all.Wait()
	for _, reply := range replies {
		check(reply)
	}
	w.B.Stop()
	w.B.Start()
	for _, again := range [][]byte{sealed, question(w, id)} {
		_, reply = w.Central.Send(w.B.ID, again)
		check(reply)
	}
	// It is known before it is opened: without the key, too.
	loseKeys(t, w.B)
	_, reply = w.Central.Send(w.B.ID, sealed)
	check(reply)
	if n := len(w.B.Backend.Asked()); n != 1 {
		t.Errorf("the backend was asked %d times", n)
	}
	if n := len(audited(t, w.B, audit.Open)); n != 1 {
		t.Errorf("%d audit entries", n)
	}
	if page := ask(t, w.B, http.MethodGet, "/v1/verifications", nil); page["count"] != 1.0 {
		t.Errorf("%v rows", page["count"])
	}
}

// An enclave that is stopped while it starts ends like any other.
func TestStoppedAtOnce(t *testing.T) {
	w := proxytest.NewWorld(t)
	for range 20 {
		w.A.Stop()
		w.A.Start()
	}
}

// Concurrent repeats wait for the first: it is the one that asks.
func TestConcurrentRepeatsWaitForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		w.B.Backend.OnUser(func(context.Context, []byte) (*vasp.UserAnswer, error) {
			time.Sleep(3 * time.Second)
			return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK"}, nil
		})
		id := uuid.New()
		start := time.Now()
		var all sync.WaitGroup
		var answered atomic.Int32
		for range 20 {
			sealed := question(w, id)
			all.Go(func() {
				if _, reply := w.Central.Send(w.B.ID, sealed); proxytest.TypeOf(reply) == envelope.VerificationAnswer {
					answered.Add(1)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); answered.Load() != 20 || took != 3*time.Second {
			t.Errorf("%d of 20 answered after %v", answered.Load(), took)
		}
		if n := len(w.B.Backend.Asked()); n != 1 {
			t.Errorf("the backend was asked %d times", n)
		}
	})
}

// An id that comes again with another content is refused, counted and audited,
// also when the receipt of the first is forgotten.
func TestAnIDWithAnotherContentIsRefused(t *testing.T) {
	clock := proxytest.NewClock(time.Now())
	w := proxytest.NewWorldAt(t, clock.Now)
	verified(w)
	id := uuid.New()
	w.Central.Send(w.B.ID, question(w, id))
	conflict := func(n float64) {
		t.Helper()
		other := bytes.Replace(payload("", ""), []byte("Roe"), []byte("Poe"), 1)
		_, reply := w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, ID: id, ReplyBundle: w.A.EncodedBundle(), Payload: other}))
		if kind := proxytest.TypeOf(reply); kind != envelope.Refusal {
			t.Errorf("answered with a %s", kind)
		}
		if got := w.B.Metric("enclave_verification_conflicts_total"); got != n {
			t.Errorf("enclave_verification_conflicts_total = %v, want %v", got, n)
		}
		if got := w.B.Metric("enclave_refused_total", "conflict"); got != n {
			t.Errorf("enclave_refused_total{reason=conflict} = %v, want %v", got, n)
		}
		if entries := audited(t, w.B, audit.Conflict); len(entries) != int(n) || entries[0].Object != id.String() || entries[0].Peer != w.A.ID {
			t.Errorf("audit %+v", entries)
		}
	}
	conflict(1)
	clock.Advance(25 * time.Hour)
	if n, err := w.B.History.Sweep(t.Context()); err != nil || n != 1 {
		t.Fatalf("swept %d receipts, %v", n, err)
	}
	conflict(2)
	if n := len(w.B.Backend.Asked()); n != 1 {
		t.Errorf("the backend was asked %d times", n)
	}
	if r := row(t, w.B, id.String()); !contains([]byte(r["ivms101Originator"].(string)), "Roe") {
		t.Errorf("row %v", r["ivms101Originator"])
	}
}

// Accepted means delivered: A dies after it has accepted, before anything left.
func TestARestartBetweenAcceptanceAndDelivery(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	w.Central.Down(true)
	var ids []string
	for range 10 {
		ids = append(ids, verify(t, w, request(w)))
	}
	w.A.Stop()
	w.Central.Down(false)
	w.A.Start()
	for _, id := range ids {
		if r := finished(t, w, id); r["result"] != "VERIFIED" {
			t.Errorf("row %v", r["result"])
		}
		if n := called(w.A, id); n != 1 {
			t.Errorf("%d callbacks", n)
		}
	}
	w.Await("the outbox is empty", func() bool { return w.A.Metric("enclave_outbox_entries") == 0 })
}

// A dies after the final row is stored, before its backend heard of it; and
// with the answer in its hands, before it could store it.
func TestARestartBetweenAnswerAndCallback(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	away := errors.New("backend away")
	w.A.Backend.OnCallback(func([]byte) error { return &vasp.Error{API: "callback", Problem: vasp.Unreachable} })
	id := verify(t, w, request(w))
	w.Await("the callback was tried", func() bool { return called(w.A, id) > 0 })
	w.A.Stop()

	w.A.Tweak(func(c *proxy.Config) {
		c.History = &failing{c.History, func(c *storage.Change) error {
			if c.Verification != nil && c.Verification.Result != storage.Wait {
				return away
			}
			return nil
		}}
	})
	w.A.Start()
	second := verify(t, w, request(w))
	w.Await("B has answered, and A cannot store it", func() bool {
		return len(w.B.Backend.Asked()) == 2 && w.A.Metric("enclave_outbox_attempts_total", "storage") > 1
	})
	if r := row(t, w.A, second); r["result"] != "WAIT" || called(w.A, second) != 0 {
		t.Errorf("row %v, %d callbacks, of what could not be stored", r["result"], called(w.A, second))
	}
	w.A.Stop()

	w.A.Tweak(func(c *proxy.Config) { c.History = c.History.(*failing).History })
	w.A.Backend.OnCallback(func([]byte) error { return nil })
	before := called(w.A, id)
	w.A.Start()
	w.Await("both callbacks are taken", func() bool { return w.A.Metric("enclave_outbox_attempts_total", "backend", "ok") == 2 })
	if called(w.A, id) != before+1 || called(w.A, second) != 1 {
		t.Errorf("called back %d and %d times since the restart", called(w.A, id)-before, called(w.A, second))
	}
	for _, id := range []string{id, second} {
		if r := row(t, w.A, id); r["result"] != "VERIFIED" {
			t.Errorf("row %v", r["result"])
		}
	}
	if n := len(w.B.Backend.Asked()); n != 2 {
		t.Errorf("B's backend was asked %d times for two verifications", n)
	}
}

// A callback that fails is tried again, with growing pauses, until it is taken,
// and not once more; the row it tells of was final before the first try
// (contract 3.4).
func TestACallbackIsRetriedUntilItIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		verified(w)
		var at []time.Duration
		start := time.Now()
		w.A.Backend.OnCallback(func(body []byte) error {
			at = append(at, time.Since(start))
			data := object(t, body)["data"].(map[string]any)
			if r := row(t, w.A, data["verificationUuid"].(string)); r["result"] != "VERIFIED" {
				t.Errorf("the row is %v when its callback is tried", r["result"])
			}
			if len(at) < 12 {
				return []error{
					&vasp.Error{API: "callback", Problem: vasp.Status, Code: 500}, &vasp.Error{API: "callback", Problem: vasp.Timeout},
					&vasp.Error{API: "callback", Problem: vasp.Unreachable}, &vasp.Error{API: "callback", Problem: vasp.Invalid},
				}[len(at)%4]
			}
			return nil
		})
		id := verify(t, w, request(w))
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(at) != 12 || called(w.A, id) != 12 {
			t.Fatalf("%d callbacks, want 11 that failed and one", len(at))
		}
		for i, gap := 1, time.Duration(0); i < len(at); i++ {
			gap = at[i] - at[i-1]
			if gap > 61*time.Second || i > 9 && gap < 10*time.Second {
				t.Errorf("pause %d is %v", i, gap)
			}
		}
		if bodies := callbacks(w.A, id); len(slices.Compact(bodies)) != 1 {
			t.Error("the callback changed from one try to the next")
		}
		if n := w.A.Metric("enclave_outbox_entries"); n != 0 {
			t.Errorf("the outbox is said to hold %v entries", n)
		}
	})
}

// The sender hangs up, or central dies, while B's backend thinks: what the
// backend said is the answer when the sender asks again.
func TestHangingUpDoesNotDecide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		w.B.Backend.OnUser(func(ctx context.Context, _ []byte) (*vasp.UserAnswer, error) {
			select {
			case <-time.After(2 * time.Second):
				return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(said)}, nil
			case <-ctx.Done():
				return nil, &vasp.Error{API: "user", Problem: vasp.Broken}
			}
		})
		var hungUp atomic.Bool
		w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
			if proxytest.TypeOf(message) == envelope.VerificationRequest && hungUp.CompareAndSwap(false, true) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				w.Central.SendWithin(ctx, w.B.ID, message)
				return nil, proxytest.ErrDown
			}
			return message, nil
		})
		if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
			t.Errorf("row %v %v", r["result"], r["reason"])
		}
		if n := len(w.B.Backend.Asked()); n != 1 {
			t.Errorf("the backend was asked %d times", n)
		}
	})
}

// An account check that central replays is answered once: a replay asks nobody
// and uses up nothing of its sender's budget. Other checks go on.
func TestAReplayedAccountCheckIsRefused(t *testing.T) {
	w := proxytest.NewWorld(t)
	check := w.A.Seal(w.B, proxytest.Message{Type: envelope.AccountRequest, ReplyBundle: w.A.EncodedBundle(), Payload: []byte(`{"symbol":"ETH","version":"1.0","ivms101":{"beneficiary":{"accountNumber":["0xAbC1"]}}}`)})
	if _, reply := w.Central.Send(w.B.ID, check); proxytest.TypeOf(reply) != envelope.AccountAnswer {
		t.Fatalf("answered with a %s", proxytest.TypeOf(reply))
	}
	for range 1500 { // more than any budget
		if _, reply := w.Central.Send(w.B.ID, check); proxytest.TypeOf(reply) != envelope.Refusal || refusal(t, w.B, reply) != rejected {
			t.Fatalf("a replay is answered with a %s", proxytest.TypeOf(reply))
		}
	}
	if n := len(w.B.Backend.Asked()); n != 1 {
		t.Errorf("the backend was asked %d times", n)
	}
	if n := w.B.Metric("enclave_refused_total", "replay"); n != 1500 {
		t.Errorf("%v replays are counted", n)
	}
	for range 50 {
		ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
	}
}

// Attack K4: a restart forgets no answered account check, whatever the type of
// the key that it is sealed to; when its envelope has ended, it is forgotten.
func TestAReplayedAccountCheckIsRefusedAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		var checks [][]byte
		w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
			if proxytest.TypeOf(message) == envelope.AccountRequest {
				checks = append(checks, message)
			}
			return message, nil
		})
		for _, name := range mutatedTypes {
			ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, ofType(name)...))
		}
		restart := func() {
			w.B.Stop()
			w.B.Start()
			time.Sleep(time.Second)
		}
		restart()
		for range 3 {
			for i, check := range checks {
				if _, reply := w.Central.Send(w.B.ID, check); wordOf(w.B, reply) != rejected {
					t.Errorf("a replay, sealed to a %s key, is answered with a %s %s", mutatedTypes[i], proxytest.TypeOf(reply), wordOf(w.B, reply))
				}
			}
		}
		if n := len(w.B.Backend.Asked()); n != len(checks) {
			t.Errorf("the backend was asked %d times about %d accounts", n, len(checks))
		}
		if n := w.B.Metric("enclave_refused_total", "replay"); n != 9 {
			t.Errorf("%v replays are counted", n)
		}
		ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID)) // others go on
		time.Sleep(15 * time.Minute)
		if n, err := w.B.History.Sweep(t.Context()); n != 0 || err != nil {
			t.Errorf("%d receipts were left of envelopes that have ended: %v", n, err)
		}
		restart()
		for _, check := range checks {
			w.Central.Send(w.B.ID, check)
		}
		if n := w.B.Metric("enclave_refused_total", "expired"); n != 4 || len(w.B.Backend.Asked()) != 4 {
			t.Errorf("%v replays are counted as expired, and the backend was asked %d times", n, len(w.B.Backend.Asked()))
		}
	})
}

// The receipt of an account check is another than that of the verification
// whose id it borrows: neither is taken for the other.
func TestAnAccountCheckHidesNoVerification(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := uuid.New()
	check := func() []byte {
		return w.A.Seal(w.B, proxytest.Message{Type: envelope.AccountRequest, ID: id, ReplyBundle: w.A.EncodedBundle(), Payload: []byte(accountQuestion)})
	}
	sealed := question(w, id)
	for range 2 {
		if _, reply := w.Central.Send(w.B.ID, check()); proxytest.TypeOf(reply) != envelope.AccountAnswer {
			t.Errorf("an account check is answered with a %s", proxytest.TypeOf(reply))
		}
		if _, reply := w.Central.Send(w.B.ID, sealed); proxytest.TypeOf(reply) != envelope.VerificationAnswer {
			t.Errorf("a verification is answered with a %s", proxytest.TypeOf(reply))
		}
	}
	if n := len(w.B.Backend.Asked()); n != 3 {
		t.Errorf("the backend was asked %d times about one verification and twice about an account", n)
	}
}
