package sandbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi/openapitest"
)

// built are the programs, built once for all tests of this package.
var built sandbox.Binaries

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "vasp-enclave-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		const module = "github.com/vasp-enclave/vasp-enclave/cmd/"
		build := exec.Command("go", "build", "-o", dir+"/", module+"enclave", module+"central", module+"robotvasp")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
			return 1
		}
		if built, err = sandbox.BinariesIn(dir); err != nil {
			panic(err)
		}
		sandbox.WrapTransport(func(next http.RoundTripper) http.RoundTripper { return documented{next} })
		return m.Run()
	}())
}

// start is a running alliance that the test ends with.
func start(t *testing.T, o sandbox.Options) *sandbox.Alliance {
	t.Helper()
	a := prepare(t, o)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

func prepare(t *testing.T, o sandbox.Options) *sandbox.Alliance {
	t.Helper()
	a, err := sandbox.New(t.TempDir(), built, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, p := range a.Programs() {
				log, _ := os.ReadFile(p.Log)
				t.Logf("end of the log of %s:\n%s", p.Name, log[max(0, len(log)-2000):])
			}
		}
	})
	return a
}

// backend is a VASP's backend that takes callbacks, durable as the test is.
type backend struct {
	t   *testing.T
	url string
	mu  sync.Mutex
	got map[string][]string // results by verification
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{t: t, got: map[string][]string{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: b}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	b.url = "http://" + listener.Addr().String() + "/callback"
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var c struct {
		Data struct{ VerificationUUID, VerificationResult string }
	}
	body, err := io.ReadAll(r.Body)
	if err == nil { // else the enclave died while it spoke
		if err := openapitest.VASP().Request(http.MethodPost, r.URL.Path, body); err != nil {
			b.t.Errorf("a callback is not in the document: %v", err)
		}
	}
	if err := json.Unmarshal(body, &c); err != nil {
		http.Error(w, "not a callback", http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	b.got[c.Data.VerificationUUID] = append(b.got[c.Data.VerificationUUID], c.Data.VerificationResult)
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"result":true}`)
}

// results is what the backend was told of a verification.
func (b *backend) results(id string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.got[id]...)
}

// eventually waits until a condition holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(within); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not within %s: %s", within, what)
}

// torture says whether the long form of a storm is asked for.
func torture() bool { return os.Getenv("TORTURE") != "" }

// metrics is one /metrics page.
func metrics(t *testing.T, base string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	status, page, err := sandbox.Call(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET /metrics = %d, %v", status, err)
	}
	return string(page)
}

// sample finds one sample on a page, "" when there is none.
func sample(page, name string) string {
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return value
		}
	}
	return ""
}

func read(t *testing.T, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
