package outward

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Files name what Trust is read from, all in PEM. Empty Roots are the
// system's; empty Cert and Key are no client certificate.
type Files struct {
	Roots string
	Cert  string // chain, leaf first
	Key   string

	RootsSetting, PairSetting string // what errors call them
}

// Names are the files that are set.
func (f Files) Names() []string {
	return slices.DeleteFunc([]string{f.Roots, f.Cert, f.Key}, func(name string) bool { return name == "" })
}

// Trust is whom one target is believed by and what we show to it. It may be
// replaced while connections are made; those that are open stay, those that
// are kept and idle are closed. It may be used concurrently.
type Trust struct {
	files   Files
	current atomic.Pointer[tls.Config]

	mu     sync.Mutex
	closes []func()
}

// NewTrust makes a Trust of parts. Nil roots are the system's, a nil
// certificate is none.
func NewTrust(roots *x509.CertPool, certificate *tls.Certificate) *Trust {
	t := new(Trust)
	t.Replace(roots, certificate)
	return t
}

// ReadTrust makes a Trust of files. Errors say which file is wrong and why.
func ReadTrust(f Files, now time.Time) (*Trust, error) {
	t := &Trust{files: f}
	return t, t.Reload(now)
}

// Files are the ones that Reload reads.
func (t *Trust) Files() Files { return t.files }

// Reload reads the files again and puts what they hold in force, all or
// nothing: on an error the last good state stays.
func (t *Trust) Reload(now time.Time) error {
	roots, errRoots := ReadRoots(t.files.Roots)
	certificate, errPair := ReadClientCertificate(t.files.Cert, t.files.Key, now)
	if err := errors.Join(named(t.files.RootsSetting, errRoots), named(t.files.PairSetting, errPair)); err != nil {
		return err
	}
	t.Replace(roots, certificate)
	return nil
}

func named(setting string, err error) error {
	if err == nil || setting == "" {
		return err
	}
	return fmt.Errorf("%s: %w", setting, err)
}

// Replace puts others in force, for connections from now on.
func (t *Trust) Replace(roots *x509.CertPool, certificate *tls.Certificate) {
	t.current.Store(newTLS(roots, certificate))
	t.mu.Lock()
	closes := slices.Clone(t.closes)
	t.mu.Unlock()
	for _, closeIdle := range closes {
		closeIdle()
	}
}

func (t *Trust) onChange(closeIdle func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closes = append(t.closes, closeIdle)
}

// clientConfig is what a connection to host is made with.
func (t *Trust) clientConfig(host string) *tls.Config {
	c := t.current.Load().Clone()
	c.ServerName = host
	return c
}

// ReadRoots reads a PEM file of root certificates; "" gives nil, the system's.
func ReadRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w; name a file that this user may read", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate; put the authority's own certificate into it, beginning with -----BEGIN CERTIFICATE-----", file)
	}
	return pool, nil
}

// ReadClientCertificate reads a pair of PEM files and refuses one that no
// server could accept now: another certificate's key, expired, not yet valid,
// or not for clients. Two empty names give nil.
func ReadClientCertificate(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil
	}
	if certFile == "" || keyFile == "" {
		return nil, errors.New("a client certificate needs both files: its chain and its private key")
	}
	chain, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("client certificate %s and key %s: %w", certFile, keyFile, explain(err))
	}
	if err := usable(pair.Leaf, now); err != nil {
		return nil, fmt.Errorf("client certificate %s %w", certFile, err)
	}
	return &pair, nil
}

// explain says what to do about a pair that crypto/tls refuses. Its own texts
// hold no part of a key.
func explain(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "does not match"):
		return errors.New("the key is not this certificate's; give the pair that was issued together")
	case strings.Contains(text, "certificate input"):
		return errors.New("no certificate in the first; give a PEM chain, the client's own certificate first")
	case strings.Contains(text, "key input"), strings.Contains(text, "rather than a key"):
		return errors.New("no private key in the second; give it as PEM, unencrypted")
	}
	return err
}

func usable(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("expired at %s: renew it", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("is not valid before %s: check the clock of this machine", leaf.NotBefore.UTC().Format(time.RFC3339))
	case !fitFor(leaf, x509.ExtKeyUsageClientAuth):
		return errors.New("is for servers only: get one with the extended key usage clientAuth")
	}
	return nil
}

// fitFor tells whether the issuer lets a certificate be used so.
func fitFor(leaf *x509.Certificate, usage x509.ExtKeyUsage) bool {
	anything := len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0
	return anything || slices.Contains(leaf.ExtKeyUsage, usage) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// JudgeServer says why no client of this package accepts a server's own
// certificate, whatever its issuer, its name and the time; nil when one may. A
// server asks it before it shows one.
func JudgeServer(leaf *x509.Certificate) error {
	switch {
	case !fitFor(leaf, x509.ExtKeyUsageServerAuth):
		return errors.New("is not for servers: get one with the extended key usage serverAuth")
	case isWeak(leaf):
		return errors.New("has a weak key: get one with RSA of 2048 bits or more, or ECDSA on P-256 or more")
	}
	return nil
}

// minRSA is the shortest RSA key that is believed, in bits: what public
// authorities have asked for since 2014.
const minRSA = 2048

var errWeakKey = errors.New("tls: the server's certificates have a weak key: RSA below 2048 bits, or a curve below 256")

// refuseWeakKeys wants one chain without a weak key. Roots are the operator's
// own choice and count like the others: a key that can be broken vouches for
// nothing.
func refuseWeakKeys(state tls.ConnectionState) error {
	for _, chain := range state.VerifiedChains {
		if !slices.ContainsFunc(chain, isWeak) {
			return nil
		}
	}
	return errWeakKey
}

func isWeak(c *x509.Certificate) bool {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() < minRSA
	case *ecdsa.PublicKey:
		return key.Curve == elliptic.P224()
	}
	return false
}
