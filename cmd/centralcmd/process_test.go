package centralcmd_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/edgetest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// process is a central in a process of its own: this test's binary, under
// another name.
type process struct {
	command *exec.Cmd
	listen  string
	log     *strings.Builder
	read    chan struct{} // closed at the end of its log
}

func startProcess(t *testing.T, environ []string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{command: &exec.Cmd{Path: self, Args: []string{"central", "run"}, Env: environ}, log: new(strings.Builder), read: make(chan struct{})}
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.command.Process.Kill(); _, _ = p.command.Process.Wait() })
	lines := bufio.NewScanner(stderr)
	for p.listen == "" && lines.Scan() {
		p.log.Write(append(lines.Bytes(), '\n'))
		var line struct{ Msg, Listen string }
		_ = json.Unmarshal(lines.Bytes(), &line)
		if line.Msg == "central ready" {
			p.listen = line.Listen
		}
	}
	if p.listen == "" {
		t.Fatalf("central did not start:\n%s", p.log)
	}
	go func() {
		defer close(p.read)
		rest, _ := io.ReadAll(stderr)
		p.log.Write(rest)
	}()
	return p
}

func (p *process) end(t *testing.T, signal os.Signal) error {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	<-p.read
	return p.command.Wait()
}

// Killed with SIGKILL and started again, central knows its members' enclaves;
// at SIGTERM it ends with 0.
func TestAProcessKilledComesBack(t *testing.T) {
	dir := t.TempDir()
	a := edgetest.NewAuthority(t)
	cert, key := a.Issue(address)
	if err := os.WriteFile(filepath.Join(dir, "members.yaml"), []byte(members), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{
		"CENTRAL_LISTEN=" + address + ":0", "CENTRAL_METRICS_LISTEN=127.0.0.1:0", "CENTRAL_MEMBERS_FILE=" + filepath.Join(dir, "members.yaml"),
		"CENTRAL_STATE_FILE=" + filepath.Join(dir, "state.json"), "CENTRAL_TLS_CERT_FILE=" + cert, "CENTRAL_TLS_KEY_FILE=" + key,
		"CENTRAL_UNSAFE_LOOPBACK_MEMBERS=true", "CENTRAL_SHUTDOWN_DELAY_MS=0",
	}
	chain := newChain(t)
	p := startProcess(t, environ)
	if _, err := (&program{listen: p.listen, roots: a}).client(t).Register(t.Context(), relay.Registration{
		PublicEndpoint: "https://127.0.0.3:1", Version: "1", Suites: []string{"x-wing"}, Identity: chain, Instance: uuid.NewString(),
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.end(t, syscall.SIGKILL); err == nil {
		t.Error("a killed process ended well")
	}
	p = startProcess(t, environ)
	d, err := (&program{listen: p.listen, roots: a}).client(t).Directory(t.Context())
	if err != nil || len(d.VASPs) != 1 || d.VASPs[0].Identity != chain || d.VASPs[0].VASPStatus != relay.StatusMember {
		t.Errorf("after the restart: %+v, %v", d, err)
	}
	if err := p.end(t, syscall.SIGTERM); err != nil || !strings.Contains(p.log.String(), "central stopped") {
		t.Errorf("at SIGTERM: %v\n%s", err, p.log)
	}
}

func newChain(t *testing.T) string {
	t.Helper()
	signer, err := identity.NewSigner(101)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := identity.NewChain(signer, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(chain)
}
