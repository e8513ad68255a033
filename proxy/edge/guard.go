package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// noContext is for log lines that belong to no request.
var noContext = context.Background()

// guard judges each request before the handler sees it.
func (e *Listener) guard(next http.Handler) http.Handler {
	admitted := e.load.Limit(Recover(e.config.Log, e.metrics.panics.Inc, next), nil)
	rules := e.rules()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, ok := e.identify(w, r)
		if !ok {
			return
		}
		if !e.shows(r) {
			e.gate.refuse(reasonCertificate, requestAddress(r))
			w.Header().Set("Connection", "close")
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		for _, rule := range rules {
			if rule.broken(r) {
				e.metrics.broken[rule.name].Inc()
				refuse(w, r, rule)
				return
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), handlerTimeout)
		defer cancel()
		admitted.ServeHTTP(w, r.WithContext(ctx))
	})
}

// rule is one thing that no request of central's is or has. What net/http
// refuses by itself is not among them, nor what the framing check does.
type rule struct {
	name   string // a metric's label, from a closed set
	status int
	text   string
	broken func(*http.Request) bool
}

// rules are judged in this order (attack N6). HTTP/2 knows most of what they
// are about no more, and its server refuses it.
func (e *Listener) rules() []rule {
	return []rule{
		{"version", http.StatusHTTPVersionNotSupported, "Speak HTTP/1.1 or h2.", func(r *http.Request) bool {
			return r.ProtoMajor == 1 && r.ProtoMinor > 1
		}},
		{"method", http.StatusMethodNotAllowed, "Use GET, HEAD, POST or PUT.", oddMethod},
		{"target", http.StatusBadRequest, "The request target must be a path.", func(r *http.Request) bool {
			return r.URL.IsAbs() || r.URL.Host != "" || !strings.HasPrefix(r.RequestURI, "/") || strings.HasPrefix(r.RequestURI, "//")
		}},
		{"host", http.StatusMisdirectedRequest, "There is no such host here.", e.otherHost},
		{"length", http.StatusLengthRequired, "Send a Content-Length, and no Transfer-Encoding.", func(r *http.Request) bool {
			return r.ContentLength < 0 || len(r.TransferEncoding) > 0
		}},
		{"body", http.StatusBadRequest, "This method takes no body.", func(r *http.Request) bool {
			return r.ContentLength > 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead)
		}},
		{"too-large", http.StatusRequestEntityTooLarge, "The body is larger than this listener takes.", func(r *http.Request) bool {
			return r.ContentLength > e.config.MaxBody
		}},
		{"encoding", http.StatusUnsupportedMediaType, "Send the body without content encoding.", func(r *http.Request) bool {
			return len(r.Header["Content-Encoding"]) > 0
		}},
		{"expectation", http.StatusExpectationFailed, "No expectation but 100-continue is met.", func(r *http.Request) bool {
			return !each(r.Header["Expect"], "100-continue")
		}},
		{"header", http.StatusBadRequest, "A header field is not one for this server.", oddHeader},
	}
}

func oddMethod(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut:
		return false
	}
	return true
}

// otherHost says whether a request is made under a name that is not ours; its
// port does not count.
func (e *Listener) otherHost(r *http.Request) bool {
	if len(e.config.Hosts) == 0 {
		return false
	}
	host := (&url.URL{Host: r.Host}).Hostname()
	return !slices.ContainsFunc(e.config.Hosts, func(ours string) bool { return strings.EqualFold(ours, host) })
}

// oddHeader says whether a field is there that means something between two
// hops only, or that two readers may take for another: a name that Connection
// would have taken away behind us (X-Api-Key), the change to another protocol,
// and names with an underscore, which some take for a hyphen.
func oddHeader(r *http.Request) bool {
	if !each(r.Header["Connection"], "keep-alive", "close") || !each(r.Header["Te"], "trailers") {
		return true
	}
	for name := range r.Header {
		switch {
		case strings.IndexByte(name, '_') >= 0, name == "Upgrade", name == "Http2-Settings", name == "Proxy-Connection", name == "Trailer":
			return true
		}
	}
	return len(r.Trailer) > 0
}

// each says whether all values of a list field are among those allowed.
func each(fields []string, allowed ...string) bool {
	for _, field := range fields {
		for value := range strings.SplitSeq(field, ",") {
			if !slices.Contains(allowed, strings.ToLower(strings.TrimSpace(value))) {
				return false
			}
		}
	}
	return true
}

// refuse answers a request that breaks a rule, in the form of the wire's and
// the contract's errors. On HTTP/1.1 the connection ends, and with it all doubt
// about where the next request begins.
func refuse(w http.ResponseWriter, r *http.Request, broken rule) {
	if broken.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT")
	}
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	writeProblem(w, broken.status, strings.ToUpper(broken.name), broken.text)
	linger(w, r)
}

// writeProblem answers with a code and a sentence, neither of which needs to
// be quoted.
func writeProblem(w http.ResponseWriter, status int, code, message string) {
	body := `{"code":"` + code + `","message":"` + message + `"}`
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// linger reads on for a while what the client is still sending, after the
// answer. HTTP/2 needs none of it: there a stream is reset, and not more.
func linger(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 || r.Header.Get("Expect") != "" {
		return
	}
	c := http.NewResponseController(w)
	if c.Flush() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, lingerBytes)
}

// shown remembers by which rules a connection's client certificate was found
// good, so that it is looked at again only when those have been replaced.
type shown struct{ to atomic.Pointer[ClientAuth] }

