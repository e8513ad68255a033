package proxy

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// retainEvery is how often old rows are erased, and keys deleted of which
// nothing is left (contract 9.4): often, so that each time there is little to
// do and the store's list of free pages stays short.
const retainEvery = time.Hour

type retentionMetrics struct {
	erased   prometheus.Counter
	shredded prometheus.Counter
	held     prometheus.Gauge
	damaged  prometheus.Gauge
	last     prometheus.Gauge
}

func newRetentionMetrics(reg prometheus.Registerer) *retentionMetrics {
	m := &retentionMetrics{
		erased:   prometheus.NewCounter(prometheus.CounterOpts{Name: "enclave_retention_erased_total", Help: "Verifications erased by age."}),
		shredded: prometheus.NewCounter(prometheus.CounterOpts{Name: "enclave_retention_shredded_total", Help: "Keys of periods that were deleted, nothing being left of the period."}),
		held:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "enclave_retention_held", Help: "Verifications, or whole periods, that are old enough to be erased and that a legal hold keeps."}),
		damaged:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "enclave_retention_damaged", Help: "Verifications that are old enough to be erased and do not open."}),
		last:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "enclave_retention_last_success_timestamp_seconds", Help: "When the last sweep of old verifications ended well, or the first began."}),
	}
	reg.MustRegister(m.erased, m.shredded, m.held, m.damaged, m.last)
	return m
}

// retain sweeps at once and then every hour, until ctx ends.
func (e *Enclave) retain(ctx context.Context) {
	if e.Custody == nil {
		return
	}
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	m := e.metrics.retention
	m.last.Set(float64(e.Now().Unix())) // from the start on: a first sweep that fails is late, too
	for ctx.Err() == nil {
		if err := e.RetainOnce(ctx); err != nil && ctx.Err() == nil {
			e.Logger.Error("old verifications cannot be erased; it is tried again", "again", retainEvery.String(), "err", err)
		} else if err == nil {
			m.last.Set(float64(e.Now().Unix()))
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// RetainOnce erases what is older than Retention, if that is set, and deletes
// the keys of the periods that nothing is left of.
func (e *Enclave) RetainOnce(ctx context.Context) error {
	var before time.Time
	m := e.metrics.retention
	if e.Retention > 0 {
		before = e.Now().Add(-e.Retention)
		swept, err := e.Custody.EraseBefore(ctx, before, func(rows int) storage.AuditEntry {
			return e.systemEntry(audit.EraseOld, "", fmt.Sprintf("%d rows created before %s", rows, before.UTC().Format(time.RFC3339)))
		})
		m.erased.Add(float64(swept.Erased))
		if err != nil {
			return err
		}
		m.held.Set(float64(swept.Held))
		m.damaged.Set(float64(swept.Damaged))
		if swept.Erased > 0 {
			e.Logger.Info("old verifications were erased", "erased", swept.Erased, "held", swept.Held)
		}
	}
	entry := func(verb string) func(from, to time.Time) storage.AuditEntry {
		return func(from, to time.Time) storage.AuditEntry {
			return e.systemEntry(verb, from.Format(time.DateOnly), "period to "+to.Format(time.RFC3339))
		}
	}
	shredded, err := e.Custody.Shred(ctx, before, entry(audit.ShredPeriod), entry(audit.RekeyPeriod))
	m.shredded.Add(float64(shredded))
	return err
}

func (e *Enclave) systemEntry(verb, object, reason string) storage.AuditEntry {
	return storage.AuditEntry{Time: e.Now(), Actor: audit.System, Verb: verb, Object: object, Outcome: audit.OK, Reason: reason}
}
