package proxy

import (
	"context"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

// RequestKey asks a counterparty for its key through central: signed, not
// sealed, for there is no key to seal to yet. It is what keyring.Peers calls
// when its cache has no answer.
func (e *Enclave) RequestKey(ctx context.Context, ref keyring.Ref, nonce [32]byte) (bundle []byte, err error) {
	defer e.observe("outbound", ref.VASP, uuid.Nil, envelope.KeyRequest, e.Now(), &err)
	err = e.steady(ctx, func() (err error) {
		bundle, err = e.requestKey(ctx, ref, nonce)
		return err
	})
	return bundle, err
}

func (e *Enclave) requestKey(ctx context.Context, ref keyring.Ref, nonce [32]byte) (bundle []byte, err error) {
	const op = "request a key"
	q := question{to: ref.VASP, kind: envelope.KeyRequest, want: envelope.KeyAnswer, id: uuid.New(), keyType: ref.Type}
	pinned, err := e.pinned(ctx, ref.VASP)
	if err != nil {
		return nil, err
	}
	h := e.header(q.kind, q.kind.Direction(), q.to, q.id, requestLife)
	h.RecipientIdentity = pinned.Fingerprint()
	h.KeyType, h.Scope = ref.Type, ref.Scope
	sealed, err := e.seal(nil, h, envelope.Body{Sequence: e.sequence.next(q.to, h.Created), Payload: nonce[:]})
	if err != nil {
		return nil, fail(op, Internal, err)
	}
	reply, err := e.deliverEnvelope(ctx, q.to, sealed)
	if err != nil {
		return nil, err
	}
	authentic, err := e.authenticateReply(reply, sealed, q, pinned)
	if err != nil {
		return nil, err
	}
	body, err := authentic.Clear()
	if err != nil {
		return nil, e.metrics.refuse(op, "open", err)
	}
	return body.Payload, nil
}
