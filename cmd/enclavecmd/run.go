package enclavecmd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

func runCommand(catalog *plugins.Catalog, from *settings.Source) *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use: "run", Short: "Run the enclave until SIGTERM or SIGINT", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			// A file size limit is a full disk, which the history knows how
			// to survive, and no reason to die.
			signal.Ignore(syscall.SIGXFSZ)
			if err := guardMemory(); err != nil {
				return err
			}
			ctx, hangup, release := life.Watch(c.Context(), "enclave", c.ErrOrStderr())
			defer release()
			o.hangup = hangup
			return run(ctx, catalog, from, c.ErrOrStderr(), o)
		},
	}
	c.Flags().BoolVar(&o.replaceIdentity, "replace-identity", false, "once, after the old identity was lost for good: let central take ours in its place; every counterparty then has to accept it")
	c.Flags().BoolVar(&o.acceptRollback, "accept-rollback", false, "once, with an older history that is meant: go on although VEGA_DATABASE_ANCHOR_FILE knows a newer one")
	return withSettings(c, "Runs the enclave until SIGTERM or SIGINT. SIGHUP reads files and settings again,\nand so does a change of theirs.")
}

// runOptions are what the command line adds to the settings.
type runOptions struct {
	replaceIdentity bool
	acceptRollback  bool
	hangup          <-chan os.Signal // SIGHUP; nil: never
}

// Run runs one enclave with the settings of environ until ctx ends, and logs
// to w. It logs "enclave ready" with the addresses it listens on.
func Run(ctx context.Context, catalog *plugins.Catalog, environ []string, w io.Writer) error {
	return run(ctx, catalog, &settings.Source{Own: environ}, w, runOptions{})
}

func run(ctx context.Context, catalog *plugins.Catalog, from *settings.Source, w io.Writer, o runOptions) error {
	environ, err := from.Environ()
	if err != nil {
		return configError{err}
	}
	var s Settings
	warnings, err := settings.Load(Prefix, &s, environ)
	if err != nil {
		return configError{err}
	}
	level := new(slog.LevelVar)
	level.Set(levelOf(s.LogLevel))
	logger := newLogger(w, level, s.LogFormat)
	r := &reloading{options: o, from: from, start: &s, last: &s, level: level, log: logger}
	r.told.Log(r.log, warnings)
	limitMemory("/", environ, logger)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watch, err := openWatch(&s, newRegistry(&s), logger, stop)
	if err != nil {
		return err
	}
	defer watch.close()
	r.unknown = unknownGauge(watch.registry)
	r.unknown.Set(float64(len(settings.Unknown(Prefix, &s, environ))))
	p, err := readParts(ctx, catalog, &s)
	if err != nil {
		return configError{err}
	}
	p.replaceIdentity = o.replaceIdentity
	if err := unseal(ctx, &s, p, watch, logger); err != nil {
		return ended(ctx, err)
	}
	r.parts = p
	return ended(ctx, live(ctx, &s, p, watch, r, logger, stop))
}

// live opens everything and runs it until ctx ends or a part fails.
func live(ctx context.Context, s *Settings, p *parts, watch *watch, r *reloading, logger *slog.Logger, stop context.CancelCauseFunc) error {
	db, err := openHistory(s, p, watch.registry, logger, stop)
	if err != nil {
		return err
	}
	defer db.Close()
	anchor, err := openAnchor(ctx, s, db, r.options.acceptRollback, watch.registry, logger)
	if err != nil {
		return err
	}
	defer anchor.start(ctx)()
	go guardFile(ctx, s.DatabaseFile, stop)
	shipper, err := openShipper(ctx, p, db, watch.registry, logger)
	if err != nil {
		return err
	}
	n, err := wire(ctx, s, p, audited{db, shipper.Full}, watch, r, logger)
	if err != nil {
		return err
	}
	defer startShipping(ctx, shipper, n.enclave.SignCheckpoint)()
	return n.serve(ctx, logger)
}

// ended tells why a run ended: nothing when a signal or the caller said so and
// everything came to its end.
func ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	asked := cause == nil || errors.Is(cause, context.Canceled) || errors.As(cause, new(life.Stopped))
	switch {
	case !asked:
		return cause
	case errors.Is(err, context.Canceled), errors.As(err, new(life.Stopped)): // told to stop before the start was over
		return nil
	}
	return err
}

// newRegistry is this process's own: nothing registers itself.
func newRegistry(s *Settings) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "enclave_build_info", Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": Version},
	})
	build.Set(1)
	unsafe := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "enclave_key_in_environment", Help: "1 while the database key comes from the environment rather than a file.",
	})
	if s.plainKey() && !s.EncryptionKey.FromFile() {
		unsafe.Set(1)
	}
	registry.MustRegister(build, unsafe, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// panicCounters count the handlers of our own side that panic; those of the
// public listener are counted with it.
func panicCounters(metrics prometheus.Registerer) (backend, operator func()) {
	panics := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "enclave_local_handler_panics_total", Help: "Requests whose handler panicked, on listeners of our own side.",
	}, []string{"listener"})
	metrics.MustRegister(panics)
	return panics.WithLabelValues("backend").Inc, panics.WithLabelValues("operator").Inc
}

func unknownGauge(metrics prometheus.Registerer) prometheus.Gauge {
	unknown := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "enclave_unknown_settings", Help: "Variables that begin with VEGA_ and that nobody reads.",
	})
	metrics.MustRegister(unknown)
	return unknown
}

// newServer opens one plain HTTP listener, which does not serve yet. setting is
// where its address is from; panicked, if any, counts handlers that panic.
func newServer(name, setting, address string, h http.Handler, idle time.Duration, panicked func(), logger *slog.Logger) (*life.Server, error) {
	listener, err := edge.ListenTCP(context.Background(), address)
	if err != nil {
		return nil, named(setting, err)
	}
	return life.NewServer(name, limitConnections(listener), &http.Server{
		Handler: edge.Recover(logger, panicked, h), ErrorLog: edge.ServerLog(logger, name), IdleTimeout: idle, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}), nil
}

func metricsRoutes(registry *prometheus.Registry) edge.Routes {
	return edge.Routes{"GET /metrics": promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})}
}
