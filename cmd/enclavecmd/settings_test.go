package enclavecmd_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

// minimal is the smallest environment an enclave starts with.
func minimal() map[string]string {
	return map[string]string{
		"VEGA_ENCLAVE_MODE":                   "TR",
		"VEGA_ENCLAVE_PUBLIC_ENDPOINT":        "https://vasp.example/enclave",
		"VEGA_CENTRAL_ALLOWLIST":              "127.0.0.2",
		"VEGA_TLS_CERT_FILE":                  "cert.pem",
		"VEGA_TLS_KEY_FILE":                   "key.pem",
		"VEGA_VASP_ID":                        "15952089931162058999",
		"VEGA_API_ENDPOINT":                   "https://central.example",
		"VEGA_ALLIANCE_ACCESS_KEY":            "access",
		"VEGA_ALLIANCE_SECRET_KEY":            "hunter2",
		"VEGA_VERIFICATION_API_PATH":          "http://127.0.0.1:8080/verify",
		"VEGA_VERIFICATION_ACCOUNT_API_PATH":  "http://localhost:8080/account",
		"VEGA_VERIFICATION_CALLBACK_API_PATH": "https://backend.example/callback",
		"VEGA_ENCRYPTION_KEY_BASE64":          base64.StdEncoding.EncodeToString(make([]byte, 32)),
	}
}

// load changes the minimal environment and loads it. A change is NAME=value.
func load(changes ...string) (*enclavecmd.Settings, []string, error) {
	m := minimal()
	for _, change := range changes {
		name, value, _ := strings.Cut(change, "=")
		m[name] = value
	}
	var environ []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		environ = append(environ, name+"="+m[name])
	}
	s := new(enclavecmd.Settings)
	warnings, err := settings.Load(enclavecmd.Prefix, s, environ)
	return s, warnings, err
}

func TestSettingsDefaults(t *testing.T) {
	s, warnings, err := load()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.TrimSpace(fmt.Sprintln(s.ServerAddress(), s.KeepAliveTimeout.Duration(), s.PublicListen, s.MetricsListen, s.AdminListen,
		s.NetworkID, s.DatabaseFile, s.RetentionPeriod, s.PublicKeyTTL.Duration(), s.PeerTrust, s.PreferredSuite,
		s.Timeout.Duration(), s.ClockSkew.Duration(), s.LogLevel, s.LogFormat, s.VASPID, s.UnsafePlainHTTP, s.VerificationIdle.Duration()))
	want := "127.0.0.1:21117 5s :8443 127.0.0.1:9464 127.0.0.1:21118 alliance enclave.db 30 30m0s tofu x-wing 10m0s 1m0s info json 15952089931162058999 false 4s"
	if got != want {
		t.Errorf("defaults:\n got %s\nwant %s", got, want)
	}
	for _, want := range []string{"VEGA_PEER_TRUST=tofu", "VEGA_ENCRYPTION_KEY_BASE64 stands in the environment"} {
		if !slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("warnings = %q, want one that begins %s", warnings, want)
		}
	}
}

func TestSettingsNeeded(t *testing.T) {
	var s enclavecmd.Settings
	_, err := settings.Load(enclavecmd.Prefix, &s, nil)
	for _, line := range strings.Split(fmt.Sprint(err), "\n") {
		if !strings.Contains(line, " is not set") {
			t.Errorf("with nothing set, an error says something else: %s", line)
		}
	}
	required := 3 // the encryption key, which only the default key source needs; a list of callers and a certificate, each in one of two ways
	for _, setting := range settings.Describe(&s) {
		if setting.Required {
			required++
		}
	}
	if got := strings.Count(fmt.Sprint(err), "\n") + 1; got != required {
		t.Errorf("with nothing set, %d errors, want %d", got, required)
	}
}

