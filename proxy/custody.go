package proxy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
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

// KeysView is the keys of the store as an operator sees them.
type KeysView struct {
	KEK      string        `json:"kekId"`
	Keys     []KeyView     `json:"dataKeys"`
	Rotation *RotationView `json:"rotation,omitempty"`
}

// KeyView is one data key. Times that are absent are unknown, or of no
// meaning for the key.
type KeyView struct {
	ID      uint32     `json:"id"`
	Purpose string     `json:"purpose"`
	From    *time.Time `json:"from,omitempty"`
	To      *time.Time `json:"to,omitempty"`
	Created *time.Time `json:"createdAt,omitempty"`
	Current bool       `json:"current"`
	Erased  uint64     `json:"erasedRows"`
}

// RotationView is a replacement of data keys under way.
type RotationView struct {
	Keys     []uint32  `json:"keys"`
	Since    time.Time `json:"since"`
	Moved    uint64    `json:"movedValues"`
	Checking bool      `json:"checking"`
	Problem  string    `json:"problem,omitempty"`
}

func (o *operator) custody() (Custody, error) {
	if o.Custody == nil {
		return nil, &Error{Op: "find the store", Kind: NotFound, Message: "This enclave's store has no such command."}
	}
	return o.Custody, nil
}

func (o *operator) keys(w http.ResponseWriter, r *http.Request) error {
	c, err := o.custody()
	if err != nil {
		return err
	}
	s, err := c.KeyStatus(r.Context())
	if err != nil {
		return fail("read the status of the keys", Storage, err)
	}
	return writeView(w, newKeysView(s))
}

func newKeysView(s *storage.KeyStatus) KeysView {
	v := KeysView{KEK: s.KEK, Keys: []KeyView{}}
	for _, k := range s.Keys {
		v.Keys = append(v.Keys, KeyView{
			ID: k.ID, Purpose: k.Purpose, From: known(k.From), To: known(k.To), Created: known(k.Created), Current: k.Current, Erased: k.Erased,
		})
	}
	if r := s.Rotation; r != nil {
		v.Rotation = &RotationView{r.Keys, r.Since, r.Moved, r.Checking, r.Problem}
	}
	return v
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
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

// rotateKEK wraps the data keys under another key. The key comes from a source
// of keys, opened by this process, or as the text that its setting will have;
// never from a command line.
func (o *operator) rotateKEK(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Source string `json:"source"`
		Value  string `json:"value"`
	}
	if err := readInput(w, r, &in); err != nil {
		return err
	}
	c, err := o.custody()
	if err != nil {
		return err
	}
	if o.OpenKEK == nil {
		return refuseCustody("this enclave reads no other key")
	}
	kek, err := o.OpenKEK(r.Context(), in.Source, in.Value)
	if err != nil { // its words name settings and lengths, never a byte
		return refuseCustody("the new key cannot be had: " + err.Error())
	}
	s, err := c.KeyStatus(r.Context())
	if err != nil {
		return fail("read the status of the keys", Storage, err)
	}
	if s.KEK == kek.ID() {
		return refuseCustody("the data keys are wrapped under this key already (" + kek.ID() + "): give the new one")
	}
	if err := c.RotateKEK(r.Context(), kek, o.entry(r, audit.RotateKEK, kek.ID(), "")); err != nil {
		return fail("rotate the key-encryption key", Storage, err)
	}
	o.Logger.Warn("the data keys are wrapped under another key now", "kek", kek.ID(), "before", s.KEK, "by", o.by(r))
	return o.keys(w, r)
}

