package edge_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/edgetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The parties of these tests: each calls from an address of its own.
const (
	server   = "127.0.0.2"
	member   = "127.0.0.3"
	stranger = "127.0.0.9"
)

// An address that may not connect gets no byte of TLS: no certificate, no
// alert (attacks N1, N2).
func TestAStrangerGetsNoHandshake(t *testing.T) {
	w := newWorld(t, edge.Config{})
	conn := dial(t, stranger, w.addr)
	_, _ = conn.Write([]byte("\x16\x03\x01\x00\x05hello")) // may fail: the other end is closed already
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("the stranger was sent % x", got)
	}
	if _, err := w.handshake(stranger, &tls.Config{}); err == nil {
		t.Error("the stranger's handshake succeeded")
	}
	if n := w.certs.shown.Load(); n != 0 {
		t.Errorf("a certificate was chosen %d times", n)
	}
	w.wantRefused("stranger", 2)
}

func TestAMemberIsServed(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		w := newWorld(t, edge.Config{})
		r, err := w.client(member, protocol).Get("https://" + w.addr + "/hello")
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		if got, want := read(t, r), fmt.Sprintf("GET /hello from %s", member); got != want || r.TLS.NegotiatedProtocol != protocol {
			t.Errorf("%s: got %q by %q, want %q", protocol, got, r.TLS.NegotiatedProtocol, want)
		}
	}
}

// No header opens the gate: the socket's address is the only one that counts
// (attack N1).
func TestHeadersDoNotSayWhoCalls(t *testing.T) {
	w := newWorld(t, edge.Config{})
	client := w.client(member, "http/1.1")
	w.allow.Swap(mustParse(t, server))
	for _, header := range []string{"", "X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP"} {
		q, _ := http.NewRequest("GET", "https://"+w.addr+"/", nil)
		if header != "" {
			q.Header.Set(header, server)
		}
		if r, err := client.Do(q); err == nil {
			t.Errorf("%q: got %d, want no connection", header, r.StatusCode)
		}
	}
	w.wantRefused("stranger", 6)
}

