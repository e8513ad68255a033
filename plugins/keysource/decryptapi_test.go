package keysource_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/plugins/keysource"
	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// proxyAsked counts what reaches the proxy that the environment names for all
// tests here: net/http reads that but once in a process.
var proxyAsked atomic.Int32

func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxyAsked.Add(1) }))
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		os.Setenv(name, proxy.URL)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		proxy.Close()
		os.Exit(code)
	}), goleak.IgnoreCurrent())
}

const (
	wrapped = "arn:aws:kms:eu-west-1:000000000000:key/wrapped"
	token   = "hunter2-token"
)

// outputKey is the contract's answer with the key.
func outputKey() string { return `{"outputKey":"` + base64.StdEncoding.EncodeToString(key) + `"}` }

// api is a decrypt API that answers as it is told.
func api(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// ask asks an API once, trusting its certificate.
func ask(t *testing.T, server *httptest.Server, change func(*plugins.KeyCall)) ([]byte, error) {
	t.Helper()
	call := plugins.KeyCall{
		Authorize: func(h http.Header) { h.Set("Authorization", "Bearer "+token) },
		Roots:     x509.NewCertPool(),
	}
	if server.Certificate() != nil {
		call.Roots.AddCert(server.Certificate())
	}
	if change != nil {
		change(&call)
	}
	return remote(t, server.URL+"/v1/decrypt", call).Key(t.Context(), wrapped)
}

func remote(t *testing.T, endpoint string, call plugins.KeyCall) plugins.KeySource {
	t.Helper()
	source, err := standard.Catalog().KeySources.Open(t.Context(), "decrypt-api:"+endpoint)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := source.(plugins.RemoteKeySource)
	if !ok {
		t.Fatal("the decrypt API is no remote key source")
	}
	if err := r.Use(call); err != nil {
		t.Fatal(err)
	}
	return r
}

// What is sent is the contract's, 3.5, to the letter.
func TestDecryptAPISpeaksTheContract(t *testing.T) {
	var got *http.Request
	var body []byte
	server := api(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, outputKey())
	})
	k, err := ask(t, server, nil)
	if err != nil || !bytes.Equal(k, key) {
		t.Fatalf("Key = %d bytes, %v, want the key", len(k), err)
	}
	if want := `{"inputKey":"` + wrapped + `"}`; string(body) != want {
		t.Errorf("sent %s, want %s", body, want)
	}
	if got.Method != http.MethodPost || got.URL.Path != "/v1/decrypt" || got.Header.Get("Authorization") != "Bearer "+token || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s with %v", got.Method, got.URL, got.Header)
	}
}

