package edge

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxStrangers caps the connections of addresses on no list, which are let in
// as far as the ClientHello while a validator is expected.
const maxStrangers = 32

// gate is a net.Listener that gives out only connections from addresses that
// may connect, and only so many of them.
type gate struct {
	net.Listener
	config  Config
	metrics *metrics
	aloud   rate.Sometimes // refusals told to the log: a scanner must not fill it

	mu        sync.Mutex
	total     int
	strangers int
	bySource  map[netip.Addr]int
}

func newGate(l net.Listener, c Config, m *metrics) *gate {
	return &gate{Listener: l, config: c, metrics: m, aloud: rate.Sometimes{First: 3, Interval: 10 * time.Second}, bySource: make(map[netip.Addr]int)}
}

// Accept returns the next connection that may stay. The others are closed
// without a byte: they learn that a port is open and nothing else.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := addressOf(conn.RemoteAddr())
		admitted, why := g.admit(source)
		if admitted != nil {
			admitted.Conn = conn
			return admitted, nil
		}
		_ = conn.Close()
		g.refuse(why, source)
	}
}

// admit counts a connection in, or says why it may not stay.
func (g *gate) admit(source netip.Addr) (*admitted, reason) {
	stranger := !g.config.Allow.Contains(source)
	if stranger && !g.config.Certificates.Challenge() {
		return nil, reasonStranger
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case stranger && g.strangers >= maxStrangers:
		return nil, reasonStranger
	case g.total >= g.config.MaxConns:
		return nil, reasonTotal
	case g.bySource[source] >= g.config.MaxConnsPerSource:
		return nil, reasonSource
	}
	g.count(source, stranger, 1)
	return &admitted{gate: g, source: source, stranger: stranger}, ""
}

// count changes the numbers of open connections by n. Called with mu held.
func (g *gate) count(source netip.Addr, stranger bool, n int) {
	g.total += n
	g.bySource[source] += n
	if g.bySource[source] == 0 {
		delete(g.bySource, source)
	}
	if stranger {
		g.strangers += n
	}
	g.metrics.open.Set(float64(g.total))
}

func (g *gate) refuse(why reason, source netip.Addr) {
	g.metrics.refused[why].Inc()
	level := slog.LevelDebug
	g.aloud.Do(func() { level = slog.LevelWarn })
	g.config.Log.Log(noContext, level, "connection refused", "reason", string(why), "address", source.String())
}

// admitted is a connection that gives its place back once, when it is closed.
type admitted struct {
	net.Conn
	gate     *gate
	source   netip.Addr
	stranger bool
	leave    sync.Once
}

func (c *admitted) Close() error {
	c.leave.Do(func() {
		c.gate.mu.Lock()
		defer c.gate.mu.Unlock()
		c.gate.count(c.source, c.stranger, -1)
	})
	return c.Conn.Close()
}

// addressOf is the IP address of a socket's other end, the zero Addr when
// there is none. IPv4 is never returned in IPv6 clothes.
func addressOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// challengeProtocol is the ALPN name of the validator's handshake (RFC 8737).
const challengeProtocol = "acme-tls/1"

var errStranger = errors.New("edge: this address may not connect")

// judgeHello decides, before a certificate is chosen, which configuration a
// caller gets: the usual one, the validator's, or none.
func (e *Listener) judgeHello(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	validator := len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == challengeProtocol && hello.ServerName != ""
	if validator && e.config.Certificates.Challenge() {
		return e.challengeConfig(), nil
	}
	source := addressOf(hello.Conn.RemoteAddr())
	if !e.config.Allow.Contains(source) {
		e.gate.refuse(reasonHello, source)
		return nil, errStranger
	}
	return nil, nil
}

// challengeConfig speaks acme-tls/1 and nothing else, so that net/http closes
// the connection when the handshake is done. No ticket: a later connection
// must not resume what an earlier hello was let in for.
func (e *Listener) challengeConfig() *tls.Config {
	c := e.tlsConfig()
	c.NextProtos = []string{challengeProtocol}
	c.SessionTicketsDisabled = true
	c.GetConfigForClient = nil
	return c
}
