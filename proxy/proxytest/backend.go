package proxytest

import (
	"bytes"
	"context"
	"sync"

	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// Backend is a VASP's backend as a test scripts it.
type Backend struct {
	mu        sync.Mutex
	account   func(ctx context.Context, body []byte) (*vasp.AccountAnswer, error)
	user      func(ctx context.Context, body []byte) (*vasp.UserAnswer, error)
	status    func(ctx context.Context, body []byte) (*vasp.TransactionAnswer, error)
	callback  func(body []byte) error
	asked     [][]byte
	callbacks [][]byte
}

func newBackend() *Backend {
	b := &Backend{}
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
	b.mu.Lock()
	b.asked = append(b.asked, bytes.Clone(body))
	answer := b.account
	b.mu.Unlock()
	return answer(ctx, body)
}

// VerifyUser implements proxy.Backend.
func (b *Backend) VerifyUser(ctx context.Context, body []byte) (*vasp.UserAnswer, error) {
	b.mu.Lock()
	b.asked = append(b.asked, bytes.Clone(body))
	answer := b.user
	b.mu.Unlock()
	return answer(ctx, body)
}

// TransactionStatus implements proxy.Backend.
func (b *Backend) TransactionStatus(ctx context.Context, body []byte) (*vasp.TransactionAnswer, error) {
	b.mu.Lock()
	b.asked = append(b.asked, bytes.Clone(body))
	answer := b.status
	b.mu.Unlock()
	return answer(ctx, body)
}

// Callback implements proxy.Backend.
func (b *Backend) Callback(_ context.Context, body []byte) error {
	b.mu.Lock()
	b.callbacks = append(b.callbacks, bytes.Clone(body))
	answer := b.callback
	b.mu.Unlock()
	return answer(body)
}
