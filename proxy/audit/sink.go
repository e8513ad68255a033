package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Sink takes copies of the log's lines to where nobody who can change the
// history can change them.
type Sink interface {
	// Write adds whole lines, each with its end, and returns when they are as
	// safe there as they get. After an error the same lines come again, and
	// after a crash those of some seconds: at least once. It is never called
	// twice at a time.
	Write(ctx context.Context, lines []byte) error
	Close() error
}

// Log is the audit log in the history, and how far sinks have it.
type Log interface {
	AuditLength(ctx context.Context) (uint64, error)
	Audit(ctx context.Context, from uint64, limit int) ([]storage.AuditEntry, error)
	Shipped(ctx context.Context) ([]byte, error)
	Apply(ctx context.Context, c *storage.Change) error
}

// ShipperConfig is what a Shipper is made of.
type ShipperConfig struct {
	Log Log
	// Sinks by names that stay the same from run to run: how far a sink has the
	// log is kept under its name.
	Sinks   map[string]Sink
	Now     func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// The pace of a Shipper.
const (
	shipEvery = 250 * time.Millisecond // how often the log is looked at
	shipPage  = 500                    // entries in one Write
	keepEvery = 5 * time.Second        // how often it is kept how far sinks have come
	shipPause = time.Second            // after a failure, doubled to
	longPause = 30 * time.Second

	// A checkpoint comes after so many entries, or so long after the first that
	// has none.
	checkpointEntries = 1000
	checkpointAfter   = time.Minute

	// Buffered is how many entries may wait for every sink, in the history,
	// before no more are taken: see Shipper.Full.
	Buffered = 10_000

	// lastWords is how long a Shipper goes on at its end.
	lastWords = 2 * time.Second
)

// Shipper copies the log to sinks, each at its own pace, with a signed
// checkpoint now and then. Make it with NewShipper.
type Shipper struct {
	ShipperConfig
	couriers []*courier
	length   atomic.Uint64 // of the log, when it was last looked at
	lag      *prometheus.GaugeVec
	failed   *prometheus.CounterVec
	blocked  prometheus.Gauge
	keeping  sync.Mutex
	unkept   bool // said so already; with keeping held
}

// courier carries the log to one sink.
type courier struct {
	name string
	sink Sink
	at   atomic.Uint64 // the last entry that is there

	mu   sync.Mutex
	mark mark
}

// mark is how far one sink has come.
type mark struct {
	Seq    uint64    `json:"seq"`
	Hash   []byte    `json:"hash"`   // of entry Seq
	Signed uint64    `json:"signed"` // the last entry of the last checkpoint
	since  time.Time // when the first entry after it was sent
}

// marks is what is kept of all sinks.
type marks struct {
	Sinks map[string]mark `json:"sinks"`
}

// NewShipper reads how far each sink has come. It starts nothing: see Run.
func NewShipper(ctx context.Context, c ShipperConfig) (*Shipper, error) {
	s := &Shipper{
		ShipperConfig: c,
		lag:           prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "enclave_audit_sink_waiting_entries", Help: "Entries of the audit log that a sink does not have yet."}, []string{"sink"}),
		failed:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "enclave_audit_sink_failures_total", Help: "Writes to a sink of the audit log that failed and are tried again."}, []string{"sink"}),
		blocked:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "enclave_audit_blocked", Help: "1 while nothing is taken that needs an audit entry, because no sink takes them."}),
	}
	var kept marks
	switch text, err := c.Log.Shipped(ctx); {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("how far the audit sinks are: %w", err)
	default:
		if err := json.Unmarshal(text, &kept); err != nil {
			return nil, fmt.Errorf("how far the audit sinks are: %w", err)
		}
	}
	for name, sink := range c.Sinks {
		w := &courier{name: name, sink: sink, mark: kept.Sinks[name]}
		w.at.Store(w.mark.Seq)
		s.couriers = append(s.couriers, w)
		s.failed.WithLabelValues(name)
	}
	length, err := c.Log.AuditLength(ctx)
	if err != nil {
		return nil, err
	}
	s.see(length)
	if c.Metrics != nil && len(c.Sinks) > 0 {
		c.Metrics.MustRegister(s.lag, s.failed, s.blocked)
	}
	return s, nil
}

// Full tells that every sink is Buffered entries or more behind: what needs an
// entry must be refused, since nobody else would hear of it (attack G1). Without
// sinks it is never so.
func (s *Shipper) Full() bool {
	behind := func(w *courier) bool { return s.length.Load() >= w.at.Load()+Buffered }
	return len(s.couriers) > 0 && !slices.ContainsFunc(s.couriers, func(w *courier) bool { return !behind(w) })
}

// see notes how long the log is.
func (s *Shipper) see(length uint64) {
	s.length.Store(length)
	for _, w := range s.couriers {
		at := w.at.Load()
		s.lag.WithLabelValues(w.name).Set(float64(max(length, at) - at))
	}
	full := 0.0
	if s.Full() {
		full = 1
	}
	s.blocked.Set(full)
}

// Sign makes a checkpoint's line of the entries from one on to the last.
type Sign func(from uint64, last storage.AuditEntry) ([]byte, error)

