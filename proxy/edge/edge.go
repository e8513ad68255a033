// Package edge is the public TLS listener: the one socket of a program that
// strangers can reach.
//
// Who may connect is judged three times, each time by the address of the TCP
// peer, or by the one that a trusted proxy names if Config.Sources says so, and
// never by another header (attack N1): at accept, before a byte of TLS is
// read or written; at the ClientHello, when a certificate authority's
// validator is expected and strangers are let that far; and at each request,
// so that a list exchanged meanwhile counts for open connections too.
//
// The enclave and the central server both listen through this package.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
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
	Sources      Sources      // how a caller behind a proxy is known

	MinVersion uint16     // of TLS; zero takes 1.2
	ClientAuth ClientAuth // what callers must show of themselves; see SetClientAuth

	// Hosts are the names, without a port, under which requests may be made;
	// others get 421. Empty takes any name, as a listener must that a proxy
	// forwards requests to.
	Hosts []string

	// MaxConns and MaxConnsPerSource cap open connections. Zero takes 4096
	// and 1024.
	MaxConns          int
	MaxConnsPerSource int

	// MaxBody is the longest body of a request, in bytes. Zero takes 1 MiB.
	MaxBody int64

	// MaxInFlight and MaxInFlightPerSource cap requests that are being
	// answered, of all and of one address; the others get 503 at once. Zero
	// takes 4096 and 1024. Urgent requests, for which Urgent is true, pass
	// nevertheless, a few at once; nil has none.
	MaxInFlight          int
	MaxInFlightPerSource int
	Urgent               func(*http.Request) bool

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
	config     Config
	gate       *gate
	metrics    *metrics
	load       *Load
	exit       Exit
	clientAuth atomic.Pointer[ClientAuth]
	aloud      rate.Sometimes // failed handshakes told to the log
}

// Listen opens the socket, so that a port in use is an error at start and the
// address is known before the first request. A certificate that is not valid
// now is an error too. The caller must Serve or Close.
func Listen(ctx context.Context, c Config) (*Listener, error) {
	c = c.withDefaults()
	if err := errors.Join(c.Sources.check(), checkEnvironment()); err != nil {
		return nil, err
	}
	if v, ok := c.Certificates.(interface{ ValidAt(time.Time) error }); ok {
		if err := v.ValidAt(c.Now()); err != nil {
			return nil, err
		}
	}
	listener, err := ListenTCP(ctx, c.Address)
	if err != nil {
		return nil, fmt.Errorf("public listener: %w", err)
	}
	m := newMetrics(c)
	e := &Listener{config: c, metrics: m, gate: newGate(listener, c, m), load: NewLoad(LoadConfig{
		Listener: "public", Max: c.MaxInFlight, MaxPerSource: c.MaxInFlightPerSource, MaxBytes: bodyBytes, MaxBytesPerSource: bodyBytesPerSource,
		Urgent: c.Urgent, Namespace: c.Namespace, Metrics: c.Metrics,
	})}
	e.aloud = rate.Sometimes{First: 3, Interval: 10 * time.Second}
	e.SetClientAuth(c.ClientAuth)
	return e, nil
}

func (c Config) withDefaults() Config {
	if c.MaxConns == 0 {
		c.MaxConns = defaultConns
	}
	if c.MaxConnsPerSource == 0 {
		c.MaxConnsPerSource = defaultConnsPerSource
	}
	if c.MaxBody == 0 {
		c.MaxBody = defaultBody
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = defaultInFlight
	}
	if c.MaxInFlightPerSource == 0 {
		c.MaxInFlightPerSource = defaultInFlightPerSource
	}
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// now is the listener's clock.
func (c *Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
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
// h sees in r.RemoteAddr who calls: the socket's other end, or whom a trusted
// proxy named. A panic in h answers 500 and is
// logged without its text, which may hold what a request held (attack L3).
func (e *Listener) Serve(ctx context.Context, h http.Handler) error {
	server := e.server(context.WithoutCancel(ctx), h)
	stopped := make(chan error, 1)
	handshakes := terminate(e.gate, server.TLSConfig, e.metrics, e.handshakeFailed)
	go func() {
		err := server.Serve(handshakes)
		handshakes.abandon()
		stopped <- err
	}()
	select {
	case err := <-stopped:
		return fmt.Errorf("public listener: %w", err)
	case <-ctx.Done():
	}
	e.exit.Leave()
	e.shut(handshakes)
	err := e.exit.Drain("public", server, e.gate.Listener, e.config.Drain)
	<-stopped
	return err
}

// shut lets nobody in any more, and returns when everybody who was let in has
// become a connection that the server knows of, and waits for.
func (e *Listener) shut(handshakes *terminator) {
	ctx, cancel := context.WithTimeout(context.Background(), e.config.Drain)
	defer cancel()
	admitLast(ctx, e.gate.Listener)
	_ = handshakes.Close()
	<-handshakes.closed
}