func TestSettingsRefuse(t *testing.T) {
	for change, want := range map[string]string{
		"VEGA_DATABASE_ANCHOR_FILE=enclave.db":                           "VEGA_DATABASE_ANCHOR_FILE: is the history itself; set it to a file of its own, on another volume",
		"VEGA_SERVER_HOST=0.0.0.0":                                       "VEGA_SERVER_HOST: is not a loopback address; set VEGA_UNSAFE_SERVER_HOST to allow it",
		"VEGA_SERVER_HOST=10.0.0.1":                                      "VEGA_UNSAFE_SERVER_HOST",
		"VEGA_SERVER_HOST=localhost":                                     "VEGA_SERVER_HOST: must be an IP address",
		"VEGA_SERVER_PORT=65536":                                         "VEGA_SERVER_PORT: must be a whole number from 0 to 65535",
		"VEGA_SERVER_TOKEN=a b":                                          "VEGA_SERVER_TOKEN: ",
		"VEGA_ADMIN_LISTEN=:21118":                                       "VEGA_ADMIN_LISTEN: is not a loopback address",
		"VEGA_ENCLAVE_PUBLIC_ENDPOINT=http://vasp.example":               "VEGA_ENCLAVE_PUBLIC_ENDPOINT: must begin with https://",
		"VEGA_API_ENDPOINT=http://central.example":                       "VEGA_API_ENDPOINT: must begin with https://",
		"VEGA_ENCLAVE_MODE=TR,VN2":                                       "VEGA_ENCLAVE_MODE: only TR is offered",
		"VEGA_VASP_ID=0":                                                 "VEGA_VASP_ID: ",
		"VEGA_VASP_ID=x":                                                 "VEGA_VASP_ID: ",
		"VEGA_TLS_KEY_FILE=":                                             "VEGA_TLS_KEY_FILE is not set: it goes with VEGA_TLS_CERT_FILE",
		"VEGA_TLS_CERT_FILE=":                                            "VEGA_TLS_CERT_FILE is not set: it goes with VEGA_TLS_KEY_FILE",
		"VEGA_ACME_DIRECTORY=http://ca.example/dir":                      "VEGA_ACME_DIRECTORY: must begin with https://",
		"VEGA_ACME_CHALLENGE=dns-01":                                     "VEGA_ACME_CHALLENGE: must be one of tls-alpn-01, http-01",
		"VEGA_ACME_HTTP_LISTEN=80":                                       "VEGA_ACME_HTTP_LISTEN: ",
		"VEGA_ACME_EMAIL=operator":                                       "VEGA_ACME_EMAIL: is not an address",
		"VEGA_METRICS_LISTEN=127.0.0.1:21118":                            "VEGA_ADMIN_LISTEN: listens where VEGA_METRICS_LISTEN does; give each a port of its own",
		"VEGA_PUBLIC_LISTEN=:21117":                                      "VEGA_SERVER_PORT: listens where VEGA_PUBLIC_LISTEN does",
		"VEGA_NETWORK_ID=" + strings.Repeat("n", 65):                     "VEGA_NETWORK_ID: must be 1 to 64",
		"VEGA_NETWORK_ID=한국":                                             "VEGA_NETWORK_ID: must be 1 to 64",
		"VEGA_ALLIANCE_ACCESS_KEY=a\"b c":                                "VEGA_ALLIANCE_ACCESS_KEY: ",
		"VEGA_VERIFICATION_API_PATH=https://169.254.169.254/latest":      "VEGA_VERIFICATION_API_PATH: is a link-local, multicast, unspecified or metadata address",
		"VEGA_VERIFICATION_CALLBACK_API_PATH=https://[fe80::1]/c":        "VEGA_VERIFICATION_CALLBACK_API_PATH: is a link-local, multicast, unspecified or metadata address",
		"VEGA_API_ENDPOINT=https://0.0.0.0":                              "VEGA_API_ENDPOINT: is a link-local, multicast, unspecified or metadata address",
		"VEGA_VERIFICATION_API_PATH=http://backend.example/v":            "VEGA_VERIFICATION_API_PATH: is http to another machine; use https, or set VEGA_UNSAFE_VERIFICATION_HTTP=true",
		"VEGA_VERIFICATION_TRANSACTION_API_PATH=http://10.0.0.1/v":       "VEGA_VERIFICATION_TRANSACTION_API_PATH: is http to another machine",
		"VEGA_VERIFICATION_CALLBACK_API_PATH=http://localhost.example/v": "VEGA_VERIFICATION_CALLBACK_API_PATH: is http to another machine",
		"VEGA_VERIFICATION_AUTHORIZATION_KEY=X Api":                      "VEGA_VERIFICATION_AUTHORIZATION_KEY: is not the name of an HTTP header",
		"VEGA_VERIFICATION_AUTHORIZATION_TOKEN=a\r\nX-Evil: b":           "VEGA_VERIFICATION_AUTHORIZATION_TOKEN: must be printable ASCII",
		"VEGA_VERIFICATION_CALLBACK_API_PATH=https://b.example/c?x=1":    "VEGA_VERIFICATION_CALLBACK_API_PATH: must not have a query",
		"VEGA_CENTRAL_ALLOWLIST=":                                        "VEGA_CENTRAL_ALLOWLIST is not set: ",
		"VEGA_CENTRAL_ALLOWLIST_FILE=list":                               "VEGA_CENTRAL_ALLOWLIST and VEGA_CENTRAL_ALLOWLIST_FILE are both set: keep one",
		"VEGA_PROXY_PROTOCOL=require":                                    "VEGA_PROXY_PROTOCOL: nobody is trusted to send the header; set VEGA_TRUSTED_PROXIES",
		"VEGA_PROXY_PROTOCOL=on":                                         "VEGA_PROXY_PROTOCOL: must be one of off, require",
		"VEGA_FORWARDED_HEADER=X-Forwarded-For":                          "VEGA_FORWARDED_HEADER: nobody is trusted to send it; set VEGA_TRUSTED_PROXIES",
		"VEGA_TRUSTED_PROXIES=192.0.2.7":                                 "VEGA_TRUSTED_PROXIES: nothing is read from them; set VEGA_PROXY_PROTOCOL=require or VEGA_FORWARDED_HEADER",
		"VEGA_UNSAFE_ALLOWLIST_REPORT_ONLY=yes":                          "VEGA_UNSAFE_ALLOWLIST_REPORT_ONLY: ",
		"VEGA_RETENTION_PERIOD_DAYS=0":                                   "VEGA_RETENTION_PERIOD_DAYS: must be a whole number from 1 to 3650",
		"VEGA_CLOCK_SKEW_MS=600001":                                      "VEGA_CLOCK_SKEW_MS: must be a whole number from 0 to 600000",
		"VEGA_CENTRAL_CLIENT_KEY_PINS=sha256/x":                          "VEGA_CENTRAL_CLIENT_KEY_PINS: pin 1 is not a SHA-256 digest in base64",
		"VEGA_TLS_MIN_VERSION=1.1":                                       "VEGA_TLS_MIN_VERSION: must be one of 1.2, 1.3",
		"VEGA_PEER_MESSAGES_PER_SECOND=0":                                "VEGA_PEER_MESSAGES_PER_SECOND: must be a whole number from 1 to 1000000",
		"VEGA_PEER_TRUST=yes":                                            "VEGA_PEER_TRUST: must be one of tofu, verified",
		"VEGA_PREFERRED_SUITE=clear":                                     "VEGA_PREFERRED_SUITE: must be one of x-wing, x25519",
		"VEGA_LOG_LEVEL=verbose":                                         "VEGA_LOG_LEVEL: must be one of none, error, warn, info, debug",
		"VEGA_ENCRYPTION_KEY_BASE64=not base64!":                         "VEGA_ENCRYPTION_KEY_BASE64: is not base64; make one with: openssl rand -base64 32",
		"VEGA_ENCRYPTION_KEY_BASE64=":                                    "VEGA_ENCRYPTION_KEY_BASE64: is not set; make one with: openssl rand -base64 32",
		"VEGA_ENCRYPTION_KEY_BASE64=c2hvcnQ=":                            "VEGA_ENCRYPTION_KEY_BASE64: the key has 5 bytes, want 32; make one with: openssl rand -base64 32",
		"VEGA_DATABASE_CLIENT=pg":                                        "VEGA_DATABASE_CLIENT: this enclave keeps its history in one encrypted file",
		"VEGA_DECRYPT_API_ENDPOINT=http://kms.example":                   "VEGA_DECRYPT_API_ENDPOINT: is http to another machine, which would show it the key; use https, or set VEGA_UNSAFE_DECRYPT_API_HTTP=true",
		"VEGA_DECRYPT_API_TOKEN=a\nb":                                    "VEGA_DECRYPT_API_TOKEN: must be printable ASCII",
		"VEGA_DECRYPT_API_CLIENT_CERT_FILE=cert.pem":                     "VEGA_DECRYPT_API_CLIENT_CERT_FILE, VEGA_DECRYPT_API_CLIENT_KEY_FILE: set both or none",
		"VEGA_DECRYPT_API_CLIENT_KEY_FILE=key.pem":                       "VEGA_DECRYPT_API_CLIENT_CERT_FILE, VEGA_DECRYPT_API_CLIENT_KEY_FILE: set both or none",
		"VEGA_API_CLIENT_CERT_FILE=c.pem":                                "VEGA_API_CLIENT_CERT_FILE, VEGA_API_CLIENT_KEY_FILE: one is set and the other not",
		"VEGA_API_CLIENT_KEY_FILE=k.pem":                                 "VEGA_API_CLIENT_CERT_FILE, VEGA_API_CLIENT_KEY_FILE: one is set and the other not",
		"VEGA_VERIFICATION_CLIENT_CERT_FILE=c.pem":                       "VEGA_VERIFICATION_CLIENT_CERT_FILE, VEGA_VERIFICATION_CLIENT_KEY_FILE: one is set and the other not",
		"VEGA_VERIFICATION_CLIENT_KEY_FILE=k.pem":                        "VEGA_VERIFICATION_CLIENT_CERT_FILE, VEGA_VERIFICATION_CLIENT_KEY_FILE: one is set and the other not",
		"VEGA_VERIFICATION_SOCKET=backend.sock":                          "VEGA_VERIFICATION_SOCKET: must be a path that begins with /",
		"VEGA_VERIFICATION_SOCKET=@backend":                              "VEGA_VERIFICATION_SOCKET: must be a path that begins with /",
		"VEGA_VERIFICATION_SOCKET=/" + strings.Repeat("s", 103):          "has at most 103 bytes",
		"VEGA_VERIFICATION_KEEPALIVE_TIMEOUT_MS=99":                      "VEGA_VERIFICATION_KEEPALIVE_TIMEOUT_MS: must be a whole number from 100 to 600000",
		"VEGA_CHAINALYSIS_KYT_API_KEY=k":                                 "VEGA_CHAINALYSIS_KYT_API_KEY: this enclave screens nobody",
	} {
		_, _, err := load(change)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Load = %v, want the one error %q", change, err, want)
		}
	}
}

