package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// A counterparty that tries addresses gets few answers, and an alarm is
// raised; one that asks about real customers is not held up (O1, O2).
func TestEnumerationIsBounded(t *testing.T) {
	clock := proxytest.NewClock(time.Now())
	w := proxytest.NewWorldAt(t, clock.Now, func(*proxy.Config) {})
	check := func(i int) int {
		status, _ := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, "0xAbC1", fmt.Sprintf("0x%040d", i)))
		return status
	}
	for i := range 200 {
		if status := check(i); status != http.StatusOK {
			t.Fatalf("check %d of a customer's address = %d", i, status)
		}
	}
	w.B.Backend.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) {
		return &vasp.AccountAnswer{Result: "DENIED", Reason: "UNKNOWN-ADDRESS"}, nil
	})
	asked := len(w.B.Backend.Asked())
	for i := range 300 {
		check(i)
	}
	if n := len(w.B.Backend.Asked()) - asked; n != 100 {
		t.Errorf("%d unknown addresses were answered, want 100", n)
	}
	if n := w.B.Metric("enclave_account_checks_refused_total"); n != 200 {
		t.Errorf("%v refused checks are counted, want 200", n)
	}
	clock.Advance(time.Minute)
	if status := check(1); status != http.StatusOK {
		t.Errorf("a minute later: %d", status)
	}
}

// atOnce makes account checks that are all under way together, and counts how
// they end.
func atOnce(w *proxytest.World, n int, account func(i int) string) map[int]int {
	var mu sync.Mutex
	ended := map[int]int{}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			status, _ := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, "0xAbC1", account(i)))
			mu.Lock()
			defer mu.Unlock()
			ended[status]++
		})
	}
	all.Wait()
	return ended
}

func address(i int) string { return fmt.Sprintf("0x%040d", i) }

// slowly answers an account check after a while.
func slowly(answer vasp.AccountAnswer) func(context.Context, []byte) (*vasp.AccountAnswer, error) {
	return func(context.Context, []byte) (*vasp.AccountAnswer, error) {
		time.Sleep(900 * time.Millisecond)
		said := answer
		return &said, nil
	}
}

// Honest questions are not held up for being many while B's backend is slow;
// what bounds them is the budget of questions.
func TestManyAccountChecksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
		w.B.Backend.OnAccount(slowly(vasp.AccountAnswer{Result: "VERIFIED"}))
		if ended := atOnce(w, 300, address); ended[http.StatusOK] != 300 {
			t.Errorf("300 at once ended as %v", ended)
		}
		time.Sleep(time.Minute)
		if n := w.B.Enclave.MayAsk(w.A.ID, 5000); n != 1000 {
			t.Errorf("%d of 5000 at once pass, want 1000", n)
		}
		time.Sleep(time.Second)
		if n := w.B.Enclave.MayAsk(w.A.ID, 5000); n != 100 {
			t.Errorf("%d of 5000 pass a second later, want 100", n)
		}
	})
}

// Attack O1: whoever asks many at once hears not one answer more than the
// budget has; and of the questions that are still under way when it is used
// up, nothing at all, be it a customer's address or nobody's.
func TestEnumerationAtOnceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
		w.B.Backend.OnAccount(slowly(vasp.AccountAnswer{Result: "DENIED", Reason: "UNKNOWN-ADDRESS"}))
		if ended := atOnce(w, 250, address); ended[http.StatusOK] != 100 || ended[http.StatusServiceUnavailable] != 150 {
			t.Errorf("250 unknown addresses at once ended as %v", ended)
		}
		if n := w.B.Metric("enclave_account_checks_refused_total"); n != 150 {
			t.Errorf("%v refused checks are counted", n)
		}
		if n := len(audited(t, w.B, audit.OpenAccount)); n != 251 {
			t.Errorf("%d audit entries for 251 checks that the backend was asked about", n)
		}
		time.Sleep(20 * time.Minute) // the budget is full again
		w.B.Backend.OnAccount(func(_ context.Context, body []byte) (*vasp.AccountAnswer, error) {
			if contains(body, address(0)) { // a customer's, and it takes the longest to find out
				time.Sleep(time.Second)
				return &vasp.AccountAnswer{Result: "VERIFIED"}, nil
			}
			return nobodys(t.Context(), body)
		})
		if ended := atOnce(w, 101, address); ended[http.StatusOK] != 100 || ended[http.StatusServiceUnavailable] != 1 {
			t.Errorf("100 unknown addresses and a customer's ended as %v", ended)
		}
		asked := len(w.B.Backend.Asked())
		if ended := atOnce(w, 50, address); ended[http.StatusServiceUnavailable] != 50 || len(w.B.Backend.Asked()) != asked {
			t.Errorf("without a budget 50 checks ended as %v, and the backend was asked about %d", ended, len(w.B.Backend.Asked())-asked)
		}
		time.Sleep(20 * time.Minute)
		w.B.Backend.OnAccount(nobodys)
		if ended := atOnce(w, 150, address); ended[http.StatusOK] != 100 {
			t.Errorf("20 minutes later 150 unknown addresses ended as %v", ended)
		}
	})
}
