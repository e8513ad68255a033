package vasp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward/outwardtest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// Attack V1: no redirect is followed, so the token goes nowhere else; to no
// other host and to no other path of the same one.
func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, header := range []string{"", "X-Api-Key"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			var strayed atomic.Int32
			other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
			mux := http.NewServeMux()
			mux.HandleFunc("/stolen", func(http.ResponseWriter, *http.Request) { strayed.Add(1) })
			mux.HandleFunc("/account", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/stolen", status) })
			mux.HandleFunc("/user", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) })
			mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Refresh", "0; url="+other.URL)
				http.Redirect(w, r, "http://"+r.Host+"/stolen", status)
			})
			s := httptest.NewServer(mux)
			cfg := config(s.URL)
			cfg.HeaderName = header
			for api, call := range calls(newClient(t, cfg)) {
				err := call(t.Context())
				mustFail(t, err, api, vasp.Redirect)
				var e *vasp.Error
				if errors.As(err, &e) && e.Code != status {
					t.Errorf("%s: error has status %d, want %d", api, e.Code, status)
				}
			}
			s.Close()
			other.Close()
			if n := strayed.Load(); n != 0 {
				t.Errorf("%d calls followed a %d with header %q", n, status, header)
			}
		}
	}
}

// Attack V1: whatever a backend answers, token and data go to the configured
// URL and nowhere else. Five redirects, to the same and other paths, ports,
// hosts and schemes, in many spellings, and other answers that ask for the
// request again; over http and https, for both forms of the token and all
// APIs. Every server that could be meant counts who comes.
func TestTokensGoNowhereElse(t *testing.T) {
	lure := outwardtest.NewLure(t)
	var now atomic.Pointer[outwardtest.Answer]
	var asked atomic.Int32
	origin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1); r.URL.Path {
		case "/account", "/user", "/tx", "/callback":
			now.Load().Write(w)
		default:
			lure.Stray()
		}
	})
	var log bytes.Buffer
	made, answers := 0, 0
	for _, secure := range []bool{false, true} {
		base := lure.Origin(secure, origin)
		for _, header := range []string{"", "X-Api-Key"} {
			for _, answer := range lure.Answers(base) {
				cfg := config(base.String())
				cfg.HeaderName, cfg.Roots = header, lure.Roots
				cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				now.Store(&answer)
				answers++
				c := newClient(t, cfg)
				for api, call := range calls(c) {
					before := asked.Load()
					err := call(t.Context())
					var e *vasp.Error
					if !errors.As(err, &e) || e.Problem != vasp.Redirect && e.Problem != vasp.Status && e.Problem != vasp.NotJSON {
						t.Errorf("%s, answered %q = %v, want that answer as an error", api, answer.Name, err)
					}
					if n := asked.Load() - before; n != 1 {
						t.Errorf("%s, answered %q: asked %d times", api, answer.Name, n)
					}
					mustNotSay(t, answer.Name, fmt.Sprintf("%v %+v %#v", err, err, err), secret, "127.0.0.", "stolen")
					made++
				}
				c.Close()
			}
		}
	}
	if n := lure.Strayed(); n != 0 {
		t.Errorf("%d of %d calls went elsewhere", n, made)
	}
	mustNotSay(t, "log", log.String(), secret)
	t.Logf("%d calls, %d answers", made, answers)
}

// Attack V1: a proxy named in the environment is not asked.
func TestNoProxyIsAsked(t *testing.T) {
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	c := newClient(t, vasp.Config{Account: "http://vasp.invalid/", Verification: "http://vasp.invalid/", UnsafeHTTP: true})
	_, err := c.VerifyAccount(t.Context(), []byte("{}"))
	mustFail(t, err, "account", vasp.Unreachable)
	if asked.Load() != 0 {
		t.Error("the proxy was asked")
	}
}

