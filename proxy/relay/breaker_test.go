package relay_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward/outwardtest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// failures are how many in a row let requests end at once.
const failures = 10

// recovering is a central that does wrong what wrong does, until it is well.
func recovering(t *testing.T, wrong http.HandlerFunc) (c *relay.Client, well *atomic.Bool, asked *atomic.Int32) {
	t.Helper()
	well, asked = new(atomic.Bool), new(atomic.Int32)
	lure := outwardtest.NewLure(t)
	base := lure.Origin(true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if !well.Load() {
			wrong(w, r)
			return
		}
		w.Header().Set("Content-Type", relay.MediaType)
		w.Write([]byte("reply"))
	}))
	c = newClient(t, base.String(), lure.Roots, func(c *relay.Config) { c.SourceAddress = netip.Addr{} })
	return c, well, asked
}

func deliver(t *testing.T, c *relay.Client) error {
	_, err := c.Deliver(t.Context(), 42, []byte("envelope"))
	return err
}

// A central that cannot be reached, or has something in front of it that says
// so, is left alone; registrations, which have a pause of their own, still try.
// Soon after it is back it is asked again.
func TestACentralThatKeepsFailingIsLeftAlone(t *testing.T) {
	for name, wrong := range map[string]http.HandlerFunc{
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a proxy in front says 502": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<h1>Bad gateway</h1>", http.StatusBadGateway)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, well, asked := recovering(t, wrong)
			for range failures {
				if deliver(t, c) == nil {
					t.Fatal("deliver = nil")
				}
			}
			reached := asked.Load()
			for range 20 {
				var failed *relay.TransportError
				if err := deliver(t, c); !errors.As(err, &failed) || !strings.Contains(err.Error(), "again and again") || !relay.Retryable(err) {
					t.Errorf("deliver = %v, want one that was not made", err)
				}
			}
			if n := asked.Load() - reached; n != 0 {
				t.Errorf("central was asked %d times more", n)
			}
			_, _ = c.Register(t.Context(), relay.Registration{})
			if n := asked.Load() - reached; n != 1 {
				t.Errorf("a registration was not sent")
			}
			well.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for deliver(t, c) != nil {
				if ctx.Err() != nil {
					t.Fatal("a central that is back is never asked")
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// What central says of a recipient, and how long a recipient takes, says
// nothing of central: one slow counterparty must not part us from the others.
func TestARecipientsTroubleOpensNothing(t *testing.T) {
	code := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { relay.WriteError(w, status, code, "") }
	}
	for name, wrong := range map[string]http.HandlerFunc{
		"unreachable": code(502, relay.CodeUnreachable), "down": code(503, relay.CodeDown), "timeout": code(504, relay.CodeTimeout),
		"busy": code(429, relay.CodeBusy), "not registered": code(412, relay.CodeNotRegistered), "internal": code(500, relay.CodeInternal),
	} {
		c, well, _ := recovering(t, wrong)
		for range 3 * failures {
			_ = deliver(t, c)
		}
		well.Store(true)
		if err := deliver(t, c); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
	c, well, _ := recovering(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 100))
		<-r.Context().Done()
	})
	for range 2 * failures {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, _ = c.Deliver(ctx, 42, []byte("envelope"))
		cancel()
	}
	well.Store(true)
	if err := deliver(t, c); err != nil {
		t.Errorf("after a slow recipient: %v", err)
	}
}