type shownKey struct{}

func withShown(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, shownKey{}, new(shown))
}

// shows says whether a request's connection has shown the client certificate
// that is asked for now.
func (e *Listener) shows(r *http.Request) bool {
	auth := e.clientAuth.Load()
	if !auth.required() {
		return true
	}
	s, ok := r.Context().Value(shownKey{}).(*shown)
	if ok && s.to.Load() == auth {
		return true
	}
	if auth.verify(r.TLS, e.config.now()) != nil {
		return false
	}
	if ok {
		s.to.Store(auth)
	}
	return true
}

// handshakeFailed leaves a line for debugging: it is a caller's doing. A caller
// on the list without the client certificate that is asked for is more: either
// it or what we ask for is set up wrongly.
func (e *Listener) handshakeFailed(from net.Addr, how result, err error) {
	level := slog.LevelDebug
	if how == resultCertificate {
		e.aloud.Do(func() { level = slog.LevelWarn })
	}
	e.config.Log.Log(noContext, level, "TLS handshake failed", "address", addressOf(from).String(), "reason", string(how), "err", err)
}

// Recover runs next and turns a panic into a 500 of the contract's form (2.0);
// panicked is told, nil for nobody. The panic's value is not logged, only its type: it may hold what the
// request held (attack L3).
func Recover(l *slog.Logger, panicked func(), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { // a handler's way to cut its answer short
				panic(p)
			}
			if panicked != nil {
				panicked()
			}
			l.Error("request handler panicked", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			writeProblem(w, http.StatusInternalServerError, "INTERNAL-ERROR", "The enclave failed; its log says why.")
		}()
		next.ServeHTTP(w, r)
	})
}

// ServerLog takes what net/http says on a listener. Failed handshakes are a
// caller's doing and debug lines; the rest, such as running out of file
// descriptors, is ours.
func ServerLog(l *slog.Logger, listener string) *log.Logger {
	return log.New(&serverLines{l, listener}, "", 0)
}

type serverLines struct {
	log      *slog.Logger
	listener string
}

func (s *serverLines) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.Contains(line, []byte("TLS handshake error")) {
		level = slog.LevelDebug
	}
	s.log.Log(noContext, level, s.listener+" listener", "err", string(bytes.TrimSpace(line)))
	return len(line), nil
}

// reason is why a connection or request was refused: a metric's label, from a
// closed set.
type reason string

const (
	reasonStranger reason = "stranger"     // address on no list, closed at accept
	reasonHello    reason = "hello"        // a stranger whose hello was not a validator's
	reasonRequest  reason = "request"      // address no longer on the list
	reasonTotal    reason = "total-limit"  // too many connections
	reasonSource   reason = "source-limit" // too many connections from one address

	reasonProxyHeader reason = "proxy-header"     // a proxy sent no good PROXY header
	reasonHealthCheck reason = "health-check"     // a proxy connected for nobody
	reasonForwarded   reason = "forwarded-header" // a proxy sent no good forwarding header

	reasonCertificate reason = "client-certificate" // of an open connection, not one that may connect any more
)

var reasons = []reason{
	reasonStranger, reasonHello, reasonRequest, reasonTotal, reasonSource, reasonProxyHeader, reasonHealthCheck, reasonForwarded, reasonCertificate,
}

type metrics struct {
	refused     map[reason]prometheus.Counter
	wouldRefuse prometheus.Counter
	broken      map[string]prometheus.Counter // by rule
	handshakes  *prometheus.CounterVec        // by version, group, result
	open        prometheus.Gauge
	panics      prometheus.Counter
}

func newMetrics(c Config) *metrics {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: c.Namespace, Name: "refused_connections_total",
		Help: "Connections and requests refused by address or number, by reason.",
	}, []string{"reason"})
	broken := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: c.Namespace, Name: "refused_requests_total",
		Help: "Requests refused by their form, by rule.",
	}, []string{"rule"})
	m := &metrics{
		broken: make(map[string]prometheus.Counter),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: c.Namespace, Name: "tls_handshakes_total",
			Help: "TLS handshakes, by version and key exchange as far as they came, and by result.",
		}, []string{"version", "group", "result"}),
		refused: make(map[reason]prometheus.Counter),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: c.Namespace, Name: "open_connections", Help: "Connections open on the public listener.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: c.Namespace, Name: "handler_panics_total", Help: "Requests on the public listener that ended in a panic.",
		}),
	}
	for _, r := range reasons {
		m.refused[r] = refused.WithLabelValues(string(r))
	}
	m.wouldRefuse = m.list(c)
	for _, rule := range new(Listener).rules() {
		m.broken[rule.name] = broken.WithLabelValues(rule.name)
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(refused, broken, m.handshakes, m.open, m.panics)
		m.expiry(c)
	}
	return m
}

// shook counts a handshake.
func (m *metrics) shook(s tls.ConnectionState, err error) {
	m.handshakes.WithLabelValues(versionOf(s), groupOf(s), string(resultOf(err))).Inc()
}

// expiry shows when the certificate ends, if its source knows.
func (m *metrics) expiry(c Config) {
	source, ok := c.Certificates.(interface{ NotAfter() time.Time })
	if !ok {
		return
	}
	c.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: c.Namespace, Name: "tls_certificate_not_after_timestamp_seconds", Help: "When the public listener's certificate ends, in Unix seconds.",
	}, func() float64 { return float64(source.NotAfter().Unix()) }))
}
