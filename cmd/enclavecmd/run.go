package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme"
)

func runCommand(catalog *plugins.Catalog, environ []string) *cobra.Command {
	var replace, rollback bool
	c := &cobra.Command{
		Use: "run", Short: "Run the enclave until SIGTERM or SIGINT", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			// A file size limit is a full disk, which the history knows how
			// to survive, and no reason to die.
			signal.Ignore(syscall.SIGXFSZ)
			if err := guardMemory(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return run(ctx, catalog, environ, c.ErrOrStderr(), replace, rollback)
		},
	}
	c.Flags().BoolVar(&replace, "replace-identity", false, "once, after the old identity was lost for good: let central take ours in its place; every counterparty then has to accept it")
	c.Flags().BoolVar(&rollback, "accept-rollback", false, "once, with an older history that is meant: go on although VEGA_DATABASE_ANCHOR_FILE knows a newer one")
	return withSettings(c, "Runs the enclave until SIGTERM or SIGINT.")
}

// Run runs one enclave with the settings of environ until ctx ends, and logs
// to w. It logs "enclave ready" with the addresses it listens on.
func Run(ctx context.Context, catalog *plugins.Catalog, environ []string, w io.Writer) error {
	return run(ctx, catalog, environ, w, false, false)
}

func run(ctx context.Context, catalog *plugins.Catalog, environ []string, w io.Writer, replaceIdentity, acceptRollback bool) error {
	var s Settings
	warnings, err := settings.Load(Prefix, &s, environ)
	if err != nil {
		return configError{err}
	}
	p, err := readParts(ctx, catalog, &s)
	if err != nil {
		return configError{err}
	}
	p.replaceIdentity = replaceIdentity
	logger := newLogger(w, s.LogLevel, s.LogFormat)
	for _, warning := range warnings {
		logger.Warn("settings: " + warning)
	}
	limitMemory("/", environ, logger)
	registry := newRegistry(&s, environ)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	db, err := openHistory(&s, p, registry, logger, stop)
	if err != nil {
		return err
	}
	defer db.Close()
	anchor, err := openAnchor(ctx, &s, db, acceptRollback, registry, logger)
	if err != nil {
		return err
	}
	defer anchor.start(ctx)()
	go guardFile(ctx, s.DatabaseFile, stop)
	n, err := wire(ctx, &s, p, db, registry, logger)
	if err != nil {
		return err
	}
	err = n.serve(ctx, logger)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// newRegistry is this process's own: nothing registers itself.
func newRegistry(s *Settings, environ []string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "enclave_build_info", Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": Version},
	})
	build.Set(1)
	unknown := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "enclave_unknown_settings", Help: "Variables that begin with VEGA_ and that nobody reads.",
	})
	unknown.Set(float64(len(settings.Unknown(Prefix, s, environ))))
	unsafe := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "enclave_key_in_environment", Help: "1 while the database key comes from the environment rather than a file.",
	})
	if s.KeySource == defaultKeySource && !s.EncryptionKey.FromFile() {
		unsafe.Set(1)
	}
	registry.MustRegister(build, unknown, unsafe, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// node is a wired enclave with its four listeners.
type node struct {
	enclave *proxy.Enclave
	public  *edge.Listener
	handler http.Handler // of the public listener
	servers []server
	stop    chan struct{} // closed when it drains

	automatic *acme.Certificates // nil: the certificate is from files
}

// ready says why the enclave takes no work, nil when it does: from the moment
// its listeners are open and it has a certificate until it drains.
func (n *node) ready() error {
	select {
	case <-n.stop:
		return errors.New("the enclave is stopping")
	default:
	}
	if n.automatic != nil {
		return n.automatic.Usable(time.Now())
	}
	return nil
}

// server is one plain HTTP listener.
type server struct {
	name     string
	listener net.Listener
	http     *http.Server
}

func newServer(name, address string, h http.Handler, idle time.Duration, logger *slog.Logger) (server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return server{}, fmt.Errorf("%s listener: %w", name, err)
	}
	return server{name, listener, &http.Server{
		Handler: edge.Recover(logger, nil, h), ErrorLog: edge.ServerLog(logger, name), IdleTimeout: idle, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}}, nil
}

// drainTime is how long requests under way may take after the signal.
const drainTime = 10 * time.Second

// serve runs everything until ctx ends or a part fails, then drains.
func (n *node) serve(ctx context.Context, logger *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range n.servers {
		group.Go(func() error {
			if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("%s listener: %w", s.name, err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			defer cancel()
			if err := s.http.Shutdown(late); err != nil {
				return s.http.Close()
			}
			return nil
		})
	}
	group.Go(func() error { return n.public.Serve(ctx, n.handler) })
	if n.automatic != nil {
		group.Go(func() error { n.automatic.Run(ctx, n.public.Addr()); return nil })
	}
	group.Go(func() error { return n.enclave.Run(ctx) })
	attrs := []any{"version", Version, "public", n.public.Addr().String()}
	for _, s := range n.servers {
		attrs = append(attrs, s.name, s.listener.Addr().String())
	}
	logger.Info("enclave ready", attrs...)
	if err := n.ready(); err != nil {
		logger.Warn("central cannot reach this enclave yet", "err", err)
	}
	group.Go(func() error {
		<-ctx.Done()
		close(n.stop)
		return nil
	})
	err := group.Wait()
	logger.Info("enclave stopped")
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func metricsHandler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	return mux
}

// adminHandler answers the probes: alive while the process answers at all,
// ready while it takes work.
func adminHandler(ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