func TestAListExchangedCountsForOpenConnections(t *testing.T) {
	w := newWorld(t, edge.Config{})
	client := w.client(member, "http/1.1")
	r, err := client.Get("https://" + w.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	read(t, r)
	w.allow.Swap(nil)
	r, err = client.Get("https://" + w.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	if read(t, r); r.StatusCode != http.StatusForbidden {
		t.Errorf("status %d, want 403", r.StatusCode)
	}
	w.wantRefused("request", 1)
}

// While a validator is expected, a stranger gets a certificate only for a
// hello that offers acme-tls/1 and nothing else, and then no request.
func TestOnlyAValidatorsHelloPasses(t *testing.T) {
	w := newWorld(t, edge.Config{})
	w.certs.challenge.Store(true)
	for name, c := range map[string]*tls.Config{
		"no protocol":     {ServerName: "vasp.example"},
		"http/1.1":        {ServerName: "vasp.example", NextProtos: []string{"http/1.1"}},
		"among others":    {ServerName: "vasp.example", NextProtos: []string{"acme-tls/1", "h2"}},
		"no server name":  {NextProtos: []string{"acme-tls/1"}},
		"other challenge": {ServerName: "vasp.example", NextProtos: []string{"acme-tls/2"}},
	} {
		if _, err := w.handshake(stranger, c); err == nil {
			t.Errorf("%s: a stranger's handshake succeeded", name)
		}
	}
	if n := w.certs.shown.Load(); n != 0 {
		t.Fatalf("a certificate was chosen %d times for a stranger", n)
	}
	w.wantRefused("hello", 5)

	conn, err := w.tlsDial(stranger, &tls.Config{ServerName: "vasp.example", NextProtos: []string{"acme-tls/1"}})
	if err != nil {
		t.Fatalf("the validator's handshake: %v", err)
	}
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("after the challenge the stranger was sent %q", got)
	}
	if n := w.requests.Load(); n != 0 {
		t.Errorf("the handler ran %d times for the validator", n)
	}

	w.certs.challenge.Store(false)
	if _, err := w.handshake(stranger, &tls.Config{ServerName: "vasp.example", NextProtos: []string{"acme-tls/1"}}); err == nil {
		t.Error("a validator passed when none is expected")
	}
}

func TestConnectionsAreCapped(t *testing.T) {
	w := newWorld(t, edge.Config{MaxConns: 3, MaxConnsPerSource: 2})
	first, second := w.mustTLS(member), w.mustTLS(member)
	if _, err := w.handshake(member, &tls.Config{}); err == nil {
		t.Error("a third connection from one address was served")
	}
	w.mustTLS(server)
	if _, err := w.handshake("127.0.0.4", &tls.Config{}); err == nil {
		t.Error("a fourth connection was served")
	}
	w.wantRefused("source-limit", 1)
	w.wantRefused("total-limit", 1)

	first.Close()
	second.Close()
	w.eventually("places are given back", func() bool {
		_, err := w.handshake(member, &tls.Config{})
		return err == nil
	})
}

// Strangers who wait before their hello must not take the members' places.
func TestStrangersTakeFewPlaces(t *testing.T) {
	w := newWorld(t, edge.Config{MaxConns: 40})
	w.certs.challenge.Store(true)
	for range 64 {
		dial(t, stranger, w.addr)
	}
	if _, err := w.handshake(member, &tls.Config{}); err != nil {
		t.Errorf("the member's handshake: %v", err)
	}
	// Nor the validator's, which calls from another address.
	if _, err := w.handshake("127.0.0.10", &tls.Config{ServerName: "vasp.example", NextProtos: []string{"acme-tls/1"}}); err != nil {
		t.Errorf("the validator's handshake: %v", err)
	}
}

// A panic's text may hold what the request held (attack L3).
func TestAPanicIsLoggedWithoutItsText(t *testing.T) {
	w := newWorld(t, edge.Config{})
	w.handler = func(http.ResponseWriter, *http.Request) { panic(errors.New("Alice Example")) }
	r, err := w.client(member, "http/1.1").Get("https://" + w.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	if body := read(t, r); r.StatusCode != 500 || strings.Contains(body, "Alice") {
		t.Errorf("answer %d %q", r.StatusCode, body)
	}
	if log := w.log.String(); !strings.Contains(log, "*errors.errorString") || strings.Contains(log, "Alice") {
		t.Errorf("log %q: want the type of the panic and nothing of its text", log)
	}
}

func TestRequestsInProgressFinish(t *testing.T) {
	w := newWorld(t, edge.Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	w.handler = func(rw http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		fmt.Fprint(rw, r.Context().Err())
	}
	answer := make(chan string, 1)
	go func() {
		r, err := w.client(member, "http/1.1").Get("https://" + w.addr + "/")
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- read(t, r)
	}()
	<-arrived
	w.stop()
	w.eventually("no new connection is taken", func() bool {
		_, err := w.handshake(member, &tls.Config{})
		return err != nil
	})
	close(release)
	if got := <-answer; got != "<nil>" {
		t.Errorf("the request in progress got %q", got)
	}
	if err := <-w.served; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestRequestsThatNeverFinishAreCutOff(t *testing.T) {
	w := newWorld(t, edge.Config{Drain: time.Millisecond})
	arrived := make(chan struct{})
	w.handler = func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}
	done := make(chan error, 1)
	go func() {
		_, err := w.client(member, "http/1.1").Get("https://" + w.addr + "/")
		done <- err
	}()
	<-arrived
	w.stop()
	if err := <-w.served; err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("Serve = %v, want it to say that a request was cut off", err)
	}
	if err := <-done; err == nil {
		t.Error("the request cut off got an answer")
	}
}

func TestListenSaysWhatIsWrong(t *testing.T) {
	a := edgetest.NewAuthority(t)
	now := time.Now()
	load := func(from, until time.Time) edge.Certificates {
		files, err := edge.FileCertificates(a.IssueAt(server, from, until))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	for want, c := range map[string]edge.Config{
		"expired at":       {Certificates: load(now.Add(-2*time.Hour), now.Add(-time.Hour)), Address: server + ":0"},
		"not valid before": {Certificates: load(now.Add(time.Hour), now.Add(2*time.Hour)), Address: server + ":0"},
		"public listener":  {Certificates: load(now.Add(-time.Hour), now.Add(time.Hour)), Address: newWorld(t, edge.Config{}).addr},
	} {
		c.Now = time.Now
		l, err := edge.Listen(t.Context(), c)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Listen = %v, want %q", err, want)
		}
	}
}

func TestFileCertificatesSaysWhatIsWrong(t *testing.T) {
	a := edgetest.NewAuthority(t)
	cert, key := a.Issue(server)
	otherCert, _ := a.Issue(server)
	broken := t.TempDir() + "/broken.pem"
	write(t, broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	for name, c := range map[string]struct{ cert, key, want string }{
		"no certificate file": {"/nowhere/cert.pem", key, "read TLS certificate: open /nowhere/cert.pem"},
		"no key file":         {cert, "/nowhere/key.pem", "read TLS private key: open /nowhere/key.pem"},
		"mismatched":          {otherCert, key, "the key is not this certificate's"},
		"exchanged":           {key, cert, "exchange them"},
		"two certificates":    {cert, cert, "no private key in the second"},
		"two keys":            {key, key, "no certificate in the first"},
		"broken":              {broken, key, "TLS certificate " + broken},
	} {
		if _, err := edge.FileCertificates(c.cert, c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// world is a listener with an allow list, and callers at different addresses.
type world struct {
	t        *testing.T
	addr     string
	listener *edge.Listener
	roots    *x509.CertPool
	allow    *allow.Current
	certs    *certificates
	registry *prometheus.Registry
	log      *lockedBuffer
	requests atomic.Int64
	handler  http.HandlerFunc
	stop     context.CancelFunc
	served   chan error
}

func newWorld(t *testing.T, c edge.Config) *world {
	t.Helper()
	a := edgetest.NewAuthority(t)
	files, err := edge.FileCertificates(a.Issue(server))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, roots: a.Pool(), allow: allow.NewCurrent(mustParse(t, server+","+member+",127.0.0.4")), certs: &certificates{Files: files},
		registry: prometheus.NewRegistry(), log: new(lockedBuffer), served: make(chan error, 1),
	}
	w.handler = func(rw http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(rw, "%s %s from %s", r.Method, r.URL.Path, host)
	}
	c.Address = cmp.Or(c.Address, server+":0")
	c.Allow, c.Certificates, c.Namespace, c.Metrics, c.Now = w.allow, w.certs, "enclave", w.registry, time.Now
	c.Log = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e, err := edge.Listen(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	w.addr, w.listener = e.Addr().String(), e
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.served <- e.Serve(ctx, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.requests.Add(1)
			w.handler(rw, r)
		}))
	}()
	t.Cleanup(func() { cancel(); <-stopped })
	return w
}

// certificates is a pair from files that counts how often it is shown and may
// expect a validator.
type certificates struct {
	*edge.Files
	shown     atomic.Int64
	challenge atomic.Bool
}

func (c *certificates) Certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.shown.Add(1)
	return c.Files.Certificate(h)
}

func (c *certificates) Challenge() bool { return c.challenge.Load() }

func (w *world) client(from, protocol string) *http.Client {
	transport := &http.Transport{
		DialContext:     dialerFrom(from).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: w.roots, NextProtos: []string{protocol}},
	}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(protocol == "http/1.1")
	transport.Protocols.SetHTTP2(protocol == "h2")
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// tlsDial completes a handshake. The listener refuses before ServerHello, so
// a refused client never believes that it is connected.
func (w *world) tlsDial(from string, c *tls.Config) (*tls.Conn, error) {
	c = c.Clone()
	c.RootCAs, c.InsecureSkipVerify = w.roots, c.ServerName != ""
	d := &tls.Dialer{NetDialer: dialerFrom(from), Config: c}
	conn, err := d.DialContext(w.t.Context(), "tcp", w.addr)
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { conn.Close() })
	return conn.(*tls.Conn), nil
}

func (w *world) handshake(from string, c *tls.Config) (tls.ConnectionState, error) {
	conn, err := w.tlsDial(from, c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

func (w *world) mustTLS(from string) *tls.Conn {
	w.t.Helper()
	conn, err := w.tlsDial(from, &tls.Config{})
	if err != nil {
		w.t.Fatalf("handshake from %s: %v", from, err)
	}
	return conn
}

func (w *world) wantRefused(reason string, want float64) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("refused connections by reason %q = %v", reason, want), func() bool { return w.refused(reason) == want })
}

func (w *world) refused(reason string) float64 {
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "enclave_refused_connections_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

// eventually waits for the server to have noticed what a client did.
func (w *world) eventually(what string, happened func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	for !happened() {
		if ctx.Err() != nil {
			w.t.Fatalf("never happened: %s", what)
		}
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	w := newWorld(t, edge.Config{})
	problems, err := testutil.GatherAndLint(w.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(w.registry, "enclave_tls_certificate_not_after_timestamp_seconds"); n != 1 || err != nil {
		t.Errorf("certificate expiry: %d series, %v", n, err)
	}
}

func dialerFrom(from string) *net.Dialer {
	return &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
}

func dial(t *testing.T, from, to string) net.Conn {
	t.Helper()
	conn, err := dialerFrom(from).DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func read(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustParse(t *testing.T, text string) *allow.List {
	t.Helper()
	l, err := allow.ParseList(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
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
