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
	sources *sources
	metrics *metrics
	aloud   rate.Sometimes // refusals told to the log: a scanner must not fill it
	arrival *arrival       // nil unless proxies send headers

	mu        sync.Mutex
	total     int
	strangers int
	bySource  map[netip.Addr]int
}

func newGate(l net.Listener, c Config, m *metrics) *gate {
	g := &gate{
		Listener: l, config: c, metrics: m, sources: &sources{c.Sources, c.Allow},
		aloud: rate.Sometimes{First: 3, Interval: 10 * time.Second}, bySource: make(map[netip.Addr]int),
	}
	if c.Sources.ProxyProtocol {
		g.arrival = newArrival(g)
	}
	return g
}

// Accept returns the next connection that may stay. The others are closed
// without a byte: they learn that a port is open and nothing else.
func (g *gate) Accept() (net.Conn, error) {
	if g.arrival != nil {
		return g.arrival.accept()
	}
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if admitted := g.judge(conn, netip.Addr{}); admitted != nil {
			return admitted, nil
		}
	}
}

// Close stops listening and gives up the connections that wait for a header.
func (g *gate) Close() error {
	if g.arrival != nil {
		return g.arrival.close()
	}
	return g.Listener.Close()
}

// judge counts conn in, or closes it. via is the proxy that named its other
// end, if one did.
func (g *gate) judge(conn net.Conn, via netip.Addr) *admitted {
	source := addressOf(conn.RemoteAddr())
	admitted, why := g.admit(source)
	if admitted == nil {
		_ = conn.Close()
		g.refuseVia(why, source, via)
		return nil
	}
	admitted.Conn, admitted.via = conn, via
	return admitted
}

// admit counts a connection in, or says why it may not stay.
func (g *gate) admit(source netip.Addr) (*admitted, reason) {
	stranger := !g.sources.listed(source) && !g.sources.namesInHeader(source)
	if stranger && !g.sources.mayShake(source) && !g.config.Certificates.Challenge() {
		return nil, reasonStranger
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case stranger && (g.strangers >= g.maxStrangers() || !g.sources.ReportOnly && g.bySource[source] >= maxStrangersPerSource):
		return nil, reasonStranger
	case g.total >= g.config.MaxConns:
		return nil, reasonTotal
	case g.bySource[source] >= g.config.MaxConnsPerSource:
		return nil, reasonSource
	}
	g.count(source, stranger, 1)
	if stranger && g.sources.ReportOnly {
		g.report(source)
	}
	return &admitted{gate: g, source: source, stranger: stranger}, ""
}

// maxStrangersPerSource keeps one stranger from taking all of these places, and
// with them the validator's.
const maxStrangersPerSource = 4

// maxStrangers leaves members half of the places while strangers are let in.
func (g *gate) maxStrangers() int {
	if g.sources.ReportOnly {
		return max(1, g.config.MaxConns/2)
	}
	return maxStrangers
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

func (g *gate) refuse(why reason, source netip.Addr) { g.refuseVia(why, source, netip.Addr{}) }

// refuseVia counts and logs a refusal. A header is never logged, only the
// address that it gave: anybody may write into one.
func (g *gate) refuseVia(why reason, source, via netip.Addr) {
	g.metrics.refused[why].Inc()
	level := slog.LevelDebug
	if why != reasonHealthCheck {
		g.aloud.Do(func() { level = slog.LevelWarn })
	}
	g.config.Log.LogAttrs(noContext, level, "connection refused", append(addresses(source, via), slog.String("reason", string(why)))...)
}

// report says what would have been refused if the list did not only report.
func (g *gate) report(source netip.Addr) {
	g.metrics.wouldRefuse.Inc()
	level := slog.LevelDebug
	g.aloud.Do(func() { level = slog.LevelWarn })
	g.config.Log.LogAttrs(noContext, level, "would be refused: on no list", addresses(source, netip.Addr{})...)
}

func addresses(source, via netip.Addr) []slog.Attr {
	var list []slog.Attr
	if source.IsValid() || !via.IsValid() {
		list = append(list, slog.String("address", source.String()))
	}
	if via.IsValid() {
		list = append(list, slog.String("proxy", via.String()))
	}
	return list
}

// arrival reads the PROXY headers of many connections at once, so that a slow
// one holds up nobody.
type arrival struct {
	gate   *gate
	start  sync.Once
	ready  chan net.Conn
	failed chan struct{} // closed when the socket fails or is closed
	err    error         // why; set before failed is closed
	places chan struct{} // of connections whose header is not read yet

	mu      sync.Mutex
	closed  bool
	waiting map[net.Conn]struct{}
	readers sync.WaitGroup
}

func newArrival(g *gate) *arrival {
	return &arrival{
		gate: g, ready: make(chan net.Conn), failed: make(chan struct{}), places: make(chan struct{}, maxUnreadHeaders),
		waiting: make(map[net.Conn]struct{}),
	}
}

func (a *arrival) accept() (net.Conn, error) {
	a.start.Do(a.begin)
	select {
	case conn := <-a.ready:
		return conn, nil
	case <-a.failed:
		return nil, a.err
	}
}

// begin runs the arrival unless close came first.
func (a *arrival) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		a.err = net.ErrClosed
		close(a.failed)
		return
	}
	a.readers.Go(a.run)
}

