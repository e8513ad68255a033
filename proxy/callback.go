package proxy

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// deliverCallback tells our backend what became of a verification, until it
// answers 200 {"result":true} (contract 3.4). The entry says it all, or the
// row does: its final state was stored before the entry was.
func (e *Enclave) deliverCallback(ctx context.Context, row *storage.Verification, entry *storage.OutboxEntry) error {
	body := entry.Body
	if body == nil {
		body = resultCallback(row)
	}
	if err := e.Backend.Callback(ctx, body); err != nil {
		return callbackFailed(err)
	}
	if err := e.drop(ctx, entry); err != nil {
		return err
	}
	if entry.Body == nil {
		e.metrics.callback.Observe(e.Now().Sub(entry.Created).Seconds())
	}
	return nil
}

// callbackFailed tells a backend that is away, which no callback would reach,
// from one that does not take this callback, and may take the next.
func callbackFailed(err error) error {
	const op = "call our backend back"
	var v *vasp.Error
	if errors.As(err, &v) && v.Problem != vasp.Unreachable && v.Problem != vasp.Timeout {
		return &Error{Op: op, Kind: Misanswered, Err: err}
	}
	return &Error{Op: op, Kind: Unavailable, Code: "BACKEND-UNAVAILABLE", Err: err}
}

// resultCallback is VERIFICATION_RESULT. A verified one carries what the
// beneficiary's VASP said; any other carries all four parts.
func resultCallback(row *storage.Verification) []byte {
	ivms := newText()
	if row.Result != storage.Verified {
		ivms.raw("originator", row.IVMS101.Originator)
	}
	ivms.raw("beneficiary", row.IVMS101.Beneficiary)
	if row.Result != storage.Verified {
		ivms.raw("originatingVASP", row.IVMS101.OriginatingVASP).raw("beneficiaryVASP", row.IVMS101.BeneficiaryVASP)
	}
	data := newText().
		str("verificationUuid", row.UUID.String()).str("verificationResult", row.Result.String()).
		str("reason", row.Reason).str("message", row.Message).object("ivms101", ivms)
	return newText().str("callbackType", "VERIFICATION_RESULT").object("data", data).end()
}

// errorCallback is ERROR_REPORT, for the beneficiary's backend.
func errorCallback(id uuid.UUID, p errorPayload) []byte {
	data := newText().
		str("verificationUuid", id.String()).str("result", p.Result).
		str("reason", p.Reason).str("message", p.Message)
	return newText().str("callbackType", "ERROR_REPORT").object("data", data).end()
}

// txCallback is TX_REPORT, for the beneficiary's backend.
func txCallback(id uuid.UUID, p txPayload) []byte {
	data := newText().str("verificationUuid", id.String()).str("txHash", p.TxHash)
	if p.VOut != "" {
		data.str("vout", p.VOut)
	}
	return newText().str("callbackType", "TX_REPORT").object("data", data).end()
}

// resultEntry has the backend told of a verification's end, from the row; none
// when it polls.
func (e *Enclave) resultEntry(row *storage.Verification) []*storage.OutboxEntry {
	if !e.Callbacks {
		return nil
	}
	return []*storage.OutboxEntry{{Kind: storage.ToBackend, Originating: row.Originating, UUID: row.UUID, Created: row.CreatedAt}}
}

// callbackEntry has the backend told of what the row alone does not say; none
// when it polls.
func (e *Enclave) callbackEntry(row *storage.Verification, body []byte) []*storage.OutboxEntry {
	entries := e.resultEntry(row)
	for _, entry := range entries {
		entry.Created, entry.Body = e.Now(), body
	}
	return entries
}
