package proxy

import (
	"context"
	"errors"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// answerInquiry tells the beneficiary's enclave where a transfer stands that
// we originate. Who is not its beneficiary hears what a stranger to the id
// hears (attack O1).
func (e *Enclave) answerInquiry(ctx context.Context, a *envelope.Authentic, pinned *identity.Public) ([]byte, error) {
	const op = "answer an inquiry"
	if err := e.acceptOnce(ctx, a); err != nil {
		return nil, err
	}
	defer e.Own.Consume(keyring.UseOf(&a.Header)) // also when it is not even opened
	if !e.budgets.inquiries.take(a.Header.Sender) {
		return nil, e.overBudget(&a.Header)
	}
	body, err := e.openSealed(a)
	if err != nil {
		return nil, err
	}
	if err := e.mayReply(ctx, a, body, pinned); err != nil {
		return nil, err
	}
	answer, err := e.whereItStands(ctx, a)
	if err != nil {
		return nil, err
	}
	said := answer.Status
	if answer.Code != "" {
		said = answer.Code
	}
	entry := audit.Verification(e.Now(), audit.Peer, audit.OpenInquiry, a.Header.Verification, a.Header.Sender, said, "")
	if err := e.History.Apply(ctx, &storage.Change{Receipt: e.onceReceipt(a), Audit: []storage.AuditEntry{entry}}); err != nil {
		return nil, fail(op, Storage, err)
	}
	text := newText().str("code", answer.Code).end()
	if answer.Code == "" {
		text = answer.text(newText())
	}
	return e.reply(ctx, a, envelope.TxInquiryAnswer, body.ReplyBundle, text, pinned)
}

// whereItStands asks our backend. One that is away or late is asked again by
// the counterparty, when it likes; one that is not configured leaves the word
// to the history.
func (e *Enclave) whereItStands(ctx context.Context, a *envelope.Authentic) (*inquiryAnswer, error) {
	const op = "ask our backend where a transfer stands"
	row, err := e.History.Verification(ctx, e.Self, a.Header.Verification)
	switch {
	case errors.Is(err, storage.ErrNotFound), err == nil && row.Beneficiary != a.Header.Sender:
		if !e.budgets.unknown.take(a.Header.Sender) {
			return nil, e.overBudget(&a.Header)
		}
		return &inquiryAnswer{Code: inquiryNotFound}, nil
	case err != nil:
		return nil, fail(op, Storage, err)
	}
	said, err := e.Backend.TransactionStatus(ctx, newText().str("verificationUuid", row.UUID.String()).end())
	var problem *vasp.Error
	switch {
	case err == nil && (said.VerificationUUID == "" || said.VerificationUUID == row.UUID.String()):
		return fromRow(row, &inquiryAnswer{Status: said.Status, TxHash: said.TxHash, VOut: said.VOut}), nil
	case err == nil:
		e.Logger.Warn("our backend told the transaction status of another verification than it was asked about", "verification", row.UUID)
		return &inquiryAnswer{Code: inquiryNoAnswer}, nil
	case errors.As(err, &problem) && problem.Problem == vasp.NotConfigured:
		return fromRow(row, &inquiryAnswer{Status: statusOf(row)}), nil
	case errors.As(err, &problem) && (problem.Problem == vasp.Unreachable || problem.Problem == vasp.Timeout):
		return nil, &Error{Op: op, Kind: Unavailable, Err: err}
	default:
		e.Logger.Warn("our backend gave no answer to an inquiry", "verification", row.UUID, "err", err)
		return &inquiryAnswer{Code: inquiryNoAnswer}, nil
	}
}

// fromRow fills in the transaction that our backend has reported and does not
// repeat (contract 3.3 lets it read the hash back from the enclave).
func fromRow(row *storage.Verification, a *inquiryAnswer) *inquiryAnswer {
	if a.TxHash == "" {
		a.TxHash, a.VOut = row.TxHash, row.VOut
	}
	return a
}

// statusOf is the least that the history knows of a transfer. A failure that
// was reported after the transaction counts more than the transaction; one that
// the beneficiary's VASP refused may have been sent all the same.
func statusOf(row *storage.Verification) string {
	alive := row.Result == storage.Verified || row.Result == storage.Wait
	switch {
	case row.TxHash != "" && (alive || row.Result == storage.Denied):
		return "PROCESSING"
	case alive:
		return "PENDING"
	}
	return "CANCELED"
}
