package vasp_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward/outwardtest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret is a token whose letters occur nowhere else.
const secret = "tok3n-s3cret-marker"

// config is a Config whose four APIs are paths below base.
func config(base string) vasp.Config {
	return vasp.Config{
		Account: base + "/account", Verification: base + "/user", Transaction: base + "/tx", Callback: base + "/callback",
		Token: vasp.NewToken(secret),
	}
}

func newClient(t *testing.T, cfg vasp.Config) *vasp.Client {
	t.Helper()
	c, err := vasp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// backend is a server that answers with h, and a client of it.
func backend(t *testing.T, h http.HandlerFunc) *vasp.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return newClient(t, config(s.URL))
}

// answer writes body as a backend would.
func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, body)
	}
}

// calls are the four APIs of a client.
func calls(c *vasp.Client) map[string]func(context.Context) error {
	body := []byte(`{"a":1}`)
	return map[string]func(context.Context) error{
		"account":     func(ctx context.Context) error { _, err := c.VerifyAccount(ctx, body); return err },
		"user":        func(ctx context.Context) error { _, err := c.VerifyUser(ctx, body); return err },
		"transaction": func(ctx context.Context) error { _, err := c.TransactionStatus(ctx, body); return err },
		"callback":    func(ctx context.Context) error { return c.Callback(ctx, body) },
	}
}

// mustFail wants err to be an Error of api with the given problem.
func mustFail(t *testing.T, err error, api string, want vasp.Problem) {
	t.Helper()
	var e *vasp.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: error is %v, want a *vasp.Error", api, err)
	} else if e.API != api || e.Problem != want {
		t.Errorf("%s: error is of api %s and %v (%v), want %v", api, e.API, e.Problem, e, want)
	}
}

func TestEachAPIGetsItsBodyAndHeaders(t *testing.T) {
	for _, c := range []struct {
		name   string
		header string
		token  vasp.Token
		want   http.Header
	}{
		{"bearer", "", vasp.NewToken(secret), http.Header{"Authorization": {"Bearer " + secret}}},
		{"own header", "x-api-key", vasp.NewToken(secret), http.Header{"X-Api-Key": {secret}}},
		{"no token", "", vasp.Token{}, http.Header{}},
		{"no token for the own header", "X-Api-Key", vasp.NewToken(""), http.Header{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var path, body string
			var header http.Header
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				path, body, header = r.Method+" "+r.URL.Path, string(b), r.Header
				answer(`{"accountVerificationResult":"VERIFIED","result":"DENIED","transactionStatus":"PENDING"}`)(w, r)
			}))
			defer s.Close()
			cfg := config(s.URL)
			cfg.Token, cfg.HeaderName = c.token, c.header
			client := newClient(t, cfg)
			for api, call := range calls(client) {
				err := call(t.Context())
				if err != nil && api != "callback" { // whose result must be true
					t.Errorf("%s: %v", api, err)
				}
				if path != "POST /"+map[string]string{"transaction": "tx"}[api]+strings.TrimPrefix(api, "transaction") || body != `{"a":1}` {
					t.Errorf("%s: backend got %q at %q", api, body, path)
				}
				want := c.want.Clone()
				for name, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "vasp-enclave", "Content-Length": "7"} {
					want.Set(name, value)
				}
				if diff := cmp.Diff(want, header); diff != "" {
					t.Errorf("%s: headers (-want +got):\n%s", api, diff)
				}
			}
		})
	}
}

// Another token is sent from the next call on, and one that no header can hold
// leaves the one before.
func TestSetToken(t *testing.T) {
	var got string
	client := backend(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		answer(`{"accountVerificationResult":"VERIFIED"}`)(w, r)
	})
	for _, c := range []struct{ token, want string }{{"second", "Bearer second"}, {"a line\nend", "Bearer second"}, {"", ""}, {"third", "Bearer third"}} {
		if err := client.SetToken(vasp.NewToken(c.token)); (err != nil) != strings.Contains(c.token, "\n") {
			t.Errorf("SetToken(%q) = %v", c.token, err)
		}
		if _, err := client.VerifyAccount(t.Context(), []byte(`{}`)); err != nil || got != c.want {
			t.Errorf("after SetToken(%q): sent %q, %v; want %q", c.token, got, err, c.want)
		}
	}
}