// A value that cannot be read is one error, and not also a value that is missing.
func TestSettingsRefuseAWrongValueOnce(t *testing.T) {
	_, _, err := load("VEGA_TLS_CERT_FILE=", "VEGA_TLS_KEY_FILE=", "VEGA_ACME_TERMS_AGREED=yes")
	if err == nil || !strings.HasPrefix(err.Error(), "VEGA_ACME_TERMS_AGREED: must be true or false") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Load = %v", err)
	}
	if _, _, err := load("VEGA_TLS_CERT_FILE=", "VEGA_TLS_KEY_FILE=", "VEGA_ACME_TERMS_AGREED=false"); err == nil {
		t.Error("without a certificate, and the terms refused, it starts")
	}
}

// A socket that no URL uses is a mistake.
func TestSettingsRefuseASocketThatNothingUses(t *testing.T) {
	_, _, err := load("VEGA_VERIFICATION_SOCKET=/run/backend.sock",
		"VEGA_VERIFICATION_API_PATH=https://backend.example/v", "VEGA_VERIFICATION_ACCOUNT_API_PATH=https://backend.example/a")
	if err == nil || !strings.Contains(err.Error(), "VEGA_VERIFICATION_SOCKET: no URL of the VASP API uses it") {
		t.Errorf("Load = %v, want the socket", err)
	}
}