// Attack V3: what a backend may do wrong in an answer that comes whole.
func TestWrongAnswers(t *testing.T) {
	typed := func(kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			io.WriteString(w, `{"accountVerificationResult":"VERIFIED","result":"VERIFIED","transactionStatus":"PENDING"}`)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			io.WriteString(w, strings.Repeat("<html>", 10_000))
		}
	}
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		want vasp.Problem
	}{
		{"500", status(500), vasp.Status},
		{"404", status(404), vasp.Status},
		{"201", status(201), vasp.Status},
		{"401", status(401), vasp.Status},
		{"1 GiB announced", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(1<<30))
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(200)
		}, vasp.TooLarge},
		{"1 GiB in chunks", endless(" "), vasp.TooLarge},
		{"just over 1 MiB", answer(`"` + strings.Repeat("x", 1<<20-1) + `"`), vasp.TooLarge},
		{"html", typed("text/html"), vasp.NotJSON},
		{"no media type", typed("???"), vasp.NotJSON},
		{"compressed", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			answer("{}")(w, r)
		}, vasp.NotJSON},
		{"empty", answer(""), vasp.NotJSON},
		{"garbage", answer("\x00\xff\x00garbage"), vasp.NotJSON},
		{"deep", answer(strings.Repeat("[", 100_000)), vasp.NotJSON},
		{"many parts", answer("[" + strings.Repeat("1,", 20_000) + "1]"), vasp.NotJSON},
		{"duplicate", answer(`{"result":"VERIFIED","result":"DENIED"}`), vasp.NotJSON},
		{"two values", answer(`{"result":true}{}`), vasp.NotJSON},
		{"NUL", answer(`{"x":"\u0000"}`), vasp.NotJSON},
		{"invalid UTF-8", answer("{\"x\":\"\xff\"}"), vasp.NotJSON},
	} {
		t.Run(c.name, func(t *testing.T) {
			for api, call := range calls(backend(t, c.h)) {
				mustFail(t, call(t.Context()), api, c.want)
			}
		})
	}
	for _, kind := range []string{"application/json", "application/json;charset=UTF-8", "application/vnd.api+json", "text/json", ""} {
		if _, err := backend(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = []string{kind}[:min(1, len(kind))]
			io.WriteString(w, `{"accountVerificationResult":"VERIFIED"}`)
		}).VerifyAccount(t.Context(), []byte("{}")); err != nil {
			t.Errorf("answer of type %q = %v, want nil", kind, err)
		}
	}
}

// endless writes until nobody reads.
func endless(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		block := []byte(strings.Repeat(text, 64<<10))
		for range (1 << 30) / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
}

// Attack V3: a backend that hangs or drips costs its deadline and no more.
func TestSlowAnswersEndAtTheDeadline(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drip := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; ; i++ {
			if _, err := io.WriteString(w, " "); err != nil || r.Context().Err() != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	for name, h := range map[string]http.HandlerFunc{"hang": hang, "drip": drip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for api, call := range calls(backend(t, readFirst(h))) {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				mustFail(t, call(ctx), api, vasp.Timeout)
				cancel()
			}
		})
	}
	t.Run("own deadline", func(t *testing.T) {
		t.Parallel()
		_, err := backend(t, readFirst(hang)).VerifyAccount(t.Context(), []byte("{}"))
		mustFail(t, err, "account", vasp.Timeout)
	})
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := backend(t, readFirst(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })).VerifyUser(ctx, []byte("{}"))
		mustFail(t, err, "user", vasp.Broken)
	})
}

// readFirst reads the request, so that the server sees the client hang up.
func readFirst(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		h(w, r)
	}
}

// listen serves raw connections: what a server does that is no HTTP server.
func listen(t *testing.T, serve func(n int, c net.Conn)) *vasp.Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); serve(n, c) })
		}
	})
	return newClient(t, config("http://"+l.Addr().String()))
}

// request reads one whole request of a connection.
func request(r *bufio.Reader) error {
	req, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err
}

