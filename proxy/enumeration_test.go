package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy"
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
	for i := range 500 {
		if status := check(i); status != http.StatusOK {
			t.Fatalf("check %d of a customer's address = %d", i, status)
		}
	}
	w.B.Backend.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) {
		return &vasp.AccountAnswer{Result: "DENIED", Reason: "UNKNOWN-ADDRESS"}, nil
	})
	asked := len(w.B.Backend.Asked())
	for i := range 1000 {
		check(i)
	}
	if n := len(w.B.Backend.Asked()) - asked; n != 100 {
		t.Errorf("%d unknown addresses were answered, want 100", n)
	}
	if n := w.B.Metric("enclave_account_checks_refused_total"); n != 900 {
		t.Errorf("%v refused checks are counted, want 900", n)
	}
	clock.Advance(time.Minute)
	if status := check(1); status != http.StatusOK {
		t.Errorf("a minute later: %d", status)
	}
}