// Each wrong way to say who stands between the caller and us is one error.
func TestSettingsRefuseProxiesThatFitNothing(t *testing.T) {
	for _, c := range []struct {
		want    string
		changes []string
	}{
		{"VEGA_PROXY_PROTOCOL and VEGA_FORWARDED_HEADER are both set", []string{"VEGA_TRUSTED_PROXIES=192.0.2.7", "VEGA_PROXY_PROTOCOL=require", "VEGA_FORWARDED_HEADER=Forwarded"}},
		{"VEGA_FORWARDED_HEADER: is not the name of one HTTP header", []string{"VEGA_TRUSTED_PROXIES=192.0.2.7", "VEGA_FORWARDED_HEADER=X-Forwarded-For,X-Real-IP"}},
		{"VEGA_FORWARDED_HEADER: is not the name of one HTTP header", []string{"VEGA_TRUSTED_PROXIES=192.0.2.7", "VEGA_FORWARDED_HEADER=X_Forwarded_For"}},
		{"VEGA_FORWARDED_HEADER: is not the name of one HTTP header", []string{"VEGA_TRUSTED_PROXIES=192.0.2.7", "VEGA_FORWARDED_HEADER=X-Forwarded-For:"}},
		{"VEGA_FORWARDED_HEADER: names a header that callers send for something else", []string{"VEGA_TRUSTED_PROXIES=192.0.2.7", "VEGA_FORWARDED_HEADER=host"}},
		{"VEGA_FORWARDED_HEADER: names a header that callers send for something else", []string{"VEGA_TRUSTED_PROXIES=192.0.2.7", "VEGA_FORWARDED_HEADER=User-Agent"}},
	} {
		_, _, err := load(c.changes...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: Load = %v, want the one error %q", c.changes, err, c.want)
		}
	}
}

