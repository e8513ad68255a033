// Package outward makes the connections of every call that the enclave and
// the central server make: to central, to the VASP's backend, to the enclaves
// of members.
//
// All of them have the same rules. An address is judged after its name was
// resolved and right before it is dialled, so that a name which changes its
// mind gains nothing (attack V2, DNS rebinding). Nobody follows a redirect: the
// callers use the transport alone, without http.Client. No proxy of the
// environment is asked and nothing is unpacked. TLS is 1.3, or 1.2 with
// authenticated ciphers; roots and client certificate belong to one target and
// can be replaced while it is in use (Trust). A target that fails again and
// again is left alone for a moment (Breaker).
package outward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Config says what one kind of target needs. The zero Config reaches nobody.
type Config struct {
	Secure Class // addresses that https URLs may lead to
	Plain  Class // addresses that http URLs may lead to; 0 refuses http
	// Socket, if not empty, is the path of a Unix socket that every
	// connection of an http URL is made to, whatever host the URL names. No
	// address is then judged: nothing leaves this machine.
	Socket string

	Trust    *Trust        // nil: the system's roots, no client certificate
	Source   netip.Addr    // local address of connections; zero: any
	Resolver *net.Resolver // nil: the system's

	IdleTimeout time.Duration // should be shorter than the other end's
	MaxIdle     int           // kept connections per host
	MaxConns    int           // per host; 0: no bound
	MaxHeader   int64         // bytes of a response's header
	Buffer      int           // bytes, for reading and for writing; 0: net/http's
}

// Time-outs of one phase each. A call as a whole ends with its context.
const (
	connectTimeout  = 5 * time.Second
	tlsTimeout      = 5 * time.Second
	responseTimeout = 30 * time.Second // until the header; for a caller whose context has no deadline
	keepAlive       = 30 * time.Second // between TCP probes
)

// NewTransport makes a transport for many short calls. It speaks HTTP/1.1:
// one small exchange at a time on its own connection costs less CPU than
// streams do. Its DialContext and DialTLSContext make single connections under
// the same rules. Close its idle connections when done.
func NewTransport(c Config) *http.Transport {
	if c.Trust == nil {
		c.Trust = NewTrust(nil, nil)
	}
	only1 := new(http.Protocols)
	only1.SetHTTP1(true)
	t := &http.Transport{
		Proxy:                  nil,
		DialContext:            c.dialPlain(),
		DialTLSContext:         c.dialTLS(),
		Protocols:              only1,
		DisableCompression:     true,
		ResponseHeaderTimeout:  responseTimeout,
		MaxIdleConns:           0,
		MaxIdleConnsPerHost:    c.MaxIdle,
		MaxConnsPerHost:        c.MaxConns,
		IdleConnTimeout:        c.IdleTimeout,
		MaxResponseHeaderBytes: c.MaxHeader,
		ReadBufferSize:         c.Buffer,
		WriteBufferSize:        c.Buffer,
	}
	c.Trust.onChange(t.CloseIdleConnections)
	return t
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

func (c *Config) dialPlain() dial {
	if c.Socket == "" {
		return c.dialer(c.Plain).DialContext
	}
	d, path := &net.Dialer{Timeout: connectTimeout}, c.Socket
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) }
}

// dialTLS connects and shakes hands, each in its time. The configuration is
// the one in force now.
func (c *Config) dialTLS() dial {
	d, trust := c.dialer(c.Secure), c.Trust
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(conn, trust.clientConfig(host))
		ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, ignoreClosed(conn.Close()))
		}
		return secure, nil
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// dialer connects to addresses of the allowed classes. Control runs after
// names were resolved, for each address that is tried.
func (c *Config) dialer(allowed Class) *net.Dialer {
	d := &net.Dialer{Timeout: connectTimeout, KeepAlive: keepAlive, Resolver: c.Resolver}
	if c.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.Source, 0))
	}
	d.ControlContext = func(_ context.Context, network, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !isTCP(network) {
			return fmt.Errorf("%w: not a TCP address", ErrRefused)
		}
		return allowed.Judge(to.Addr())
	}
	return d
}

func isTCP(network string) bool { return network == "tcp" || network == "tcp4" || network == "tcp6" }

// strongCiphers are TLS 1.2's with authenticated encryption and a key exchange
// that forgets its keys; TLS 1.3 has no others.
var strongCiphers = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// sessions is how many hosts' TLS sessions are remembered.
const sessions = 256

// newTLS is the policy for one set of roots. Sessions are remembered per set,
// so that none outlives the roots it was made under.
func newTLS(roots *x509.CertPool, certificate *tls.Certificate) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: strongCiphers, RootCAs: roots, NextProtos: []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(sessions), VerifyConnection: refuseWeakKeys,
	}
	if certificate != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return c
}
