package proxy

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Custody is what an operator does with the keys of the store and with rows as
// a whole. What changes something writes the given entry in the same
// transaction. Errors are those of package storage.
type Custody interface {
	KeyStatus(ctx context.Context) (*storage.KeyStatus, error)
	RotateKEK(ctx context.Context, kek *atrest.KEK, entry storage.AuditEntry) error
	RotateData(ctx context.Context, scope storage.DataScope, begin, end storage.AuditEntry) (old []uint32, err error)

	Rows(ctx context.Context, f storage.Filter, place string, limit int) (rows []*storage.Verification, next string, err error)
	Erase(ctx context.Context, originating identity.VASPID, id uuid.UUID, entry func(hash [32]byte) storage.AuditEntry) error
	PutHold(ctx context.Context, h *storage.Hold, entry storage.AuditEntry) error
	DropHold(ctx context.Context, h *storage.Hold, entry storage.AuditEntry) error
	Holds(ctx context.Context) ([]storage.Hold, error)

	EraseBefore(ctx context.Context, before time.Time, note func(rows int) storage.AuditEntry) (storage.Swept, error)
	Shred(ctx context.Context, before time.Time, note, rekey func(from, to time.Time) storage.AuditEntry) (shredded int, err error)
}

func (o *operator) custody() (Custody, error) {
	if o.Custody == nil {
		return nil, &Error{Op: "find the store", Kind: NotFound, Message: "This enclave's store has no such command."}
	}
	return o.Custody, nil
}

// readInput reads the body of a command.
func readInput(w http.ResponseWriter, r *http.Request, in any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err == nil && len(body) > 0 {
		err = wirejson.Unmarshal(body, in)
	}
	if err != nil {
		return invalid("BAD-REQUEST", "The request cannot be read.")
	}
	return nil
}

// entry is an operator's.
func (o *operator) entry(r *http.Request, verb, object, reason string) storage.AuditEntry {
	if reason != "" {
		reason = " " + reason
	}
	return storage.AuditEntry{Time: o.Now(), Actor: audit.Operator, Verb: verb, Object: object, Outcome: audit.OK, Reason: o.by(r) + reason}
}

// note writes an entry of its own.
func (o *operator) note(r *http.Request, verb, object, reason string) error {
	if err := o.record(r.Context(), o.entry(r, verb, object, reason)); err != nil {
		return fail("write the audit entry", Storage, err)
	}
	return nil
}

func refuseCustody(sentence string) error {
	return &Error{Op: "keys and history", Kind: Invalid, Code: "REFUSED", Message: sentence}
}
