package enclavecmd_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
)

// The five levels of the contract, and what each lets through.
func TestLogLevels(t *testing.T) {
	for level, want := range map[string]string{"none": "", "error": "E", "warn": "WE", "info": "IWE", "debug": "DIWE"} {
		for _, format := range []string{"json", "text"} {
			var out bytes.Buffer
			logger := enclavecmd.NewLogger(&out, level, format)
			for _, line := range []struct {
				level slog.Level
				text  string
			}{{slog.LevelDebug, "D"}, {slog.LevelInfo, "I"}, {slog.LevelWarn, "W"}, {slog.LevelError, "E"}} {
				logger.Log(context.Background(), line.level, line.text)
			}
			var got string
			for line := range strings.Lines(out.String()) {
				_, message, _ := strings.Cut(line, "msg")
				got += strings.Trim(message, "=\": }\n")
			}
			if got != want {
				t.Errorf("level %s as %s lets %q through, want %q", level, format, got, want)
			}
		}
	}
}
