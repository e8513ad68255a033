package redact_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/redact"
)

type key struct {
	redact.Secret
	Bytes string
}

func TestSecretsPrintNowhere(t *testing.T) {
	k := key{Bytes: "MARK"}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", k, &k, []any{k, &k})
	}
	asJSON, err := json.Marshal(map[string]any{"value": k, "pointer": &k})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(asJSON)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "key", k, "pointer", &k)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "key", k, "pointer", &k)
	out.Write(log.Bytes())
	if strings.Contains(out.String(), "MARK") || strings.Contains(out.String(), "4d41524b") {
		t.Errorf("a secret was printed:\n%s", out.String())
	}
	if n := strings.Count(out.String(), redact.Text); n != 7*4+2+4 {
		t.Errorf("%d secrets show as %s, want %d:\n%s", n, redact.Text, 7*4+2+4, out.String())
	}
}