func TestVerifyAccount(t *testing.T) {
	c := backend(t, answer(`{"accountVerificationResult":"DENIED","reason":"UNKNOWN-ADDRESS","verifiedAt":"2025-03-04T05:06:07.089Z","message":"x","new":1}`))
	got, err := c.VerifyAccount(t.Context(), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	want := &vasp.AccountAnswer{Result: "DENIED", Reason: "UNKNOWN-ADDRESS", VerifiedAt: "2025-03-04T05:06:07.089Z", Message: "x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("VerifyAccount (-want +got):\n%s", diff)
	}
}

func TestVerifyUser(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       vasp.UserAnswer
	}{
		{"whole", `{"result":"VERIFIED","reason":"OK","message":"","version":"1.0","ivms101":{"beneficiary":{"b": 1,"a":[ ]}}}`,
			vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Version: "1.0", Beneficiary: []byte(`{"b": 1,"a":[ ]}`)}},
		{"without ivms101", `{"result":"DENIED","reason":"UNKNOWN-SYMBOL","message":"DOGE"}`,
			vasp.UserAnswer{Result: "DENIED", Reason: "UNKNOWN-SYMBOL", Message: "DOGE"}},
		{"null", `{"result":"ERROR","reason":null,"ivms101":{"beneficiary":null}}`,
			vasp.UserAnswer{Result: "ERROR", Reason: "UNDEFINED-ERROR"}},
		{"no reason", `{"result":"VERIFIED","ivms101":null}`,
			vasp.UserAnswer{Result: "VERIFIED", Reason: "OK"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := backend(t, answer(c.text)).VerifyUser(t.Context(), []byte("{}"))
			if err != nil {
				t.Fatal(err)
			}
			c.want.Raw = []byte(c.text)
			if diff := cmp.Diff(&c.want, got); diff != "" {
				t.Errorf("VerifyUser (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTransactionStatus(t *testing.T) {
	c := backend(t, answer(`{"verificationUuid":"u","transactionStatus":"WAIT-CONFIRM","txHash":"8a54","vout":"2"}`))
	got, err := c.TransactionStatus(t.Context(), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&vasp.TransactionAnswer{VerificationUUID: "u", Status: "WAIT-CONFIRM", TxHash: "8a54", VOut: "2"}, got); diff != "" {
		t.Errorf("TransactionStatus (-want +got):\n%s", diff)
	}
}

// Contract 3.4: taken means HTTP 200 and {"result":true}, nothing else.
func TestCallback(t *testing.T) {
	for text, want := range map[string]vasp.Problem{
		`{"result":true}`:         0,
		`{"result":true,"x":"y"}`: 0,
		`{"result":false}`:        vasp.Invalid,
		`{"result":"true"}`:       vasp.Invalid,
		`{"RESULT":true}`:         vasp.Invalid,
		`{}`:                      vasp.Invalid,
		``:                        vasp.NotJSON,
		`ok`:                      vasp.NotJSON,
	} {
		err := backend(t, answer(text)).Callback(t.Context(), []byte("{}"))
		if want == 0 && err != nil {
			t.Errorf("Callback answered by %q = %v, want nil", text, err)
		}
		if want != 0 {
			mustFail(t, err, "callback", want)
		}
	}
	for _, status := range []int{http.StatusCreated, http.StatusAccepted, http.StatusNoContent} {
		err := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }).Callback(t.Context(), nil)
		mustFail(t, err, "callback", vasp.Status)
	}
}

func TestAnswersOutsideTheContractAreInvalid(t *testing.T) {
	long := strings.Repeat("x", 257)
	for _, text := range []string{
		`{}`, `[]`, `null`, `{"accountVerificationResult":"ERROR","result":"PENDING","transactionStatus":"DONE"}`,
		`{"accountVerificationResult":1,"result":1,"transactionStatus":1}`,
		`{"accountVerificationResult":"verified","result":"verified","transactionStatus":"pending"}`,
		`{"accountVerificationResult":"DENIED","result":"DENIED","transactionStatus":"PENDING","reason":"` + long + `","vout":"` + long + `"}`,
		`{"accountVerificationResult":"DENIED","result":"VERIFIED","transactionStatus":"PENDING","ivms101":{"beneficiary":"x"},"txHash":1,"verifiedAt":1}`,
		`{"accountVerificationResult":"DENIED","result":"DENIED","transactionStatus":"PENDING","x":"\u202e"}`,
	} {
		for api, call := range calls(backend(t, answer(text))) {
			mustFail(t, call(t.Context()), api, vasp.Invalid)
		}
	}
}

func TestWithoutURLsNothingIsCalled(t *testing.T) {
	c := newClient(t, vasp.Config{Account: "https://127.0.0.1:1", Verification: "https://127.0.0.1:1"})
	mustFail(t, c.Callback(t.Context(), nil), "callback", vasp.NotConfigured)
	_, err := c.TransactionStatus(t.Context(), nil)
	mustFail(t, err, "transaction", vasp.NotConfigured)
}

func TestNewRefuses(t *testing.T) {
	const fine = "https://vasp.example/api"
	for name, change := range map[string]func(*vasp.Config){
		"no account":             func(c *vasp.Config) { c.Account = "" },
		"no verification":        func(c *vasp.Config) { c.Verification = "" },
		"http to another host":   func(c *vasp.Config) { c.Account = "http://vasp.example/api" },
		"http to a private host": func(c *vasp.Config) { c.Account = "http://10.0.0.1/api" },
		"almost localhost":       func(c *vasp.Config) { c.Account = "http://localhost.example/" },
		"another scheme":         func(c *vasp.Config) { c.Callback = "ftp://vasp.example/" },
		"a path":                 func(c *vasp.Config) { c.Callback = "/callback" },
		"no host":                func(c *vasp.Config) { c.Callback = "https:///callback" },
		"opaque":                 func(c *vasp.Config) { c.Callback = "https:vasp.example" },
		"user name":              func(c *vasp.Config) { c.Account = "https://user:" + secret + "@vasp.example/" },
		"fragment":               func(c *vasp.Config) { c.Account = fine + "#x" },
		"no url at all":          func(c *vasp.Config) { c.Account = "https://%zz" + secret },
		"token with a line end":  func(c *vasp.Config) { c.Token = vasp.NewToken(secret + "\n") },
		"token of other letters": func(c *vasp.Config) { c.Token = vasp.NewToken(secret + "키") },
		"header with a space":    func(c *vasp.Config) { c.HeaderName = "X Key" },
		"header with a colon":    func(c *vasp.Config) { c.HeaderName = "X-Key:" },
		"header with a use":      func(c *vasp.Config) { c.HeaderName = "content-length" },
	} {
		cfg := vasp.Config{Account: fine, Verification: fine, Token: vasp.NewToken(secret)}
		change(&cfg)
		_, err := vasp.New(cfg)
		if err == nil {
			t.Errorf("%s: New = nil, want refusal", name)
		} else if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "vasp.example") {
			t.Errorf("%s: New says %q", name, err)
		}
	}
	for _, url := range []string{"http://localhost:8081/x", "http://127.0.0.2/x", "http://[::1]:1/x", "https://vasp.example/x?tenant=1"} {
		if _, err := vasp.New(vasp.Config{Account: url, Verification: url}); err != nil {
			t.Errorf("New with %s = %v, want nil", url, err)
		}
	}
	if _, err := vasp.New(vasp.Config{Account: "http://vasp.example", Verification: fine, UnsafeHTTP: true}); err != nil {
		t.Errorf("New with http allowed = %v, want nil", err)
	}
}

func TestCallsAreMeasured(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := httptest.NewServer(answer(`{"result":true}`))
	defer s.Close()
	cfg := config(s.URL)
	cfg.Metrics = registry
	clock := time.Unix(0, 0)
	cfg.Now = func() time.Time { clock = clock.Add(20 * time.Millisecond); return clock }
	c := newClient(t, cfg)
	for _, call := range calls(c) {
		_ = call(t.Context())
	}
	if n, err := testutil.GatherAndCount(registry, "enclave_vasp_api_seconds"); err != nil || n != 4 {
		t.Fatalf("%d series, %v, want one for each api", n, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	at := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "enclave_vasp_api_seconds" })
	for _, m := range families[at].GetMetric() {
		got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetHistogram().GetSampleSum()
	}
	want := map[string]float64{"account invalid": .02, "user invalid": .02, "transaction invalid": .02, "callback ok": .02}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seconds (-want +got):\n%s", diff)
	}
	if _, err := vasp.New(cfg); err == nil {
		t.Error("New twice with one registry = nil, want an error")
	}
}

