package relay_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
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
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward/outwardtest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	centralAddress = "127.0.0.2"
	enclaveAddress = "127.0.0.3"
)

// startCentral serves h as a central server would: through an edge that lets
// the enclave's address in, behind a Verifier.
func startCentral(t *testing.T, base string, h http.HandlerFunc) (endpoint string, roots *x509.CertPool) {
	t.Helper()
	authority := edgetest.NewAuthority(t)
	files, err := edge.FileCertificates(authority.Issue(centralAddress))
	if err != nil {
		t.Fatal(err)
	}
	allowed, err := allow.ParseList(enclaveAddress)
	if err != nil {
		t.Fatal(err)
	}
	l, err := edge.Listen(t.Context(), edge.Config{Address: centralAddress + ":0", Certificates: files, Allow: allowed, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	endpoint = "https://" + l.Addr().String() + base
	u, err := relay.ParseEndpoint(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	v, err := relay.NewVerifier(relay.VerifierConfig{Direction: relay.EnclaveToCentral, Keys: []relay.Key{key}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, relay.Below(u, v.Require(h))) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return endpoint, authority.Pool()
}

func newClient(t *testing.T, endpoint string, roots *x509.CertPool, change func(*relay.Config)) *relay.Client {
	t.Helper()
	c := relay.Config{
		Endpoint: endpoint, AccessKey: key.Access, SecretKey: key.Secret, Roots: roots, SourceAddress: netip.MustParseAddr(enclaveAddress), Now: time.Now,
	}
	if change != nil {
		change(&c)
	}
	client, err := relay.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// echo answers a message with recipient, path and body.
func echo(w http.ResponseWriter, r *http.Request) {
	v, _ := relay.From(r.Context())
	w.Header().Set("Content-Type", relay.MediaType)
	fmt.Fprintf(w, "%s %s for %s: %s", r.Method, r.URL.Path, v.Recipient, v.Body)
}

func TestDeliver(t *testing.T) {
	for _, base := range []string{"", "/", "/alliance/v9"} {
		endpoint, roots := startCentral(t, base, echo)
		reply, err := newClient(t, endpoint, roots, nil).Deliver(t.Context(), 42, []byte("envelope"))
		if got, want := string(reply), "POST /relay/v1/messages for 42: envelope"; err != nil || got != want {
			t.Errorf("below %q: Deliver = %q, %v; want %q", base, got, err, want)
		}
	}
}

// Attack V1: a signed request goes to central and nowhere else, whatever
// stands in for central answers; and central's answer of that kind is an error.
func TestSignedRequestsGoNowhereElse(t *testing.T) {
	lure := outwardtest.NewLure(t)
	var now atomic.Pointer[outwardtest.Answer]
	var asked atomic.Int32
	base := lure.Origin(true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1); r.URL.Path {
		case relay.MessagesPath, relay.RegisterPath, relay.DirectoryPath:
			now.Load().Write(w)
		default:
			lure.Stray()
		}
	}))
	made := 0
	for _, answer := range lure.Answers(base) {
		now.Store(&answer)
		client := newClient(t, base.String(), lure.Roots, func(c *relay.Config) { c.SourceAddress = netip.Addr{} })
		for name, call := range map[string]func() error{
			"deliver":   func() error { _, err := client.Deliver(t.Context(), 42, []byte("envelope")); return err },
			"directory": func() error { _, err := client.Directory(t.Context()); return err },
			"register":  func() error { _, err := client.Register(t.Context(), relay.Registration{}); return err },
		} {
			before := asked.Load()
			if err := call(); err == nil {
				t.Errorf("%s, answered %q = nil, want an error", name, answer.Name)
			} else if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, key.Secret.Reveal()) {
				t.Errorf("%s, answered %q: the error says the secret", name, answer.Name)
			}
			if n := asked.Load() - before; n != 1 {
				t.Errorf("%s, answered %q: asked %d times", name, answer.Name, n)
			}
			made++
		}
		client.Close()
	}
	if n := lure.Strayed(); n != 0 {
		t.Errorf("%d of %d requests went elsewhere", n, made)
	}
	t.Logf("%d requests", made)
}

// Central may ask for a client certificate.
func TestCentralSeesOurCertificate(t *testing.T) {
	server := outwardtest.NewGuarded(t, "127.0.0.7", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", relay.MediaType)
		io.WriteString(w, "reply")
	}))
	with := func(trust *outward.Trust) error {
		client := newClient(t, server.URL, server.Roots, func(c *relay.Config) { c.SourceAddress, c.Trust = netip.Addr{}, trust })
		_, err := client.Deliver(t.Context(), 42, []byte("envelope"))
		return err
	}
	trust, err := outward.ReadTrust(server.Files("enclave", nil), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := with(nil); err == nil {
		t.Error("without a certificate, Deliver = nil")
	}
	if err := with(trust); err != nil {
		t.Errorf("Deliver = %v", err)
	}
	if got := server.Seen(); len(got) != 1 || got[0] != "enclave" {
		t.Errorf("central saw %q", got)
	}
}

