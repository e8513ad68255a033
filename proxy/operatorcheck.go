package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// CheckView is a line of the answer to a check of the whole history: how far it
// has come, or, as the last one, what it has found; nothing, when it is whole.
type CheckView struct {
	Done     uint64    `json:"done"`
	All      uint64    `json:"all"` // rows and audit entries
	Problems *[]string `json:"problems,omitempty"`
	Failed   string    `json:"failed,omitempty"` // why it could not be brought to its end
}

// tellEvery is how often a check says how far it has come.
const tellEvery = 250 * time.Millisecond

// check has the history checked while it serves. It answers as it goes on, so a
// failure on the way is the last line of a 200.
func (o *operator) check(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})); err != nil {
		return fail("check the history", Internal, err)
	}
	if err := o.note(r, audit.CheckHistory, "", ""); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	var told time.Time
	var last CheckView
	err := o.log.CheckTelling(r.Context(), func(done, all uint64) {
		last.Done, last.All = done, all
		if now := time.Now(); now.Sub(told) >= tellEvery {
			told = now
			_ = errors.Join(lines.Encode(last), control.Flush()) // who does not listen is found at the end
		}
	})
	switch {
	case errors.Is(err, storage.ErrCorrupt):
		o.Logger.Error("the history is not as it was written", "err", err)
		problems := strings.Split(err.Error(), "\n")
		last.Problems = &problems
	case err != nil:
		o.Logger.Error("the check of the history broke off", "err", err)
		last.Failed = "its log says why"
	default:
		last.Problems = &[]string{}
	}
	return lines.Encode(last)
}