func TestSettingsAllow(t *testing.T) {
	for _, changes := range [][]string{
		{"VEGA_UNSAFE_SERVER_HOST=0.0.0.0"},
		{"VEGA_SERVER_HOST=127.0.0.3", "VEGA_SERVER_PORT=0"},
		{"VEGA_SERVER_HOST=::1"},
		{"VEGA_VERIFICATION_API_PATH=http://backend.example/v", "VEGA_UNSAFE_VERIFICATION_HTTP=true"},
		{"VEGA_VERIFICATION_API_PATH=http://[::1]:80/v"},
		{"VEGA_VERIFICATION_AUTHORIZATION_KEY=X-Api-Key", "VEGA_VERIFICATION_AUTHORIZATION_TOKEN=Basic a=="},
		{"VEGA_VERIFICATION_ACCOUNT_API_PATH=", "VEGA_VERIFICATION_ADDRESSES_API_PATH=https://backend.example/a"},
		{"VEGA_VERIFICATION_ACCOUNT_API_PATH=", "VEGA_VERIFICATION_ADDRESS_API_PATH=https://backend.example/a"},
		{"VEGA_VERIFICATION_API_PATH=http://backend.example/v", "VEGA_VERIFICATION_SOCKET=/run/backend.sock"},
		{"VEGA_API_CLIENT_CERT_FILE=c.pem", "VEGA_API_CLIENT_KEY_FILE=k.pem"},
		{"VEGA_ENCLAVE_MODE="},
		{"VEGA_TLS_CERT_FILE=", "VEGA_TLS_KEY_FILE=", "VEGA_ACME_TERMS_AGREED=true"},
		{"VEGA_CENTRAL_ALLOWLIST=", "VEGA_CENTRAL_ALLOWLIST_FILE=list"},
		{"VEGA_TRUSTED_PROXIES=192.0.2.7", "VEGA_PROXY_PROTOCOL=require"},
		{"VEGA_TRUSTED_PROXIES=192.0.2.7", "VEGA_FORWARDED_HEADER=x-forwarded-for"},
		{"VEGA_TRUSTED_PROXIES=192.0.2.7", "VEGA_FORWARDED_HEADER=Forwarded", "VEGA_PROXY_PROTOCOL=off"},
		{"VEGA_VERIFICATION_CALLBACK_API_PATH="},
		{"VEGA_DECRYPT_API_ENDPOINT=https://kms.example/decrypt", "VEGA_ENCRYPTION_KEY_BASE64=arn:aws:kms:name"},
		{"VEGA_DECRYPT_API_ENDPOINT=http://127.0.0.1:1/decrypt"},
		{"VEGA_DECRYPT_API_ENDPOINT=http://kms.example", "VEGA_UNSAFE_DECRYPT_API_HTTP=true"},
		{"VEGA_DECRYPT_API_ENDPOINT=https://kms.example", "VEGA_KEY_SOURCE=decrypt-api:https://kms.example"},
		{"VEGA_KEY_SOURCE=decrypt-api:https://kms.example", "VEGA_ENCRYPTION_KEY_BASE64=arn:aws:kms:name"},
	} {
		if _, _, err := load(changes...); err != nil {
			t.Errorf("%q: Load = %v", changes, err)
		}
	}
}

func TestSettingsWarn(t *testing.T) {
	for change, want := range map[string]string{
		"VEGA_ENCLAVE_MODE=":                            "VEGA_ENCLAVE_MODE is not set: assuming TR (Travel Rule)",
		"VEGA_VERIFICATION_CALLBACK_API_PATH=":          "VEGA_VERIFICATION_CALLBACK_API_PATH is not set: the backend hears of no result and has to poll",
		"VEGA_UNSAFE_SERVER_HOST=0.0.0.0":               "VEGA_UNSAFE_SERVER_HOST lets other machines read and send personal data: set VEGA_SERVER_TOKEN at least",
		"VEGA_UNSAFE_VERIFICATION_HTTP=true":            "VEGA_UNSAFE_VERIFICATION_HTTP lets personal data and the token travel in clear",
		"VEGA_VERIFICATION_AUTHORIZATION_KEY=X-Api-Key": "VEGA_VERIFICATION_AUTHORIZATION_KEY names a header that is not sent: VEGA_VERIFICATION_AUTHORIZATION_TOKEN is not set",
		"VEGA_UNSAFE_DATABASE_NETWORK_FILESYSTEM=true":  "VEGA_UNSAFE_DATABASE_NETWORK_FILESYSTEM lets two enclaves write to one history, and a power cut lose what was acknowledged, if the filesystem does",
		"VEGA_DATABASE_ANCHOR_FILE=anchor":              "VEGA_DATABASE_ANCHOR_FILE lies beside the history: who puts back an older directory puts back both; set it to a path on another volume",
		"VEGA_ACME_TERMS_AGREED=true":                   "VEGA_ACME_TERMS_AGREED does nothing: the certificate is the one that VEGA_TLS_CERT_FILE names",
		"VEGA_UNSAFE_ALLOWLIST_REPORT_ONLY=true":        "VEGA_UNSAFE_ALLOWLIST_REPORT_ONLY lets everybody see the certificate and send requests: only central's signature stands between them and this enclave; unset it when the log is as you expect",
		"VEGA_PUBLIC_KEY_TTL=599999":                    "VEGA_PUBLIC_KEY_TTL is below its minimum: using 600000",
		"VEGA_SERVER_PROT=1":                            "VEGA_SERVER_PROT is not a setting of this program: did you mean VEGA_SERVER_PORT?",
	} {
		if _, warnings, err := load(change); err != nil || !slices.Contains(warnings, want) {
			t.Errorf("%s: Load warned %q, %v, want %q", change, warnings, err, want)
		}
	}
	s, _, err := load("VEGA_PUBLIC_KEY_TTL=599999")
	if err != nil || s.PublicKeyTTL.Duration() != 10*time.Minute {
		t.Errorf("TTL below the minimum = %s, %v, want it raised to 10m", s.PublicKeyTTL.Duration(), err)
	}
}

