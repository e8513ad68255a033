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