// Attack N4: the enclave signs nothing for a central whose certificate is bad.
func TestBadCentralsAreRefused(t *testing.T) {
	company := outwardtest.NewCompany(t, "127.0.0.7", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", relay.MediaType)
		io.WriteString(w, "reply")
	}))
	deliver := func(s *outwardtest.Server) error {
		client := newClient(t, s.URL, company.Roots, func(c *relay.Config) { c.SourceAddress = netip.Addr{} })
		_, err := client.Deliver(t.Context(), 42, []byte("envelope"))
		return err
	}
	for _, s := range company.Good {
		if err := deliver(s); err != nil || s.Heard() != 1 {
			t.Errorf("good central at %s: %v", s.URL, err)
		}
	}
	for _, s := range company.Bad {
		var failed *relay.TransportError
		if err := deliver(s); !errors.As(err, &failed) || s.Heard() != 0 {
			t.Errorf("%s: %v, and it heard %d requests", s.Name, err, s.Heard())
		}
	}
	if n := len(company.Bad); n < 30 {
		t.Errorf("%d kinds of bad certificates, want at least 30", n)
	}
}

func TestRegisterAndDirectory(t *testing.T) {
	endpoint, roots := startCentral(t, "", func(w http.ResponseWriter, r *http.Request) {
		v, _ := relay.From(r.Context())
		switch {
		case r.Method == "PUT" && r.URL.Path == relay.RegisterPath && v.Recipient == relay.ToCentral:
			got, err := relay.ParseRegistration(v.Body)
			if err != nil || got.Instance != registration.Instance {
				t.Errorf("registration %+v, %v", got, err)
			}
			fmt.Fprint(w, `{"leaseMs":90000,"heartbeatMs":30000,"vaspId":"7"}`)
		case r.Method == "GET" && r.URL.Path == relay.DirectoryPath && v.Recipient == relay.ToCentral:
			fmt.Fprint(w, `{"vasps":[{"health":"UP","vaspId":"7"}]}`)
		default:
			t.Errorf("unexpected %s %s for %s", r.Method, r.URL.Path, v.Recipient)
		}
	})
	client := newClient(t, endpoint, roots, nil)
	if lease, err := client.Register(t.Context(), registration); err != nil || lease.VASPID != 7 {
		t.Errorf("Register = %+v, %v", lease, err)
	}
	if d, err := client.Directory(t.Context()); err != nil || len(d.VASPs) != 1 || d.VASPs[0].VASPID != 7 {
		t.Errorf("Directory = %+v, %v", d, err)
	}
}

// Central's errors are about the way and not the verification: all may pass by
// themselves but those that an operator must mend.
func TestErrorsOfCentral(t *testing.T) {
	for code, want := range map[string]struct {
		status    int
		retryable bool
	}{
		relay.CodeUnauthenticated: {401, false}, relay.CodeForbidden: {403, false}, relay.CodeUnknownVASP: {404, true},
		relay.CodeInstanceConflict: {409, false}, relay.CodeIdentityConflict: {409, false}, relay.CodeNotRegistered: {412, true},
		relay.CodeTooLarge: {413, true}, relay.CodeBusy: {429, true}, relay.CodeUnreachable: {502, true}, relay.CodeDown: {503, true},
		relay.CodeTimeout: {504, true}, "INVALID-RECIPIENT": {400, false}, "SOMETHING-NEW": {418, true},
	} {
		endpoint, roots := startCentral(t, "", func(w http.ResponseWriter, _ *http.Request) { relay.WriteError(w, want.status, code, "It is so.") })
		_, err := newClient(t, endpoint, roots, nil).Deliver(t.Context(), 42, nil)
		var refused *relay.Error
		if !errors.As(err, &refused) || *refused != (relay.Error{Code: code, Status: want.status, Retryable: want.retryable}) {
			t.Errorf("%d %s: %#v", want.status, code, err)
		}
		if got := relay.Retryable(err); got != want.retryable {
			t.Errorf("Retryable(%v) = %v", err, got)
		}
	}
}

