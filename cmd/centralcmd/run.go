package centralcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/cmd/reload"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy/central"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

func runCommand(from *settings.Source) *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use: "run", Short: "Run central until SIGTERM or SIGINT", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, hangup, release := life.Watch(context.Background(), "central", c.ErrOrStderr())
			defer release()
			o.hangup = hangup
			return run(ctx, from, c.ErrOrStderr(), o)
		},
	}
	return withSettings(c)
}

// runOptions are what the command line adds to the settings.
type runOptions struct {
	hangup <-chan os.Signal // SIGHUP; nil: never
}

// Run runs central with the settings of environ until ctx ends, and logs to w.
// It logs "central ready" with the addresses it listens on.
func Run(ctx context.Context, environ []string, w io.Writer) error {
	return run(ctx, &settings.Source{Own: environ}, w, runOptions{})
}

func run(ctx context.Context, from *settings.Source, w io.Writer, o runOptions) error {
	var s Settings
	warnings, err := from.Load(Prefix, &s)
	if err != nil {
		return configError{err}
	}
	p, err := readParts(&s)
	if err != nil {
		return configError{err}
	}
	level := new(slog.LevelVar)
	level.Set(levelOf(s.LogLevel))
	logger := newLogger(w, level, s.LogFormat)
	r := &reloading{options: o, from: from, start: &s, parts: p, level: level, log: logger}
	r.told.Log(r.log, warnings)
	record, err := openRecord(s.UnsafeRecordFile)
	if err != nil {
		return configError{err}
	}
	if record != nil {
		defer record.Close()
	}
	return serve(ctx, &s, p, record, r, logger)
}

func serve(ctx context.Context, s *Settings, p *parts, record *os.File, r *reloading, logger *slog.Logger) error {
	registry := newRegistry()
	config := central.Config{
		Members: p.members, Address: string(s.Listen), BasePath: s.BasePath, Certificates: p.certificates, Trust: p.trust,
		SourceAddress: s.SourceAddress.Addr, Reach: s.reach(), StateFile: s.StateFile, DrainRequests: s.ShutdownGrace.Duration(),
		Now: time.Now, Log: logger, Metrics: registry,
	}
	if record != nil {
		config.Record = record
	}
	readiness := new(life.Readiness)
	n := &node{readiness: readiness, listening: readiness.Require("listeners", "not open yet"), hangup: r.options.hangup, delay: s.ShutdownDelay.Duration()}
	listener, err := edge.ListenTCP(ctx, string(s.MetricsListen))
	if err != nil {
		return fmt.Errorf("CENTRAL_METRICS_LISTEN: %w", err)
	}
	n.watch = life.NewServer("metrics", listener, &http.Server{
		Handler: watchRoutes(registry, readiness).Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	})
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer n.serveWatch(stop)()
	n.server, err = central.New(ctx, config)
	if errors.As(err, new(*net.OpError)) {
		return fmt.Errorf("CENTRAL_LISTEN: %w", err)
	}
	if err != nil {
		return err
	}
	r.server = n.server
	n.reload = r.group(registry)
	err = n.serve(ctx, logger)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.As(cause, new(life.Stopped)) {
		return cause
	}
	return err
}

// node is central with its listeners.
type node struct {
	server    *central.Server
	watch     *life.Server // metrics and probes: first to be there, last to go
	readiness *life.Readiness
	listening *life.Condition
	reload    *reload.Group
	hangup    <-chan os.Signal
	delay     time.Duration
}

// serveWatch serves metrics and probes until end is called.
func (n *node) serveWatch(stop context.CancelCauseFunc) (end func()) {
	return life.Beside(context.Background(), func(ctx context.Context) {
		if err := n.watch.Serve(ctx, time.Second); err != nil && ctx.Err() == nil {
			stop(err)
		}
	})
}

// serve runs central until ctx ends or it fails. Then it is not ready at once,
// goes on taking work for a while if whoever ended it waits for that, and
// finishes what it took.
func (n *node) serve(ctx context.Context, logger *slog.Logger) error {
	work, shut := context.WithCancel(context.WithoutCancel(ctx))
	defer shut()
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	group.Go(func() error { return n.server.Run(work) })
	group.Go(func() error {
		n.untilEnd(ctx, failed, logger)
		life.NotifyStopping()
		n.listening.Fails("stopping")
		n.server.Leave()
		life.Linger(ctx, failed, n.delay)
		shut()
		return nil
	})
	err := group.Wait()
	var cut *edge.CutOffError
	if errors.As(err, &cut) {
		logger.Error("requests were cut off", "listener", cut.Listener, "requests", cut.Requests, "after", cut.After)
	}
	logger.Info("central stopped")
	return err
}

func (n *node) untilEnd(ctx, failed context.Context, logger *slog.Logger) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(failed, cancel)()
	n.listening.Holds()
	n.readiness.Started()
	logger.Info("central ready", "listen", n.server.Addr().String(), "metrics", n.watch.Addr().String(), "members", n.server.Members(), "version", Version)
	life.NotifyReady()
	go life.Watchdog(ctx, n.server.Alive)
	n.reload.Run(ctx, n.hangup, life.AroundReload)
}

// Routes are the patterns of every HTTP listener of central, by its name.
func Routes() map[string][]string {
	return map[string][]string{
		"public":  central.Routes(),
		"metrics": watchRoutes(prometheus.NewRegistry(), new(life.Readiness)).Patterns(),
	}
}

// watchRoutes are metrics and probes.
func watchRoutes(registry *prometheus.Registry, readiness *life.Readiness) edge.Routes {
	routes := readiness.Routes()
	routes["GET /metrics"] = promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})
	return routes
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

// levelOf is the level of a setting; "none" is above every record.
func levelOf(name string) slog.Level {
	levels := map[string]slog.Level{"error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug}
	if level, some := levels[name]; some {
		return level
	}
	return slog.Level(math.MaxInt)
}

// newLogger writes one line a record. The level may change meanwhile.
func newLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
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
