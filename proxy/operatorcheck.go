package proxy

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// CheckView is what a check of the whole history has found; nothing, when it is
// whole.
type CheckView struct {
	Problems []string `json:"problems"`
}

// check has the history checked while it serves.
func (o *operator) check(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})); err != nil {
		return fail("check the history", Internal, err)
	}
	if err := o.note(r, audit.CheckHistory, "", ""); err != nil {
		return err
	}
	err := o.log.Check(r.Context())
	switch {
	case errors.Is(err, storage.ErrCorrupt):
		o.Logger.Error("the history is not as it was written", "err", err)
		return writeView(w, CheckView{strings.Split(err.Error(), "\n")})
	case err != nil:
		return fail("check the history", Storage, err)
	}
	return writeView(w, CheckView{[]string{}})
}
