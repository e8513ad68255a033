package proxy

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// OperatorStore is what the operator's commands ask of the store beyond
// storage.History.
type OperatorStore interface {
	Auditor
	// Backup writes a consistent and encrypted copy of everything to w. The
	// entry is stored first; without it nothing is written.
	Backup(ctx context.Context, w io.Writer, entry storage.AuditEntry) error
	// AuditLength is how many entries the audit log has.
	AuditLength(ctx context.Context) (uint64, error)
	// CheckTelling opens every value and compares all of it with what was
	// written. What it finds is storage.ErrCorrupt, and names no person. It
	// tells from one goroutine how far it has come.
	CheckTelling(ctx context.Context, tell func(done, all uint64)) error
}

// backupPause is how long a caller may leave a piece of the backup unread.
const backupPause = time.Minute

// backup streams a copy of the history. One that fails after it has begun is
// cut off, so that the caller cannot take it for a whole one; it would not
// open either.
func (o *operator) backup(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	// The server's limits are for short requests. Past its read limit it
	// would end the request's context.
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return fail("back up", Internal, err)
	}
	out := &deadlined{w: w, control: control}
	w.Header().Set("Content-Type", "application/octet-stream")
	entry := storage.AuditEntry{Time: o.Now(), Actor: audit.Operator, Verb: audit.Backup, Outcome: audit.OK, Reason: o.by(r)}
	err := o.log.Backup(r.Context(), out, entry)
	switch {
	case err == nil:
		o.Logger.Info("an operator has made a backup", "by", o.by(r), "bytes", out.written)
		return nil
	case out.written == 0:
		o.Logger.Error("a backup failed", "err", err)
		return fail("back up", Storage, err)
	}
	o.Logger.Error("a backup failed", "err", err, "bytes", out.written)
	panic(http.ErrAbortHandler)
}

// deadlined lets an answer take as long as it likes, while it gets on.
type deadlined struct {
	w       io.Writer
	control *http.ResponseController
	written int64
}

func (d *deadlined) Write(p []byte) (int, error) {
	if err := d.control.SetWriteDeadline(time.Now().Add(backupPause)); err != nil {
		return 0, err
	}
	n, err := d.w.Write(p)
	d.written += int64(n)
	return n, err
}
