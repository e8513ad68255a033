package bolt

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer prometheus.Registerer
	commits    prometheus.Histogram
	batch      prometheus.Histogram
	size       prometheus.Gauge
	failed     prometheus.Gauge
	readOnly   prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "enclave_store_commit_seconds",
			Help:    "Time of a commit to the history file, syncs included.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "enclave_store_batch_changes",
			Help:    "Changes that shared a commit.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "enclave_store_size_bytes",
			Help: "Bytes of the history file that are or were in use.",
		}),
		failed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "enclave_store_failed",
			Help: "1 after a write or sync failed: the program must be stopped.",
		}),
		readOnly: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "enclave_store_read_only",
			Help: "1 while the disk is full: reads go on, changes are refused.",
		}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.commits, m.batch, m.size, m.failed, m.readOnly}
}

// register adds the metrics to r, or none of them.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				r.Unregister(done)
			}
			return err
		}
	}
	m.registerer = r
	return nil
}

// unregister lets a store be opened again with the same registerer.
func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) committed(changes int, size int64, took time.Duration) {
	m.commits.Observe(took.Seconds())
	m.batch.Observe(float64(changes))
	m.size.Set(float64(size))
	m.readOnly.Set(0)
}
