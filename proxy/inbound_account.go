package proxy

import (
	"context"
	"errors"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// answerAccount asks our backend whether an account is its customer's.
func (e *Enclave) answerAccount(ctx context.Context, a *envelope.Authentic, pinned *identity.Public) ([]byte, error) {
	const op = "answer an account check"
	if err := e.acceptOnce(ctx, a); err != nil {
		return nil, err
	}
	defer e.Own.Consume(keyring.UseOf(&a.Header)) // also when it is not even opened
	from := a.Header.Sender
	if !e.budgets.mayAsk(from) {
		return nil, e.collecting(from)
	}
	body, err := e.openSealed(a)
	if err != nil {
		return nil, err
	}
	if err := e.mayReply(ctx, a, body, pinned); err != nil {
		return nil, err
	}
	answered := e.askAccount(ctx, from, body.Payload)
	if answered == nil {
		return nil, &Error{Op: op, Kind: Unavailable, Err: errors.New("our backend cannot be reached")}
	}
	told := e.budgets.mayHear(from, answered.stranger())
	entry := audit.Verification(e.Now(), audit.Peer, audit.OpenAccount, a.Header.Verification, from, answered.Result, auditReason(answered.Reason))
	if !told {
		entry.Outcome, entry.Reason = "refused", ""
	}
	// Our backend was asked, so this is written though the sender may have
	// gone away meanwhile.
	keep := context.WithoutCancel(ctx)
	if err := e.History.Apply(keep, &storage.Change{Receipt: e.onceReceipt(a), Audit: []storage.AuditEntry{entry}}); err != nil {
		return nil, fail(op, Storage, err)
	}
	if !told {
		return nil, e.collecting(from)
	}
	return e.reply(ctx, a, envelope.AccountAnswer, body.ReplyBundle, accountText(answered), pinned)
}

// stranger says that nobody has the account that was asked about.
func (a *accountAnswer) stranger() bool {
	return a.Reason == "UNKNOWN-ADDRESS" || a.Reason == "MISMATCHED-NAME"
}

// collecting refuses an account check and raises the alarm (O1).
func (e *Enclave) collecting(from identity.VASPID) error {
	e.metrics.enumeration.Inc()
	e.alarm(from, "a counterparty asks about more accounts than its budget allows; it may be collecting addresses")
	return &Error{Op: "answer an account check", Kind: Unavailable, Err: errOverBudget}
}

// askAccount is our backend's word on an account, or UNDEFINED-ERROR when the
// question or the answer is beyond use; nil when the backend was not reached
// and so was not asked.
func (e *Enclave) askAccount(ctx context.Context, from identity.VASPID, payload []byte) *accountAnswer {
	undefined := func(why string) *accountAnswer {
		return (&accountAnswer{Result: "DENIED", Message: why}).complete(e.Now())
	}
	p, parts, err := readAccountQuestion(payload)
	if err != nil {
		e.Logger.Warn("a counterparty's account check is not well formed", "vasp", from, "err", err)
		return undefined(notWellFormed)
	}
	if why := e.objection(from, ivms101.Occasion{Inbound: true, AccountCheck: true}, parts); why != "" {
		return undefined(why)
	}
	answered, err := e.Backend.VerifyAccount(ctx, verifyAccountBody(from, p))
	switch {
	case err == nil:
		a := &accountAnswer{Result: answered.Result, Reason: answered.Reason, Message: answered.Message, VerifiedAt: answered.VerifiedAt}
		return a.complete(e.Now())
	case notAsked(err):
		return nil
	default:
		e.Logger.Warn("our backend gave no usable answer to an account check", "err", err)
		return undefined(noUsableAnswer)
	}
}

// readAccountQuestion reads an account check, which has an account.
func readAccountQuestion(payload []byte) (*accountPayload, *ivms101.Payload, error) {
	p, err := decode[accountPayload](payload)
	if err != nil {
		return nil, nil, err
	}
	parts, err := ivms101.ParsePayload(payload)
	if err == nil && parts.Beneficiary.Account() == "" {
		err = errNoAccount
	}
	return p, parts, err
}

var errNoAccount = errors.New("the beneficiary has no account")

func accountText(a *accountAnswer) []byte {
	t := newText().str("accountVerificationResult", a.Result)
	if a.Reason != "" {
		t.str("reason", a.Reason)
	}
	if a.Message != "" {
		t.str("message", a.Message)
	}
	return t.str("verifiedAt", a.VerifiedAt).end()
}
