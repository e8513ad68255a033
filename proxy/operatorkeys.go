package proxy

import (
	"errors"
	"net/http"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// KeysView is the keys of the store as an operator sees them.
type KeysView struct {
	KEK      string        `json:"kekId"`
	KEKSince *time.Time    `json:"kekSince,omitempty"` // absent: an older program put the history under it
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
	v := KeysView{KEK: s.KEK, KEKSince: known(s.KEKSince), Keys: []KeyView{}}
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
