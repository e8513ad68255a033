package proxytest

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/openapi/openapitest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// Backend is a VASP's backend as a test scripts it. A call that is not in the
// VASP API's document fails the test.
type Backend struct {
	t         testing.TB
	mu        sync.Mutex
	account   func(ctx context.Context, body []byte) (*vasp.AccountAnswer, error)
	user      func(ctx context.Context, body []byte) (*vasp.UserAnswer, error)
	status    func(ctx context.Context, body []byte) (*vasp.TransactionAnswer, error)
	callback  func(body []byte) error
	asked     [][]byte
	callbacks [][]byte
}

func newBackend(t testing.TB) *Backend {
	b := &Backend{t: t}
	b.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) {
		return &vasp.AccountAnswer{Result: "VERIFIED", VerifiedAt: "2026-01-02T03:04:05.000Z"}, nil
	})
	b.OnUser(func(context.Context, []byte) (*vasp.UserAnswer, error) {
		return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK"}, nil
	})
	b.OnStatus(func(context.Context, []byte) (*vasp.TransactionAnswer, error) {
		return &vasp.TransactionAnswer{Status: "PENDING"}, nil
	})
	b.OnCallback(func([]byte) error { return nil })
	return b
}

// OnAccount scripts the answer to an account check.
func (b *Backend) OnAccount(f func(ctx context.Context, body []byte) (*vasp.AccountAnswer, error)) {
	b.set(func() { b.account = f })
}

// OnUser scripts the answer to a user verification.
func (b *Backend) OnUser(f func(ctx context.Context, body []byte) (*vasp.UserAnswer, error)) {
	b.set(func() { b.user = f })
}

// OnStatus scripts the answer to where a transfer stands.
func (b *Backend) OnStatus(f func(ctx context.Context, body []byte) (*vasp.TransactionAnswer, error)) {
	b.set(func() { b.status = f })
}

// OnCallback scripts the answer to a callback.
func (b *Backend) OnCallback(f func(body []byte) error) { b.set(func() { b.callback = f }) }

func (b *Backend) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// Asked is every question so far, well answered or not.
func (b *Backend) Asked() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([][]byte(nil), b.asked...)
}

// Callbacks is every callback so far, well answered or not.
func (b *Backend) Callbacks() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([][]byte(nil), b.callbacks...)
}

// VerifyAccount implements proxy.Backend.
func (b *Backend) VerifyAccount(ctx context.Context, body []byte) (*vasp.AccountAnswer, error) {
	b.check("/verify/account", body)
	b.mu.Lock()
	b.asked = append(b.asked, bytes.Clone(body))
	answer := b.account
	b.mu.Unlock()
	return answer(ctx, body)
}

// VerifyUser implements proxy.Backend.
func (b *Backend) VerifyUser(ctx context.Context, body []byte) (*vasp.UserAnswer, error) {
	b.check("/verify/user", body)
	b.mu.Lock()
	b.asked = append(b.asked, bytes.Clone(body))
	answer := b.user
	b.mu.Unlock()
	return answer(ctx, body)
}

// TransactionStatus implements proxy.Backend.
func (b *Backend) TransactionStatus(ctx context.Context, body []byte) (*vasp.TransactionAnswer, error) {
	b.check("/verify/tx", body)
	b.mu.Lock()
	b.asked = append(b.asked, bytes.Clone(body))
	answer := b.status
	b.mu.Unlock()
	return answer(ctx, body)
}

// Callback implements proxy.Backend.
func (b *Backend) Callback(_ context.Context, body []byte) error {
	b.check("/callback", body)
	b.mu.Lock()
	b.callbacks = append(b.callbacks, bytes.Clone(body))
	answer := b.callback
	b.mu.Unlock()
	return answer(body)
}

func (b *Backend) check(path string, body []byte) {
	if err := openapitest.VASP().Request(http.MethodPost, path, body); err != nil {
		b.t.Errorf("the backend hears what is not in the document: %v", err)
	}
}
