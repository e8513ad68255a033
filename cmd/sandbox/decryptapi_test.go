package sandbox_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// hsm is the decrypt API of deploy/decryptapi as a process, over a token of
// SoftHSM, behind a TCP proxy that keeps all bytes. Its callers: alpha, which
// shows a token and a certificate, bravo a token, and the operator.
type hsm struct {
	t        *testing.T
	dir      string
	api      *sandbox.Program
	endpoint string // through the proxy
	wire     *wire
	ca       *x509.Certificate
	caKey    *ecdsa.PrivateKey
}

const hsmAddress = "127.0.0.7"

// softHSMModule is the library of Debian's softhsm2, or SOFTHSM2_MODULE.
func softHSMModule() string {
	if m := os.Getenv("SOFTHSM2_MODULE"); m != "" {
		return m
	}
	return "/usr/lib/softhsm/libsofthsm2.so"
}

// buildDecryptAPI builds the program, which is a module of its own and needs
// cgo.
var buildDecryptAPI = sync.OnceValues(func() (string, error) {
	file := filepath.Join(filepath.Dir(built.Enclave), "decryptapi")
	build := exec.Command("go", "build", "-C", "../../deploy/decryptapi", "-o", file, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build decryptapi: %w\n%s", err, out)
	}
	return file, nil
})

// newHSM starts the decrypt API; the test ends with it.
func newHSM(t *testing.T) *hsm {
	t.Helper()
	path, err := buildDecryptAPI()
	if err != nil {
		t.Fatal(err)
	}
	h := &hsm{t: t, dir: t.TempDir(), wire: new(wire)}
	tokens := filepath.Join(h.dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := h.write("softhsm2.conf", []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"))
	env := []string{"SOFTHSM2_CONF=" + conf}
	if code, said := run(t, softHSMUtil(t), env, "--module", softHSMModule(), "--init-token", "--free", "--label", "vasp", "--pin", "739184", "--so-pin", "551726"); code != 0 {
		t.Fatalf("make a token: exit %d, %s", code, said)
	}
	h.certificates()
	h.write("pin", []byte("739184\n"))
	callers := []map[string]any{
		{"name": "alpha", "tokenFile": "alpha.token", "certificateNames": []string{"alpha.example"}, "may": []string{"unwrap"}, "instances": []string{"alpha"}},
		{"name": "bravo", "tokenFile": "bravo.token", "may": []string{"unwrap"}, "instances": []string{"bravo"}},
		{"name": "operator", "tokenFile": "operator.token", "may": []string{"wrap"}, "instances": []string{"alpha", "bravo"}},
	}
	for _, c := range callers {
		h.write(fmt.Sprint(c["tokenFile"]), []byte(c["name"].(string)+strings.Repeat("-token", 6)+"\n"))
	}
	listen := freePort(t)
	config, err := json.Marshal(map[string]any{
		"listen": listen, "tlsCertFile": "server.pem", "tlsKeyFile": "server.key", "clientCAFile": "ca.pem",
		"module": softHSMModule(), "tokenLabel": "vasp", "pinFile": "pin", "keys": []string{"database-kek"}, "perMinute": 6000, "callers": callers,
	})
	if err != nil {
		t.Fatal(err)
	}
	file := h.write("decryptapi.json", config)
	if code, said := run(t, path, env, "keys", "init", "--config", file); code != 0 {
		t.Fatalf("make a key: exit %d, %s", code, said)
	}
	h.api = &sandbox.Program{
		Name: "decrypt API", Path: path, Args: []string{"serve", "--config", file}, Env: env,
		ReadyLine: "decryptapi ready", Log: filepath.Join(h.dir, "decryptapi.log"),
	}
	if err := h.api.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.api.Stop(); err != nil {
			t.Error(err)
		}
	})
	h.endpoint = "https://" + h.wire.between(t, listen)
	return h
}