// Once a connection was made the backend may have been asked, whatever the
// connection does then.
func TestConnectionsThatBreak(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for name, reply := range map[string]string{
		"half-close":        "",
		"half a head":       "HTTP/1.1 200",
		"no HTTP":           "SSH-2.0-backend\r\n\r\n",
		"cut body":          head + "Content-Length: 100\r\n\r\n{",
		"cut chunk":         head + "Transfer-Encoding: chunked\r\n\r\n64\r\n{",
		"endless header":    head + "X-Long: " + strings.Repeat("x", 100<<10) + "\r\n\r\n",
		"two lengths":       head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"wrong length text": head + "Content-Length: -1\r\n\r\n{}",
	} {
		t.Run(name, func(t *testing.T) {
			c := listen(t, func(_ int, c net.Conn) {
				if request(bufio.NewReader(c)) != nil {
					return
				}
				io.WriteString(c, reply)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
			})
			for api, call := range calls(c) {
				mustFail(t, call(t.Context()), api, vasp.Broken)
			}
		})
	}
}

// A backend that restarts leaves kept connections that are closed. A call that
// is lost on one is asked again when that does no harm, and a user
// verification never: its backend may have acted on it.
func TestLostOnAKeptConnection(t *testing.T) {
	const ok = `{"accountVerificationResult":"VERIFIED","result":true,"transactionStatus":"PENDING"}`
	var asked atomic.Int32
	serve := func(n int, c net.Conn) {
		r := bufio.NewReader(c)
		for i := 1; request(r) == nil; i++ {
			asked.Add(1)
			if n%2 == 1 && i == 2 {
				return // dies with the second request of an odd connection
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(ok), ok)
		}
	}
	for _, api := range []string{"account", "transaction", "callback"} {
		call := calls(listen(t, serve))[api]
		asked.Store(0)
		if err := errors.Join(call(t.Context()), call(t.Context())); err != nil {
			t.Errorf("%s: %v, want nil", api, err)
		}
		if n := asked.Load(); n != 3 {
			t.Errorf("%s: backend was asked %d times, want 3", api, n)
		}
	}
	c := listen(t, serve)
	asked.Store(0)
	if _, err := c.VerifyAccount(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	_, err := c.VerifyUser(t.Context(), []byte("{}"))
	mustFail(t, err, "user", vasp.Broken)
	if n := asked.Load(); n != 2 {
		t.Errorf("backend was asked %d times, want 2", n)
	}
}

// Unreachable is certain: the backend was not asked.
func TestUnreachable(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	var asked atomic.Int32
	count := func(http.ResponseWriter, *http.Request) { asked.Add(1) }
	plain := httptest.NewServer(http.HandlerFunc(count))
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(count))
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())

	for name, change := range map[string]func(*vasp.Config){
		"closed port":       func(c *vasp.Config) { *c = config(gone.URL) },
		"unknown authority": func(c *vasp.Config) { *c = config(secure.URL) },
		"another name": func(c *vasp.Config) {
			*c = config(strings.Replace(secure.URL, "127.0.0.1", "localhost", 1))
			c.Roots = roots
		},
		"no TLS": func(c *vasp.Config) { *c = config("https" + strings.TrimPrefix(plain.URL, "http")) },
		"unspecified address": func(c *vasp.Config) {
			*c = config(strings.Replace(plain.URL, "127.0.0.1", "0.0.0.0", 1))
			c.UnsafeHTTP = true
		},
	} {
		var cfg vasp.Config
		change(&cfg)
		for api, call := range calls(newClient(t, cfg)) {
			err := call(t.Context())
			mustFail(t, err, api, vasp.Unreachable)
			mustNotSay(t, name, fmt.Sprintf("%v %+v", err, err), secret, "127.0.0.1", "/"+api)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := newClient(t, config(secure.URL)).VerifyUser(ended, []byte("{}"))
	mustFail(t, err, "user", vasp.Unreachable)
}

// Attack V1: neither token nor personal data go to a backend whose certificate
// is bad, by any API.
func TestBadBackendsAreRefused(t *testing.T) {
	company := outwardtest.NewCompany(t, "127.0.0.7", answer(`{"accountVerificationResult":"VERIFIED","result":"VERIFIED","transactionStatus":"PENDING"}`))
	client := func(s *outwardtest.Server) map[string]func(context.Context) error {
		cfg := config(s.URL)
		cfg.Roots = company.Roots
		return calls(newClient(t, cfg))
	}
	for _, s := range company.Good {
		for _, call := range client(s) {
			_ = call(t.Context())
		}
		if n := s.Heard(); n != 4 {
			t.Errorf("good backend at %s heard %d calls, want 4", s.URL, n)
		}
	}
	for _, s := range company.Bad {
		for api, call := range client(s) {
			mustFail(t, call(t.Context()), api, vasp.Unreachable)
		}
		if n := s.Heard(); n != 0 {
			t.Errorf("%s: heard %d calls", s.Name, n)
		}
	}
	if n := len(company.Bad); n < 30 {
		t.Errorf("%d kinds of bad certificates, want at least 30", n)
	}
}

func TestTLSIsSpokenWithTheConfiguredRoots(t *testing.T) {
	s := httptest.NewTLSServer(answer(`{"result":true}`))
	defer s.Close()
	cfg := config(s.URL)
	cfg.Roots = x509.NewCertPool()
	cfg.Roots.AddCert(s.Certificate())
	if err := newClient(t, cfg).Callback(t.Context(), []byte("{}")); err != nil {
		t.Errorf("Callback = %v, want nil", err)
	}
}

// Attack V1: the token is in no dump, log or error.
func TestTokenIsNeverPrinted(t *testing.T) {
	token := vasp.NewToken(secret)
	cfg := config("http://127.0.0.1:1")
	for _, header := range []string{"", "X-Api-Key"} {
		cfg.HeaderName = header
		c := newClient(t, cfg)
		for _, thing := range []any{token, &token, cfg, &cfg, c, *c, []any{token}, map[string]any{"t": token}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				mustNotSay(t, verb, fmt.Sprintf(verb, thing), secret, fmt.Sprintf("%x", secret))
			}
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "token", token, "config", fmt.Sprint(cfg))
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token)
	mustNotSay(t, "log", log.String(), secret)
	text, err := json.Marshal(map[string]any{"token": token})
	if err != nil || string(text) != `{"token":"[redacted]"}` {
		t.Errorf("json.Marshal = %s, %v, want [redacted]", text, err)
	}

	leak := backend(t, func(w http.ResponseWriter, r *http.Request) { // says back what it was sent
		http.Error(w, r.Header.Get("Authorization"), http.StatusTeapot)
	})
	for _, call := range calls(leak) {
		err := call(t.Context())
		mustNotSay(t, "error", fmt.Sprintf("%v %+v %#v", err, err, err), secret, "127.0.0.1")
	}
}

