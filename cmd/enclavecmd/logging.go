package enclavecmd

import (
	"io"
	"log/slog"
	"math"
)

// levelOf is the level of a setting; "none" is above every record.
func levelOf(name string) slog.Level {
	levels := map[string]slog.Level{"error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug}
	if level, some := levels[name]; some {
		return level
	}
	return slog.Level(math.MaxInt)
}

// newLogger writes one line a record, as JSON or text. The level may change
// meanwhile.
func newLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
