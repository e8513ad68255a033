package bolt

import (
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
)

type metrics struct {
	registerer prometheus.Registerer
	commits    prometheus.Histogram
	write      prometheus.Histogram
	audit      prometheus.Gauge
	kek        prometheus.Gauge
	keys       prometheus.GaugeFunc // once there are some
	free       prometheus.GaugeFunc
	batch      prometheus.Histogram
	size       prometheus.Gauge
	failed     prometheus.Gauge
	readOnly   prometheus.Gauge
}

func newMetrics(path string) *metrics {
	return &metrics{
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "enclave_store_commit_seconds",
			Help:    "Time of a commit to the history file, syncs included.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}),
		write: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "enclave_store_write_seconds",
			Help:    "The part of a commit in which pages are written and synced.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}),
		audit: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "enclave_audit_entries",
			Help: "Entries of the audit log.",
		}),
		kek: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "enclave_database_key_since_timestamp_seconds",
			Help: "Since when the history is under its present database key; 0 when an older program put it there.",
		}),
		free: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "enclave_store_disk_free_bytes",
			Help: "Room that is left for us on the disk of the history file; NaN where the system does not tell.",
		}, func() float64 {
			free, err := FreeSpace(filepath.Dir(path))
			if err != nil {
				return math.NaN()
			}
			return float64(free)
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
	return []prometheus.Collector{m.commits, m.write, m.audit, m.kek, m.keys, m.batch, m.size, m.free, m.failed, m.readOnly}
}

// oldestKey is when the oldest data key was made under which new values are
// sealed.
func (db *DB) oldestKey() float64 {
	oldest := 0.0
	for i, k := range slices.DeleteFunc(db.keys.List(), func(k atrest.KeyInfo) bool { return !k.Current }) {
		seconds := 0.0
		if !k.Created.IsZero() {
			seconds = float64(k.Created.Unix())
		}
		if i == 0 || seconds < oldest {
			oldest = seconds
		}
	}
	return oldest
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

func (m *metrics) committed(t *txn, changes int, size int64, took time.Duration) {
	m.commits.Observe(took.Seconds())
	stats := t.Stats()
	m.write.Observe(stats.GetWriteTime().Seconds())
	if t.state != nil {
		m.holds(t.state)
	}
	m.batch.Observe(float64(changes))
	m.size.Set(float64(size))
	m.readOnly.Set(0)
}

// holds shows what the state says of the file as a whole.
func (m *metrics) holds(s *state) {
	m.audit.Set(float64(s.AuditSeq))
	m.kek.Set(float64(s.KEKSince) / 1000)
}
