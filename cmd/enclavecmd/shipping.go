package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// openSinks opens the sinks of the audit log, which are named by their scheme
// and, from the second one of a scheme on, a number.
func openSinks(ctx context.Context, catalog *plugins.Catalog, list string) (map[string]audit.Sink, error) {
	sinks := map[string]audit.Sink{}
	var problems []error
	seen := map[string]int{}
	for i, text := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		sink, err := catalog.AuditSinks.Open(ctx, text)
		if err != nil {
			problems = append(problems, fmt.Errorf("number %d %w", i+1, err))
			continue
		}
		name, _, _ := strings.Cut(text, ":")
		seen[name]++
		if n := seen[name]; n > 1 {
			name = fmt.Sprintf("%s-%d", name, n)
		}
		sinks[name] = sink
	}
	return sinks, named("VEGA_AUDIT_SINKS", errors.Join(problems...))
}

// openShipper makes what copies the audit log to its sinks.
func openShipper(ctx context.Context, p *parts, db *bolt.DB, metrics prometheus.Registerer, logger *slog.Logger) (*audit.Shipper, error) {
	return audit.NewShipper(ctx, audit.ShipperConfig{Log: db, Sinks: p.sinks, Now: time.Now, Logger: logger, Metrics: metrics})
}

// startShipping begins; stop ships what is left, for which the history must
// still be open.
func startShipping(ctx context.Context, shipper *audit.Shipper, sign audit.Sign) (stop func()) {
	return life.Beside(context.WithoutCancel(ctx), func(ctx context.Context) { shipper.Run(ctx, sign) })
}

// audited is a history that takes nothing with an audit entry while no sink
// takes entries: it would be done and nobody outside would hear of it
// (attack G1).
type audited struct {
	*bolt.DB
	full func() bool
}

// errBlocked is what a full disk is, to who wants to write.
var errBlocked = fmt.Errorf("no sink of the audit log (VEGA_AUDIT_SINKS) takes entries: %w", storage.ErrReadOnly)

func (a audited) Apply(ctx context.Context, c *storage.Change) error {
	if len(c.Audit) > 0 && a.full() {
		return errBlocked
	}
	return a.DB.Apply(ctx, c)
}
