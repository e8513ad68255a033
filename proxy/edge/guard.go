package edge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// noContext is for log lines that belong to no request.
var noContext = context.Background()

// guard judges each request before the handler sees it.
func (e *Listener) guard(next http.Handler) http.Handler {
	recovering := Recover(e.config.Log, e.metrics.panics.Inc, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, ok := e.identify(w, r)
		switch {
		case !ok:
		case r.URL.IsAbs() || r.URL.Host != "":
			http.Error(w, "the request target must be a path", http.StatusBadRequest)
		case r.Header.Get("Content-Encoding") != "":
			http.Error(w, "send the body without content encoding", http.StatusUnsupportedMediaType)
		default:
			recovering.ServeHTTP(w, r)
		}
	})
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
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"code":"INTERNAL-ERROR","message":"The enclave failed; its log says why."}`)
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
)

var reasons = []reason{reasonStranger, reasonHello, reasonRequest, reasonTotal, reasonSource, reasonProxyHeader, reasonHealthCheck, reasonForwarded}

type metrics struct {
	refused     map[reason]prometheus.Counter
	wouldRefuse prometheus.Counter
	open        prometheus.Gauge
	panics      prometheus.Counter
}

func newMetrics(c Config) *metrics {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: c.Namespace, Name: "refused_connections_total",
		Help: "Connections and requests refused by address or number, by reason.",
	}, []string{"reason"})
	m := &metrics{
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
	if c.Metrics != nil {
		c.Metrics.MustRegister(refused, m.open, m.panics)
		m.expiry(c)
	}
	return m
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
