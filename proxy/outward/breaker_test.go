package outward_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

func newBreaker(t *testing.T, registry prometheus.Registerer, log *slog.Logger) *outward.Breaker {
	t.Helper()
	b, err := outward.NewBreaker("account", registry, log)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// states are the metrics of a breaker in this state.
func states(t *testing.T, registry *prometheus.Registry, state, short string) {
	t.Helper()
	want := "# HELP enclave_circuit_state Circuit breaker of a target: 0 closed, 1 trying one call, 2 open.\n# TYPE enclave_circuit_state gauge\n" +
		"enclave_circuit_state{target=\"account\"} " + state + "\n" +
		"# HELP enclave_short_circuited_total Calls not made because their target's circuit was open.\n# TYPE enclave_short_circuited_total counter\n" +
		"enclave_short_circuited_total{target=\"account\"} " + short + "\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestBreakerOpensTriesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry, log := prometheus.NewRegistry(), new(bytes.Buffer)
		b := newBreaker(t, registry, slog.New(slog.NewTextHandler(log, nil)))
		calls := 0
		do := func(v outward.Verdict) bool { return b.Do(func() outward.Verdict { calls++; return v }) }
		for range 9 {
			do(outward.Failed)
		}
		do(outward.Well) // nine in a row are not ten
		for range 9 {
			do(outward.Failed)
		}
		for range 50 {
			do(outward.Nothing) // neither good nor bad
		}
		states(t, registry, "0", "0")
		do(outward.Failed)
		states(t, registry, "2", "0")
		calls = 0
		for range 5 {
			if do(outward.Well) {
				t.Error("a call was made while the circuit was open")
			}
		}
		if calls != 0 {
			t.Errorf("%d calls were made", calls)
		}
		states(t, registry, "2", "5")

		// A try that fails opens it for another second.
		time.Sleep(time.Second + time.Millisecond)
		if !do(outward.Failed) || do(outward.Well) {
			t.Error("after a second, want one call and no second one")
		}
		// One that was given up is followed by another.
		time.Sleep(time.Second + time.Millisecond)
		if !do(outward.Nothing) || !do(outward.Well) || !do(outward.Well) {
			t.Error("after a try that went well, calls are not made")
		}
		states(t, registry, "0", "6")
		if got := log.String(); strings.Count(got, "fail again and again") != 1 || strings.Count(got, "go well again") != 1 || !strings.Contains(got, "target=account") {
			t.Errorf("log: %s, want one line each for open and closed", got)
		}
	})
}

// Of many callers at once only one tries, and the rest end at once.
func TestBreakerTriesOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil, nil)
		for range 10 {
			b.Do(func() outward.Verdict { return outward.Failed })
		}
		time.Sleep(2 * time.Second)
		var made atomic.Int32
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				b.Do(func() outward.Verdict { made.Add(1); time.Sleep(time.Second); return outward.Well })
			})
		}
		all.Wait()
		if n := made.Load(); n != 1 {
			t.Errorf("%d calls were tried, want 1", n)
		}
	})
}

// A panic in a call leaves the breaker working.
func TestBreakerSurvivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil, nil)
		for range 10 {
			func() {
				defer func() { _ = recover() }()
				b.Do(func() outward.Verdict { panic("x") })
			}()
		}
		if b.Do(func() outward.Verdict { return outward.Well }) {
			t.Error("ten panics left the circuit closed")
		}
		time.Sleep(2 * time.Second)
		if !b.Do(func() outward.Verdict { return outward.Well }) {
			t.Error("no call is tried after a panic")
		}
	})
}

func BenchmarkBreaker(b *testing.B) {
	breaker, err := outward.NewBreaker("account", nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		breaker.Do(func() outward.Verdict { return outward.Well })
	}
}
