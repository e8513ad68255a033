package enclavecmd

import (
	"io"
	"log/slog"
)

// newLogger writes one line a record, as JSON or text. Level "none" writes
// nothing at all.
func newLogger(w io.Writer, level, format string) *slog.Logger {
	levels := map[string]slog.Level{"error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug}
	at, some := levels[level]
	if !some {
		return slog.New(slog.DiscardHandler)
	}
	options := &slog.HandlerOptions{Level: at}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
