package sandbox_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// A history that is deleted under a running enclave stops it: what it would
// acknowledge from then on would be gone with the process.
func TestAHistoryTakenAwayStopsTheEnclave(t *testing.T) {
	a := start(t, sandbox.Options{})
	v := a.VASPs[0]
	if err := os.Rename(v.Database, v.Database+".away"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if code, err := v.Enclave.Wait(ctx); err != nil || code == 0 {
		t.Fatalf("the enclave ended with %d, %v", code, err)
	}
	if log := read(t, v.Enclave.Log); !bytes.Contains(log, []byte("taken away")) {
		t.Error("the log does not say why")
	}
	if err := os.Rename(v.Database+".away", v.Database); err != nil {
		t.Fatal(err)
	}
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Error(err)
	}
}

// A certificate that is not the public endpoint's is an error before the
// first message fails on it.
func TestACertificateOfAnotherHostIsRefusedAtStart(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	code, said := run(t, v.Enclave.Path, append(v.Enclave.Env, "VEGA_ENCLAVE_PUBLIC_ENDPOINT=https://127.0.0.77:8443"), "run")
	if code != 2 || !strings.Contains(said, "VEGA_TLS_CERT_FILE") || !strings.Contains(said, "127.0.0.77") {
		t.Errorf("exit %d, said %q", code, said)
	}
}