func (o *operator) rotateData(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		All    bool   `json:"all"`
		Period string `json:"period"` // a day in it
	}
	if err := readInput(w, r, &in); err != nil {
		return err
	}
	c, err := o.custody()
	if err != nil {
		return err
	}
	scope := storage.DataScope{All: in.All}
	if in.Period != "" {
		if scope.Period, err = time.Parse(time.DateOnly, in.Period); err != nil {
			return invalid("INVALID-PERIOD", "The period is named by a day in it: write YYYY-MM-DD.")
		}
	}
	end := o.entry(r, audit.RotatedData, "", "")
	end.Actor = audit.System
	switch _, err = c.RotateData(r.Context(), scope, o.entry(r, audit.RotateData, in.Period, ""), end); {
	case errors.Is(err, storage.ErrRotating):
		return refuseCustody("data keys are being replaced already: keys status says how far that is")
	case errors.Is(err, storage.ErrNotFound):
		return refuseCustody("there is no data key for that period")
	case err != nil:
		return fail("replace data keys", Storage, err)
	}
	return o.keys(w, r)
}

func refuseCustody(sentence string) error {
	return &Error{Op: "keys and history", Kind: Invalid, Code: "REFUSED", Message: sentence}
}

// HoldView is one legal hold.
type HoldView struct {
	UUID        string          `json:"verificationUuid,omitempty"`
	Originating identity.VASPID `json:"originatingVaspId,omitzero"`
	From        *time.Time      `json:"from,omitempty"` // of a period
	To          *time.Time      `json:"to,omitempty"`
	Reason      string          `json:"reason"`
	By          string          `json:"by"`
	Since       time.Time       `json:"since"`
}

func (o *operator) listHolds(w http.ResponseWriter, r *http.Request) error {
	c, err := o.custody()
	if err != nil {
		return err
	}
	holds, err := c.Holds(r.Context())
	if err != nil {
		return fail("read the holds", Storage, err)
	}
	views := []HoldView{}
	for _, h := range holds {
		v := HoldView{Originating: h.Originating, From: known(h.From), To: known(h.To), Reason: h.Reason, By: h.By, Since: h.Since}
		if h.UUID != (uuid.UUID{}) {
			v.UUID = h.UUID.String()
		}
		views = append(views, v)
	}
	return writeView(w, views)
}

// reasonCode is what a reason may be: a code or a case number, and no story
// about a person.
var reasonCode = regexp.MustCompile(`^[A-Za-z0-9._:/#-]{1,64}$`)

type custodyInput struct {
	Reason      string `json:"reason"`
	Originating string `json:"originatingVaspId"`
	Period      string `json:"period"`
}

func (in *custodyInput) read(w http.ResponseWriter, r *http.Request, reasonNeeded bool) error {
	if err := readInput(w, r, in); err != nil {
		return err
	}
	if (reasonNeeded || in.Reason != "") && !reasonCode.MatchString(in.Reason) {
		return invalid("INVALID-REASON", "The reason must be a code or case number of 1 to 64 letters, digits and . _ : / # - without blanks: it stays in the audit log, and must not tell of a person.")
	}
	return nil
}

// row finds the one row that a command is about.
func (o *operator) row(r *http.Request, originating string) (*storage.Verification, error) {
	id, err := uuid.Parse(r.PathValue("uuid"))
	if err != nil {
		return nil, invalid("INVALID-VERIFICATION-UUID", "The verification is named by its UUID.")
	}
	rows, err := o.History.Lookup(r.Context(), id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, &Error{Op: "find verification", Kind: NotFound, Code: "VERIFICATION-NOT-FOUND", Message: "Verification(" + id.String() + ") is not found."}
	}
	if err != nil {
		return nil, fail("find verification", Storage, err)
	}
	if originating == "" && len(rows) == 1 {
		return rows[0], nil
	}
	for _, row := range rows {
		if row.Originating.String() == originating {
			return row, nil
		}
	}
	return nil, invalid("AMBIGUOUS", "There are %d verifications of this id: say whose with --originating VASP-ID.", len(rows))
}