// Run ships until ctx ends, then for a moment what is left, and closes the sinks.
// The log must stay open until it returns.
func (s *Shipper) Run(ctx context.Context, sign Sign) {
	var working sync.WaitGroup
	for _, w := range s.couriers {
		working.Go(func() { s.carry(ctx, w, sign) })
	}
	working.Go(func() { s.watch(ctx) })
	working.Wait()
	if len(s.couriers) > 0 {
		s.keep(context.WithoutCancel(ctx))
	}
}

// watch looks how long the log is, and keeps how far the sinks are.
func (s *Shipper) watch(ctx context.Context) {
	if len(s.couriers) == 0 {
		return
	}
	look, keep := time.NewTicker(shipEvery), time.NewTicker(keepEvery)
	defer look.Stop()
	defer keep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if length, err := s.Log.AuditLength(ctx); err == nil {
				s.see(length)
			}
		case <-keep.C:
			s.keep(ctx)
		}
	}
}

// keep writes down how far the sinks are. That it fails, on a full disk say,
// means that some entries come twice.
func (s *Shipper) keep(ctx context.Context) {
	s.keeping.Lock()
	defer s.keeping.Unlock()
	now := marks{Sinks: map[string]mark{}}
	for _, w := range s.couriers {
		w.mu.Lock()
		now.Sinks[w.name] = w.mark
		w.mu.Unlock()
	}
	text, err := json.Marshal(now)
	if err != nil {
		return
	}
	if before, err := s.Log.Shipped(ctx); err == nil && string(before) == string(text) {
		return
	}
	err = s.Log.Apply(ctx, &storage.Change{Shipped: text})
	if err != nil && !s.unkept && ctx.Err() == nil {
		s.Logger.Warn("it cannot be kept how far the audit sinks are; after a restart they may get entries twice", "err", err)
	}
	s.unkept = err != nil
}

// carry ships to one sink until ctx ends, and then what is left.
func (s *Shipper) carry(ctx context.Context, w *courier, sign Sign) {
	for failures := 0; ctx.Err() == nil; {
		pause := shipEvery
		if err := s.round(ctx, w, sign); err != nil && ctx.Err() == nil {
			pause = min(longPause, shipPause<<min(failures, 8))
			failures++
			s.failed.WithLabelValues(w.name).Inc()
			s.Logger.Error("an audit sink takes nothing; the entries wait in the history", "sink", w.name, "err", err, "pause", pause.String())
		} else if failures > 0 {
			failures = 0
			s.Logger.Info("an audit sink takes entries again", "sink", w.name)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if err := errors.Join(s.round(last, w, sign), w.sink.Close()); err != nil {
		s.Logger.Error("an audit sink did not take the last entries; it gets them after the next start", "sink", w.name, "err", err)
	}
}

// round ships all that one sink has not.
func (s *Shipper) round(ctx context.Context, w *courier, sign Sign) error {
	for {
		more, err := s.page(ctx, w, sign)
		if err != nil || !more {
			return err
		}
	}
}

// page ships the next entries, with a checkpoint behind them when it is due.
func (s *Shipper) page(ctx context.Context, w *courier, sign Sign) (more bool, err error) {
	at := w.mark
	entries, err := s.next(ctx, &at)
	if err != nil {
		return false, err
	}
	var lines []byte
	for i := range entries {
		line, err := Line(&entries[i])
		if err != nil {
			return false, err
		}
		lines = append(append(lines, line...), '\n')
		if at.Seq == at.Signed {
			at.since = s.Now()
		}
		at.Seq, at.Hash = entries[i].Seq, entries[i].Hash[:]
	}
	if at.Seq-at.Signed >= checkpointEntries || at.Seq > at.Signed && s.Now().Sub(at.since) >= checkpointAfter {
		last := storage.AuditEntry{Seq: at.Seq, Hash: [32]byte(at.Hash)}
		line, err := sign(at.Signed+1, last)
		if err != nil {
			return false, err
		}
		lines = append(append(lines, line...), '\n')
		at.Signed = at.Seq
	}
	if len(lines) == 0 {
		return false, nil
	}
	if err := w.sink.Write(ctx, lines); err != nil {
		return false, err
	}
	w.mu.Lock()
	w.mark = at
	w.mu.Unlock()
	w.at.Store(at.Seq)
	return len(entries) == shipPage, nil
}

// next reads what follows a mark. A log in which the mark's entry is another
// one, or is not there, is not the one that was shipped: an older history was
// put back, or it was made anew. All of it is shipped then, so that whoever
// reads the sink sees both.
func (s *Shipper) next(ctx context.Context, at *mark) ([]storage.AuditEntry, error) {
	if at.Seq == 0 {
		return s.Log.Audit(ctx, 1, shipPage)
	}
	page, err := s.Log.Audit(ctx, at.Seq, shipPage+1)
	switch {
	case err != nil:
		return nil, err
	case len(page) == 0 || string(page[0].Hash[:]) != string(at.Hash):
		s.Logger.Error("the audit log is not the one that a sink has: an older history was put back; all of it is sent again", "entry", at.Seq)
		*at = mark{}
		return s.Log.Audit(ctx, 1, shipPage)
	}
	return page[1:], nil
}