func TestProbeWarnsOfWhatCannotBeReached(t *testing.T) {
	plain := httptest.NewServer(nil)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	gone := httptest.NewServer(nil)
	gone.Close()

	cfg := vasp.Config{Account: plain.URL, Verification: secure.URL, Transaction: gone.URL + "/path", Callback: gone.URL, Token: vasp.NewToken(secret)}
	found := newClient(t, cfg).Probe(t.Context())
	if len(found) != 2 {
		t.Fatalf("Probe = %v, want the unknown certificate and the closed port", found)
	}
	if s := found[0].Error(); !strings.Contains(s, "user api") || !strings.Contains(s, "certificate") {
		t.Errorf("Probe[0] = %q, want the certificate", s)
	}
	if s := found[1].Error(); !strings.Contains(s, "transaction, callback api") || !strings.Contains(s, "refused") || strings.Contains(s, "path") {
		t.Errorf("Probe[1] = %q, want the closed port", s)
	}
	cfg.Roots = x509.NewCertPool()
	cfg.Roots.AddCert(secure.Certificate())
	cfg.Transaction, cfg.Callback = plain.URL, secure.URL
	if found := newClient(t, cfg).Probe(t.Context()); len(found) != 0 {
		t.Errorf("Probe = %v, want nothing", found)
	}
}