func (o *operator) eraseHistory(w http.ResponseWriter, r *http.Request) error {
	var in custodyInput
	if err := in.read(w, r, true); err != nil {
		return err
	}
	c, err := o.custody()
	if err != nil {
		return err
	}
	row, err := o.row(r, in.Originating)
	if err != nil {
		return err
	}
	// Nobody writes the row, or is being asked about it, meanwhile.
	unlock, err := o.inflight.lock(r.Context(), row.UUID)
	if err != nil {
		return fail("erase", Unavailable, err)
	}
	defer unlock()
	var proof storage.AuditEntry
	err = c.Erase(r.Context(), row.Originating, row.UUID, func(hash [32]byte) storage.AuditEntry {
		proof = o.entry(r, audit.Erase, row.UUID.String(), in.Reason+" sha256:"+hex.EncodeToString(hash[:]))
		proof.Peer = oppositeOf(row)
		return proof
	})
	switch {
	case errors.Is(err, storage.ErrHeld):
		return refuseCustody("a legal hold keeps this verification: history holds says which")
	case errors.Is(err, storage.ErrUnderWay):
		return refuseCustody("this verification waits for its result: erase it when it has one")
	case errors.Is(err, storage.ErrNotFound):
		return refuseCustody("this verification is not there any more")
	case err != nil:
		return fail("erase", Storage, err)
	}
	o.Logger.Warn("an operator erased a verification", "verification", row.UUID, "by", o.by(r))
	return writeView(w, map[string]string{"verificationUuid": row.UUID.String(), "erasedAt": timestamp(proof.Time), "proof": proof.Reason})
}

func oppositeOf(row *storage.Verification) identity.VASPID {
	if row.Sent {
		return row.Beneficiary
	}
	return row.Originating
}

func (o *operator) holdHistory(w http.ResponseWriter, r *http.Request) error {
	return o.changeHold(w, r, true, o.rowOf)
}

func (o *operator) releaseHistory(w http.ResponseWriter, r *http.Request) error {
	return o.changeHold(w, r, false, o.rowOf)
}

func (o *operator) holdPeriod(w http.ResponseWriter, r *http.Request) error {
	return o.changeHold(w, r, true, periodOf)
}

func (o *operator) releasePeriod(w http.ResponseWriter, r *http.Request) error {
	return o.changeHold(w, r, false, periodOf)
}

func (o *operator) rowOf(r *http.Request, in custodyInput) (*storage.Hold, string, error) {
	row, err := o.row(r, in.Originating)
	if err != nil {
		return nil, "", err
	}
	return &storage.Hold{UUID: row.UUID, Originating: row.Originating}, row.UUID.String(), nil
}

func periodOf(_ *http.Request, in custodyInput) (*storage.Hold, string, error) {
	day, err := time.Parse(time.DateOnly, in.Period)
	if err != nil {
		return nil, "", invalid("INVALID-PERIOD", "The period is named by a day in it: write YYYY-MM-DD.")
	}
	return &storage.Hold{From: day}, in.Period, nil
}

func (o *operator) changeHold(w http.ResponseWriter, r *http.Request, put bool, find func(*http.Request, custodyInput) (*storage.Hold, string, error)) error {
	var in custodyInput
	if err := in.read(w, r, put); err != nil {
		return err
	}
	c, err := o.custody()
	if err != nil {
		return err
	}
	hold, object, err := find(r, in)
	if err != nil {
		return err
	}
	if put {
		hold.Reason, hold.By, hold.Since = in.Reason, o.by(r), o.Now()
		err = c.PutHold(r.Context(), hold, o.entry(r, audit.Hold, object, in.Reason))
	} else {
		err = c.DropHold(r.Context(), hold, o.entry(r, audit.Release, object, in.Reason))
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return refuseCustody(fmt.Sprintf("there is no such %s: history holds lists them", map[bool]string{true: "verification", false: "hold"}[put]))
	case err != nil:
		return fail("change a hold", Storage, err)
	}
	return o.listHolds(w, r)
}
