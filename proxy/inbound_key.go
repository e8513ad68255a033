package proxy

import (
	"context"
	"errors"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

// answerKey gives a key of the asked type, signed. One type is never given in
// place of another (attacks K5, K9).
func (e *Enclave) answerKey(ctx context.Context, a *envelope.Authentic) ([]byte, error) {
	const op = "answer a key request"
	body, err := a.Clear()
	if err != nil {
		return nil, e.metrics.refuse(op, "open", err)
	}
	bundle, err := e.ownKey(ctx, &a.Header, body.Payload)
	if err != nil {
		return nil, fail(op, Storage, err)
	}
	h := e.replyHeader(envelope.KeyAnswer, &a.Header, a.Hash())
	reply, err := e.seal(nil, h, envelope.Body{Sequence: e.sequence.next(h.Recipient, h.Created), Payload: bundle})
	if err != nil {
		return nil, fail(op, Internal, err)
	}
	return reply, nil
}

// ownKey finds or makes the key that a counterparty asks for, within the
// counterparty's budget. The nonce comes back in a key made for it alone.
func (e *Enclave) ownKey(ctx context.Context, asked *envelope.Header, nonce []byte) ([]byte, error) {
	const op = "find our key"
	if len(nonce) != 32 {
		return nil, e.metrics.refuse(op, "nonce", errors.New("the nonce is not 32 bytes"))
	}
	if !e.budget.Allow(asked.Sender, asked.KeyType) {
		return nil, e.exhausted(asked)
	}
	switch asked.KeyType {
	case identity.PerAddress:
		if asked.Scope == [32]byte{} {
			return nil, e.metrics.refuse(op, "scope", errors.New("a key for an address needs its scope"))
		}
		return e.Own.PerAddress(ctx, asked.Sender, asked.Scope, [32]byte(nonce))
	case identity.PerVerification:
		bundle, err := e.Own.PerVerification(asked.Sender, [32]byte(nonce))
		if errors.Is(err, keyring.ErrExhausted) {
			return nil, e.exhausted(asked)
		}
		return bundle, err
	default:
		return e.Own.PerVASP(ctx)
	}
}

// exhausted refuses a key and raises the alarm: somebody drains them (K9).
func (e *Enclave) exhausted(asked *envelope.Header) error {
	e.metrics.drained.WithLabelValues(asked.KeyType.String()).Inc()
	e.alarm(asked.Sender, "a counterparty asks for more keys than its budget allows", "key_type", asked.KeyType.String())
	return &Error{Op: "find our key", Kind: Unavailable, Code: refusalKeys, Err: keyring.ErrExhausted}
}