// Without files, the operator has to agree to the authority's terms; the error
// tells both ways.
func TestOneOfTwoWaysToACertificateIsNeeded(t *testing.T) {
	for _, agreed := range []string{"", "false"} {
		_, _, err := load("VEGA_TLS_CERT_FILE=", "VEGA_TLS_KEY_FILE=", "VEGA_ACME_TERMS_AGREED="+agreed)
		for _, want := range []string{"VEGA_TLS_CERT_FILE and VEGA_TLS_KEY_FILE", "set VEGA_ACME_TERMS_AGREED=true"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("agreed %q: Load = %v, want %q", agreed, err, want)
			}
		}
	}
	s, _, err := load("VEGA_TLS_CERT_FILE=", "VEGA_TLS_KEY_FILE=", "VEGA_ACME_TERMS_AGREED=true", "VEGA_DATABASE_FILE=/var/lib/enclave/enclave.db")
	if err != nil || s.ACMEStorageDir() != "/var/lib/enclave/enclave.db.acme" {
		t.Errorf("automatic certificates in %q, %v", s.ACMEStorageDir(), err)
	}
	got := fmt.Sprint(s.ACMEDirectory, s.ACMEChallenge, s.ACMEHTTPListen, s.ACMEProfile)
	if want := fmt.Sprint("https://acme-v02.api.letsencrypt.org/directory", "tls-alpn-01", ":80", ""); got != want {
		t.Errorf("defaults %s, want %s", got, want)
	}
}

func TestKEK(t *testing.T) {
	s, _, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if key, err := s.KEK(); err != nil || !cmp.Equal(key, make([]byte, 32)) {
		t.Errorf("KEK = %x, %v, want 32 zero bytes", key, err)
	}
}

func TestKEKFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(path, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, err := load("VEGA_ENCRYPTION_KEY_BASE64=", "VEGA_KEY_SOURCE=file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := s.KEK(); err != nil || !cmp.Equal(key, make([]byte, 32)) {
		t.Errorf("KEK = %x, %v, want 32 zero bytes", key, err)
	}
	s.KeySource = "vault:"
	if _, err := s.KEK(); err == nil || !strings.HasPrefix(err.Error(), "VEGA_KEY_SOURCE: has no known scheme; schemes known: decrypt-api:, file:, plain:") {
		t.Errorf("KEK from vault: = %v, want the known schemes", err)
	}
}

// Two names for the key's source that differ stop the start: which of them
// counts is a question of security. So does an API that is to decrypt nothing.
func TestSettingsRefuseTwoKeySources(t *testing.T) {
	for want, changes := range map[string][]string{
		"VEGA_KEY_SOURCE names another source": {"VEGA_DECRYPT_API_ENDPOINT=https://kms.example", "VEGA_KEY_SOURCE=file:/kek"},
		"unset one of the two":                 {"VEGA_DECRYPT_API_ENDPOINT=https://kms.example", "VEGA_KEY_SOURCE=decrypt-api:https://other.example"},
		"make it with enclave keys wrap":       {"VEGA_DECRYPT_API_ENDPOINT=https://kms.example", "VEGA_ENCRYPTION_KEY_BASE64="},
	} {
		if _, _, err := load(changes...); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: Load = %v, want the one error %q", changes, err, want)
		}
	}
}

