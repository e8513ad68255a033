package redis_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/storage/redis"
	"github.com/vasp-enclave/vasp-enclave/storage/redis/redistest"
)

// authority is a throw-away CA.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCA(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "throw-away"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a certificate for this machine and for redis.example.
func (a *authority) issue(t testing.TB) tls.Certificate {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"redis.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func (a *authority) trust(c *redis.Config) { c.Roots = a.pool() }

// arguments are a server's.
func (a *authority) arguments(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	c := a.issue(t)
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"--tls-cert-file", write("cert.pem", "CERTIFICATE", c.Certificate[0]),
		"--tls-key-file", write("key.pem", "PRIVATE KEY", key),
		"--tls-ca-cert-file", write("ca.pem", "CERTIFICATE", a.certificate.Raw),
	}
}

func TestTLS(t *testing.T) {
	ca := newCA(t)
	i := redistest.StartTCP(t, "--tls-port", append(ca.arguments(t), "--tls-auth-clients", "no")...)
	suite(t, "rediss://"+i.Addr(), []*redistest.Server{i}, ca.trust)

	for name, c := range map[string]struct {
		url    string
		change func(*redis.Config)
		want   string // reason in the log
	}{
		"a name that the certificate holds":   {"rediss://" + i.Addr() + "?server_name=redis.example", ca.trust, ""},
		"one that it does not hold":           {"rediss://" + i.Addr() + "?server_name=other.example", ca.trust, "certificate"},
		"an address that it does not hold":    {"rediss://localhost:" + i.Port, ca.trust, "certificate"},
		"another authority":                   {"rediss://" + i.Addr(), newCA(t).trust, "certificate"},
		"the system's authorities":            {"rediss://" + i.Addr(), func(*redis.Config) {}, "certificate"},
		"no TLS with a server that wants TLS": {"redis://" + i.Addr(), func(*redis.Config) {}, "unreachable"},
	} {
		o := open(t, c.url, c.change)
		put(t, o, address(1), "bundle")
		err := o.Probe(ctx)
		if c.want == "" {
			wantBundle(t, o, address(1), "bundle")
			if err != nil {
				t.Errorf("%s: Probe = %v", name, err)
			}
			continue
		}
		wantMiss(t, o, address(1))
		if err == nil || !strings.Contains(o.log.String(), "reason="+c.want) {
			t.Errorf("%s: Probe = %v, want reason %s in the log:\n%s", name, err, c.want, o.log)
		}
	}
}

func TestTLSWithClientCertificate(t *testing.T) {
	ca := newCA(t)
	i := redistest.StartTCP(t, "--tls-port", append(ca.arguments(t), "--tls-auth-clients", "yes")...)
	without := open(t, "rediss://"+i.Addr(), ca.trust)
	put(t, without, address(1), "bundle")
	wantMiss(t, without, address(1))
	with := open(t, "rediss://"+i.Addr(), ca.trust, func(c *redis.Config) { c.Certificates = []tls.Certificate{ca.issue(t)} })
	put(t, with, address(1), "bundle")
	wantBundle(t, with, address(1), "bundle")
}
