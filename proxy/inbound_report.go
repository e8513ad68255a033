package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// answerReport takes a counterparty's word on a verification that it
// originates: that its coins moved, or that it has failed.
func (e *Enclave) answerReport(ctx context.Context, a *envelope.Authentic, pinned *identity.Public) ([]byte, error) {
	const op = "answer a report"
	defer e.Own.Consume(keyring.UseOf(&a.Header)) // also when it is not even opened
	from := a.Header.Sender
	if !e.budgets.reports.take(from) || e.outbox.crowded(from) {
		return nil, e.overBudget(&a.Header)
	}
	unlock, err := e.inflight.lock(ctx, a.Header.Verification)
	if err != nil {
		return nil, fail(op, Unavailable, err)
	}
	defer unlock()
	body, err := e.openSealed(a)
	if err != nil {
		return nil, err
	}
	record, want, err := e.readReport(a, body.Payload)
	if err != nil {
		return nil, e.metrics.refuse(op, "payload", err)
	}
	if err := e.mayReply(ctx, a, body, pinned); err != nil {
		return nil, err
	}
	known, err := e.recordReport(ctx, a, record)
	if err != nil {
		return nil, err
	}
	return e.reply(ctx, a, want, body.ReplyBundle, reportAnswerText(known), pinned)
}

// record is what a report makes of a row: the callback that tells our
// backend, nil when the row stays as it is.
type record struct {
	verb  string // of the audit entry
	write func(row *storage.Verification) (callback []byte)
	// unknown is what is remembered of a verification that has not come.
	unknown *storage.Receipt
}

// recordReport changes the row that a report is about, in one transaction with
// the callback that tells our backend of it. It says whether we are the
// beneficiary of such a verification. What is opened is written down, whatever
// becomes of it.
func (e *Enclave) recordReport(ctx context.Context, a *envelope.Authentic, r *record) (known bool, err error) {
	const op = "record a report"
	from, id := a.Header.Sender, a.Header.Verification
	for {
		row, err := e.History.Verification(ctx, from, id)
		known := err == nil && row.Received
		change := &storage.Change{}
		outcome, reason := "unknown", ""
		switch {
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return false, fail(op, Storage, err)
		case !known:
			if !e.budgets.unknown.take(from) {
				return false, e.overBudget(&a.Header)
			}
			if err != nil { // of a transfer to ourselves that has not come in, the row itself tells
				change.Receipt = r.unknown
			}
		default:
			outcome = "unchanged"
			if callback := r.write(row); callback != nil {
				outcome, reason = row.Result.String(), auditReason(row.Reason)
				change.Verification, change.Outbox = row, e.callbackEntry(row, callback)
			}
		}
		change.Audit = []storage.AuditEntry{audit.Verification(e.Now(), audit.Peer, r.verb, id, from, outcome, reason)}
		err = e.commit(ctx, change)
		switch {
		case errors.Is(err, storage.ErrConflict):
			continue
		case err != nil:
			return false, fail(op, Storage, err)
		}
		return known, nil
	}
}

// readReport reads a report, and says what it makes of its row and which
// answer it gets.
func (e *Enclave) readReport(a *envelope.Authentic, payload []byte) (*record, envelope.MessageType, error) {
	if a.Header.Type == envelope.TxReport {
		p, at, err := readTx(payload, a.Header.Created.Add(e.Skew))
		if err != nil {
			return nil, 0, err
		}
		write := func(row *storage.Verification) []byte { return e.writeTx(row, p, at) }
		return &record{verb: audit.OpenTx, write: write}, envelope.TxReportAnswer, nil
	}
	p, err := decode[errorPayload](payload)
	if err != nil {
		return nil, 0, err
	}
	return &record{audit.OpenError, func(row *storage.Verification) []byte { return writeFailure(row, p) }, e.withdrawn(a)}, envelope.ErrorReportAnswer, nil
}

// readTx reads a transaction report. A time after the envelope's own would
// shut out the reports that correct it.
func readTx(payload []byte, latest time.Time) (*txPayload, time.Time, error) {
	p, err := decode[txPayload](payload)
	if err != nil {
		return nil, time.Time{}, err
	}
	at, ok := parseTime(p.OrderedAt)
	if !ok || at.After(latest) || p.TxHash == "" || len(p.TxHash) > maxText || len(p.VOut) > maxText {
		return nil, time.Time{}, errors.New("a transaction report needs a hash and a time")
	}
	return p, at.Truncate(time.Millisecond), nil
}

// writeTx writes a reported transaction into its row. A report that is not
// newer than the one that is stored changes nothing: a replayed one cannot put
// an old hash back (attack K4).
func (e *Enclave) writeTx(row *storage.Verification, p *txPayload, at time.Time) (callback []byte) {
	if !row.OrderedAt.Before(at) {
		return nil
	}
	if row.Result != storage.Verified {
		e.metrics.unverified.Inc()
		e.Logger.Warn("a counterparty reports a transaction whose verification is not VERIFIED", "vasp", row.Originating, "verification", row.UUID, "result", row.Result.String())
	}
	row.TxHash, row.VOut, row.OrderedAt = p.TxHash, p.VOut, at
	return txCallback(row.UUID, *p)
}

// writeFailure writes a reported failure into its row. What our own side has
// refused, nobody else's word changes (attack A7).
func writeFailure(row *storage.Verification, p *errorPayload) (callback []byte) {
	if row.Result != storage.Verified {
		return nil
	}
	result, err := storage.ParseResult(p.Result)
	if err != nil {
		result = storage.Error
	}
	row.Result, row.Message = failed(result), clip(p.Message, maxMessage)
	row.Reason = reasonOf(row.Result, p.Reason)
	return errorCallback(row.UUID, errorPayload{row.Result.String(), row.Reason, row.Message})
}

// withdrawn remembers that a verification was reported as failed before it
// came: its envelope may be on its way for a while yet, and our backend must
// not be asked for what its sender has given up.
func (e *Enclave) withdrawn(a *envelope.Authentic) *storage.Receipt {
	return &storage.Receipt{
		Originating: a.Header.Sender, UUID: a.Header.Verification, EnvelopeHash: a.Hash(),
		PayloadMAC: withdrawn, Expires: e.Now().Add(receiptLife),
	}
}