// Whatever stands in for central: no redirect is followed, no reply swallowed
// whole, and nothing it says reaches a log.
func TestAnswersThatAreNotCentrals(t *testing.T) {
	tooLong := bytes.Repeat([]byte("x"), relay.MaxMessage+1)
	answers := map[string]http.HandlerFunc{
		"html": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<h1>Bad Gateway Alice</h1>", http.StatusBadGateway)
		},
		"odd code": func(w http.ResponseWriter, _ *http.Request) {
			relay.WriteError(w, http.StatusBadRequest, "Alice\nlevel=ERROR", "")
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusPermanentRedirect)
		},
		"text": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Alice") },
		"too long": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", relay.MediaType)
			w.Write(tooLong)
		},
		"no end": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "x")
		},
		"cut":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"no reply":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"partially": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) },
	}
	for name, answer := range answers {
		var mu sync.Mutex
		asked := 0
		endpoint, roots := startCentral(t, "", func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked++
			mu.Unlock()
			answer(w, r)
		})
		client := newClient(t, endpoint, roots, nil)
		reply, err := client.Deliver(t.Context(), 42, []byte("envelope"))
		if err == nil || !relay.Retryable(err) || strings.Contains(err.Error(), "Alice") {
			t.Errorf("%s: Deliver = %.20q, %v; want an error that may pass and quotes nothing", name, reply, err)
		}
		if mu.Lock(); asked != 1 {
			t.Errorf("%s: asked %d times", name, asked)
		}
		mu.Unlock()
		if d, err := client.Directory(t.Context()); err == nil || strings.Contains(err.Error(), "Alice") {
			t.Errorf("%s: Directory = %+v, %v", name, d, err)
		}
		if l, err := client.Register(t.Context(), registration); err == nil || strings.Contains(err.Error(), "Alice") {
			t.Errorf("%s: Register = %+v, %v", name, l, err)
		}
	}
}

func TestNoCentral(t *testing.T) {
	endpoint, roots := startCentral(t, "", echo)
	free, err := net.Listen("tcp", centralAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "https://" + free.Addr().String()
	free.Close()
	for name, client := range map[string]*relay.Client{
		"nobody listens":  newClient(t, closed, roots, nil),
		"untrusted":       newClient(t, endpoint, x509.NewCertPool(), nil),
		"not let in":      newClient(t, endpoint, roots, func(c *relay.Config) { c.SourceAddress = netip.MustParseAddr("127.0.0.9") }),
		"another's name":  newClient(t, strings.Replace(endpoint, centralAddress, "localhost", 1), roots, nil),
		"another address": newClient(t, strings.Replace(endpoint, centralAddress, "127.0.0.1", 1), roots, nil),
	} {
		_, err := client.Deliver(t.Context(), 42, nil)
		var failed *relay.TransportError
		if !errors.As(err, &failed) || !relay.Retryable(err) {
			t.Errorf("%s: %v; want a *TransportError", name, err)
		}
	}
	wrong := newClient(t, endpoint, roots, func(c *relay.Config) { c.SecretKey = key2.Secret })
	var refused *relay.Error
	if _, err := wrong.Deliver(t.Context(), 42, nil); !errors.As(err, &refused) || refused.Code != relay.CodeUnauthenticated {
		t.Errorf("wrong secret: %v", err)
	}
}

func TestTheCallersDeadlineHolds(t *testing.T) {
	var arrived atomic.Bool
	gone := make(chan struct{}, 16)
	endpoint, roots := startCentral(t, "", func(_ http.ResponseWriter, r *http.Request) {
		arrived.Store(true)
		<-r.Context().Done() // the server notices that the caller left
		gone <- struct{}{}
	})
	client := newClient(t, endpoint, roots, nil)
	// A busy machine may take longer than the first deadlines to connect.
	for deadline := 20 * time.Millisecond; !arrived.Load() && deadline < time.Minute; deadline *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		_, err := client.Deliver(ctx, 42, []byte("envelope"))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !relay.Retryable(err) {
			t.Errorf("Deliver = %v, want the deadline", err)
		}
	}
	<-gone
}

