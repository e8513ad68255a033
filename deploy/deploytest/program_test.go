package deploytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const deploy = ".."

// programs is the folder of the real programs, which know their settings best.
var programs string

func TestMain(m *testing.M) {
	code, err := withPrograms(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withPrograms(m *testing.M) (int, error) {
	if programs = os.Getenv(insidePrograms); programs != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "deploytest")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	programs = dir
	build := exec.Command("go", "build", "-C", "../..", "-o", dir+"/", "./cmd/enclave", "./cmd/central", "./cmd/robotvasp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// settingsOf are the variables that a program knows, and those of them that
// are secrets and may stand in a file.
func settingsOf(t *testing.T, program string) (names, secrets []string) {
	t.Helper()
	out, err := exec.Command(filepath.Join(programs, program), "run", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^  ([A-Z]+_[A-Z0-9_]+)(, or ([A-Z0-9_]+_FILE))?$`).FindAllStringSubmatch(string(out), -1) {
		names = append(names, m[1])
		if m[3] != "" {
			names, secrets = append(names, m[3]), append(secrets, m[1])
		}
	}
	if len(names) < 5 {
		t.Fatalf("%s run --help lists %q, which cannot be all", program, names)
	}
	return names, secrets
}

// checkSettings wants every variable to be one of the program, and no secret
// among them.
func checkSettings(t *testing.T, program string, env map[string]string) {
	t.Helper()
	names, secrets := settingsOf(t, program)
	for name := range env {
		if !slices.Contains(names, name) {
			t.Errorf("%s: %s knows no such setting", name, program)
		}
		if slices.Contains(secrets, name) {
			t.Errorf("%s: a secret stands in the environment; name its file in %s_FILE", name, name)
		}
	}
}

// checkConfig has the program itself judge an environment. Paths in it become
// paths below a folder of the test, where files are written, by their path in
// the container. "" stands for a file to make up by its setting: a certificate
// for host, a key or a token.
func checkConfig(t *testing.T, program string, env, files map[string]string, host string) {
	t.Helper()
	root := t.TempDir()
	var environ []string
	for name, value := range env {
		if strings.HasPrefix(value, "/") && name != "VEGA_DATABASE_FILE" && name != "CENTRAL_STATE_FILE" {
			content, ok := files[value]
			if !ok {
				t.Errorf("%s is %s, and nothing is mounted there", name, value)
			}
			value = filepath.Join(root, value)
			if content == "" {
				content = madeUp(t, name, host, env)
			}
			write(t, value, content)
		} else if strings.HasPrefix(value, "/") {
			value = filepath.Join(root, filepath.Base(value))
		}
		environ = append(environ, name+"="+value)
	}
	for path, content := range files {
		if content != "" {
			write(t, filepath.Join(root, path), content)
		}
	}
	cmd := exec.Command(filepath.Join(programs, program), "check-config")
	cmd.Env = environ
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s check-config: %v\n%s", program, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "warning: ") && !slices.ContainsFunc(meant, func(w string) bool { return strings.HasPrefix(line, "warning: "+w) }) {
			t.Errorf("%s check-config: %s", program, line)
		}
	}
}

// meant are the warnings of choices that were made on purpose.
var meant = []string{"VEGA_PEER_TRUST=tofu ", "CENTRAL_UNSAFE_PRIVATE_MEMBERS "}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pairs are certificates and keys by host, made once.
var pairs = map[string][2]string{}

func madeUp(t *testing.T, name, host string, env map[string]string) string {
	t.Helper()
	switch {
	case strings.HasSuffix(name, "TLS_CERT_FILE"):
		return pair(t, host)[0]
	case strings.HasSuffix(name, "TLS_KEY_FILE"):
		return pair(t, host)[1]
	case name == "VEGA_REDIS_URL_FILE":
		return "redis://cache.example:6379/0"
	default: // 32 bytes in base64, as the database key must be; any other text may be
		return "aW4gdGVzdHMgdGhlIGtleSBpcyBrbm93biB0byBhbGw="
	}
}

func pair(t *testing.T, host string) [2]string {
	t.Helper()
	if p, ok := pairs[host]; ok {
		return p
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := [2]string{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
	pairs[host] = p
	return p
}

func hostOf(t *testing.T, endpoint string) string {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" {
		t.Fatalf("endpoint %q: %v", endpoint, err)
	}
	return u.Hostname()
}
