package central

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

type metrics struct {
	exchanges     map[string]prometheus.Observer
	registrations *prometheus.CounterVec
	polls         *prometheus.CounterVec
	forbidden     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	exchanges := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "central_exchange_duration_seconds", Help: "Envelopes relayed or not, with the recipient's time, by outcome.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"outcome"})
	m := &metrics{
		exchanges: make(map[string]prometheus.Observer),
		registrations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "central_registrations_total", Help: "Registrations and heartbeats of enclaves, by outcome.",
		}, []string{"outcome"}),
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "central_health_polls_total", Help: "Health polls of enclaves, by outcome.",
		}, []string{"outcome"}),
		forbidden: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "central_forbidden_total", Help: "Rightly signed requests from an address that is not the member's.",
		}),
	}
	for _, o := range []*outcome{relayed, badRecipient, badMedia, notRegistered, unknownVASP, busy, unreachable, down, late, canceled} {
		m.exchanges[o.label] = exchanges.WithLabelValues(o.label)
	}
	r.MustRegister(exchanges, m.registrations, m.polls, m.forbidden)
	return m
}

// seatsCollector counts members by health when it is asked.
type seatsCollector struct{ server *Server }

var seatsDesc = prometheus.NewDesc("central_members", "Active members, by the health that the directory shows.", []string{"health"}, nil)

// Describe implements prometheus.Collector.
func (c *seatsCollector) Describe(ch chan<- *prometheus.Desc) { ch <- seatsDesc }

// Collect implements prometheus.Collector.
func (c *seatsCollector) Collect(ch chan<- prometheus.Metric) {
	count := map[string]int{relay.Up: 0, relay.Down: 0}
	now := c.server.config.Now()
	for _, s := range c.server.roster.Load().seats {
		count[s.health(now)]++
	}
	for health, n := range count {
		ch <- prometheus.MustNewConstMetric(seatsDesc, prometheus.GaugeValue, float64(n), health)
	}
}