// run accepts until the socket is closed. An error that passes, such as a lack
// of file descriptors, is waited out, as net/http does.
func (a *arrival) run() {
	for delay := time.Millisecond; ; {
		conn, err := a.gate.Listener.Accept()
		switch {
		case err == nil:
			a.take(conn)
			delay = time.Millisecond
		case errors.Is(err, net.ErrClosed):
			a.err = err
			close(a.failed)
			return
		default:
			a.gate.config.Log.Warn("public listener: accept failed; trying again", "err", err)
			time.Sleep(delay)
			delay = min(2*delay, time.Second)
		}
	}
}

// take closes what is no proxy's, and reads the header of the others beside.
func (a *arrival) take(conn net.Conn) {
	peer := addressOf(conn.RemoteAddr())
	if !a.gate.sources.isProxy(peer) {
		_ = conn.Close()
		a.gate.refuse(reasonStranger, peer)
		return
	}
	select {
	case a.places <- struct{}{}:
	default:
		_ = conn.Close()
		a.gate.refuseVia(reasonTotal, netip.Addr{}, peer)
		return
	}
	if !a.wait(conn) {
		<-a.places
		_ = conn.Close()
		return
	}
	a.readers.Go(func() { a.read(conn, peer) })
}

// wait notes a connection that close must close; not if that came first.
func (a *arrival) wait(conn net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.waiting[conn] = struct{}{}
	}
	return !a.closed
}

func (a *arrival) read(conn net.Conn, peer netip.Addr) {
	named, err := unwrapProxy(conn)
	a.mu.Lock()
	delete(a.waiting, conn)
	a.mu.Unlock()
	<-a.places
	if err != nil {
		_ = conn.Close()
		a.gate.refuseVia(whyNoCaller(err), netip.Addr{}, peer)
		return
	}
	admitted := a.gate.judge(named, peer)
	if admitted == nil {
		return
	}
	select {
	case a.ready <- admitted:
	case <-a.failed:
		_ = admitted.Close()
	}
}

func whyNoCaller(err error) reason {
	if errors.Is(err, errHealthCheck) {
		return reasonHealthCheck
	}
	return reasonProxyHeader
}

// close stops listening and returns when no connection waits any more.
func (a *arrival) close() error {
	err := a.gate.Listener.Close()
	a.mu.Lock()
	a.closed = true
	for conn := range a.waiting {
		_ = conn.Close()
	}
	a.mu.Unlock()
	a.readers.Wait()
	return err
}

// admitted is a connection that gives its place back once, when it is closed.
type admitted struct {
	net.Conn
	gate     *gate
	source   netip.Addr
	via      netip.Addr // the proxy that named source, if one did
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
	if !e.gate.sources.mayShake(source) {
		e.gate.refuseVia(reasonHello, source, proxyOf(hello.Conn))
		return nil, errStranger
	}
	return nil, nil
}

// proxyOf is the proxy that a connection came through, the zero Addr if none.
func proxyOf(conn net.Conn) netip.Addr {
	if c, ok := conn.(*admitted); ok {
		return c.via
	}
	return netip.Addr{}
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
