package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// anchorEvery is how often the anchor is brought up to date: what was done
// since the last time is what an older file may lack unnoticed.
const anchorEvery = time.Minute

// anchor keeps VEGA_DATABASE_ANCHOR_FILE.
type anchor struct {
	path  string
	db    *bolt.DB
	log   *slog.Logger
	saved prometheus.Gauge
}

// openAnchor compares the history with its anchor before anything is served.
// A history that is behind is refused, unless the operator accepts it, which
// is audited. It gives nil when no anchor is set.
func openAnchor(ctx context.Context, s *Settings, db *bolt.DB, accept bool, metrics prometheus.Registerer, logger *slog.Logger) (*anchor, error) {
	if s.AnchorFile == "" {
		if accept {
			return nil, configError{errors.New("--accept-rollback: there is nothing to accept, VEGA_DATABASE_ANCHOR_FILE is not set")}
		}
		return nil, nil
	}
	a := &anchor{path: s.AnchorFile, db: db, log: logger, saved: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "enclave_anchor_saved_timestamp_seconds", Help: "When the anchor of the history was last written.",
	})}
	if err := a.compare(ctx, accept); err != nil {
		return nil, configError{fmt.Errorf("VEGA_DATABASE_ANCHOR_FILE: %w", err)}
	}
	metrics.MustRegister(a.saved)
	if err := a.save(ctx); err != nil {
		return nil, configError{fmt.Errorf("VEGA_DATABASE_ANCHOR_FILE: %s cannot be written; give a path in a directory that this user may write to: %w", a.path, err)}
	}
	return a, nil
}

func (a *anchor) compare(ctx context.Context, accept bool) error {
	err := a.db.CheckAnchor(ctx, a.path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolt.ErrNoAnchor):
		a.log.Warn("there is no anchor of the history yet; one is made. If there was one, find out who took it away", "file", a.path)
		return nil
	case !accept:
		return fmt.Errorf("%w. Somebody may have put back an older history. Stop here and look for the newest one. "+
			"If this one is meant, such as a backup that you restored, start once with: enclave run --accept-rollback", err)
	}
	a.log.Warn("an operator goes on with a history that is not as its anchor says", "err", err)
	return a.db.Apply(ctx, &storage.Change{Audit: []storage.AuditEntry{{
		Time: time.Now(), Actor: audit.Operator, Verb: audit.AcceptRollback, Outcome: audit.OK, Reason: err.Error(),
	}}})
}

func (a *anchor) save(ctx context.Context) error {
	if err := a.db.SaveAnchor(ctx, a.path); err != nil {
		return err
	}
	a.saved.SetToCurrentTime()
	return nil
}

// keep saves the anchor every minute until ctx ends.
func (a *anchor) keep(ctx context.Context) {
	tick := time.NewTicker(anchorEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.try(ctx)
	}
}

func (a *anchor) try(ctx context.Context) {
	if err := a.save(ctx); err != nil && ctx.Err() == nil {
		a.log.Error("the anchor of the history cannot be written; an older history would not be noticed", "file", a.path, "err", err)
	}
}

// start keeps the anchor; stop writes it once more, for which the history must
// still be open.
func (a *anchor) start(ctx context.Context) (stop func()) {
	if a == nil {
		return func() {}
	}
	end := life.Beside(ctx, a.keep)
	return func() {
		end()
		a.try(context.WithoutCancel(ctx))
	}
}
