package centralcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy/central"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

func runCommand(environ []string) *cobra.Command {
	return withSettings(&cobra.Command{
		Use: "run", Short: "Run central until SIGTERM or SIGINT", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return Run(ctx, environ, c.ErrOrStderr())
		},
	})
}

// Run runs central with the settings of environ until ctx ends, and logs to w.
// It logs "central ready" with the addresses it listens on.
func Run(ctx context.Context, environ []string, w io.Writer) error {
	var s Settings
	warnings, err := settings.Load(Prefix, &s, environ)
	if err != nil {
		return configError{err}
	}
	p, err := readParts(&s)
	if err != nil {
		return configError{err}
	}
	logger := newLogger(w, s.LogLevel, s.LogFormat)
	for _, warning := range warnings {
		logger.Warn("settings: " + warning)
	}
	record, err := openRecord(s.UnsafeRecordFile)
	if err != nil {
		return configError{err}
	}
	if record != nil {
		defer record.Close()
	}
	return serve(ctx, &s, p, record, logger)
}

func serve(ctx context.Context, s *Settings, p *parts, record *os.File, logger *slog.Logger) error {
	registry := newRegistry()
	config := central.Config{
		Members: p.members, Address: string(s.Listen), BasePath: s.BasePath, Certificates: p.certificates, Trust: p.trust,
		SourceAddress: s.SourceAddress.Addr, Reach: s.reach(), StateFile: s.StateFile, Now: time.Now, Log: logger, Metrics: registry,
	}
	if record != nil {
		config.Record = record
	}
	metrics, err := new(net.ListenConfig).Listen(ctx, "tcp", string(s.MetricsListen))
	if err != nil {
		return fmt.Errorf("CENTRAL_METRICS_LISTEN: %w", err)
	}
	server, err := central.New(ctx, config)
	if err != nil {
		return errors.Join(err, metrics.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	drained, done := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { defer done(); return server.Run(ctx) })
	group.Go(func() error { return serveMetrics(drained, metrics, metricsHandler(registry, ctx.Err)) })
	logger.Info("central ready", "listen", server.Addr().String(), "metrics", metrics.Addr().String(), "members", p.members.Len(), "version", Version)
	err = group.Wait()
	logger.Info("central stopped")
	return err
}

// parts are what the settings' files hold.
type parts struct {
	members      *central.Members
	certificates *edge.Files
	trust        *outward.Trust // of enclaves
}

// readParts reads them all, and reports every problem at once.
func readParts(s *Settings) (*parts, error) {
	p := new(parts)
	var problems []error
	note := func(setting string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", setting, err))
		}
	}
	var err error
	p.members, err = central.ReadMembers(s.MembersFile)
	note("CENTRAL_MEMBERS_FILE", err)
	p.certificates, err = edge.FileCertificates(s.CertFile, s.KeyFile)
	if err == nil {
		err = p.certificates.ValidAt(time.Now())
	}
	note("CENTRAL_TLS_CERT_FILE, CENTRAL_TLS_KEY_FILE", err)
	p.trust, err = outward.ReadTrust(outward.Files{
		Roots: s.RootsFile, Cert: s.ClientCert, Key: s.ClientKey,
		RootsSetting: "CENTRAL_ROOTS_FILE", PairSetting: "CENTRAL_CLIENT_CERT_FILE, CENTRAL_CLIENT_KEY_FILE",
	}, time.Now())
	if err != nil {
		problems = append(problems, err)
	}
	return p, errors.Join(problems...)
}

// openRecord opens the file for what is relayed, nil without a name. It is
// continued and not begun anew.
func openRecord(file string) (*os.File, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("CENTRAL_UNSAFE_RECORD_FILE: %w", err)
	}
	return f, nil
}

// newLogger writes one line a record. Level "none" writes nothing at all.
func newLogger(w io.Writer, level, format string) *slog.Logger {
	levels := map[string]slog.Level{"error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug}
	at, some := levels[level]
	if !some {
		return slog.New(slog.DiscardHandler)
	}
	options := &slog.HandlerOptions{Level: at}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// newRegistry is this process's own: nothing registers itself.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "central_build_info", Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": Version},
	})
	build.Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// metricsHandler answers Prometheus and probes. Central is ready as soon as it
// is alive, since it needs nobody else, and until it is told to stop.
func metricsHandler(registry *prometheus.Registry, stopping func() error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }
	mux.HandleFunc("GET /livez", ok)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if stopping() != nil {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		ok(w, r)
	})
	return mux
}

func serveMetrics(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(l) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("metrics listener: %w", err)
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := server.Shutdown(late)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-stopped
	return err
}
