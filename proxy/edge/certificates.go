package edge

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// Certificates is where the listener's certificates come from. Methods are
// called concurrently, at every handshake.
type Certificates interface {
	// Certificate chooses what to show to this caller.
	Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// Challenge tells whether a certificate authority's validator is expected
	// to call (RFC 8737). Its address is on no list, so while this is true a
	// stranger may reach the ClientHello, and passes it only with a hello that
	// offers acme-tls/1 and nothing else. Certificate is then asked with that
	// hello, and the connection ends after the handshake.
	Challenge() bool
}

// Files is a certificate that an operator put into two files. It stays as it
// was read until Reload finds another one.
type Files struct {
	certFile, keyFile string
	pair              atomic.Pointer[tls.Certificate]
}

var _ Certificates = (*Files)(nil)

// FileCertificates reads a PEM chain, leaf first, and its PEM private key.
// That they belong together, and are for a server and not weak, is checked here;
// that they are valid now is checked by Listen, which has a clock.
func FileCertificates(certFile, keyFile string) (*Files, error) {
	pair, err := readPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	f := &Files{certFile: certFile, keyFile: keyFile}
	f.pair.Store(pair)
	return f, nil
}

// Reload reads the two files again and shows the new pair from the next
// handshake on; connections that are open keep theirs. A pair that does not
// belong together, that every client would refuse, that is not valid at now, or
// is not for host ("" asks nothing) is an error, and the one before stays.
func (f *Files) Reload(now time.Time, host string) error {
	pair, err := readPair(f.certFile, f.keyFile)
	if err != nil {
		return err
	}
	if err := validAt(pair.Leaf, f.certFile, now); err != nil {
		return err
	}
	if host != "" {
		if err := pair.Leaf.VerifyHostname(host); err != nil {
			return fmt.Errorf("TLS certificate %s is not for %s; get one with that as a subject alternative name: %w", f.certFile, host, err)
		}
	}
	f.pair.Store(pair)
	return nil
}

// Files are the paths of chain and key.
func (f *Files) Files() []string { return []string{f.certFile, f.keyFile} }

func readPair(certFile, keyFile string) (*tls.Certificate, error) {
	chain, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("read TLS certificate: %w; name a file that this user may read", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read TLS private key: %w; name a file that this user may read", err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s and private key %s: %w", certFile, keyFile, explain(err, chain, key))
	}
	if err := outward.JudgeServer(pair.Leaf); err != nil {
		return nil, fmt.Errorf("TLS certificate %s %w", certFile, err)
	}
	return &pair, nil
}

// explain says what to do about a pair that crypto/tls refuses.
func explain(err error, chain, key []byte) error {
	const certificate, privateKey = "-----BEGIN CERTIFICATE-----", " PRIVATE KEY-----"
	switch {
	case strings.Contains(string(key), certificate) && strings.Contains(string(chain), privateKey):
		return errors.New("each file holds what the other should; exchange them")
	case !strings.Contains(string(chain), certificate):
		return errors.New("no certificate in the first; give a PEM chain, the server's own certificate first")
	case !strings.Contains(string(key), privateKey):
		return errors.New("no private key in the second; give it as PEM, unencrypted")
	case strings.Contains(err.Error(), "failed to find any PEM data"):
		return errors.New("one of them ends too early; is it still being written?")
	case strings.Contains(err.Error(), "does not match"):
		return errors.New("the key is not this certificate's; give the pair that was issued together")
	}
	return err
}

// Certificate is the same for every caller.
func (f *Files) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.pair.Load(), nil
}

// Challenge is false: nobody validates a certificate from a file.
func (f *Files) Challenge() bool { return false }

// Covers says whether the certificate is one for a host name or address.
func (f *Files) Covers(host string) error { return f.pair.Load().Leaf.VerifyHostname(host) }

// NotAfter is when the certificate ends.
func (f *Files) NotAfter() time.Time { return f.pair.Load().Leaf.NotAfter }

// ValidAt says why the certificate cannot be used at a time; nil when it can.
func (f *Files) ValidAt(now time.Time) error {
	return validAt(f.pair.Load().Leaf, f.certFile, now)
}

func validAt(leaf *x509.Certificate, file string, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("TLS certificate %s expired at %s: renew it", file, leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("TLS certificate %s is not valid before %s: check the clock of this machine", file, leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}