// Whatever else comes is no key; some of it is asked again soon, some at
// leisure (S5).
func TestDecryptAPIAnswersAreJudged(t *testing.T) {
	short := base64.StdEncoding.EncodeToString(key[:16])
	for name, c := range map[string]struct {
		status  int
		body    string
		refused bool
	}{
		"unauthorized":      {401, outputKey(), true},
		"forbidden":         {403, outputKey(), true},
		"not found":         {404, outputKey(), true},
		"bad request":       {400, outputKey(), true},
		"created":           {201, outputKey(), true},
		"too many":          {429, outputKey(), false},
		"time out":          {408, outputKey(), false},
		"broken":            {500, outputKey(), false},
		"bad gateway":       {502, "<html>", false},
		"away":              {503, outputKey(), false},
		"no JSON":           {200, "<html>", true},
		"empty":             {200, "", true},
		"no key":            {200, "{}", true},
		"empty key":         {200, `{"outputKey":""}`, true},
		"another case":      {200, strings.ToLower(outputKey()[:13]) + outputKey()[13:], true},
		"not base64":        {200, `{"outputKey":"hunter2!"}`, true},
		"two keys":          {200, `{"outputKey":"` + short + `","outputKey":"` + short + `"}`, true},
		"a key and more":    {200, outputKey() + outputKey(), true},
		"a number":          {200, `{"outputKey":1}`, true},
		"very long":         {200, `{"x":"` + strings.Repeat("x", 20<<10) + `"}`, true},
		"long before a key": {200, strings.Repeat(" ", 20<<10) + outputKey(), true},
	} {
		k, err := ask(t, api(t, says(c.status, c.body)), nil)
		var away *plugins.KeyAway
		if k != nil || !errors.As(err, &away) || away.Refused != c.refused {
			t.Errorf("%s: Key = %d bytes, %v, want none and refused: %v", name, len(k), err, c.refused)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") || strings.Contains(fmt.Sprint(err), wrapped) || strings.Contains(fmt.Sprint(err), short) {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
	if k, err := ask(t, api(t, says(200, `{"note":"x",`+outputKey()[1:])), nil); err != nil || !bytes.Equal(k, key) {
		t.Errorf("with an unknown member: %v", err)
	}
}

// Where clouds serve credentials to whoever asks is no decrypt API (V2); nor is,
// for http, another machine that the name of this one leads to.
func TestDecryptAPIIsNoMetadataServer(t *testing.T) {
	for _, endpoint := range []string{
		"https://169.254.169.254/latest", "https://[fe80::1]/", "https://[::ffff:169.254.169.254]/", "https://100.100.100.200/", "https://0.0.0.0/",
	} {
		_, err := remote(t, endpoint, plugins.KeyCall{}).Key(t.Context(), wrapped)
		var away *plugins.KeyAway
		if !errors.As(err, &away) || !away.Refused || !errors.Is(err, outward.ErrRefused) {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// A redirect is refused, and the place it leads to hears nothing (S5, V1).
func TestDecryptAPIRedirectsAreNotFollowed(t *testing.T) {
	var heard atomic.Int32
	elsewhere := api(t, func(w http.ResponseWriter, _ *http.Request) {
		heard.Add(1)
		_, _ = io.WriteString(w, outputKey())
	})
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := api(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
		_, err := ask(t, server, func(c *plugins.KeyCall) { c.Roots.AddCert(elsewhere.Certificate()) })
		if err == nil || !strings.Contains(err.Error(), "redirect") {
			t.Errorf("status %d: %v, want a word about the redirect", status, err)
		}
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("the redirects' target was asked %d times", n)
	}
}

func TestDecryptAPIURLs(t *testing.T) {
	for url, want := range map[string]string{
		"decrypt-api:":                         "must be decrypt-api:https://host/path",
		"decrypt-api:/x":                       "must be decrypt-api:https://host/path",
		"decrypt-api:ftp://host/x":             "must be decrypt-api:https://host/path",
		"decrypt-api:https:///x":               "must be decrypt-api:https://host/path",
		"decrypt-api:https://a:hunter2@host/x": "without user",
		"decrypt-api:https://host/x?a=b":       "without user, query",
		"decrypt-api:https://host/x#a":         "without user, query",
	} {
		_, err := standard.Catalog().KeySources.Open(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	for url, c := range map[string]struct{ unsafe, ok bool }{
		"http://127.0.0.1:1/x":     {false, true},
		"http://localhost:1/x":     {false, true},
		"http://[::1]:1/x":         {false, true},
		"http://10.0.0.1/x":        {false, false},
		"http://localhost.evil/x":  {false, false},
		"http://10.0.0.1/allowed":  {true, true},
		"https://10.0.0.1/whoever": {false, true},
	} {
		source, err := standard.Catalog().KeySources.Open(t.Context(), "decrypt-api:"+url)
		if err != nil {
			t.Fatal(err)
		}
		if err := source.(plugins.RemoteKeySource).Use(plugins.KeyCall{UnsafeHTTP: c.unsafe}); (err == nil) != c.ok {
			t.Errorf("%s, unsafe %v: %v", url, c.unsafe, err)
		}
	}
}

// An API that is not there, that nobody vouches for or that hangs up is away.
func TestDecryptAPIIsAway(t *testing.T) {
	server := api(t, says(200, outputKey()))
	hangsUp := api(t, func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) })
	half := api(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "500")
		_, _ = io.WriteString(w, outputKey())
		panic(http.ErrAbortHandler)
	})
	closed := api(t, says(200, outputKey()))
	closed.Close()
	for name, c := range map[string]struct {
		server *httptest.Server
		change func(*plugins.KeyCall)
	}{
		"not trusted": {server, func(c *plugins.KeyCall) { c.Roots = x509.NewCertPool() }},
		"hangs up":    {hangsUp, nil},
		"half":        {half, nil},
		"closed":      {closed, nil},
	} {
		k, err := ask(t, c.server, c.change)
		var away *plugins.KeyAway
		if k != nil || !errors.As(err, &away) || away.Refused {
			t.Errorf("%s: Key = %d bytes, %v, want it away", name, len(k), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := api(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	roots := x509.NewCertPool()
	roots.AddCert(waiting.Certificate())
	if _, err := remote(t, waiting.URL, plugins.KeyCall{Roots: roots}).Key(ctx, wrapped); !errors.Is(err, context.Canceled) {
		t.Errorf("a call whose caller gave up: %v", err)
	}
}

// clientCertificate is a self-signed one.
func clientCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"enclave.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

// The client certificate is shown; without one, or with another, a server that
// wants it gives no key, and that is a refusal and no failure on the way (S5).
func TestDecryptAPIClientCertificate(t *testing.T) {
	right := clientCertificate(t)
	server := httptest.NewUnstartedServer(says(200, outputKey()))
	parsed, err := x509.ParseCertificate(right.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.StartTLS()
	defer server.Close()
	show := func(c *tls.Certificate) func(*plugins.KeyCall) {
		return func(call *plugins.KeyCall) {
			call.Certificate = func() (*tls.Certificate, error) { return c, nil }
		}
	}
	parsed.KeyUsage = x509.KeyUsageDigitalSignature
	for name, change := range map[string]func(*plugins.KeyCall){"none": nil, "another": show(clientCertificate(t))} {
		k, err := ask(t, server, change)
		var away *plugins.KeyAway
		if k != nil || !errors.As(err, &away) || !away.Refused {
			t.Errorf("%s: Key = %d bytes, %v, want a refusal", name, len(k), err)
		}
	}
	if k, err := ask(t, server, show(right)); err != nil || !bytes.Equal(k, key) {
		t.Errorf("with the right certificate: Key = %d bytes, %v", len(k), err)
	}
}

// sealer is a decrypt API that seals, or goes wrong in one way.
func sealer(t *testing.T, change func(publicKey, info []byte) ([]byte, []byte), form string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ InputKey, Recipient string }
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		public, err := base64.StdEncoding.DecodeString(asked.Recipient)
		if err != nil {
			t.Error(err)
		}
		public, info := change(public, []byte(keysource.SealingInfo+asked.InputKey))
		recipient, err := hpke.MLKEM768X25519().NewPublicKey(public)
		if err != nil {
			t.Error(err)
			return
		}
		sealed, err := hpke.Seal(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), info, key)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, form, base64.StdEncoding.EncodeToString(sealed))
	}
}

// A sealed answer opens; one to somebody else, about something else, or not
// sealed at all is refused (S5).
func TestDecryptAPISealedAnswers(t *testing.T) {
	same := func(p, i []byte) ([]byte, []byte) { return p, i }
	const form = `{"sealedKey":%q}`
	seals := func(c *plugins.KeyCall) { c.Sealed = true }
	if k, err := ask(t, api(t, sealer(t, same, form)), seals); err != nil || !bytes.Equal(k, key) {
		t.Fatalf("sealed: Key = %d bytes, %v", len(k), err)
	}
	other, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.HandlerFunc{
		"to another key":   sealer(t, func(_, i []byte) ([]byte, []byte) { return other.PublicKey().Bytes(), i }, form),
		"of another input": sealer(t, func(p, i []byte) ([]byte, []byte) { return p, append(i, 'x') }, form),
		"changed":          sealer(t, same, `{"sealedKey":"AAAA`+"%[1]s\"}"),
		"in clear":         says(200, outputKey()),
		"both":             sealer(t, same, `{"outputKey":"QUFBQQ==","sealedKey":%q}`),
		"not base64":       says(200, `{"sealedKey":"!"}`),
		"short":            says(200, `{"sealedKey":"AAAA"}`),
	} {
		k, err := ask(t, api(t, h), seals)
		var away *plugins.KeyAway
		if k != nil || !errors.As(err, &away) || !away.Refused {
			t.Errorf("%s: Key = %d bytes, %v, want a refusal", name, len(k), err)
		}
	}
}

// The environment's proxy is not asked: it would see who asks for keys, and
// by http the key (V1).
func TestDecryptAPIAsksNoProxy(t *testing.T) {
	if _, err := remote(t, "http://decrypt.invalid/x", plugins.KeyCall{UnsafeHTTP: true}).Key(t.Context(), wrapped); err == nil {
		t.Error("a host that is not there gave a key")
	}
	if proxyAsked.Load() != 0 {
		t.Error("the proxy was asked")
	}
}

// No answer makes the reader fall, and none that is read is longer than the
// bound (target 15).
func FuzzDecryptAPIAnswer(f *testing.F) {
	f.Add([]byte(outputKey()))
	f.Add([]byte(`{"sealedKey":"AAAA"}`))
	f.Add([]byte(`{"outputKey":null,"a":[{"b":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		output, sealed, err := keysource.ReadAnswer(text)
		if err == nil && (len(output)+len(sealed) > len(text)+4*len(text)) {
			t.Errorf("more came out than went in")
		}
		if err != nil && (output != "" || sealed != "") {
			t.Errorf("an error and a key: %v", err)
		}
	})
}
