package acme_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme/pebble"
)

// proxyAsked counts the connections to the proxy that the environment names.
// net/http reads that once in a process's life, so it is named for all tests;
// whoever asks proxies asks none for loopback addresses.
var proxyAsked atomic.Int64

func TestMain(m *testing.M) {
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := proxy.Accept()
			if err != nil {
				return
			}
			proxyAsked.Add(1)
			_ = conn.Close()
		}
	}()
	os.Setenv("HTTPS_PROXY", "http://"+proxy.Addr().String())
	goleak.VerifyTestMain(m,
		// One for each authority in a process's life; the library has no way to end it.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
		goleak.IgnoreCurrent()) // the proxy's
}

// The parties: validators are plain processes, which call from 127.0.0.1.
const (
	server   = "127.0.0.2" // the listener, and the host of certificates for an address
	member   = "127.0.0.3" // the only address on the allowlist
	stranger = "127.0.0.9"
	name     = "vasp.example"
)

// program is the path of a tool of .ci/tools, built when it has not been yet.
func program(t *testing.T, tool string) string {
	t.Helper()
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	out, err := exec.Command("go", "tool", "-C", root, "-modfile=.ci/tools/go.mod", "-n", tool).Output()
	if err != nil {
		t.Fatalf("build %s: %v", tool, err)
	}
	return strings.TrimSpace(string(out))
}

// world is an enclave's public listener whose certificate comes from a Pebble
// of its own.
type world struct {
	t         *testing.T
	host      string
	public    string // address of the listener
	config    acme.Config
	authority *pebble.Authority
	log       *lockedBuffer
	requests  atomic.Int64 // answered

	// Of the enclave that runs.
	certificates *acme.Certificates
	metrics      *prometheus.Registry
	stop         func()
}

// newWorld prepares a world in which nothing runs. Its listener is to take the
// port that the authority's validators call, unless o names another.
func newWorld(t *testing.T, host, challenge string, o pebble.Options) *world {
	t.Helper()
	w := &world{t: t, host: host, public: freePort(t), log: new(lockedBuffer)}
	challenges := freePort(t)
	if o.TLSPort == 0 {
		o.TLSPort, o.HTTPPort = portOf(t, w.public), portOf(t, challenges)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		names, err := pebble.StartNames(t.Context(), program(t, "pebble-challtestsrv"), t.TempDir(), server)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(names.Stop)
		o.DNS = names.Address
	}
	var err error
	if w.authority, err = pebble.New(t.TempDir(), o); err != nil {
		t.Fatal(err)
	}
	w.config = acme.Config{
		Host: host, Directory: w.authority.Directory, Roots: pool(t, readFile(t, w.authority.RootsFile)),
		Challenge: challenge, HTTPListen: challenges, Storage: filepath.Join(t.TempDir(), "acme"), AEAD: newKey(t).PrivateAEAD(),
		Namespace: "enclave", Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Pause: 50 * time.Millisecond,
	}
	return w
}

func (w *world) startAuthority() {
	w.t.Helper()
	if err := w.authority.Start(w.t.Context(), program(w.t, "pebble")); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.authority.Stop)
}

// startEnclave opens the listener with the allowlist and runs the certificates.
func (w *world) startEnclave(before ...func(*acme.Certificates)) {
	w.t.Helper()
	w.metrics = prometheus.NewRegistry()
	w.config.Metrics = w.metrics
	certificates, err := acme.Open(w.t.Context(), w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	only, err := allow.ParseList(member)
	if err != nil {
		w.t.Fatal(err)
	}
	listener, err := edge.Listen(w.t.Context(), edge.Config{
		Address: w.public, Certificates: certificates, Allow: only,
		Namespace: "enclave", Metrics: w.metrics, Log: w.config.Log, Now: time.Now,
	})
	if err != nil {
		w.t.Fatal(errors.Join(err, certificates.Close()))
	}
	w.certificates = certificates
	for _, change := range before {
		change(certificates)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		err := listener.Serve(ctx, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			w.requests.Add(1)
			fmt.Fprint(rw, "hello")
		}))
		if err != nil {
			w.t.Error(err)
		}
	})
	running.Go(func() { certificates.Run(ctx, listener.Addr()) })
	w.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	w.t.Cleanup(w.stop)
}