// 200 at once: each gets its own answer, and connections are used again.
func TestConcurrentDeliveries(t *testing.T) {
	sources := sync.Map{}
	arrived, release := make(chan struct{}, 200), make(chan struct{})
	endpoint, roots := startCentral(t, "", func(w http.ResponseWriter, r *http.Request) {
		sources.Store(r.RemoteAddr, true)
		if v, _ := relay.From(r.Context()); strings.HasSuffix(string(v.Body), ".0") {
			arrived <- struct{}{}
			<-release
		}
		echo(w, r)
	})
	client := newClient(t, endpoint, roots, nil)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			for n := range 5 {
				envelope := fmt.Sprintf("envelope %d.%d", i, n)
				reply, err := client.Deliver(t.Context(), 42, []byte(envelope))
				if err != nil || !strings.HasSuffix(string(reply), ": "+envelope) {
					t.Errorf("Deliver %d = %q, %v", i, reply, err)
				}
			}
		})
		if i%20 == 19 { // a handshake has 5 s, which those of 200 at once may need under the race detector
			for range 20 {
				edgetest.Receive(t, arrived)
			}
		}
	}
	close(release) // all 200 are under way
	all.Wait()
	connections := 0
	sources.Range(func(any, any) bool { connections++; return true })
	// A dial that was begun for one delivery may end up serving another, so a
	// busy machine sees more than 200; without reuse there would be 1000.
	if connections > 500 {
		t.Errorf("1000 deliveries, 200 at a time, took %d connections", connections)
	}
}

func TestNewClientSaysWhatIsWrong(t *testing.T) {
	for want, c := range map[string]relay.Config{
		"central's endpoint must begin with https://": {Endpoint: "http://central.example", AccessKey: "a", SecretKey: key.Secret},
		"access key is empty":                         {Endpoint: "https://central.example", SecretKey: key.Secret},
		"secret key has 0 bytes":                      {Endpoint: "https://central.example", AccessKey: "a"},
	} {
		if _, err := relay.NewClient(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewClient: %v, want %q", err, want)
		}
	}
}

func TestClientMetricsAreWellFormed(t *testing.T) {
	registry := prometheus.NewRegistry()
	endpoint, roots := startCentral(t, "", echo)
	client := newClient(t, endpoint, roots, func(c *relay.Config) { c.Metrics = registry })
	if _, err := client.Deliver(t.Context(), 42, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Directory(t.Context()); err == nil {
		t.Fatal("an echo was read as a directory")
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(registry, "enclave_central_request_duration_seconds"); n != 2 || err != nil {
		t.Errorf("%d series, %v; want deliver and directory", n, err)
	}
}

// BenchmarkDeliver is one exchange with central over TLS on a kept connection,
// signature and all, 8 KiB there and back; both ends are in this process.
func BenchmarkDeliver(b *testing.B) {
	body := make([]byte, 8<<10)
	authority := edgetest.NewAuthority(b)
	files, err := edge.FileCertificates(authority.Issue(centralAddress))
	if err != nil {
		b.Fatal(err)
	}
	allowed, _ := allow.ParseList(enclaveAddress)
	l, err := edge.Listen(b.Context(), edge.Config{Address: centralAddress + ":0", Certificates: files, Allow: allowed, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	v, _ := relay.NewVerifier(relay.VerifierConfig{Direction: relay.EnclaveToCentral, Keys: []relay.Key{key}, Now: time.Now, ReplayLimit: 1 << 30})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- l.Serve(ctx, v.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", relay.MediaType)
			_, _ = io.Copy(w, r.Body)
		})))
	}()
	client, _ := relay.NewClient(relay.Config{
		Endpoint: "https://" + l.Addr().String(), AccessKey: key.Access, SecretKey: key.Secret, Roots: authority.Pool(),
		SourceAddress: netip.MustParseAddr(enclaveAddress), Now: time.Now,
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Deliver(b.Context(), 42, body); err != nil {
			b.Fatal(err)
		}
	}
	client.Close()
	stop()
	<-done
}
