package acme_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme"
)

// What a validator names, with the vectors of RFC 8738 section 6 and RFC 3596
// section 2.5.
func TestServerNames(t *testing.T) {
	for host, want := range map[string]string{
		"vasp.example":            "vasp.example",
		"192.0.2.1":               "1.2.0.192.in-addr.arpa",
		"4321:0:1:2:3:4:567:89ab": "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa",
	} {
		if got := acme.ServerName(host); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

func TestProfiles(t *testing.T) {
	for _, c := range []struct{ host, directory, set, want string }{
		{"vasp.example", acme.LetsEncrypt, "", ""},
		{"203.0.113.7", acme.LetsEncrypt, "", "shortlived"},
		{"2001:db8::7", acme.LetsEncrypt, "", "shortlived"},
		{"203.0.113.7", acme.LetsEncrypt, "tlsserver", "tlsserver"},
		{"203.0.113.7", "https://ca.example/directory", "", ""},
		{"203.0.113.7", "https://api.letsencrypt.org.example/directory", "", ""},
	} {
		if got := acme.ProfileOf(acme.Config{Host: c.host, Directory: c.directory, Profile: c.set}); got != c.want {
			t.Errorf("%+v: profile %q", c, got)
		}
	}
}

func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := acme.Config{Host: "vasp.example.com", Storage: file + ".acme", Directory: acme.LetsEncrypt, Challenge: acme.TLSALPN01, KeyID: "kid", MACKey: "c2VjcmV0LWtleQ=="}
	if err := good.Check(); err != nil {
		t.Errorf("Check = %v", err)
	}
	for want, change := range map[string]func(*acme.Config){
		"VEGA_ACME_DIRECTORY":  func(c *acme.Config) { c.Directory = "http://ca.example/dir" },
		"VEGA_ACME_CHALLENGE":  func(c *acme.Config) { c.Challenge = "dns-01" },
		"set both or none":     func(c *acme.Config) { c.KeyID = "" },
		"VEGA_ACME_EAB_KEY_ID": func(c *acme.Config) { c.MACKey = "" },
		"VEGA_ACME_STORAGE":    func(c *acme.Config) { c.Storage = file },
		"VEGA_ENCLAVE_PUBLIC_ENDPOINT: no public authority certifies this host": func(c *acme.Config) { c.Host = "10.0.0.7" },
		"or a certificate with VEGA_TLS_CERT_FILE":                              func(c *acme.Config) { c.Host = "localhost" },
		"VEGA_ACME_EAB_MAC_KEY":                                                 func(c *acme.Config) { c.MACKey = "s3cret key!" },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("Check = %v, want %q", err, want)
		}
	}
}

// An authority of one's own certifies what it likes.
func TestAnInternalAuthorityCertifiesAPrivateAddress(t *testing.T) {
	c := acme.Config{Host: "10.0.0.7", Directory: "https://ca.internal/dir", Challenge: acme.TLSALPN01}
	if err := c.Check(); err != nil {
		t.Errorf("Check = %v", err)
	}
}

// The library's lines arrive in our log, below what we say ourselves, and
// without who runs the enclave.
func TestTheLibrarysLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	l := zap.New(acme.NewZapLog(log)).With(zap.Int("a", 1), zap.String("email", "who@vasp.example"))
	l.Info("one", zap.Strings("account_contact", []string{"mailto:who@vasp.example"}))
	l.Warn("two", zap.Bool("b", true))
	l.Error("three")
	l.Error("will retry")
	want := "level=DEBUG msg=\"certificates: one\" a=1\n" +
		"level=WARN msg=\"certificates: two\" a=1 b=true\n" +
		"level=WARN msg=\"certificates: three\" a=1\n" +
		"level=DEBUG msg=\"certificates: will retry\" a=1\n"
	got := strings.Replace(out.String(), "b=true a=1", "a=1 b=true", 1) // in any order
	if got != want {
		t.Errorf("logged\n%swant\n%s", got, want)
	}
}
