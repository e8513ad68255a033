package enclavecmd

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/plugins"
)

// NewLogger is what writes the log of a program.
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	return newLogger(w, levelOf(level), format)
}

// What the backend's listener is wrapped in.
var LimitBackend = limitBackend

// BackendInFlight is how many of its requests may be under way.
const BackendInFlight = backendInFlight

// Retention is how long verifications are kept.
func (s *Settings) Retention() time.Duration { return s.retention() }

// PreviousKEK and KEKOpener read keys of the history.
func (s *Settings) PreviousKEK(ctx context.Context, c *plugins.Catalog) ([]*atrest.KEK, error) {
	return s.previousKEK(ctx, c)
}

var KEKOpener = kekOpener

// ProgressText is what a bar shows, and what a line in a log says.
func ProgressText(total, done int, terminal bool) string {
	return (&progress{of: "verifications", total: total, done: done, terminal: terminal, begun: time.Now().Add(-time.Second)}).text()
}

// PanicCounters and NewServer are how handlers of our own side are counted.
var (
	PanicCounters = panicCounters
	NewServer     = newServer
)
