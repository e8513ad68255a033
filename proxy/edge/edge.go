// Package edge is the public TLS listener: the one socket of a program that
// strangers can reach.
//
// Who may connect is judged three times, each time by the address of the TCP
// peer and never by a header (attack N1): at accept, before a byte of TLS is
// read or written; at the ClientHello, when a certificate authority's
// validator is expected and strangers are let that far; and at each request,
// so that a list exchanged meanwhile counts for open connections too.
//
// The enclave and the central server both listen through this package.
package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of a connection (attacks N5, N6). They are not settings: a caller
// that needs more is not the one we expect.
const (
	headerTimeout = 10 * time.Second // TLS handshake, and the header of a request
	readTimeout   = 15 * time.Second // header and body
	writeTimeout  = 45 * time.Second // the handler, which may take 30 s, and its answer
	idleTimeout   = 120 * time.Second
	headerBytes   = 16 << 10
	h2Streams     = 250

	defaultConns          = 2000
	defaultConnsPerSource = 1024 // all of an enclave's traffic comes from central
	defaultDrain          = 15 * time.Second
)

// Addresses says who may connect. Contains is called concurrently, with
// addresses as the socket gives them.
type Addresses interface {
	Contains(netip.Addr) bool
}

// Config is what a listener needs.
type Config struct {
	Address      string       // host:port to listen on; port 0 takes any free one
	Certificates Certificates // what to show to callers
	Allow        Addresses    // who may connect

	// MaxConns and MaxConnsPerSource cap open connections. Zero takes 2000
	// and 1024.
	MaxConns          int
	MaxConnsPerSource int

	// Drain is how long requests in progress may take once Serve is told to
	// stop. Zero takes 15 s.
	Drain time.Duration

	Namespace string                // prefix of the metrics: enclave, central
	Metrics   prometheus.Registerer // nil: none
	Log       *slog.Logger          // nil: none
	Now       func() time.Time      // the clock that certificates are judged by
}

// Listener is a listening socket that does not serve yet.
type Listener struct {
	config  Config
	gate    *gate
	metrics *metrics
	exit    Exit
}

// Listen opens the socket, so that a port in use is an error at start and the
// address is known before the first request. A certificate that is not valid
// now is an error too. The caller must Serve or Close.
func Listen(ctx context.Context, c Config) (*Listener, error) {
	c = c.withDefaults()
	if v, ok := c.Certificates.(interface{ ValidAt(time.Time) error }); ok {
		if err := v.ValidAt(c.Now()); err != nil {
			return nil, err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("public listener: %w", err)
	}
	m := newMetrics(c)
	return &Listener{config: c, metrics: m, gate: newGate(listener, c, m)}, nil
}

func (c Config) withDefaults() Config {
	if c.MaxConns == 0 {
		c.MaxConns = defaultConns
	}
	if c.MaxConnsPerSource == 0 {
		c.MaxConnsPerSource = defaultConnsPerSource
	}
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Addr is the address listened on, with its real port.
func (e *Listener) Addr() net.Addr { return e.gate.Addr() }

// Close stops listening. It is for a Listener that is never served.
func (e *Listener) Close() error { return e.gate.Close() }

// Leave is said some time before Serve is told to stop: everybody is still let
// in and answered, and asked to come back on another connection, so that none
// is in use when the listener closes.
func (e *Listener) Leave() { e.exit.Leave() }

// Serve answers requests with h until ctx ends. Then it stops listening, lets
// requests in progress finish for as long as Config.Drain, and returns nil; an
// error is a *CutOffError, or says that the socket failed.
//
// h sees r.RemoteAddr as the socket gave it. A panic in h answers 500 and is
// logged without its text, which may hold what a request held (attack L3).
func (e *Listener) Serve(ctx context.Context, h http.Handler) error {
	server := e.server(context.WithoutCancel(ctx), h)
	listener := e.exit.Take(server, e.gate)
	stopped := make(chan error, 1)
	go func() { stopped <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-stopped:
		return fmt.Errorf("public listener: %w", err)
	case <-ctx.Done():
	}
	err := e.exit.Drain("public", e.config.Drain)
	<-stopped
	return err
}

func (e *Listener) server(ctx context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           e.guard(h),
		TLSConfig:         e.tlsConfig(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: h2Streams},
		ErrorLog:          ServerLog(e.config.Log, "public"),
	}
}

// The suites of TLS 1.2 that are AEADs with forward secrecy. Go's own default
// still offers CBC (attack N4); the suites of TLS 1.3 are all fit and are not
// configurable.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

func (e *Listener) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       suites,
		NextProtos:         []string{"h2", "http/1.1"},
		GetCertificate:     e.config.Certificates.Certificate,
		GetConfigForClient: e.judgeHello,
	}
}
