package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// reportLife is how long the delivery of a report is tried that our backend
// made, and lateReportLife of the one that a timeout makes: its counterparty
// may never have heard of the verification, and then has nothing to set right.
const (
	reportLife     = 7 * 24 * time.Hour
	lateReportLife = 24 * time.Hour
)

// ReportTransaction takes our backend's word that the coins of a verification
// moved (contract 2.7). It is a fact, so it is taken whatever became of the
// verification; the same one again changes nothing, and another one, as of a
// transaction that replaced the first, takes its place. When it returns nil
// the report is durable and will reach the counterparty.
func (e *Enclave) ReportTransaction(ctx context.Context, r *txReport) error {
	const op = "report transaction"
	return e.changeSent(ctx, r.id, op, func(row *storage.Verification) (*storage.OutboxEntry, *storage.AuditEntry) {
		if row.TxHash == r.hash && row.VOut == r.vout {
			return nil, nil
		}
		if row.Result != storage.Verified {
			e.metrics.unverified.Inc()
			e.Logger.Warn("our backend reports a transaction whose verification is not VERIFIED", "verification", row.UUID, "result", row.Result.String())
		}
		row.TxHash, row.VOut = r.hash, r.vout
		// Rises with every report: the counterparty tells by it which is the last.
		row.OrderedAt = laterOf(e.Now().Truncate(time.Millisecond), row.OrderedAt.Add(time.Millisecond))
		written := audit.Verification(e.Now(), audit.Backend, audit.ReportTx, row.UUID, row.Beneficiary, audit.OK, "")
		return e.report(storage.ToPeerTx, row, txText(row), reportLife), &written
	})
}

// ReportError takes our backend's word that a transfer will never happen
// (contract 2.8). What waits for an answer ends by it, and is called back as
// any end is; what is VERIFIED changes to what was reported, at the
// counterparty, too. What failed before keeps its own reason, and the
// counterparty has it from there, unless it was we who did not agree with its
// answer: then it hears of it now.
func (e *Enclave) ReportError(ctx context.Context, r *errorReport) error {
	const op = "report error"
	return e.changeSent(ctx, r.id, op, func(row *storage.Verification) (*storage.OutboxEntry, *storage.AuditEntry) {
		result := failed(r.result)
		reason := reasonOf(result, r.reason)
		switch {
		case row.Result == storage.Wait, row.Result == storage.Verified:
			row.Result, row.Reason, row.Message = result, reason, r.message
		case row.Reason != accountNotMatched:
			return nil, nil
		}
		written := audit.Verification(e.Now(), audit.Backend, audit.ReportError, row.UUID, row.Beneficiary, result.String(), auditReason(reason))
		return e.report(storage.ToPeerError, row, errorText(errorPayload{result.String(), reason, r.message}), reportLife), &written
	})
}

