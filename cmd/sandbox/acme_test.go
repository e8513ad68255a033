package sandbox_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// pebbleProgram is the path of the local certificate authority, built when it
// has not been yet.
func pebbleProgram(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "tool", "-C", "../..", "-modfile=.ci/tools/go.mod", "-n", "pebble").Output()
	if err != nil {
		t.Fatalf("build pebble: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// get reads a URL of a plain listener.
func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return r.StatusCode, string(b)
}

// Until the authority has certified it, an enclave lives, is not ready and
// says why; then it is, and a restart needs no authority.
func TestAnEnclaveWithoutItsCertificateIsNotReady(t *testing.T) {
	a := prepare(t, sandbox.Options{ACME: pebbleProgram(t)})
	v := a.VASPs[0]
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, text := get(t, v.Admin+"/livez"); status != 200 {
		t.Errorf("livez: %d %s", status, text)
	}
	if status, text := get(t, v.Admin+"/readyz"); status != 503 || !strings.Contains(text, "there is no TLS certificate yet") {
		t.Errorf("readyz: %d %s", status, text)
	}
	if err := a.StartAuthority(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, v)
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := a.StopAuthority(); err != nil {
		t.Fatal(err)
	}
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, text := get(t, v.Admin+"/readyz"); status != 200 {
		t.Errorf("readyz after a restart without the authority: %d %s", status, text)
	}
	if info, err := os.Stat(v.Database + ".acme"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the certificates' directory: %v, %v", info, err)
	}
}

func awaitReady(t *testing.T, v *sandbox.VASP) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		status, text := get(t, v.Admin+"/readyz")
		if status == 200 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the enclave does not become ready: %d %s", status, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Certificates of seconds are renewed by whole enclaves again and again; no
// verification fails, and no handshake from central's address.
func TestVerificationsWhileCertificatesAreRenewed(t *testing.T) {
	renewals := 1
	if os.Getenv("TORTURE") != "" {
		renewals = 30
	}
	a := start(t, sandbox.Options{ACME: pebbleProgram(t), ACMELifetime: 30 * time.Second})
	pem, err := os.ReadFile(filepath.Join(a.Dir, "acme-root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var handshakes, verified atomic.Int64
	for _, v := range a.VASPs {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := handshakeAsCentral(v, roots); err != nil {
					t.Errorf("handshake %d with %s: %v", handshakes.Load(), v.Name, err)
					return
				}
				handshakes.Add(1)
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	const workers, pace = 8, 160 * time.Millisecond // fifty verifications a second, where the machine can
	for range workers {
		running.Go(func() {
			for next := time.Tick(pace); ctx.Err() == nil; <-next {
				if err := verifyThrough(t.Context(), a); err != nil {
					t.Errorf("verification %d: %v", verified.Load(), err)
					return
				}
				verified.Add(1)
			}
		})
	}
	for _, v := range a.VASPs {
		for deadline := time.Now().Add(time.Duration(1+renewals) * time.Minute); renewed(t, v) < renewals; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) || t.Failed() {
				t.Errorf("%s has renewed %d times, want %d", v.Name, renewed(t, v), renewals)
				break
			}
		}
	}
	cancel()
	running.Wait()
	t.Logf("%d and %d renewals, %d verifications, %d handshakes", renewed(t, a.VASPs[0]), renewed(t, a.VASPs[1]), verified.Load(), handshakes.Load())
}

// handshakeAsCentral calls from central's address and verifies as central does.
func handshakeAsCentral(v *sandbox.VASP, roots *x509.CertPool) error {
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 4)}, Timeout: time.Minute},
		Config:    &tls.Config{RootCAs: roots},
	}
	conn, err := dialer.Dial("tcp", strings.TrimPrefix(v.PublicEndpoint, "https://"))
	if err != nil {
		return err
	}
	return conn.Close()
}

// verifyThrough is one verification from the first VASP to the second.
func verifyThrough(ctx context.Context, a *sandbox.Alliance) error {
	sender, receiver := a.VASPs[0], a.VASPs[1]
	accepted, err := sender.Verify(ctx, sandbox.Request(receiver.ID))
	if err != nil {
		return err
	}
	if _, err := sender.AwaitCallback(ctx, accepted.VerificationUUID); err != nil {
		return err
	}
	row, err := sender.Row(ctx, accepted.VerificationUUID)
	if err == nil && row.Result != "VERIFIED" {
		err = errors.New(row.Result + "/" + row.Reason)
	}
	return err
}

// renewed is how often an enclave has renewed its certificate.
func renewed(t *testing.T, v *sandbox.VASP) (n int) {
	t.Helper()
	_, text := get(t, v.Metrics+"/metrics")
	_, rest, found := strings.Cut(text, `enclave_acme_orders_total{result="renewed"} `)
	if !found {
		t.Fatalf("no count of renewals among the metrics of %s", v.Name)
	}
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// The demo's story is told on automatic certificates, too.
func TestTheDemoRunsOnAutomaticCertificates(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, built.Enclave, "demo", "--acme", pebbleProgram(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	for _, want := range []string{"the enclaves have got their certificates from https://127.0.0.1:", "=> VERIFIED", "=> DENIED (UNKNOWN-ADDRESS)"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}
}
