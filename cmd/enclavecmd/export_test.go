package enclavecmd

import (
	"io"
	"log/slog"
)

// NewLogger is what writes the log of a program.
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	return newLogger(w, levelOf(level), format)
}

// What the backend's listener is wrapped in.
var LimitBackend = limitBackend

// BackendInFlight is how many of its requests may be under way.
const BackendInFlight = backendInFlight
