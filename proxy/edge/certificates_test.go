package edge_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/edgetest"
)

const swapped = "127.0.0.7"

// mounted is a directory as Kubernetes mounts a secret: cert.pem and key.pem
// lead through ..data to the files of one version.
type mounted struct {
	t       *testing.T
	dir     string
	version int
}

func newMounted(t *testing.T) *mounted {
	m := &mounted{t: t, dir: t.TempDir()}
	for _, name := range []string{"cert.pem", "key.pem"} {
		if err := os.Symlink("..data/"+name, m.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *mounted) path(name string) string { return filepath.Join(m.dir, name) }

// put makes another version out of two files and swaps ..data.
func (m *mounted) put(cert, key []byte) {
	m.t.Helper()
	m.version++
	name := fmt.Sprintf("..2026_%d", m.version)
	err := os.Mkdir(m.path(name), 0o700)
	for file, content := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
		if content != nil {
			err = errors.Join(err, os.WriteFile(filepath.Join(m.path(name), file), content, 0o600))
		}
	}
	err = errors.Join(err, os.Symlink(name, m.path("..data_tmp")), os.Rename(m.path("..data_tmp"), m.path("..data")))
	if err != nil {
		m.t.Fatal(err)
	}
}

// pair is a new certificate and its key, as they stand in files.
func pair(t *testing.T, a *edgetest.Authority, host string, from, until time.Duration) (cert, key []byte) {
	t.Helper()
	certFile, keyFile := a.IssueAt(host, time.Now().Add(from), time.Now().Add(until))
	return readFiles(t, certFile, keyFile)
}

// weakRSA is a certificate of its own whose key no client takes.
func weakRSA(t *testing.T, host string) (cert, private []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(host)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

func readFiles(t *testing.T, certFile, keyFile string) (cert, key []byte) {
	t.Helper()
	cert, err := os.ReadFile(certFile)
	if err == nil {
		key, err = os.ReadFile(keyFile)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// A pair that cannot be used is refused with a sentence, and the last good one
// is shown on; the next good one is taken over (Kubernetes layout).
func TestReloadKeepsTheLastGoodPair(t *testing.T) {
	a := edgetest.NewAuthority(t)
	m := newMounted(t)
	cert, key := pair(t, a, swapped, -time.Hour, time.Hour)
	m.put(cert, key)
	files, err := edge.FileCertificates(m.path("cert.pem"), m.path("key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	good, _ := files.Certificate(nil)
	other, otherKey := pair(t, a, swapped, -time.Hour, 2*time.Hour)
	expired, expiredKey := pair(t, a, swapped, -2*time.Hour, -time.Hour)
	early, earlyKey := pair(t, a, swapped, time.Hour, 2*time.Hour)
	foreign, foreignKey := pair(t, a, "127.0.0.8", -time.Hour, time.Hour)
	certFile, keyFile := a.IssueFor(swapped, x509.ExtKeyUsageClientAuth, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	client, clientKey := readFiles(t, certFile, keyFile)
	weak, weakKey := weakRSA(t, swapped)
	for name, c := range map[string]struct {
		cert, key []byte
		says      string
	}{
		"for clients only":         {client, clientKey, "serverAuth"},
		"RSA of 1024 bits":         {weak, weakKey, "RSA of 2048 bits"},
		"half a certificate":       {other[:len(other)/2], otherKey, "ends too early"},
		"half a key":               {other, otherKey[:len(otherKey)/2], "ends too early"},
		"empty":                    {[]byte{}, []byte{}, "no certificate in the first"},
		"garbage":                  {[]byte("\x00\xffgarbage"), []byte("garbage"), "no certificate in the first"},
		"a key of another":         {other, key, "issued together"},
		"a certificate of another": {cert, otherKey, "issued together"},
		"exchanged":                {otherKey, other, "exchange them"},
		"no certificate file":      {nil, otherKey, "no such file"},
		"no key file":              {other, nil, "no such file"},
		"expired":                  {expired, expiredKey, "expired"},
		"not valid yet":            {early, earlyKey, "check the clock"},
		"for another host":         {foreign, foreignKey, "is not for " + swapped},
	} {
		m.put(c.cert, c.key)
		if err := files.Reload(time.Now(), swapped); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want it to say %q", name, err, c.says)
		}
		if now, _ := files.Certificate(nil); now != good {
			t.Errorf("%s: the last good pair is shown no more", name)
		}
	}
	m.put(other, otherKey)
	if err := files.Reload(time.Now(), swapped); err != nil {
		t.Errorf("a good pair: %v", err)
	}
	if !files.NotAfter().After(good.Leaf.NotAfter) {
		t.Error("NotAfter is still that of the pair before")
	}
}

// Hundreds of swaps, each read at once, while callers shake hands without a
// pause: none fails, every caller sees one of the pairs, and a connection from
// before goes on.
func TestSwapsFailNoHandshake(t *testing.T) {
	a := edgetest.NewAuthority(t)
	m := newMounted(t)
	type texts struct{ cert, key []byte }
	var pairs []texts
	for range 8 {
		cert, key := pair(t, a, server, -time.Hour, time.Hour)
		pairs = append(pairs, texts{cert, key})
	}
	m.put(pairs[0].cert, pairs[0].key)
	files, err := edge.FileCertificates(m.path("cert.pem"), m.path("key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	allowed, err := allow.ParseList("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := edge.Listen(t.Context(), edge.Config{Address: server + ":0", Certificates: files, Allow: allowed, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx, http.NotFoundHandler()) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
	}()
	old, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: a.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	end := make(chan struct{})
	var callers sync.WaitGroup
	join := sync.OnceFunc(func() { close(end); callers.Wait() })
	defer join()
	seen := make(chan string, 1<<16)
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: a.Pool()})
				if err != nil {
					t.Errorf("a handshake failed: %v", err)
					continue
				}
				seen <- c.ConnectionState().PeerCertificates[0].SerialNumber.String()
				c.Close()
			}
		})
	}
	for i := range 300 {
		p := pairs[i%len(pairs)]
		m.put(p.cert, p.key)
		if err := files.Reload(time.Now(), server); err != nil {
			t.Errorf("swap %d: %v", i, err)
		}
		time.Sleep(time.Millisecond)
	}
	join()
	close(seen)
	serials, n := map[string]bool{}, 0
	for serial := range seen {
		serials[serial] = true
		n++
	}
	if len(serials) < 2 {
		t.Errorf("%d handshakes saw %d certificates of %d", n, len(serials), len(pairs))
	}
	t.Logf("%d handshakes saw %d certificates", n, len(serials))
	r, _ := http.NewRequest(http.MethodGet, "https://"+l.Addr().String()+"/", nil)
	if err := r.Write(old); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Read(make([]byte, 1)); err != nil {
		t.Errorf("the connection from before the swaps: %v", err)
	}
}
