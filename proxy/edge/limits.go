package edge

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of a connection (attacks N5, N6). They are not settings: a caller
// that needs more is not the one we expect. docs/settings/public-listener.md lists them.
const (
	handshakeTimeout = 10 * time.Second // TLS, from accept
	lastHandshakes   = time.Second      // the same, for those under way when the listener closes
	headerTimeout    = 10 * time.Second // the header of a request, HTTP/1.1
	readTimeout      = 15 * time.Second // header and body
	handlerTimeout   = 40 * time.Second // until a handler's context ends; those that exist end sooner by themselves
	writeTimeout     = 45 * time.Second // the handler, and its answer
	idleTimeout      = 120 * time.Second

	headerBytes = 16 << 10 // of all fields; net/http lets 4 KiB more pass

	h2Streams       = 100              // at once, on one connection
	h2Frame         = 16 << 10         // the smallest maximum there may be
	h2StreamBuffer  = 256 << 10        // bytes of a body that nobody has read yet
	h2ConnBuffer    = 1 << 20          // the same, of all streams of a connection
	h2PingAfter     = 30 * time.Second // of silence
	h2PingTimeout   = 15 * time.Second
	h2StalledWrites = 15 * time.Second // a client that takes not one byte

	defaultConns          = 4096
	defaultConnsPerSource = 1024 // all of an enclave's traffic comes from central
	defaultDrain          = 15 * time.Second

	defaultBody              = 1 << 20
	defaultInFlight          = 4096
	defaultInFlightPerSource = 1024

	// Bytes of bodies that requests under way may have announced. A slow sender
	// holds what it announced until its time is up, so that no address may have
	// more than a quarter.
	bodyBytes          = 64 << 20
	bodyBytesPerSource = bodyBytes / 4

	urgentInFlight = 64

	// Of a refused body so much is read, for so long, before the connection is
	// closed: else the client's TCP throws our answer away (RFC 9112, section
	// 9.6).
	lingerBytes = 4 << 20
	lingerTime  = 2 * time.Second
)

func (e *Listener) server(ctx context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           e.exit.Wrap(e.guard(h)),
		TLSConfig:         e.serverTLS(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withShown,
		ConnState:         e.exit.Track,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: h2Streams, MaxReadFrameSize: h2Frame,
			MaxReceiveBufferPerStream: h2StreamBuffer, MaxReceiveBufferPerConnection: h2ConnBuffer,
			SendPingTimeout: h2PingAfter, PingTimeout: h2PingTimeout, WriteByteTimeout: h2StalledWrites,
		},
		DisableGeneralOptionsHandler: true, // OPTIONS * is the guard's to refuse
		ErrorLog:                     ServerLog(e.config.Log, "public"),
	}
}

// LoadConfig is what a Load is made of. A limit of zero is none.
type LoadConfig struct {
	Listener string // a metric's label

	Max, MaxPerSource           int   // requests at once, of all and of one address
	MaxBytes, MaxBytesPerSource int64 // of the bodies that these have announced

	// Urgent says which requests are answered also when there are too many,
	// up to 64 of them at once. They must cost little. Nil has none.
	Urgent func(*http.Request) bool

	Namespace string                // prefix of the metrics
	Metrics   prometheus.Registerer // nil: none
}

// Load counts the requests that are being answered, and refuses with 503 what
// is too much to take on: at once, so that those taken on are answered in time
// (attack N5). Its methods may be called concurrently.
type Load struct {
	config   LoadConfig
	shed     prometheus.Counter
	inFlight prometheus.Gauge
	urgent   atomic.Int64

	mu       sync.Mutex
	all      burden
	bySource map[netip.Addr]burden
}

// burden is what requests under way amount to.
type burden struct {
	requests int
	bytes    int64
}

// NewLoad makes one.
func NewLoad(c LoadConfig) *Load {
	labels := prometheus.Labels{"listener": c.Listener}
	l := &Load{
		config: c, bySource: make(map[netip.Addr]burden),
		shed: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: c.Namespace, Name: "shed_requests_total", ConstLabels: labels,
			Help: "Requests refused with 503 because too many were being answered, by listener.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: c.Namespace, Name: "requests_in_flight", ConstLabels: labels,
			Help: "Requests that are being answered, by listener.",
		}),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(l.shed, l.inFlight)
	}
	return l
}

// setMax changes how many requests there may be, from the next one on.
func (l *Load) setMax(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config.Max = n
}

// Limit lets next answer as many requests as there may be, and shed the
// others; shed nil answers them with 503 OVERLOADED.
func (l *Load) Limit(next http.Handler, shed http.HandlerFunc) http.Handler {
	if shed == nil {
		shed = func(w http.ResponseWriter, _ *http.Request) {
			writeProblem(w, http.StatusServiceUnavailable, "OVERLOADED", "Too many requests are being answered; try again.")
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done, ok := l.take(r)
		if !ok {
			l.shed.Inc()
			w.Header().Set("Retry-After", "1")
			shed(w, r)
			return
		}
		defer done()
		next.ServeHTTP(w, r)
	})
}

// take counts a request in; done counts it out.
func (l *Load) take(r *http.Request) (done func(), ok bool) {
	source, more := requestAddress(r), burden{1, max(r.ContentLength, 0)}
	if l.add(source, more) {
		return func() { l.remove(source, more) }, true
	}
	if l.config.Urgent == nil || !l.config.Urgent(r) {
		return nil, false
	}
	if l.urgent.Add(1) > urgentInFlight {
		l.urgent.Add(-1)
		return nil, false
	}
	return func() { l.urgent.Add(-1) }, true
}

func (l *Load) add(source netip.Addr, more burden) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, from := l.config, l.bySource[source]
	switch {
	case over(l.all.requests, more.requests, c.Max), over(from.requests, more.requests, c.MaxPerSource),
		over(l.all.bytes, more.bytes, c.MaxBytes), over(from.bytes, more.bytes, c.MaxBytesPerSource):
		return false
	}
	l.all.requests, l.all.bytes = l.all.requests+more.requests, l.all.bytes+more.bytes
	l.bySource[source] = burden{from.requests + more.requests, from.bytes + more.bytes}
	l.inFlight.Set(float64(l.all.requests))
	return true
}

func (l *Load) remove(source netip.Addr, less burden) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.bySource[source]
	from.requests, from.bytes = from.requests-less.requests, from.bytes-less.bytes
	l.bySource[source] = from
	if from.requests == 0 {
		delete(l.bySource, source)
	}
	l.all.requests, l.all.bytes = l.all.requests-less.requests, l.all.bytes-less.bytes
	l.inFlight.Set(float64(l.all.requests))
}

func over[N int | int64](have, more, most N) bool { return most > 0 && have+more > most }
