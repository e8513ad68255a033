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

// answerTx takes a counterparty's word that the coins of a verification
// moved.
func (e *Enclave) answerTx(ctx context.Context, a *envelope.Authentic, pinned *identity.Public) ([]byte, error) {
	const op = "answer a transaction report"
	key := verificationKey{a.Header.Sender, a.Header.Verification}
	unlock, err := e.inflight.lock(ctx, key)
	if err != nil {
		return nil, fail(op, Unavailable, err)
	}
	defer unlock()
	defer e.Own.Consume(keyring.UseOf(&a.Header)) // also when it is not even opened
	body, err := e.openSealed(a)
	if err != nil {
		return nil, err
	}
	p, at, err := readTx(body.Payload)
	if err != nil {
		return nil, e.metrics.refuse(op, "payload", err)
	}
	known, err := e.recordTx(ctx, key, p, at)
	if err != nil {
		return nil, err
	}
	return e.reply(ctx, a, envelope.TxReportAnswer, body.ReplyBundle, reportAnswerText(known), pinned)
}

// recordTx stores a reported transaction and, once per change, the callback
// that tells our backend. A report that is not newer than the one that is
// stored changes nothing: a replayed one cannot put an old hash back. It says
// whether there is such a verification.
func (e *Enclave) recordTx(ctx context.Context, key verificationKey, p *txPayload, at time.Time) (known bool, err error) {
	const op = "record a transaction report"
	for {
		row, err := e.History.Verification(ctx, key.originating, key.id)
		switch {
		case errors.Is(err, storage.ErrNotFound), err == nil && !row.Received:
			return false, nil
		case err != nil:
			return false, fail(op, Storage, err)
		}
		if !row.OrderedAt.Before(at) {
			return true, nil
		}
		if row.Result != storage.Verified {
			e.metrics.unverified.Inc()
			e.Logger.Warn("a counterparty reports a transaction whose verification is not VERIFIED", "vasp", key.originating, "verification", key.id, "result", row.Result.String())
		}
		row.TxHash, row.VOut, row.OrderedAt = p.TxHash, p.VOut, at
		change := &storage.Change{
			Verification: row,
			Audit:        []storage.AuditEntry{audit.Verification(e.Now(), audit.Peer, audit.OpenTx, key.id, key.originating, audit.OK, "")},
			Outbox:       e.callbackEntry(row, txCallback(row.UUID, *p)),
		}
		err = e.History.Apply(ctx, change)
		switch {
		case errors.Is(err, storage.ErrConflict):
			continue
		case err != nil:
			return false, fail(op, Storage, err)
		}
		e.outbox.add(change.Outbox...)
		return true, nil
	}
}

// readTx reads a transaction report. A time far ahead would shut out the
// reports that correct it, but only those of the same sender.
func readTx(payload []byte) (*txPayload, time.Time, error) {
	p, err := decode[txPayload](payload)
	if err != nil {
		return nil, time.Time{}, err
	}
	at, ok := parseTime(p.OrderedAt)
	if !ok || p.TxHash == "" || len(p.TxHash) > maxText || len(p.VOut) > maxText {
		return nil, time.Time{}, errors.New("a transaction report needs a hash and a time")
	}
	return p, at.Truncate(time.Millisecond), nil
}

// answerError takes a counterparty's word that a verification has failed.
func (e *Enclave) answerError(ctx context.Context, a *envelope.Authentic, pinned *identity.Public) ([]byte, error) {
	const op = "answer an error report"
	defer e.Own.Consume(keyring.UseOf(&a.Header)) // also when it is not even opened
	key := verificationKey{a.Header.Sender, a.Header.Verification}
	unlock, err := e.inflight.lock(ctx, key)
	if err != nil {
		return nil, fail(op, Unavailable, err)
	}
	defer unlock()
	body, err := e.openSealed(a)
	if err != nil {
		return nil, err
	}
	p, err := decode[errorPayload](body.Payload)
	if err != nil {
		return nil, e.metrics.refuse(op, "payload", err)
	}
	if err := e.recordError(ctx, key, a.Hash(), p); err != nil {
		return nil, err
	}
	return e.reply(ctx, a, envelope.ErrorReportAnswer, body.ReplyBundle, reportAnswerText(true), pinned)
}

// recordError stores the reported state and, once per change, the callback
// that tells our backend.
func (e *Enclave) recordError(ctx context.Context, key verificationKey, hash [32]byte, p *errorPayload) error {
	const op = "record an error report"
	row, err := e.History.Verification(ctx, key.originating, key.id)
	if errors.Is(err, storage.ErrNotFound) {
		return e.withdraw(ctx, key, hash)
	}
	if err != nil {
		return fail(op, Storage, err)
	}
	if !row.Received {
		return nil // of a transfer to ourselves that never came in
	}
	if row.Result != storage.Verified {
		return nil // what our own side has refused, nobody else's word changes (A7)
	}
	result, err := storage.ParseResult(p.Result)
	if err != nil {
		result = storage.Error
	}
	row.Result, row.Message = failed(result), clip(p.Message, maxMessage)
	row.Reason = reasonOf(row.Result, p.Reason)
	change := &storage.Change{
		Verification: row,
		Audit:        []storage.AuditEntry{audit.Verification(e.Now(), audit.Peer, audit.OpenError, key.id, key.originating, row.Result.String(), auditReason(row.Reason))},
		Outbox:       e.callbackEntry(row, errorCallback(row.UUID, errorPayload{row.Result.String(), row.Reason, row.Message})),
	}
	if err := e.History.Apply(ctx, change); err != nil {
		return fail(op, Storage, err)
	}
	e.outbox.add(change.Outbox...)
	return nil
}

// withdraw remembers that a verification was reported as failed before it
// came: its envelope may be on its way for a while yet, and our backend must
// not be asked for what its sender has given up.
func (e *Enclave) withdraw(ctx context.Context, key verificationKey, hash [32]byte) error {
	now := e.Now()
	err := e.History.Apply(ctx, &storage.Change{
		Receipt: &storage.Receipt{Originating: key.originating, UUID: key.id, EnvelopeHash: hash, PayloadMAC: withdrawn, Expires: now.Add(receiptLife)},
		Audit:   []storage.AuditEntry{audit.Verification(now, audit.Peer, audit.OpenError, key.id, key.originating, "unknown", "")},
	})
	if err != nil {
		return fail("record an error report", Storage, err)
	}
	return nil
}
