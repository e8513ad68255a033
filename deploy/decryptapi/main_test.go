package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The tests use SoftHSM, a real PKCS#11 library, with a token of their own.
const (
	tokenLabel = "decryptapi-test"
	pin        = "739184"
	soPIN      = "551726"
)

// tokens is where SoftHSM keeps its tokens.
var tokens string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "decryptapi-")
	if err != nil {
		panic(err)
	}
	code := 1
	goleak.VerifyTestMain(runner(func() int {
		if err := softHSM(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return code
		}
		return m.Run()
	}), goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

type runner func() int

func (r runner) Run() int { return r() }

// module is the library of Debian's softhsm2, or SOFTHSM2_MODULE.
func module() string {
	if m := os.Getenv("SOFTHSM2_MODULE"); m != "" {
		return m
	}
	return "/usr/lib/softhsm/libsofthsm2.so"
}

func softHSM(dir string) error {
	tokens = filepath.Join(dir, "tokens")
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		return err
	}
	os.Setenv("SOFTHSM2_CONF", conf)
	out, err := exec.Command("softhsm2-util", "--module", module(), "--init-token", "--free", "--label", tokenLabel, "--pin", pin, "--so-pin", soPIN).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make a token with SoftHSM (Debian's softhsm2; run make deps): %w\n%s", err, out)
	}
	return nil
}

// logs is what the program said, a JSON record for each line.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) records(t *testing.T) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Errorf("a line of the log is no JSON: %q", line)
		}
		all = append(all, r)
	}
	return all
}

// world is an API with callers, its files, and a CA for all certificates.
type world struct {
	t      *testing.T
	dir    string
	config *config
	token  *token
	log    *logs
	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	url    string
}

// secret is a token of at least minToken characters that is like no other.
func secret(name string) string { return name + "-hunter2-" + strings.Repeat("0123456789", 3) }

// newWorld has a key of its own in the token, and these callers: alpha and
// bravo may unwrap for themselves, the operator may wrap for both.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), log: new(logs)}
	w.ca, w.caKey = authority(t)
	w.write("ca.pem", pemOf("CERTIFICATE", w.ca.Raw))
	w.issue("server", nil)
	w.write("pin", []byte(pin+"\n"))
	var callers []map[string]any
	for _, who := range []struct {
		name, may string
		instances []string
	}{{"alpha", "unwrap", []string{"alpha"}}, {"bravo", "unwrap", []string{"bravo"}}, {"operator", "wrap", []string{"alpha", "bravo"}}} {
		w.write(who.name+".token", []byte(secret(who.name)+"\n"))
		callers = append(callers, map[string]any{"name": who.name, "tokenFile": who.name + ".token", "may": []string{who.may}, "instances": who.instances})
	}
	label := "kek-" + hex.EncodeToString(random(t, 8))
	text, err := json.Marshal(map[string]any{
		"listen": "127.0.0.1:0", "tlsCertFile": "server.pem", "tlsKeyFile": "server.key", "clientCAFile": "ca.pem",
		"module": module(), "tokenLabel": tokenLabel, "pinFile": "pin", "keys": []string{label}, "perMinute": 6000, "callers": callers,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.write("config.json", text)
	if w.config, err = readConfig(filepath.Join(w.dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	if err := makeKey(w.config, label, w.logger()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(w.log, nil)) }

// start opens the token and serves; the test ends both.
func (w *world) start() *world {
	w.t.Helper()
	var err error
	if w.token, err = openToken(w.config, w.logger()); err != nil {
		w.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", w.config.Listen)
	if err != nil {
		w.t.Fatal(err)
	}
	w.url = "https://" + listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- newServer(w.config, w.token, w.logger()).serve(ctx, listener) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		w.token.Close()
	})
	return w
}

func (w *world) write(name string, content []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), content, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// client is a caller's HTTP client, with a certificate or none.
func (w *world) client(certificate *tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(w.ca)
	config := &tls.Config{RootCAs: roots}
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 20 * time.Second}
}

// post asks with a bearer token, and gives status and answer.
func (w *world) post(path, token string, body any) (int, map[string]string) {
	w.t.Helper()
	status, answer, err := w.postAs(nil, path, token, body)
	if err != nil {
		w.t.Fatal(err)
	}
	return status, answer
}

func (w *world) postAs(certificate *tls.Certificate, path, token string, body any) (int, map[string]string, error) {
	w.t.Helper()
	text, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(b)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+path, strings.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := w.client(certificate).Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer := map[string]string{}
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, err
	}
	_ = json.Unmarshal(b, &answer)
	return response.StatusCode, answer, nil
}

// wrapped is a value for an instance, made as the operator makes it.
func (w *world) wrapped(instance string) string {
	w.t.Helper()
	status, answer := w.post("/v1/wrap", secret("operator"), map[string]any{"instance": instance})
	if status != http.StatusOK || answer["inputKey"] == "" {
		w.t.Fatalf("wrap for %s: status %d, %v", instance, status, answer)
	}
	return answer["inputKey"]
}

func authority(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return ca, key
}

// certificate is one of an authority, with names.
func certificate(t *testing.T, ca *x509.Certificate, caKey *ecdsa.PrivateKey, names []string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, name := range names {
		if u, err := url.Parse(name); err == nil && u.Scheme != "" {
			template.URIs = append(template.URIs, u)
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// issue writes a certificate and its key to files.
func (w *world) issue(name string, names []string) *tls.Certificate {
	w.t.Helper()
	c := certificate(w.t, w.ca, w.caKey, names)
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(name+".pem", pemOf("CERTIFICATE", c.Certificate[0]))
	w.write(name+".key", pemOf("PRIVATE KEY", der))
	return c
}

func pinOf(c *tls.Certificate) string {
	sum := sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}
