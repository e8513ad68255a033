package outwardtest

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// Guarded is a server that wants a client certificate of its authority, and
// notes whose it saw.
type Guarded struct {
	URL   string
	Roots *x509.CertPool // of the server's own certificate

	t       testing.TB
	forge   *forge
	clients *authority
	dir     string

	mu   sync.Mutex
	seen []string
}

// NewGuarded starts one; h answers.
func NewGuarded(t testing.TB, address string, h http.Handler) *Guarded {
	t.Helper()
	f := newForge(t, address)
	g := &Guarded{t: t, forge: f, Roots: f.pool, clients: f.authority(nil, ecKey(t, elliptic.P256()), nil), dir: t.TempDir()}
	known := x509.NewCertPool()
	known.AddCert(g.clients.cert)
	config := &tls.Config{
		Certificates: []tls.Certificate{f.leaf(f.root, address, nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known,
	}
	g.URL = serve(t, address, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.seen = append(g.seen, r.TLS.PeerCertificates[0].Subject.CommonName)
		g.mu.Unlock()
		h.ServeHTTP(w, r)
	}), "", "").URL
	return g
}

// Seen are the names in the certificates of the requests so far.
func (g *Guarded) Seen() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.seen...)
}

// Files writes a client certificate with a name, and the server's roots; the
// same files each time. The certificate can be changed before it is signed.
func (g *Guarded) Files(name string, with func(*x509.Certificate)) outward.Files {
	g.t.Helper()
	pair := g.forge.leaf(g.clients, "127.0.0.1", func(c *x509.Certificate) {
		c.Subject.CommonName, c.IPAddresses, c.ExtKeyUsage = name, nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if with != nil {
			with(c)
		}
	})
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		g.t.Fatal(err)
	}
	return outward.Files{
		Roots: g.write("roots.pem", "CERTIFICATE", g.forge.root.cert.Raw),
		Cert:  g.write("client.pem", "CERTIFICATE", pair.Certificate[0]), Key: g.write("client.key", "PRIVATE KEY", key),
		RootsSetting: "ROOTS_FILE", PairSetting: "CERT_FILE, KEY_FILE",
	}
}

func (g *Guarded) write(name, kind string, der []byte) string {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}