// A decrypt API that everybody, or the backend, could ask as we do is warned
// about (S5); a wrapped key in the environment is not.
func TestSettingsWarnOfTheDecryptAPI(t *testing.T) {
	const api, token = "VEGA_DECRYPT_API_ENDPOINT=https://kms.example", "VEGA_VERIFICATION_AUTHORIZATION_TOKEN=t"
	certificate := []string{"VEGA_DECRYPT_API_CLIENT_CERT_FILE=c", "VEGA_DECRYPT_API_CLIENT_KEY_FILE=k"}
	for name, c := range map[string]struct {
		changes []string
		want    string
	}{
		"no proof":            {[]string{api}, "VEGA_DECRYPT_API_ENDPOINT is asked without a token and without a client certificate"},
		"the backend's token": {[]string{api, token}, "VEGA_DECRYPT_API_TOKEN is not set: the decrypt API is shown the backend's token"},
		"a token of its own":  {[]string{api, token, "VEGA_DECRYPT_API_TOKEN=d"}, ""},
		"a certificate":       {append([]string{api, token}, certificate...), ""},
		"http":                {[]string{api, "VEGA_DECRYPT_API_TOKEN=d", "VEGA_UNSAFE_DECRYPT_API_HTTP=true"}, "VEGA_UNSAFE_DECRYPT_API_HTTP lets the database key"},
	} {
		_, warnings, err := load(c.changes...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var of []string
		for _, w := range warnings {
			if strings.Contains(w, "DECRYPT") || strings.Contains(w, "ENCRYPTION_KEY") {
				of = append(of, w)
			}
		}
		if c.want == "" && len(of) > 0 || c.want != "" && (len(of) != 1 || !strings.HasPrefix(of[0], c.want)) {
			t.Errorf("%s: warnings %q, want %q", name, of, c.want)
		}
	}
}

// The contract's section 4, less what Settings names itself: each variable is
// read, was renamed, or is refused with a sentence; none is silently ignored.
func TestSettingsAnswerEveryVariableOfTheContract(t *testing.T) {
	var environ []string
	for _, name := range strings.Fields(`
		SERVER_PORT SERVER_KEEPALIVE_TIMEOUT_MS ENCLAVE_MODE ENCLAVE_PUBLIC_ENDPOINT ALLIANCE_ACCESS_KEY ALLIANCE_SECRET_KEY
		API_ENDPOINT DATABASE_CLIENT DATABASE_USERNAME DATABASE_PASSWORD DATABASE_HOST DATABASE_PORT DATABASE_DB
		DATABASE_SEARCH_PATH DATABASE_POOL_MIN DATABASE_POOL_MAX DATABASE_SSL DATABASE_SSL_CA DATABASE_SSL_KEY DATABASE_SSL_CERT
		DATABASE_SSL_CAPATH DATABASE_SSL_CIPHER DATABASE_SSL_REJECT_UNAUTHORIZED VERIFICATION_API_PATH
		VERIFICATION_ACCOUNT_API_PATH VERIFICATION_ADDRESSES_API_PATH VERIFICATION_ADDRESS_API_PATH
		VERIFICATION_TRANSACTION_API_PATH VERIFICATION_CALLBACK_API_PATH VERIFICATION_VERIFY_NAME_V2_API_PATH
		VERIFICATION_VERIFY_NAME_TRANSACTION_API_PATH VERIFICATION_AUTHORIZATION_TOKEN VERIFICATION_AUTHORIZATION_KEY LOG_LEVEL
		PUBLIC_KEY_TTL ENCRYPTION_KEY_BASE64 DECRYPT_API_ENDPOINT VERIFICATION_RETENTION_DAYS CHAINALYSIS_SANCTION_API_KEY
		CHAINALYSIS_KYT_API_KEY REFINITIV_WCO_API_KEY REFINITIV_WCO_API_SECRET REFINITIV_WCO_GROUP_ID`) {
		environ = append(environ, enclavecmd.Prefix+name+"=x")
	}
	if unknown := settings.Unknown(enclavecmd.Prefix, new(enclavecmd.Settings), environ); len(unknown) > 0 {
		t.Errorf("unknown: %v", unknown)
	}
}

// Each variable of the contract that cannot be honoured stops the start with
// one sentence of its own, which names it, says what to do, and quotes nothing.
func TestSettingsRefuseEachVariableOfTheContractThatIsNotServed(t *testing.T) {
	refused := 0
	for _, refusal := range new(enclavecmd.Settings).Refused() {
		for _, name := range refusal.Names {
			refused++
			_, _, err := load(name + "=hunter2")
			if err == nil || err.Error() != name+": "+refusal.Instead || !strings.Contains(err.Error(), "remove") {
				t.Errorf("%s: Load = %v, want the one error %q", name, err, refusal.Instead)
			}
			if _, _, err := load(name + "="); err != nil {
				t.Errorf("%s, empty: Load = %v, want it to count as unset", name, err)
			}
		}
	}
	if refused != 16+5+2 {
		t.Errorf("%d variables are refused", refused)
	}
	for _, mode := range []string{"VN2", "VN1_CALL", "VN1_RESPONSE", "TR,VN2", "tr", "x"} {
		if _, _, err := load("VEGA_ENCLAVE_MODE=" + mode); err == nil || !strings.HasPrefix(err.Error(), "VEGA_ENCLAVE_MODE: only TR is offered") {
			t.Errorf("mode %s: Load = %v", mode, err)
		}
	}
}

// Each variable of the contract that is served lands where it belongs; those
// that have to be there are missed.
func TestSettingsTakeEachVariableOfTheContract(t *testing.T) {
	for _, c := range []struct {
		change string
		needed bool
		got    func(*enclavecmd.Settings) string
	}{
		{"VEGA_SERVER_PORT=8080", false, func(s *enclavecmd.Settings) string { return fmt.Sprint(s.ServerPort) }},
		{"VEGA_SERVER_KEEPALIVE_TIMEOUT_MS=65000", false, func(s *enclavecmd.Settings) string { return fmt.Sprint(s.KeepAliveTimeout.Duration().Milliseconds()) }},
		{"VEGA_ENCLAVE_MODE=TR", false, func(s *enclavecmd.Settings) string { return s.Mode }},
		{"VEGA_ENCLAVE_PUBLIC_ENDPOINT=https://a.example/enclave", true, func(s *enclavecmd.Settings) string { return s.PublicEndpoint.String() }},
		{"VEGA_ALLIANCE_ACCESS_KEY=a", true, func(s *enclavecmd.Settings) string { return s.AccessKey }},
		{"VEGA_ALLIANCE_SECRET_KEY=s", true, func(s *enclavecmd.Settings) string { return s.SecretKey.Reveal() }},
		{"VEGA_API_ENDPOINT=https://c.example", true, func(s *enclavecmd.Settings) string { return s.APIEndpoint.String() }},
		{"VEGA_VERIFICATION_API_PATH=https://b.example/user", true, func(s *enclavecmd.Settings) string { return s.UserURL.String() }},
		{"VEGA_VERIFICATION_ACCOUNT_API_PATH=https://b.example/account", true, func(s *enclavecmd.Settings) string { return s.AccountURL.String() }},
		{"VEGA_VERIFICATION_TRANSACTION_API_PATH=https://b.example/tx", false, func(s *enclavecmd.Settings) string { return s.TransactionURL.String() }},
		{"VEGA_VERIFICATION_CALLBACK_API_PATH=https://b.example/callback", false, func(s *enclavecmd.Settings) string { return s.CallbackURL.String() }},
		{"VEGA_VERIFICATION_AUTHORIZATION_TOKEN=t", false, func(s *enclavecmd.Settings) string { return s.AuthorizationToken.Reveal() }},
		{"VEGA_VERIFICATION_AUTHORIZATION_KEY=X-Api-Key", false, func(s *enclavecmd.Settings) string { return s.AuthorizationKey }},
		{"VEGA_DECRYPT_API_ENDPOINT=https://kms.example/decrypt", false, func(s *enclavecmd.Settings) string { return s.DecryptAPI.String() }},
		{"VEGA_PUBLIC_KEY_TTL=600000", false, func(s *enclavecmd.Settings) string { return fmt.Sprint(s.PublicKeyTTL.Duration().Milliseconds()) }},
		{"VEGA_LOG_LEVEL=none", false, func(s *enclavecmd.Settings) string { return s.LogLevel }},
		{"VEGA_LOG_LEVEL=error", false, func(s *enclavecmd.Settings) string { return s.LogLevel }},
		{"VEGA_LOG_LEVEL=warn", false, func(s *enclavecmd.Settings) string { return s.LogLevel }},
		{"VEGA_LOG_LEVEL=info", false, func(s *enclavecmd.Settings) string { return s.LogLevel }},
		{"VEGA_LOG_LEVEL=debug", false, func(s *enclavecmd.Settings) string { return s.LogLevel }},
	} {
		name, want, _ := strings.Cut(c.change, "=")
		s, _, err := load(c.change)
		if err != nil || c.got(s) != want {
			t.Errorf("%s: Load = %v, %v", c.change, c.got(s), err)
		}
		if _, _, err := load(name + "="); (err != nil) != c.needed {
			t.Errorf("without %s: Load = %v, needed: %v", name, err, c.needed)
		}
	}
	for _, old := range []string{"VEGA_VERIFICATION_ADDRESSES_API_PATH", "VEGA_VERIFICATION_ADDRESS_API_PATH"} {
		s, warnings, err := load("VEGA_VERIFICATION_ACCOUNT_API_PATH=", old+"=https://b.example/account")
		warned := slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, old) })
		if err != nil || s.AccountURL.String() != "https://b.example/account" || !warned {
			t.Errorf("%s: %v, warnings %q", old, err, warnings)
		}
	}
}
