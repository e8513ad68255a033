package redis

import "github.com/prometheus/client_golang/prometheus"

// Results of asking a tier. The set is closed.
const (
	hit    = "hit"
	miss   = "miss"
	failed = "error" // or not asked, because it failed a moment ago
	bad    = "bad"   // a value that cannot be a bundle
)

type metrics struct {
	registerer prometheus.Registerer
	total      *prometheus.CounterVec // by tier, result
	seconds    prometheus.Histogram
}

func newMetrics() *metrics {
	m := &metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "enclave_peer_key_cache_total",
			Help: "Lookups in the cache of counterparties' keys by tier and result; changes count only when they fail.",
		}, []string{"tier", "result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "enclave_peer_key_cache_seconds",
			Help:    "Time of a call of Redis.",
			Buckets: []float64{.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2},
		}),
	}
	for _, result := range []string{hit, miss, failed} {
		m.total.WithLabelValues("memory", result)
		m.total.WithLabelValues("redis", result)
	}
	m.total.WithLabelValues("redis", bad)
	return m
}

func (m *metrics) memory(result string) { m.total.WithLabelValues("memory", result).Inc() }
func (m *metrics) redis(result string)  { m.total.WithLabelValues("redis", result).Inc() }

// register adds the metrics to r, or none of them.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	if err := r.Register(m.total); err != nil {
		return err
	}
	if err := r.Register(m.seconds); err != nil {
		r.Unregister(m.total)
		return err
	}
	m.registerer = r
	return nil
}

// unregister lets a cache be opened again with the same registerer.
func (m *metrics) unregister() {
	if m.registerer != nil {
		m.registerer.Unregister(m.total)
		m.registerer.Unregister(m.seconds)
	}
}
