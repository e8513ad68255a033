package outward_test

import (
	"crypto/x509"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward/outwardtest"
)

// Attacks N4 and V1: a server with a bad certificate, or with TLS that is none any
// more, is not spoken to. Each is refused for its own reason, and a good one
// beside it is not.
func TestBadServersAreRefused(t *testing.T) {
	company := outwardtest.NewCompany(t, "127.0.0.7", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	transport := outward.NewTransport(outward.Config{
		Secure: outward.Loopback, Trust: outward.NewTrust(company.Roots, nil), IdleTimeout: time.Minute, MaxIdle: 2,
	})
	t.Cleanup(transport.CloseIdleConnections)
	for _, s := range company.Good {
		for range 2 { // the second time with a session resumed
			if err := get(t, transport, s.URL); err != nil {
				t.Errorf("a good server at %s: %v", s.URL, err)
			}
			transport.CloseIdleConnections()
		}
	}
	for _, s := range company.Bad {
		err := get(t, transport, s.URL)
		if err == nil || s.Heard() != 0 {
			t.Errorf("%s: %v, and it heard %d requests", s.Name, err, s.Heard())
		} else if !strings.Contains(err.Error(), s.Says) {
			t.Errorf("%s: %v, want %q", s.Name, err, s.Says)
		}
	}
	if n := len(company.Bad); n < 30 {
		t.Errorf("%d kinds, want at least 30", n)
	} else {
		t.Logf("%d kinds", n)
	}
}

func answers(http.ResponseWriter, *http.Request) {}

// The client certificate is shown, and replaced while connections are kept: the
// next request shows the new one. Files that do not fit leave the old one.
func TestAClientCertificateIsReplaced(t *testing.T) {
	server := outwardtest.NewGuarded(t, "127.0.0.7", http.HandlerFunc(answers))
	files := server.Files("first", nil)
	trust, err := outward.ReadTrust(files, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	transport := outward.NewTransport(outward.Config{Secure: outward.Loopback, Trust: trust, IdleTimeout: time.Minute, MaxIdle: 2})
	t.Cleanup(transport.CloseIdleConnections)
	ask := func() {
		t.Helper()
		if err := get(t, transport, server.URL); err != nil {
			t.Error(err)
		}
	}
	ask()
	ask()
	server.Files("second", nil)
	ask() // nobody has said so yet
	if err := trust.Reload(time.Now()); err != nil {
		t.Fatal(err)
	}
	ask()
	server.Files("expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	if err := trust.Reload(time.Now()); err == nil || !strings.HasPrefix(err.Error(), "CERT_FILE, KEY_FILE: ") {
		t.Errorf("Reload = %v, want the setting's name and that it has expired", err)
	}
	ask()
	if err := os.WriteFile(files.Roots, []byte("no roots"), 0o600); err != nil {
		t.Fatal(err)
	}
	server.Files("third", nil)
	if err := os.WriteFile(files.Roots, []byte("no roots"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trust.Reload(time.Now()); err == nil || !strings.HasPrefix(err.Error(), "ROOTS_FILE: ") {
		t.Errorf("Reload = %v, want the setting's name", err)
	}
	ask() // all or nothing: not the third either
	if got, want := server.Seen(), []string{"first", "first", "first", "second", "second", "second"}; !slices.Equal(got, want) {
		t.Errorf("the server saw %q, want %q", got, want)
	}
	if got := trust.Files().Names(); len(got) != 3 {
		t.Errorf("files %q, want three", got)
	}
}

// Roots that are taken away vouch for nobody any more, by no kept connection
// and no session either.
func TestRootsAreReplaced(t *testing.T) {
	company := outwardtest.NewGuarded(t, "127.0.0.7", http.HandlerFunc(answers))
	trust, err := outward.ReadTrust(company.Files("client", nil), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	transport := outward.NewTransport(outward.Config{Secure: outward.Loopback, Trust: trust, IdleTimeout: time.Minute, MaxIdle: 2})
	t.Cleanup(transport.CloseIdleConnections)
	for range 2 {
		if err := get(t, transport, company.URL); err != nil {
			t.Fatal(err)
		}
		transport.CloseIdleConnections()
	}
	if err := get(t, transport, company.URL); err != nil {
		t.Fatal(err)
	}
	trust.Replace(x509.NewCertPool(), nil)
	if err := get(t, transport, company.URL); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("with other roots: %v, want refusal", err)
	}
}

func TestReadClientCertificateRefuses(t *testing.T) {
	server := outwardtest.NewGuarded(t, "127.0.0.7", http.HandlerFunc(answers))
	read := func(with func(*x509.Certificate)) error {
		f := server.Files("client", with)
		_, err := outward.ReadClientCertificate(f.Cert, f.Key, time.Now())
		return err
	}
	for want, with := range map[string]func(*x509.Certificate){
		"expired at":       func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"not valid before": func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) },
		"for servers only": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
	} {
		if err := read(with); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("read = %v, want %q", err, want)
		}
	}
	for _, with := range []func(*x509.Certificate){
		nil, func(c *x509.Certificate) { c.ExtKeyUsage = nil }, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
	} {
		if err := read(with); err != nil {
			t.Error(err)
		}
	}
	f := server.Files("client", nil)
	other := filepath.Join(t.TempDir(), "other.key")
	key, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, key, 0o600); err != nil {
		t.Fatal(err)
	}
	server.Files("another", nil)
	for _, c := range []struct{ cert, key, want string }{
		{f.Cert, other, "the key is not this certificate's"},
		{f.Cert, "", "needs both files"},
		{"", f.Key, "needs both files"},
		{f.Key, f.Key, "no certificate in the first"},
		{f.Cert, f.Cert, "no private key in the second"},
		{f.Cert, "/nowhere", "/nowhere"},
		{"/nowhere", f.Key, "/nowhere"},
	} {
		if _, err := outward.ReadClientCertificate(c.cert, c.key, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("read %s, %s = %v, want %q", c.cert, c.key, err, c.want)
		}
	}
	if pair, err := outward.ReadClientCertificate("", "", time.Now()); pair != nil || err != nil {
		t.Errorf("without files: %v, %v", pair, err)
	}
}

// http for this machine stays there, whatever a name resolves to when it is
// dialled.
func TestPlainHTTPStaysOnThisMachine(t *testing.T) {
	dns, spied := outwardtest.NewDNS(t), new(spy)
	dns.Answer("here.example", []netip.Addr{netip.MustParseAddr("127.0.0.9")})
	dns.Answer("away.example", []netip.Addr{netip.MustParseAddr("10.0.0.1")}, []netip.Addr{netip.MustParseAddr("8.8.8.8")})
	dns.Answer("moves.example", []netip.Addr{netip.MustParseAddr("127.0.0.9")}, []netip.Addr{netip.MustParseAddr("8.8.8.8")})
	transport := outward.Spy(outward.Config{Secure: outward.Configured, Plain: outward.Loopback, Resolver: dns.Resolver()}, spied.connects)
	for _, name := range []string{"here.example", "moves.example", "moves.example", "away.example", "away.example", "10.0.0.1", "[fd00::1]"} {
		_ = get(t, transport, "http://"+name+"/")
	}
	got, here := spied.take(), netip.MustParseAddrPort("127.0.0.9:80")
	if !slices.Equal(got, []netip.AddrPort{here, here}) {
		t.Errorf("connections to %v, want two to %v", got, here)
	}
}
