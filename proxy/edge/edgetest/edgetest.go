// Package edgetest makes certificates for tests that speak real TLS on
// loopback addresses. Nothing it makes is fit for anything else.
package edgetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Receive takes what comes over a channel, or is closed, and fails the test
// when nothing does for a minute: a test that waits for ever takes the others
// of its package with it, and says nothing of what it waited for.
func Receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	select {
	case v := <-from:
		return v
	case <-late.C:
		t.Fatal("nothing came for a minute")
		panic("not reached")
	}
}

// Authority is a certificate authority that lives as long as its test.
type Authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewAuthority makes one.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	a.cert = a.sign(template, template, a.key)
	return a
}

// Pool trusts the authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// File is the authority's certificate as a PEM file.
func (a *Authority) File() string {
	return a.write("roots.pem", "CERTIFICATE", a.cert.Raw)
}

// Issue makes a certificate for a name or address, valid for a day around
// now, and returns its files.
func (a *Authority) Issue(host string) (certFile, keyFile string) {
	return a.IssueAt(host, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
}

// IssueAt is Issue with a validity of one's own.
func (a *Authority) IssueAt(host string, from, until time.Time) (certFile, keyFile string) {
	return a.IssueFor(host, x509.ExtKeyUsageServerAuth, from, until)
}

// IssueFor is IssueAt for another usage: a client's certificate, say.
func (a *Authority) IssueFor(host string, usage x509.ExtKeyUsage, from, until time.Time) (certFile, keyFile string) {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: host}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	a.check(err)
	dir := a.t.TempDir()
	return a.writeIn(dir, "cert.pem", "CERTIFICATE", a.sign(template, a.cert, key).Raw), a.writeIn(dir, "key.pem", "PRIVATE KEY", der)
}

func (a *Authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	a.check(err)
	cert, err := x509.ParseCertificate(der)
	a.check(err)
	return cert
}

func (a *Authority) write(name, kind string, der []byte) string {
	return a.writeIn(a.t.TempDir(), name, kind, der)
}

func (a *Authority) writeIn(dir, name, kind string, der []byte) string {
	path := filepath.Join(dir, name)
	a.check(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func (a *Authority) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