func mustNotSay(t *testing.T, what, text string, forbidden ...string) {
	t.Helper()
	for _, s := range forbidden {
		if strings.Contains(text, s) {
			t.Errorf("%s says %q", what, text)
		}
	}
}

// What a backend answers must never stop the enclave.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{`{"result":true}`, `{"result":"VERIFIED","ivms101":{"beneficiary":{}}}`, "{", "null", `{"transactionStatus":"PENDING"}`} {
		f.Add([]byte(seed))
	}
	var body atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(string(body.Load().([]byte)))(w, r) }))
	f.Cleanup(s.Close)
	c, err := vasp.New(config(s.URL))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	f.Fuzz(func(t *testing.T, text []byte) {
		body.Store(text)
		for api, call := range calls(c) {
			var e *vasp.Error
			if err := call(t.Context()); err != nil && (!errors.As(err, &e) || e.API != api || e.Problem == vasp.Unreachable) {
				t.Fatalf("%s answered by %q = %v", api, text, err)
			}
		}
	})
}

func BenchmarkVerifyUser(b *testing.B) {
	s := httptest.NewServer(answer(`{"result":"VERIFIED","reason":"OK","ivms101":{"beneficiary":{"accountNumber":["a"]}}}`))
	defer s.Close()
	c, err := vasp.New(config(s.URL))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	body := []byte(strings.Repeat(" ", 3000) + "{}")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.VerifyUser(b.Context(), body); err != nil {
			b.Fatal(err)
		}
	}
}