// start is a world in which all runs and the certificate is there.
func start(t *testing.T, host, challenge string, o pebble.Options) *world {
	t.Helper()
	w := newWorld(t, host, challenge, o)
	w.startAuthority()
	w.startEnclave()
	w.eventually("a certificate is there", func() bool { return w.usable() == nil })
	return w
}

func (w *world) usable() error { return w.certificates.Usable(time.Now()) }

// issuers trusts what the authority certifies since it was started.
func (w *world) issuers() *x509.CertPool {
	w.t.Helper()
	root, err := w.authority.IssuingRoot(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return pool(w.t, root)
}

// orders is how many orders the authority has had, since its files were made.
func (w *world) orders() int {
	return bytes.Count(readFile(w.t, w.authority.Log), []byte("POST /order-plz"))
}

// counted is the metric of orders.
func (w *world) counted(result string) float64 {
	for _, m := range w.family("enclave_acme_orders_total") {
		if m.GetLabel()[0].GetValue() == result {
			return m.GetCounter().GetValue()
		}
	}
	return -1
}

func (w *world) gauge(name string) float64 {
	for _, m := range w.family(name) {
		return m.GetGauge().GetValue()
	}
	return -1
}

func (w *world) family(name string) []*dto.Metric {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}

// eventually waits for what happens by itself.
func (w *world) eventually(what string, happened func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for !happened() {
		select {
		case <-ctx.Done():
			w.t.Fatalf("never happened: %s\n%s", what, w.log.tail())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// renew makes it time to renew and waits for it.
func (w *world) renew() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := w.certificates.Renew(ctx); err != nil {
		w.t.Fatalf("renew: %v\n%s", err, w.log.tail())
	}
}

// shown is the certificate that the member is shown, verified as central does.
func (w *world) shown(roots *x509.CertPool) (*x509.Certificate, error) {
	conn, err := w.handshake(member, &tls.Config{RootCAs: roots, ServerName: w.host})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

func (w *world) handshake(from string, c *tls.Config) (*tls.Conn, error) {
	dialer := &tls.Dialer{NetDialer: dialerFrom(from), Config: c}
	conn, err := dialer.DialContext(w.t.Context(), "tcp", w.public)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// load is the member's requests, each with a handshake of its own, until stop is called, which tells how many there were.
func (w *world) load(roots *x509.CertPool) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialerFrom(member).DialContext(ctx, "tcp", w.public)
		},
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DisableKeepAlives: true,
	}}
	var running sync.WaitGroup
	var done atomic.Int64
	for range 2 {
		running.Go(func() {
			for ctx.Err() == nil {
				r, err := client.Get("https://" + net.JoinHostPort(w.host, "443") + "/")
				if err != nil {
					w.t.Errorf("a request failed: %v", err)
					return
				}
				if text, err := io.ReadAll(r.Body); err != nil || string(text) != "hello" {
					w.t.Errorf("a request got %q, %v", text, err)
				}
				r.Body.Close()
				done.Add(1)
				time.Sleep(20 * time.Millisecond) // some forty a second together
			}
		})
	}
	return func() int { cancel(); running.Wait(); return int(done.Load()) }
}

func dialerFrom(from string) *net.Dialer {
	return &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
}

func newKey(t *testing.T) *atrest.Keys {
	t.Helper()
	keys, err := atrest.NewKeys([16]byte{1}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func freePort(t *testing.T) string {
	t.Helper()
	address, err := pebble.FreePort(server)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func pool(t *testing.T, pem []byte) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %q", pem)
	}
	return p
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// forms are the ways in which a secret could stand in a file.
func forms(secret []byte) map[string][]byte {
	return map[string][]byte{
		"raw":     secret,
		"hex":     []byte(hex.EncodeToString(secret)),
		"base64":  []byte(base64.RawStdEncoding.EncodeToString(secret)[:40]),
		"base64u": []byte(base64.RawURLEncoding.EncodeToString(secret)[:40]),
	}
}

// lockedBuffer is a log that may be written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail is the end of the log, for a person who wonders.
func (l *lockedBuffer) tail() string {
	lines := strings.Split(l.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}
