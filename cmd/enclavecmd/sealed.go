package enclavecmd

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/plugins"
)

// How long the enclave waits before it asks for its key again: half of it
// certain, half random, doubled each time. A source that cannot be reached is
// soon asked again. One that refuses waits for a person, so it is asked at
// leisure; but it is asked, since the remedy is often at its side (a caller to
// be let in, a token not yet rolled out), and a program that ended instead
// would be started again at once and ask more often.
var (
	whenAway    = backOff{first: 200 * time.Millisecond, most: 30 * time.Second}
	whenRefused = backOff{first: 5 * time.Second, most: time.Minute}
)

type backOff struct{ first, most time.Duration }

// after is the wait after the n-th failure in a row, n from 0.
func (b backOff) after(n int) time.Duration {
	d := min(b.first<<min(n, 20), b.most)
	return d/2 + rand.N(d/2)
}

// unseal waits for the key of a remote source, for as long as it takes. Until
// then the enclave is sealed: its probes and its metrics answer, and nothing
// else does.
func unseal(ctx context.Context, s *Settings, p *parts, watch *watch, logger *slog.Logger) error {
	m := newKeyMetrics(watch.registry)
	if p.keySource == nil {
		return nil
	}
	sealed := watch.readiness.Require("key", "sealed: asking for the database key; see the log")
	m.sealed.Set(1)
	logger.Info("sealed: asking for the database key", "source", s.keySourceName())
	var err error
	if p.kek, err = awaitKEK(ctx, s, p.keySource, sealed, m, logger); err != nil {
		return err
	}
	if s.PreviousKey.IsSet() {
		logger.Info("sealed: asking for the previous database key", "source", s.keySourceName())
		previous, err := awaitKEK(ctx, s.previous(), p.keySource, sealed, m, logger)
		if err != nil {
			return named("VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS", err)
		}
		p.otherKEKs = append(p.otherKEKs, previous)
	}
	m.sealed.Set(0)
	sealed.Holds()
	logger.Info("the database key has arrived")
	return nil
}

// awaitKEK waits for one key, and says meanwhile that it does.
func awaitKEK(ctx context.Context, s *Settings, source plugins.RemoteKeySource, sealed *life.Condition, m keyMetrics, logger *slog.Logger) (*atrest.KEK, error) {
	key, err := awaitKey(ctx, func() ([]byte, error) { return s.kekOf(ctx, source) }, func(away *plugins.KeyAway, wait time.Duration) {
		outcome, level, reason := "unreachable", slog.LevelWarn, "its source is unreachable"
		if away.Refused {
			outcome, level, reason = "refused", slog.LevelError, "its source refuses it"
		}
		m.requests.WithLabelValues(outcome).Inc()
		sealed.Fails("sealed: no database key yet, " + reason + "; see the log")
		logger.Log(ctx, level, "sealed: no database key yet", "err", away, "again", wait.Round(time.Millisecond).String())
	})
	if err != nil {
		return nil, err
	}
	m.requests.WithLabelValues("ok").Inc()
	defer clear(key)
	return atrest.NewKEK(key)
}

// awaitKey asks until there is a key, an error that waiting does not mend, or
// the end of ctx.
func awaitKey(ctx context.Context, ask func() ([]byte, error), failed func(*plugins.KeyAway, time.Duration)) ([]byte, error) {
	for unreachable, refusals := 0, 0; ; {
		key, err := ask()
		var away *plugins.KeyAway
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			return key, nil
		case !errors.As(err, &away):
			return nil, configError{err}
		}
		var wait time.Duration
		if away.Refused {
			wait, refusals, unreachable = whenRefused.after(refusals), refusals+1, 0
		} else {
			wait, unreachable, refusals = whenAway.after(unreachable), unreachable+1, 0
		}
		failed(away, wait)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

type keyMetrics struct {
	sealed   prometheus.Gauge
	requests *prometheus.CounterVec
}

func newKeyMetrics(registry prometheus.Registerer) keyMetrics {
	m := keyMetrics{
		sealed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "enclave_sealed", Help: "1 while the enclave waits for its database key and answers nothing.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "enclave_key_requests_total", Help: "Requests for the database key at its remote source.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"ok", "unreachable", "refused"} {
		m.requests.WithLabelValues(outcome)
	}
	registry.MustRegister(m.sealed, m.requests)
	return m
}