// failed is the result that a report of failure leaves: it cannot make a
// transfer good, or undecided (attack A7).
func failed(reported storage.Result) storage.Result {
	if reported == storage.Verified || reported == storage.Wait {
		return storage.Error
	}
	return reported
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// report is an entry that tells the counterparty of a row we originated.
func (e *Enclave) report(kind storage.OutboxKind, row *storage.Verification, body []byte, life time.Duration) *storage.OutboxEntry {
	now := e.Now()
	return &storage.OutboxEntry{
		Kind: kind, Originating: row.Originating, UUID: row.UUID, Counterparty: row.Beneficiary,
		Body: body, Created: now, Deadline: now.Add(life),
	}
}

// changeSent lets change rewrite a row that we originated, and stores it in
// one transaction with the report and the audit entry that change gives; no
// report means that there is nothing to do. It decides again when somebody
// was faster.
func (e *Enclave) changeSent(ctx context.Context, id uuid.UUID, op string, change func(*storage.Verification) (*storage.OutboxEntry, *storage.AuditEntry)) error {
	if e.outbox.full() {
		return outboxFull(op)
	}
	for {
		row, err := e.sentRow(ctx, id)
		if err != nil {
			return err
		}
		waited := row.Result == storage.Wait
		entry, written := change(row)
		if entry == nil {
			return nil
		}
		c := &storage.Change{Verification: row, Outbox: []*storage.OutboxEntry{entry}, Audit: []storage.AuditEntry{*written}}
		ended := waited && row.Result != storage.Wait
		if ended {
			c.Outbox = append(c.Outbox, e.resultEntry(row)...)
			if err := e.dropQuestion(ctx, row, c); err != nil {
				return fail(op, Storage, err)
			}
		}
		err = e.commit(ctx, c)
		switch {
		case errors.Is(err, storage.ErrConflict):
			continue
		case err != nil:
			return fail(op, Storage, err)
		}
		e.Own.Forget(c.DropOwnKeys...)
		if ended {
			e.metrics.results.WithLabelValues("sent", row.Result.String()).Inc()
		}
		return nil
	}
}

// dropQuestion ends the delivery of a verification, and with it the key for
// its answer, in the change that ends the verification.
func (e *Enclave) dropQuestion(ctx context.Context, row *storage.Verification, c *storage.Change) error {
	seq, waits := e.outbox.first(row)
	if !waits {
		return nil // its delivery will find that the verification has ended
	}
	entry, err := e.History.OutboxEntry(ctx, seq)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c.DropOutbox, c.DropOwnKeys = []uint64{seq}, replyKeysOf(entry)
	return nil
}

// sentRow finds a row that our backend may report about: one that we
// originated.
func (e *Enclave) sentRow(ctx context.Context, id uuid.UUID) (*storage.Verification, error) {
	return e.rowOf(ctx, id, "originating", func(row *storage.Verification) bool { return row.Sent })
}

// rowOf finds the row of an id in which we have a role (contract 6.4: on
// reports and inquiries an unknown id is a bad request).
func (e *Enclave) rowOf(ctx context.Context, id uuid.UUID, role string, has func(*storage.Verification) bool) (*storage.Verification, error) {
	const op = "find verification"
	rows, err := e.History.Lookup(ctx, id)
	switch {
	case errors.Is(err, storage.ErrNotFound), err == nil && len(rows) == 0:
		return nil, &Error{Op: op, Kind: Invalid, Code: "VERIFICATION-NOT-FOUND", Message: fmt.Sprintf("Verification(%s) is not found", id)}
	case err != nil:
		return nil, fail(op, Storage, err)
	}
	for _, row := range rows {
		if has(row) {
			return row, nil
		}
	}
	return nil, &Error{Op: op, Kind: Invalid, Code: "VASP-NOT-MATCHED", Message: "You are not the " + role + " VASP for the verification"}
}

// deliverReport tells the counterparty what became of a verification: a
// transaction report or an error report. The outbox keeps it behind whatever
// else is on its way about the same verification.
func (e *Enclave) deliverReport(ctx context.Context, row *storage.Verification, entry *storage.OutboxEntry) error {
	kind, want := envelope.ErrorReport, envelope.ErrorReportAnswer
	if entry.Kind == storage.ToPeerTx {
		kind, want = envelope.TxReport, envelope.TxReportAnswer
	}
	if e.expired(entry) {
		e.metrics.undelivered.WithLabelValues(kind.String(), "deadline").Inc()
		e.Logger.Error("the counterparty never took a report; its history may say otherwise than ours", "message", kind.String(), "vasp", row.Beneficiary, "verification", row.UUID)
		return e.drop(ctx, entry)
	}
	if row.Beneficiary == e.Self {
		return e.tellOurselves(ctx, row, entry)
	}
	asking, cancel := context.WithTimeout(ctx, asyncTimeout)
	defer cancel()
	answer, err := e.ask(asking, question{
		to: row.Beneficiary, kind: kind, want: want, id: row.UUID,
		keyType: row.KeyType, scope: e.scope(row.KeyType, row.Beneficiary, row.Asset.Symbol, row.Asset.Network, row.BeneficiaryAccount),
		payload: entry.Body, life: requestLife,
	})
	if err != nil {
		return err
	}
	taken, err := decode[reportAnswer](answer)
	if err == nil && taken.Result == nil {
		err = errors.New("the answer to a report has no result")
	}
	if err != nil {
		return e.metrics.refuse("read the answer", "answer", err)
	}
	if !*taken.Result {
		e.metrics.undelivered.WithLabelValues(kind.String(), "unknown").Inc()
		e.Logger.Error("the counterparty has no such verification, so a report says nothing to it; its history is not what ours is", "message", kind.String(), "vasp", row.Beneficiary, "verification", row.UUID)
	}
	return e.drop(ctx, entry)
}

// tellOurselves ends a report about a transfer to ourselves: the row says it
// already, and only our backend, as the beneficiary's, has to hear of it.
func (e *Enclave) tellOurselves(ctx context.Context, row *storage.Verification, entry *storage.OutboxEntry) error {
	const op = "report to ourselves"
	change := &storage.Change{DropOutbox: []uint64{entry.Seq}}
	if row.Received {
		body, err := reportCallback(row, entry)
		if err != nil {
			return fail(op, Internal, err)
		}
		change.Outbox = e.callbackEntry(row, body)
	}
	if err := e.commit(ctx, change); err != nil {
		return fail(op, Storage, err)
	}
	return nil
}

// reportCallback is the callback that a report causes at its receiver.
func reportCallback(row *storage.Verification, entry *storage.OutboxEntry) ([]byte, error) {
	if entry.Kind == storage.ToPeerTx {
		p, err := decode[txPayload](entry.Body)
		if err != nil {
			return nil, err
		}
		return txCallback(row.UUID, *p), nil
	}
	p, err := decode[errorPayload](entry.Body)
	if err != nil {
		return nil, err
	}
	return errorCallback(row.UUID, *p), nil
}
