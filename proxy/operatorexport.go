package proxy

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/export"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// exportFilters are the names of the query that an export knows.
var exportFilters = []string{
	"fromDate", "toDate", "symbol", "network", "txHash", "result", "actionType", "oppositeVaspId",
	"originatorAccountNumber", "beneficiaryAccountNumber",
}

// exportPage is how many rows are read at a time, and sent before the next
// are: what an export takes of memory.
const exportPage = 256

// ExportEnd is the last line of an export: the manifest's bytes and its
// signature, or why there is none.
type ExportEnd struct {
	Manifest  []byte `json:"manifest,omitempty"`
	Signature []byte `json:"signature,omitempty"`
	Error     string `json:"error,omitempty"`
}

// HeaderExportRows says how many rows an export had when it began.
const HeaderExportRows = "X-Export-Rows"

// ExportEndMark begins the last line, and no row.
const ExportEndMark = "\x1e"

// exportHistory sends rows as JSON lines, oldest first, and then the signed
// manifest of the files that the caller makes of them. Rows that are added
// meanwhile are left out; one that changes is as it is when its turn comes.
func (o *operator) exportHistory(w http.ResponseWriter, r *http.Request) error {
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	filter, _, err := readFilter(query)
	if err != nil {
		return err
	}
	formats, err := export.ParseFormats(query.Get("formats"))
	if err != nil {
		return invalid("INVALID-FORMATS", "`formats` is invalid value: %s.", err)
	}
	custody, err := o.custody()
	if err != nil {
		return err
	}
	m := export.Manifest{ID: uuid.NewString(), CreatedAt: o.Now().UTC(), Filters: map[string]string{}}
	for _, name := range exportFilters {
		if value := query.Get(name); value != "" {
			m.Filters[name] = value
		}
	}
	if filter.To.IsZero() || filter.To.After(m.CreatedAt) {
		filter.To = m.CreatedAt
	}
	filter.Offset, filter.Limit = 0, 1
	_, count, err := o.History.List(r.Context(), filter)
	if err != nil {
		return fail("count verifications", Storage, err)
	}
	sums, err := export.NewSums(formats)
	if err != nil {
		return fail("export", Internal, err)
	}
	if err := o.note(r, audit.ExportHistory, m.ID, ""); err != nil {
		return err
	}
	o.Logger.Warn("an operator exports verifications", "export", m.ID, "rows", count, "by", o.by(r))
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set(HeaderExportRows, strconv.Itoa(count))
	end := o.stream(w, r, custody, filter, sums, &m)
	line, err := json.Marshal(end)
	if err != nil {
		return nil // the caller misses the end, and says so
	}
	_, _ = w.Write(append([]byte(ExportEndMark), append(line, '\n')...))
	return nil
}

// exportStall is how long a reader of an export may take for one page.
const exportStall = time.Minute

func (o *operator) stream(w http.ResponseWriter, r *http.Request, c Custody, f storage.Filter, sums *export.Sums, m *export.Manifest) ExportEnd {
	const failed = "the export broke off: "
	out := http.NewResponseController(w)
	for place := ""; ; {
		rows, next, err := c.Rows(r.Context(), f, place, exportPage)
		if err != nil {
			o.Logger.Error("an export broke off", "export", m.ID, "err", err)
			return ExportEnd{Error: failed + "the history cannot be read on: the log says why"}
		}
		if err := out.SetWriteDeadline(time.Now().Add(exportStall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return ExportEnd{Error: failed + err.Error()}
		}
		for _, row := range rows {
			line := rowText(row)
			if err := sums.Row(line); err != nil {
				return ExportEnd{Error: failed + err.Error()}
			}
			if _, err := w.Write(append(line, '\n')); err != nil {
				return ExportEnd{Error: failed + err.Error()}
			}
		}
		if place = next; place == "" {
			break
		}
	}
	if err := sums.Fill(m); err != nil {
		return ExportEnd{Error: failed + err.Error()}
	}
	text, signature, err := m.Sign(o.signer())
	if err != nil {
		return ExportEnd{Error: failed + "the manifest cannot be signed"}
	}
	if err := o.note(r, audit.ExportedHistory, m.ID, strconv.Itoa(m.Rows)+" rows"); err != nil {
		return ExportEnd{Error: failed + "the audit entry cannot be written"}
	}
	return ExportEnd{Manifest: text, Signature: []byte(base64.StdEncoding.EncodeToString(signature))}
}
