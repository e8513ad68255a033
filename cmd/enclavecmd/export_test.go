package enclavecmd

import (
	"context"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/plugins"
)

// NewLogger is what writes the log of a program.
var NewLogger = newLogger

// Retention is how long verifications are kept.
func (s *Settings) Retention() time.Duration { return s.retention() }

// PreviousKEK and KEKOpener read keys of the history.
func (s *Settings) PreviousKEK(ctx context.Context, c *plugins.Catalog) ([]*atrest.KEK, error) {
	return s.previousKEK(ctx, c)
}

var KEKOpener = kekOpener

// ProgressText is what a bar shows, and what a line in a log says.
func ProgressText(total, done int, terminal bool) string {
	return (&progress{total: total, done: done, terminal: terminal, begun: time.Now().Add(-time.Second)}).text()
}
