package outward

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

// Verdict is what a call tells of its target's health.
type Verdict uint8

// What a call may tell. A call that its own caller gave up tells nothing.
const (
	Nothing Verdict = iota
	Well
	Failed
)

const (
	// failuresInARow open the circuit.
	failuresInARow = 10
	// restFor is how long an open circuit lets no call pass; then one is
	// tried. Short, since a target that has come back must not wait for us.
	restFor = time.Second
)

// Breaker keeps calls from a target that fails again and again: after ten
// failures in a row calls end at once for a second, then one is tried, and the
// rest follow when it went well. It may be used concurrently.
type Breaker struct {
	circuit *gobreaker.CircuitBreaker[struct{}]
	state   prometheus.Gauge
	short   prometheus.Counter
}

// NewBreaker makes one. The target names it in metrics and log, and is one of
// a closed set. Nil metrics or log: none.
func NewBreaker(target string, metrics prometheus.Registerer, log *slog.Logger) (*Breaker, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	label := prometheus.Labels{"target": target}
	b := &Breaker{
		state: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "enclave_circuit_state", Help: "Circuit breaker of a target: 0 closed, 1 trying one call, 2 open.", ConstLabels: label,
		}),
		short: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "enclave_short_circuited_total", Help: "Calls not made because their target's circuit was open.", ConstLabels: label,
		}),
	}
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: target, MaxRequests: 1, Timeout: restFor,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failuresInARow },
		IsExcluded:   func(err error) bool { return errors.Is(err, errNothing) },
		IsSuccessful: func(err error) bool { return err == nil },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			b.state.Set(float64(to))
			switch {
			case to == gobreaker.StateClosed:
				log.Info("calls to a target go well again", "target", target)
			case from == gobreaker.StateClosed:
				log.Warn("calls to a target fail again and again: they end at once until one that is tried each second goes well", "target", target, "failures", failuresInARow)
			}
		},
	})
	if metrics == nil {
		return b, nil
	}
	return b, errors.Join(metrics.Register(b.state), metrics.Register(b.short))
}

var (
	errNothing = errors.New("tells nothing")
	errFailed  = errors.New("failed")
)

// Do makes the call, unless the circuit is open: then it is false, and the
// call was not made.
func (b *Breaker) Do(call func() Verdict) bool {
	_, err := b.circuit.Execute(func() (none struct{}, err error) {
		switch call() {
		case Failed:
			return none, errFailed
		case Nothing:
			return none, errNothing
		}
		return none, nil
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		b.short.Inc()
		return false
	}
	return true
}