func softHSMUtil(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("softhsm2-util")
	if err != nil {
		t.Fatalf("SoftHSM is not installed: run make deps: %v", err)
	}
	return path
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", hsmAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (h *hsm) file(name string) string { return filepath.Join(h.dir, name) }

func (h *hsm) write(name string, content []byte) string {
	h.t.Helper()
	if err := os.WriteFile(h.file(name), content, 0o600); err != nil {
		h.t.Fatal(err)
	}
	return h.file(name)
}

// certificates writes a CA, the server's certificate, alpha's, and two that
// are not: of another name, and of another CA.
func (h *hsm) certificates() {
	h.ca, h.caKey = h.authority()
	h.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.ca.Raw}))
	h.issue("server", h.ca, h.caKey, "keys.example")
	h.issue("alpha", h.ca, h.caKey, "alpha.example")
	h.issue("stranger", h.ca, h.caKey, "stranger.example")
	otherCA, otherKey := h.authority()
	h.issue("forged", otherCA, otherKey, "alpha.example")
}

func (h *hsm) authority() (*x509.Certificate, *ecdsa.PrivateKey) {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "key server root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		h.t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		h.t.Fatal(err)
	}
	return ca, key
}

func (h *hsm) issue(file string, ca *x509.Certificate, caKey *ecdsa.PrivateKey, name string) {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{name},
		IPAddresses: []net.IP{net.ParseIP(hsmAddress)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		h.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(file+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	h.write(file+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// wrap is `enclave keys wrap`, as the operator.
func (h *hsm) wrap(instance string, more ...string) string {
	h.t.Helper()
	args := append([]string{"keys", "wrap", "--endpoint", h.endpoint + "/v1/wrap", "--instance", instance, "--token-file", h.file("operator.token"), "--roots-file", h.file("ca.pem")}, more...)
	code, said := run(h.t, built.Enclave, nil, args...)
	if code != 0 {
		h.t.Fatalf("keys wrap: exit %d, %s", code, said)
	}
	return strings.TrimSpace(said)
}

// settings are the enclave's, as alpha. An empty value is an unset one.
func (h *hsm) settings(value string) []string {
	return []string{
		"VEGA_ENCRYPTION_KEY_BASE64_FILE=", "VEGA_ENCRYPTION_KEY_BASE64=" + value, "VEGA_DECRYPT_API_ENDPOINT=" + h.endpoint + "/v1/decrypt",
		"VEGA_DECRYPT_API_TOKEN_FILE=" + h.file("alpha.token"), "VEGA_DECRYPT_API_ROOTS_FILE=" + h.file("ca.pem"),
		"VEGA_DECRYPT_API_CLIENT_CERT_FILE=" + h.file("alpha.pem"), "VEGA_DECRYPT_API_CLIENT_KEY_FILE=" + h.file("alpha.key"),
	}
}

// beside is the URL of another server at the API's address, with its
// certificate.
func (h *hsm) beside(handler http.HandlerFunc) string {
	h.t.Helper()
	pair, err := tls.LoadX509KeyPair(h.file("server.pem"), h.file("server.key"))
	if err != nil {
		h.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	if server.Listener, err = net.Listen("tcp", hsmAddress+":0"); err != nil {
		h.t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	h.t.Cleanup(server.Close)
	return server.URL
}

// outcomes counts what became of requests for keys, by the API's own log.
func (h *hsm) outcomes() map[string]int {
	counted := map[string]int{}
	for _, line := range h.api.Lines() {
		if line["msg"] == "unwrap" {
			counted[fmt.Sprint(line["outcome"])]++
		}
	}
	return counted
}

// wire is a TCP proxy that keeps every byte of both directions.
type wire struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept.Write(p)
}

func (w *wire) bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.kept.Bytes())
}

// between listens in front of an address, and gives where.
func (w *wire) between(t *testing.T, to string) string {
	t.Helper()
	listener, err := net.Listen("tcp", hsmAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() { w.carry(near, to) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		open.Wait()
	})
	return listener.Addr().String()
}

func (w *wire) carry(near net.Conn, to string) {
	defer near.Close()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(io.MultiWriter(far, w), near)
		_ = far.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(io.MultiWriter(near, w), far)
	_ = near.Close()
	both.Wait()
}

// shows tells in which form a key is in a text, "" for none.
func shows(text, key []byte) string {
	for form, what := range map[string]string{
		"raw": string(key), "hex": hex.EncodeToString(key), "base64": base64.StdEncoding.EncodeToString(key), "base64url": base64.RawURLEncoding.EncodeToString(key),
		// A part of it in base64 is a leak, too.
		"half of it, base64": base64.StdEncoding.EncodeToString(key[:24]), "half of it, raw": string(key[:16]),
	} {
		if bytes.Contains(text, []byte(what)) {
			return form
		}
	}
	return ""
}

// sealedStart starts an enclave and waits until it says that it has no key.
func sealedStart(t *testing.T, v *sandbox.VASP, env []string) *sandbox.Program {
	t.Helper()
	p := &sandbox.Program{
		Name: v.Enclave.Name, Path: v.Enclave.Path, Args: v.Enclave.Args, Env: env, Log: v.Enclave.Log, ReadyLine: "sealed: no database key yet",
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// mustBeSealed holds an enclave to what sealed means: alive, not started, not
// ready, and nothing else answers.
func mustBeSealed(t *testing.T, v *sandbox.VASP) {
	t.Helper()
	for path, want := range map[string]struct {
		status int
		text   string
	}{"/livez": {200, "ok"}, "/startupz": {503, "sealed: "}, "/readyz": {503, "sealed: "}} {
		status, body, err := sandbox.Call(t.Context(), http.MethodGet, v.Admin+path, nil)
		if err != nil || status != want.status || !strings.Contains(string(body), want.text) {
			t.Errorf("%s: status %d, %q, %v, want %d and %q", path, status, body, err, want.status, want.text)
		}
	}
	if got := sample(metrics(t, v.Metrics), "enclave_sealed"); got != "1" {
		t.Errorf("enclave_sealed = %q", got)
	}
	for name, endpoint := range map[string]string{"backend": v.API, "public": v.PublicEndpoint} {
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := net.DialTimeout("tcp", u.Host, 5*time.Second); err == nil {
			_ = c.Close()
			t.Errorf("the %s listener is open", name)
		}
	}
	if c, err := net.Dial("unix", v.OperatorSocket); err == nil {
		_ = c.Close()
		t.Error("the operator's socket is open")
	}
}

// verified sends a verification and waits for its good end.
func verified(t *testing.T, a *sandbox.Alliance) string {
	t.Helper()
	accepted, err := a.VASPs[0].Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
	if err != nil {
		t.Fatal(err)
	}
	told, err := a.VASPs[0].AwaitCallback(t.Context(), accepted.VerificationUUID)
	if err != nil || !strings.Contains(told, `"VERIFIED"`) {
		t.Fatalf("the backend was told %q, %v", told, err)
	}
	return accepted.VerificationUUID
}

// An enclave whose key only an HSM can decrypt works; while the decrypt API is
// away it goes on, and one that is started then waits, sealed, until the API is
// back. On the way between the two the key is never in clear (S5).
func TestAnEnclaveWhoseKeyIsInAnHSM(t *testing.T) {
	h := newHSM(t)
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	own := make([]byte, 32)
	if _, err := rand.Read(own); err != nil {
		t.Fatal(err)
	}
	// A key of our own, so that the test knows what must not be seen.
	value := h.wrap("alpha", "--key-file", h.write("own", own))
	v.Enclave.Env = append(v.Enclave.Env, h.settings(value)...)
	if code, said := run(t, v.Enclave.Path, v.Enclave.Env, "check-config"); code != 0 || h.outcomes()["ok"] != 0 {
		t.Errorf("check-config: exit %d, %d keys given out, said %q", code, h.outcomes()["ok"], said)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := verified(t, a)
	if got := h.outcomes(); got["ok"] != 1 || len(got) != 1 {
		t.Errorf("the API's log has %v, want one key given out", got)
	}
	page := metrics(t, v.Metrics)
	for name, want := range map[string]string{"enclave_sealed": "0", "enclave_key_in_environment": "0", `enclave_key_requests_total{outcome="ok"}`: "1"} {
		if got := sample(page, name); got != want {
			t.Errorf("%s = %q, want %s", name, got, want)
		}
	}

	if err := h.api.Kill(); err != nil {
		t.Fatal(err)
	}
	verified(t, a)
	if status, _, err := sandbox.Call(t.Context(), http.MethodGet, v.Admin+"/readyz", nil); err != nil || status != http.StatusOK {
		t.Errorf("ready without the API: status %d, %v", status, err)
	}

	if err := v.Enclave.Kill(); err != nil {
		t.Fatal(err)
	}
	sealed := sealedStart(t, v, v.Enclave.Env)
	mustBeSealed(t, v)
	if err := sealed.Stop(); err != nil {
		t.Errorf("the end of a sealed enclave: %v", err)
	}
	restarted := make(chan error, 1)
	go func() { restarted <- v.Enclave.Start(t.Context()) }()
	eventually(t, 30*time.Second, "the enclave asks again", func() bool {
		status, _, err := sandbox.Call(t.Context(), http.MethodGet, v.Admin+"/readyz", nil)
		return err == nil && status == http.StatusServiceUnavailable
	})
	if err := h.api.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	if row, err := v.Row(t.Context(), first); err != nil || row.Result != "VERIFIED" {
		t.Errorf("the first verification is %+v, %v", row, err)
	}
	verified(t, a)

	mustNotShow(t, own, map[string][]byte{
		"the wire": h.wire.bytes(), "the API's log": read(t, h.api.Log), "the enclave's log": read(t, v.Enclave.Log),
		"the history": read(t, v.Database), "the value": []byte(value),
	})
	if kept := len(h.wire.bytes()); kept < 4000 {
		t.Errorf("the proxy kept %d bytes: it was not in between", kept)
	}
}

// The key of an enclave whose keys are in an HSM is changed while it serves: it
// is given both values, and the decrypt API is asked for both; the commands for
// a stopped enclave ask it, too (S4, S5).
func TestTheKeyInAnHSMIsChanged(t *testing.T) {
	h := newHSM(t)
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	before, after := h.wrap("alpha"), h.wrap("alpha")
	plain := slices.Clone(v.Enclave.Env)
	with := func(more ...string) { v.Enclave.Env = append(slices.Clone(plain), more...) }
	restart := func() {
		t.Helper()
		if err := v.Enclave.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := v.Enclave.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	with(h.settings(before)...)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := verified(t, a)
	with(append(h.settings(after), "VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS="+before)...)
	restart()
	verified(t, a)
	if got := h.outcomes()["ok"]; got != 3 {
		t.Errorf("%d keys were given out, want one at first and two for the change", got)
	}
	if code, said := operate(t, v, "keys", "rotate-kek"); code != 0 {
		t.Fatalf("keys rotate-kek: exit %d, said %q", code, said)
	}
	with(h.settings(after)...)
	restart()
	if row, err := v.Row(t.Context(), first); err != nil || row.Result != "VERIFIED" {
		t.Errorf("the first verification is %+v, %v", row, err)
	}
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	if code, said := operate(t, v, "db", "check"); code != 0 || !strings.Contains(said, "is whole") {
		t.Errorf("db check: exit %d, said %q", code, said)
	}
	with(h.settings(before)...)
	if code, said := operate(t, v, "db", "check"); code != 2 || !strings.Contains(said, "those of the enclave") {
		t.Errorf("db check with the key of before: exit %d, said %q", code, said)
	}
}

func mustNotShow(t *testing.T, key []byte, texts map[string][]byte) {
	t.Helper()
	for where, text := range texts {
		if form := shows(text, key); form != "" {
			t.Errorf("%s shows the key (%s)", where, form)
		}
	}
}

// No wrong identity gets a key, whatever else is right (S5, target 46): the
// enclave stays sealed, and the API writes down who was refused.
func TestAWrongIdentityGetsNoKey(t *testing.T) {
	h := newHSM(t)
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	own := make([]byte, 32)
	if _, err := rand.Read(own); err != nil {
		t.Fatal(err)
	}
	keyFile := h.write("own", own)
	alpha, bravo := h.wrap("alpha", "--key-file", keyFile), h.wrap("bravo", "--key-file", keyFile)
	redirect := h.beside(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, h.endpoint+"/v1/decrypt", http.StatusTemporaryRedirect)
	})
	certificate := func(name string) []string {
		return []string{"VEGA_DECRYPT_API_CLIENT_CERT_FILE=" + h.file(name+".pem"), "VEGA_DECRYPT_API_CLIENT_KEY_FILE=" + h.file(name+".key")}
	}
	none := []string{"VEGA_DECRYPT_API_CLIENT_CERT_FILE=", "VEGA_DECRYPT_API_CLIENT_KEY_FILE="}
	bravoToken := "VEGA_DECRYPT_API_TOKEN_FILE=" + h.file("bravo.token")
	for _, c := range []struct {
		name    string
		env     []string
		outcome string // in the API's log, "" for none
	}{
		// Without one of its own, the enclave shows the backend's token.
		{"no token", []string{"VEGA_DECRYPT_API_TOKEN_FILE=", "VEGA_VERIFICATION_AUTHORIZATION_TOKEN_FILE="}, "no-caller"},
		{"the backend's token", []string{"VEGA_DECRYPT_API_TOKEN_FILE="}, "no-caller"},
		{"a wrong token", []string{"VEGA_DECRYPT_API_TOKEN_FILE=", "VEGA_DECRYPT_API_TOKEN=" + strings.Repeat("w", 42)}, "no-caller"},
		{"no certificate", none, "no-caller"},
		{"a certificate of another name", certificate("stranger"), "no-caller"},
		{"a certificate of another authority", certificate("forged"), ""},
		{"another's identity for our value", append([]string{bravoToken}, none...), "not-allowed"},
		{"our identity for another's value", []string{"VEGA_ENCRYPTION_KEY_BASE64=" + bravo}, "not-allowed"},
		{"a value that was changed", []string{"VEGA_ENCRYPTION_KEY_BASE64=" + flipLast(t, alpha)}, "does-not-open"},
		{"another's value under our name", []string{"VEGA_ENCRYPTION_KEY_BASE64=" + renamed(t, bravo)}, "does-not-open"},
		{"http", []string{"VEGA_DECRYPT_API_ENDPOINT=http" + strings.TrimPrefix(h.endpoint, "https") + "/v1/decrypt"}, ""},
		{"a redirect", []string{"VEGA_DECRYPT_API_ENDPOINT=" + redirect}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := h.outcomes()
			p := sealedStart(t, v, append(append(v.Enclave.Env, h.settings(alpha)...), c.env...))
			mustBeSealed(t, v)
			if got := sample(metrics(t, v.Metrics), `enclave_key_requests_total{outcome="refused"}`); got != "1" {
				t.Errorf("%s refusals are counted, want 1", got)
			}
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
			if c.outcome != "" {
				before[c.outcome]++
			}
			if after := h.outcomes(); !maps.Equal(after, before) {
				t.Errorf("the API's log has %v, want %v", after, before)
			}
			if _, err := os.Stat(v.Database); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is a history: %v", err)
			}
		})
	}
	if code, said := run(t, v.Enclave.Path, append(append(v.Enclave.Env, h.settings(alpha)...), "VEGA_DECRYPT_API_ENDPOINT=http://192.0.2.1/"), "run"); code != 2 || !strings.Contains(said, "https") {
		t.Errorf("http to another machine: exit %d, said %q", code, said)
	}
	if h.outcomes()["ok"] != 0 {
		t.Errorf("%d keys were given out", h.outcomes()["ok"])
	}
	mustNotShow(t, own, map[string][]byte{"the wire": h.wire.bytes(), "the API's log": read(t, h.api.Log), "the enclave's log": read(t, v.Enclave.Log)})

	// The right identity gets it. A right one with another key does not open a
	// history that is there, and ends the start: waiting does not mend that.
	if err := a.Start(t.Context()); err != nil { // with a key of its own, in a file
		t.Fatal(err)
	}
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	code, said := run(t, v.Enclave.Path, append(v.Enclave.Env, h.settings(alpha)...), "run")
	if code != 2 || !strings.Contains(said, "VEGA_DECRYPT_API_ENDPOINT") || !strings.Contains(said, "wrong key-encryption key") || h.outcomes()["ok"] != 1 {
		t.Errorf("another key: exit %d, said %q", code, said)
	}
}

// flipLast changes the last bit of a value's tag.
func flipLast(t *testing.T, value string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	return base64.StdEncoding.EncodeToString(b)
}

// renamed is bravo's value with alpha's name on it.
func renamed(t *testing.T, value string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil || !bytes.Contains(b, []byte("bravo")) {
		t.Fatalf("the value does not say whose it is: %v", err)
	}
	return base64.StdEncoding.EncodeToString(bytes.Replace(b, []byte("bravo"), []byte("alpha"), 1))
}

// A proxy that ends TLS in between, and keeps what it reads, sees the key; of a
// sealed answer it sees nothing, and an answer that it unseals is refused (S5,
// target 46).
func TestASealedKeyPassesWhoeverEndsTLS(t *testing.T) {
	h := newHSM(t)
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	own := make([]byte, 32)
	if _, err := rand.Read(own); err != nil {
		t.Fatal(err)
	}
	value := h.wrap("bravo", "--key-file", h.write("own", own)) // bravo shows a token only, which passes
	middle := newMiddle(t, h)
	env := append(append(v.Enclave.Env, h.settings(value)...),
		"VEGA_DECRYPT_API_ENDPOINT="+middle.url+"/v1/decrypt", "VEGA_DECRYPT_API_TOKEN_FILE="+h.file("bravo.token"),
		"VEGA_DECRYPT_API_CLIENT_CERT_FILE=", "VEGA_DECRYPT_API_CLIENT_KEY_FILE=")
	starts := func(more ...string) {
		t.Helper()
		p := &sandbox.Program{Name: "enclave", Path: v.Enclave.Path, Args: v.Enclave.Args, Env: append(env, more...), Log: v.Enclave.Log, ReadyLine: "enclave ready"}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
	starts()
	if shows(middle.kept.bytes(), own) == "" {
		t.Error("what the proxy kept of an answer in clear has no key: this test cannot fail")
	}
	middle.kept = new(wire)
	starts("VEGA_DECRYPT_API_SEALED=true")
	kept := middle.kept.bytes()
	if !bytes.Contains(kept, []byte("sealedKey")) {
		t.Errorf("the proxy kept no sealed answer: %.200q", kept)
	}
	mustNotShow(t, own, map[string][]byte{"what the proxy kept": kept})

	// The proxy takes the recipient out and has the key; the enclave minds.
	middle.strip = true
	p := sealedStart(t, v, append(env, "VEGA_DECRYPT_API_SEALED=true"))
	mustBeSealed(t, v)
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

// middle ends TLS before the decrypt API, as a mesh's proxy does, and keeps
// the bodies of both directions.
type middle struct {
	url   string
	kept  *wire
	strip bool // take the recipient out of requests
}

func newMiddle(t *testing.T, h *hsm) *middle {
	t.Helper()
	m := &middle{kept: new(wire)}
	roots := x509.NewCertPool()
	roots.AddCert(h.ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	m.url = h.beside(func(w http.ResponseWriter, r *http.Request) {
		status, answer, err := m.pass(r.Context(), client, h.endpoint+r.URL.Path, r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write(answer)
	})
	return m
}

func (m *middle) pass(ctx context.Context, client *http.Client, to string, r *http.Request) (int, []byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, nil, err
	}
	_, _ = m.kept.Write(body)
	if m.strip {
		var asked map[string]string
		if err := json.Unmarshal(body, &asked); err != nil {
			return 0, nil, err
		}
		delete(asked, "recipient")
		if body, err = json.Marshal(asked); err != nil {
			return 0, nil, err
		}
	}
	on, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	on.Header.Set("Authorization", r.Header.Get("Authorization"))
	response, err := client.Do(on)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	_, _ = m.kept.Write(answer)
	return response.StatusCode, answer, err
}
