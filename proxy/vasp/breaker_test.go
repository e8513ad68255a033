package vasp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// failures are how many in a row let calls end at once.
const failures = 10

// recovering is a backend that does wrong what wrong does, until it is well.
func recovering(t *testing.T, wrong http.HandlerFunc) (c *vasp.Client, well *atomic.Bool, asked *atomic.Int32) {
	t.Helper()
	well, asked = new(atomic.Bool), new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if !well.Load() {
			wrong(w, r)
			return
		}
		answer(`{"accountVerificationResult":"VERIFIED","result":"VERIFIED","transactionStatus":"PENDING"}`)(w, r)
	}))
	t.Cleanup(s.Close)
	return newClient(t, config(s.URL)), well, asked
}

// Attack V3: an API that fails again and again is left alone: calls end at
// once and say that it was not asked, which is what becomes of nothing. A
// second later one call tries, and all is as before.
func TestAnAPIThatKeepsFailingIsLeftAlone(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, kind := range map[string]struct {
		wrong http.HandlerFunc
		want  vasp.Problem
	}{
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, vasp.Broken},
		"502":      {status(502), vasp.Status},
		"503":      {status(503), vasp.Status},
		"504":      {status(504), vasp.Status},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, well, asked := recovering(t, kind.wrong)
			for range failures {
				_, err := c.VerifyUser(t.Context(), []byte("{}"))
				mustFail(t, err, "user", kind.want)
			}
			reached := asked.Load()
			for range 20 {
				_, err := c.VerifyUser(t.Context(), []byte("{}"))
				mustFail(t, err, "user", vasp.Unreachable)
			}
			if n := asked.Load() - reached; n != 0 {
				t.Errorf("the backend was asked %d times more", n)
			}
			well.Store(true)
			// Each API stands for itself.
			if _, err := c.VerifyAccount(t.Context(), []byte("{}")); err != nil {
				t.Errorf("another API: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for {
				if _, err := c.VerifyUser(ctx, []byte("{}")); err == nil {
					break
				}
				if ctx.Err() != nil {
					t.Fatal("a backend that is well again is never asked")
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// Answers that the backend means, and callers that give up, open nothing.
func TestWhatDoesNotCountAsFailing(t *testing.T) {
	for name, wrong := range map[string]http.HandlerFunc{
		"500":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"404":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"429":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		"302":      func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
		"not JSON": answer("<html>"),
		"invalid":  answer(`{}`),
	} {
		c, well, _ := recovering(t, wrong)
		for range 3 * failures {
			_, _ = c.VerifyUser(t.Context(), []byte("{}"))
		}
		well.Store(true)
		if _, err := c.VerifyUser(t.Context(), []byte("{}")); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
	started := make(chan context.CancelFunc, 1)
	c, well, _ := recovering(t, readFirst(func(_ http.ResponseWriter, r *http.Request) { (<-started)(); <-r.Context().Done() }))
	for range 3 * failures {
		ctx, cancel := context.WithCancel(t.Context())
		started <- cancel
		_, _ = c.VerifyUser(ctx, []byte("{}"))
	}
	well.Store(true)
	if _, err := c.VerifyUser(t.Context(), []byte("{}")); err != nil {
		t.Errorf("after callers that gave up: %v", err)
	}
}

// Ten calls that time out open the circuit, too. Time is the test's own.
func TestTimeoutsOpenTheCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		cfg := config("http://127.0.0.1:1")
		cfg.Metrics, cfg.Now = registry, time.Now
		c, err := vasp.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		vasp.Hang(c)
		for range failures {
			mustFail(t, c.Callback(t.Context(), []byte("{}")), "callback", vasp.Unreachable)
		}
		begun := time.Now()
		mustFail(t, c.Callback(t.Context(), []byte("{}")), "callback", vasp.Unreachable)
		if took := time.Since(begun); took != 0 {
			t.Errorf("a call took %v with the circuit open", took)
		}
		want := `# HELP enclave_circuit_state Circuit breaker of a target: 0 closed, 1 trying one call, 2 open.
# TYPE enclave_circuit_state gauge
enclave_circuit_state{target="account"} 0
enclave_circuit_state{target="callback"} 2
enclave_circuit_state{target="transaction"} 0
enclave_circuit_state{target="user"} 0
`
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "enclave_circuit_state"); err != nil {
			t.Error(err)
		}
		c.Close()
	})
}
