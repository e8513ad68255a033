package proxy

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// HeaderAuditEntries says how many entries an export of the audit log has.
const HeaderAuditEntries = "X-Audit-Entries"

// auditPage is how many entries are read at a time.
const auditPage = 1000

// exportAudit sends the audit log from an entry on, as it is now, and a signed
// checkpoint at its end. That it was exported is its last entry.
func (o *operator) exportAudit(w http.ResponseWriter, r *http.Request) error {
	from := uint64(1)
	if text := r.URL.Query().Get("from"); text != "" {
		var err error
		if from, err = strconv.ParseUint(text, 10, 63); err != nil || from == 0 {
			return invalid("INVALID-FROM", "`from` is the number of an entry, from 1.")
		}
	}
	if err := o.note(r, audit.ExportAudit, "", ""); err != nil {
		return err
	}
	last, err := o.lastAudit(r)
	if err != nil {
		return err
	}
	if from > last.Seq {
		return invalid("INVALID-FROM", "`from` is behind the last entry, which is %d.", last.Seq)
	}
	o.Logger.Info("an operator exports the audit log", "from", from, "to", last.Seq, "by", o.by(r))
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set(HeaderAuditEntries, strconv.FormatUint(last.Seq-from+1, 10))
	if err := o.sendAudit(w, r, from, last); err != nil {
		o.Logger.Error("an export of the audit log broke off", "err", err)
		panic(http.ErrAbortHandler) // it has no checkpoint, and must not look whole
	}
	return nil
}

// lastAudit is the entry that the log ends with; there is one.
func (o *operator) lastAudit(r *http.Request) (storage.AuditEntry, error) {
	seq, err := o.log.AuditLength(r.Context())
	if err != nil {
		return storage.AuditEntry{}, fail("read the audit log", Storage, err)
	}
	entries, err := o.log.Audit(r.Context(), seq, 1)
	if err != nil || len(entries) != 1 {
		return storage.AuditEntry{}, fail("read the audit log", Storage, err)
	}
	return entries[0], nil
}

func (o *operator) sendAudit(w http.ResponseWriter, r *http.Request, from uint64, last storage.AuditEntry) error {
	out := &deadlined{w: w, control: http.NewResponseController(w)}
	if err := out.control.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	for next := from; next <= last.Seq; {
		entries, err := o.log.Audit(r.Context(), next, int(min(auditPage, last.Seq-next+1)))
		if err != nil {
			return err
		}
		var page []byte
		for i := range entries {
			line, err := audit.Line(&entries[i])
			if err != nil {
				return err
			}
			page = append(append(page, line...), '\n')
		}
		if _, err := out.Write(page); err != nil {
			return err
		}
		next += uint64(len(entries))
	}
	line, err := o.SignCheckpoint(from, last)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return err
}

// SignCheckpoint makes the line of a checkpoint of the audit log's entries from
// one on to the last. Of last, number and hash count.
func (e *Enclave) SignCheckpoint(from uint64, last storage.AuditEntry) ([]byte, error) {
	return audit.Checkpoint{Time: e.Now(), From: from, Seq: last.Seq, Hash: hex.EncodeToString(last.Hash[:])}.Sign(e.signer())
}

// signCheckpoint gives a checkpoint alone, to be kept where nobody who can
// change the history can change it.
func (o *operator) signCheckpoint(w http.ResponseWriter, r *http.Request) error {
	if err := o.note(r, audit.SignCheckpoint, "", ""); err != nil {
		return err
	}
	last, err := o.lastAudit(r)
	if err != nil {
		return err
	}
	line, err := o.SignCheckpoint(1, last)
	if err != nil {
		return fail("sign a checkpoint", Internal, err)
	}
	return writeView(w, json.RawMessage(line))
}
