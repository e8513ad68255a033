package proxy

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
)

// CheckAccount asks the counterparty whether an account is its customer's,
// while our backend waits (contract 2.3).
func (e *Enclave) CheckAccount(ctx context.Context, r *accountRequest) (*accountAnswer, error) {
	const op = "check account"
	if err := e.maySend(ivms101.Occasion{AccountCheck: true}, r.payload); err != nil {
		return nil, err
	}
	if err := e.mayVerify(ctx, r.beneficiary); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	t := newText().str("symbol", r.symbol)
	if r.network != "" {
		t.str("network", r.network)
	}
	answer, err := e.askAboutAccount(ctx, uuid.New(), r, t.str("version", r.payload.Version).raw("ivms101", r.payload.IVMS101).end())
	if err != nil {
		return nil, timeoutWords(fail(op, Unavailable, err))
	}
	return answer, nil
}

// askAboutAccount asks, and writes down that it has, whatever became of it:
// the account left us.
func (e *Enclave) askAboutAccount(ctx context.Context, id uuid.UUID, r *accountRequest, payload []byte) (*accountAnswer, error) {
	payload, err := e.ask(ctx, question{
		to: r.beneficiary, kind: envelope.AccountRequest, want: envelope.AccountAnswer, id: id, keyType: r.keyType,
		scope:   e.scope(r.keyType, r.beneficiary, r.symbol, r.network, r.payload.Beneficiary.Account()),
		payload: payload, life: syncTimeout,
	})
	var answer *accountAnswer
	if err == nil {
		answer, err = e.readAccountAnswer(payload)
	}
	entry := audit.Verification(e.Now(), audit.Backend, audit.CheckAccount, id, r.beneficiary, outcome(err), "")
	if answer != nil {
		entry.Outcome, entry.Reason = answer.Result, auditReason(answer.Reason)
	}
	keep := context.WithoutCancel(ctx)
	if err := e.record(keep, entry); err != nil {
		return nil, fail("audit an account check", Storage, err)
	}
	return answer, err
}

func (e *Enclave) readAccountAnswer(payload []byte) (*accountAnswer, error) {
	answer, err := decode[accountAnswer](payload)
	if err == nil && answer.Result != "VERIFIED" && answer.Result != "DENIED" {
		err = errors.New("the answer is neither VERIFIED nor DENIED")
	}
	if err != nil {
		return nil, e.metrics.refuse("read the answer", "answer", err)
	}
	return answer.complete(e.Now()), nil
}

// timeoutWords gives a timeout the contract's sentence.
func timeoutWords(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Kind == Timeout {
		e.Message = "timeout of 5000ms exceeded"
	}
	return err
}
