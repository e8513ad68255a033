package centralcmd_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/cmd/centralcmd"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/edgetest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

func TestMain(m *testing.M) {
	testscript.Main(leakTest{m}, map[string]func(){
		"central": func() { os.Exit(centralcmd.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) },
	})
}

// leakTest runs the tests and then looks for goroutines left behind.
type leakTest struct{ m *testing.M }

func (l leakTest) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

const (
	address = "127.0.0.2"
	members = `members:
- vaspId: "101"
  vaspName: Alpha
  createdAt: "2024-01-02T03:04:05.678Z"
  allow: [127.0.0.3]
  keys: [{accessKey: alpha-1, secretKey: the secret key of alpha}]
`
)

// The scripts in testdata/script run the real program; $CERT and $KEY are a
// certificate that is valid now, $OLDCERT and $OLDKEY one that has expired.
func TestScripts(t *testing.T) {
	a := edgetest.NewAuthority(t)
	cert, key := a.Issue(address)
	oldCert, oldKey := a.IssueAt(address, time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error {
		e.Setenv("CERT", cert)
		e.Setenv("KEY", key)
		e.Setenv("OLDCERT", oldCert)
		e.Setenv("OLDKEY", oldKey)
		e.Setenv("ROOTS", a.File())
		return os.WriteFile(filepath.Join(e.WorkDir, "members.yaml"), []byte(members), 0o600)
	}})
}

// program is a central that runs in this process.
type program struct {
	listen, metrics string
	roots           *edgetest.Authority
	lines           chan map[string]any
	stop            context.CancelFunc
	done            chan error
}

func start(t *testing.T, dir string, extra ...string) *program {
	t.Helper()
	a := edgetest.NewAuthority(t)
	cert, key := a.Issue(address)
	file := filepath.Join(dir, "members.yaml")
	if err := os.WriteFile(file, []byte(members), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := append([]string{
		"CENTRAL_LISTEN=" + address + ":0", "CENTRAL_METRICS_LISTEN=127.0.0.1:0", "CENTRAL_MEMBERS_FILE=" + file,
		"CENTRAL_STATE_FILE=" + filepath.Join(dir, "state.json"), "CENTRAL_TLS_CERT_FILE=" + cert, "CENTRAL_TLS_KEY_FILE=" + key,
		"CENTRAL_ROOTS_FILE=" + a.File(), "CENTRAL_SOURCE_ADDRESS=" + address,
		"CENTRAL_UNSAFE_LOOPBACK_MEMBERS=true",
	}, extra...)
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{roots: a, lines: make(chan map[string]any, 100), stop: cancel, done: make(chan error, 1)}
	r, w := io.Pipe()
	go func() {
		p.done <- centralcmd.Run(ctx, environ, w)
		w.Close()
	}()
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			var line map[string]any
			if json.Unmarshal(scanner.Bytes(), &line) == nil {
				p.lines <- line
			}
		}
	}()
	ready := p.await(t, "central ready")
	p.listen, p.metrics = ready["listen"].(string), ready["metrics"].(string)
	return p
}

// await reads the log as far as a message.
func (p *program) await(t *testing.T, message string) map[string]any {
	t.Helper()
	for line := range p.lines {
		if strings.Contains(line["msg"].(string), message) {
			return line
		}
	}
	t.Fatalf("the log never said %q; Run = %v", message, <-p.done)
	return nil
}

func (p *program) end(t *testing.T) {
	t.Helper()
	p.stop()
	for range p.lines {
	}
	if err := <-p.done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func (p *program) client(t *testing.T) *relay.Client {
	t.Helper()
	c, err := relay.NewClient(relay.Config{
		Endpoint: "https://" + p.listen, AccessKey: "alpha-1", SecretKey: relay.NewSecret("the secret key of alpha"), Roots: p.roots.Pool(),
		SourceAddress: netip.MustParseAddr("127.0.0.3"), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRunServesMembers(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, "CENTRAL_UNSAFE_RECORD_FILE="+filepath.Join(dir, "record.jsonl"), "CENTRAL_LOG_LEVELL=debug")
	d, err := p.client(t).Directory(t.Context())
	if err != nil || len(d.VASPs) != 1 || d.VASPs[0].VASPName != "Alpha" {
		t.Errorf("Directory = %+v, %v", d, err)
	}
	for path, want := range map[string]string{
		"/livez": "ok", "/readyz": "ok", "/metrics": `central_build_info{version="dev"} 1`,
	} {
		if got := get(t, "http://"+p.metrics+path); !strings.Contains(got, want) {
			t.Errorf("%s: %.200q, want %q", path, got, want)
		}
	}
	if got := get(t, "http://"+p.metrics+relay.DirectoryPath); !strings.Contains(got, "404") {
		t.Errorf("the directory is on the metrics listener: %s", got)
	}
	p.end(t)
	if info, err := os.Stat(filepath.Join(dir, "record.jsonl")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("record file: %v, %v", info, err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.Status + " " + string(body)
}

// The probe of a container, which has no other program than central.
func TestHealthcheck(t *testing.T) {
	p := start(t, t.TempDir())
	ask := func(environ ...string) (code int, said string) {
		var out bytes.Buffer
		code = centralcmd.Main([]string{"healthcheck"}, environ, &out, &out)
		return code, out.String()
	}
	if code, said := ask("CENTRAL_METRICS_LISTEN=" + p.metrics); code != 0 || said != "ready\n" {
		t.Errorf("healthcheck = %d %q", code, said)
	}
	p.end(t)
	if code, said := ask("CENTRAL_METRICS_LISTEN=" + p.metrics); code != 1 || !strings.Contains(said, "not alive, or CENTRAL_METRICS_LISTEN is another one than central's") {
		t.Errorf("after its end, healthcheck = %d %q", code, said)
	}
	if code, said := ask("CENTRAL_METRICS_LISTEN=nowhere"); code != 2 || !strings.Contains(said, "CENTRAL_METRICS_LISTEN") {
		t.Errorf("with a wrong setting, healthcheck = %d %q", code, said)
	}
}

// The port in use, the metrics port in use, and the state in use are errors
// at start that say so.
func TestRunSaysWhatIsInUse(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	defer p.end(t)
	cert, key := p.roots.Issue(address)
	run := func(extra ...string) error {
		return centralcmd.Run(t.Context(), append([]string{
			"CENTRAL_LISTEN=" + address + ":0", "CENTRAL_METRICS_LISTEN=127.0.0.1:0", "CENTRAL_MEMBERS_FILE=" + filepath.Join(dir, "members.yaml"),
			"CENTRAL_STATE_FILE=" + filepath.Join(dir, "other.json"), "CENTRAL_TLS_CERT_FILE=" + cert, "CENTRAL_TLS_KEY_FILE=" + key,
		}, extra...), io.Discard)
	}
	for want, extra := range map[string]string{
		"CENTRAL_LISTEN: ":       "CENTRAL_LISTEN=" + p.listen,
		"CENTRAL_METRICS_LISTEN": "CENTRAL_METRICS_LISTEN=" + p.metrics,
		"another central uses":   "CENTRAL_STATE_FILE=" + filepath.Join(dir, "state.json"),
	} {
		if err := run(extra); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run with %s = %v, want %q", extra, err, want)
		}
	}
}