// Contract 3.0: what a backend has for its answer.
func TestDeadlinesAreTheContracts(t *testing.T) {
	for api, want := range map[string]time.Duration{"account": time.Second, "user": 5 * time.Second, "transaction": time.Second, "callback": time.Second} {
		if got := vasp.Deadline(api); got != want {
			t.Errorf("the deadline of %s is %v, want %v", api, got, want)
		}
	}
}

// A backend behind a Unix socket needs no address at all, and its http leaves
// this machine by no name.
func TestABackendBehindASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "backend.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var hosts sync.Map
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts.Store(r.Host, r.Header.Get("Authorization"))
		answer(`{"accountVerificationResult":"VERIFIED","result":true,"transactionStatus":"PENDING"}`)(w, r)
	})}}
	s.Start()
	cfg := config("http://backend.example:81")
	cfg.Socket = path
	c := newClient(t, cfg)
	for api, call := range calls(c) {
		if err := call(t.Context()); err != nil && api != "user" { // whose result is no boolean
			t.Errorf("%s: %v", api, err)
		}
	}
	if token, ok := hosts.Load("backend.example:81"); !ok || token != "Bearer "+secret {
		t.Errorf("the backend got host and token %v", token)
	}
	if found := c.Probe(t.Context()); len(found) != 0 {
		t.Errorf("Probe = %v", found)
	}
	// https goes on as it would without a socket.
	secure := cfg
	secure.Callback = "https://127.0.0.1:1/callback"
	mustFail(t, newClient(t, secure).Callback(t.Context(), []byte("{}")), "callback", vasp.Unreachable)
	s.Close()
	for api, call := range calls(newClient(t, cfg)) {
		mustFail(t, call(t.Context()), api, vasp.Unreachable)
	}
}

// An idle connection is closed by us, before the backend does it.
func TestIdleConnectionsAreClosedInTime(t *testing.T) {
	closed := make(chan struct{}, 1)
	s := httptest.NewUnstartedServer(answer(`{"result":true}`))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	s.Start()
	defer s.Close()
	cfg := config(s.URL)
	if got := vasp.IdleTimeout(newClient(t, cfg)); got != 4*time.Second {
		t.Errorf("unless set, connections are kept for %v, want 4 s", got)
	}
	cfg.KeepAlive = 50 * time.Millisecond
	if got := vasp.IdleTimeout(newClient(t, cfg)); got != cfg.KeepAlive {
		t.Errorf("connections are kept for %v, want %v", got, cfg.KeepAlive)
	}
	if err := newClient(t, cfg).Callback(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Error("the connection is kept")
	}
}

// Whatever the URLs' names resolve to, http stays on this machine and nothing
// goes where clouds serve credentials (attack V2).
func TestWhereABackendMayBe(t *testing.T) {
	odd := []string{"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1]:80", "[fd00:ec2::254]:80", "224.0.0.1:80", "[ff02::1]:80", "0.0.0.0:80", "[::]:80", "255.255.255.255:80"}
	away := []string{"10.1.2.3:80", "[fd00::1]:80", "203.0.113.7:80", "192.168.0.1:80"}
	for _, unsafe := range []bool{false, true} {
		cfg := config("http://localhost:1")
		cfg.UnsafeHTTP = unsafe
		plain, secure := vasp.Dials(newClient(t, cfg))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		refuses := func(dial func(context.Context, string, string) (net.Conn, error), address string) bool {
			ctx := t.Context()
			if !slices.Contains(odd, address) && unsafe {
				ctx = ended // it would be dialled
			}
			_, err := dial(ctx, "tcp", address)
			return errors.Is(err, outward.ErrRefused)
		}
		for _, address := range odd {
			if !refuses(plain, address) || !refuses(secure, address) {
				t.Errorf("%s is dialled", address)
			}
		}
		for _, address := range away {
			if got := refuses(plain, address); got == unsafe {
				t.Errorf("with http to others allowed: %t, http to %s is refused: %t", unsafe, address, got)
			}
		}
	}
}

// The backend may ask for a client certificate.
func TestTheBackendSeesOurCertificate(t *testing.T) {
	server := outwardtest.NewGuarded(t, "127.0.0.7", answer(`{"result":true}`))
	cfg := config(server.URL)
	cfg.Roots = server.Roots
	if err := newClient(t, cfg).Callback(t.Context(), []byte("{}")); err == nil {
		t.Error("without a certificate, Callback = nil")
	}
	trust, err := outward.ReadTrust(server.Files("enclave", nil), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Trust = trust
	if err := newClient(t, cfg).Callback(t.Context(), []byte("{}")); err != nil {
		t.Errorf("Callback = %v", err)
	}
	if got := server.Seen(); len(got) != 1 || got[0] != "enclave" {
		t.Errorf("the backend saw %q", got)
	}
}
