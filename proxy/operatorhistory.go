package proxy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// An operator may read the history, too. What is read is written down before
// it is shown; filters are not, for they may name an account.

// listHistory answers as the backend's list does, without the personal parts.
func (o *operator) listHistory(w http.ResponseWriter, r *http.Request) error {
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	filter, page, err := readFilter(query)
	if err != nil {
		return err
	}
	if err := o.note(r, audit.ListHistory, "", ""); err != nil {
		return err
	}
	rows, count, err := o.History.List(r.Context(), filter)
	if err != nil {
		return fail("list verifications", Storage, err)
	}
	for i, row := range rows {
		bare := *row
		bare.IVMS101 = storage.Parts{}
		rows[i] = &bare
	}
	writeJSON(w, http.StatusOK, listText(rows, count, page, filter.Limit))
	return nil
}

func (o *operator) showHistory(w http.ResponseWriter, r *http.Request) error {
	row, err := o.row(r, r.URL.Query().Get("originatingVaspId"))
	if err != nil {
		return err
	}
	if err := o.note(r, audit.ShowHistory, row.UUID.String(), ""); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, rowText(row))
	return nil
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
