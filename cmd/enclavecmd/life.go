package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/cmd/reload"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme"
)

// Routes are the patterns of every HTTP listener of the enclave, by its name.
func Routes() map[string][]string {
	return map[string][]string{
		"backend":  proxy.APIRoutes(),
		"public":   proxy.PublicRoutes(),
		"operator": proxy.OperatorRoutes(),
		"metrics":  metricsRoutes(prometheus.NewRegistry()).Patterns(),
		"admin":    new(life.Readiness).Routes().Patterns(),
	}
}

// watch is what tells others how the enclave is: the admin and the metrics
// listener. It is the first to be there and the last to go.
type watch struct {
	registry  *prometheus.Registry
	readiness *life.Readiness
	listening *life.Condition
	servers   []*life.Server

	end     context.CancelFunc
	serving sync.WaitGroup
}

// lastAnswers is how long a probe or a scrape may take at the very end.
const lastAnswers = time.Second

// openWatch opens both listeners and serves them at once. stop is told when
// one fails.
func openWatch(s *Settings, registry *prometheus.Registry, logger *slog.Logger, stop context.CancelCauseFunc) (*watch, error) {
	w := &watch{registry: registry, readiness: new(life.Readiness)}
	w.listening = w.readiness.Require("listeners", "not open yet")
	const idle = time.Minute
	for _, l := range []struct {
		name, setting, address string
		routes                 edge.Routes
	}{
		{"metrics", "VEGA_METRICS_LISTEN", string(s.MetricsListen), metricsRoutes(registry)},
		{"admin", "VEGA_ADMIN_LISTEN", string(s.AdminListen), w.readiness.Routes()},
	} {
		server, err := newServer(l.name, l.setting, l.address, l.routes.Handler(), idle, nil, logger)
		if err != nil {
			return nil, errors.Join(err, w.closeUnserved())
		}
		w.servers = append(w.servers, server)
	}
	ctx, end := context.WithCancel(context.Background())
	w.end = end
	for _, server := range w.servers {
		w.serving.Go(func() {
			if err := server.Serve(ctx, lastAnswers); err != nil && ctx.Err() == nil {
				stop(err)
			}
		})
	}
	return w, nil
}

func (w *watch) closeUnserved() (err error) {
	for _, server := range w.servers {
		err = errors.Join(err, server.Close())
	}
	return err
}

func (w *watch) close() {
	w.end()
	w.serving.Wait()
}

// node is a wired enclave with its listeners but for those of watch.
type node struct {
	enclave   *proxy.Enclave
	public    *edge.Listener
	handler   http.Handler // of the public listener
	servers   []*life.Server
	watch     *watch
	reload    *reload.Group
	automatic *acme.Certificates // nil: the certificate is from files
	hangup    <-chan os.Signal
	alive     func(context.Context) bool

	delay, grace time.Duration
}

// serve runs everything until ctx ends or a part fails. Then it is not ready
// at once and goes on taking work for a while, if whoever ended it waits for
// that; it stops listening and finishes what it took; and only when nobody
// asks anything any more the work behind stops. What is undelivered then is in
// the history.
func (n *node) serve(ctx context.Context, logger *slog.Logger) error {
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	open, shut := context.WithCancel(work)
	defer shut()
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	var cut atomic.Int64
	var doors sync.WaitGroup
	door := func(serve func(context.Context) error) {
		doors.Add(1)
		group.Go(func() error {
			defer doors.Done()
			return counted(serve(open), &cut, logger)
		})
	}
	for _, s := range n.servers {
		door(func(open context.Context) error { return s.Serve(open, n.grace) })
	}
	door(func(open context.Context) error { return n.public.Serve(open, n.handler) })
	if n.automatic != nil {
		group.Go(func() error { n.automatic.Run(open, n.public.Addr()); return nil })
	}
	group.Go(func() error { return n.enclave.Run(work) })
	group.Go(func() error {
		n.untilEnd(ctx, failed, logger)
		n.leave()
		life.Linger(ctx, failed, n.delay)
		shut()
		doors.Wait()
		endWork()
		return nil
	})
	err := group.Wait()
	logger.Info("enclave stopped")
	if lost := cut.Load(); lost > 0 {
		err = errors.Join(err, fmt.Errorf("%d requests were cut off; VEGA_SHUTDOWN_GRACE_MS is how long they may take", lost))
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// counted takes the requests cut off out of what a listener ended with.
func counted(err error, cut *atomic.Int64, logger *slog.Logger) error {
	var off *edge.CutOffError
	if !errors.As(err, &off) {
		return err
	}
	cut.Add(off.Requests)
	logger.Error("requests were cut off", "listener", off.Listener, "requests", off.Requests, "after", off.After)
	return nil
}

// untilEnd says that the enclave is ready, and takes over what changes in
// files and settings, until ctx ends or a part failed.
func (n *node) untilEnd(ctx, failed context.Context, logger *slog.Logger) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(failed, cancel)()
	attrs := []any{"version", Version, "public", n.public.Addr().String()}
	for _, s := range append(n.watch.servers[:len(n.watch.servers):len(n.watch.servers)], n.servers...) {
		attrs = append(attrs, s.Name, s.Addr().String())
	}
	n.watch.listening.Holds()
	if n.automatic != nil {
		certificate := n.watch.readiness.Require("certificate", "not looked at yet")
		if reason := judgeCertificate(n.automatic, certificate); reason != nil {
			logger.Warn("central cannot reach this enclave yet", "err", reason)
		}
		go n.followCertificate(ctx, certificate)
	}
	n.watch.readiness.Started()
	logger.Info("enclave ready", attrs...)
	life.NotifyReady()
	go life.Watchdog(ctx, n.alive)
	n.reload.Run(ctx, n.hangup, life.AroundReload)
}

// leave is the first thing at the end: whoever asks hears that no more work is
// wanted, and whoever sends some all the same is answered.
func (n *node) leave() {
	life.NotifyStopping()
	n.watch.listening.Fails("stopping")
	n.public.Leave()
	for _, s := range n.servers {
		s.Leave()
	}
}

// lookAtCertificate is how often readiness asks whether there is a certificate.
const lookAtCertificate = 100 * time.Millisecond

// followCertificate keeps the enclave unready while it has no automatic
// certificate: central cannot reach it then.
func (n *node) followCertificate(ctx context.Context, certificate *life.Condition) {
	look := time.NewTicker(lookAtCertificate)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			_ = judgeCertificate(n.automatic, certificate)
		}
	}
}

// judgeCertificate says why there is no certificate to show, nil if there is.
func judgeCertificate(automatic *acme.Certificates, certificate *life.Condition) error {
	err := automatic.Usable(time.Now())
	if err != nil {
		certificate.Fails(err.Error())
		return err
	}
	certificate.Holds()
	return nil
}
