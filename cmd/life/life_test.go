package life_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
)

// What the probes say from the first moment to the last: alive all the time,
// started once, ready while every condition holds, and if not, why.
func TestProbesThroughALife(t *testing.T) {
	r := new(life.Readiness)
	var told []string
	r.OnChange(func(ready bool, reason string) { told = append(told, fmt.Sprint(ready, " ", reason)) })
	listeners := r.Require("listeners", "not open yet")
	certificate := r.Require("certificate", "being issued")
	probes := r.Routes().Handler()
	says := func(live, startup, ready int, reasons ...string) {
		t.Helper()
		for path, want := range map[string]int{"/livez": live, "/startupz": startup, "/readyz": ready} {
			w := httptest.NewRecorder()
			probes.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s = %d %s, want %d", path, w.Code, w.Body, want)
			}
			for _, reason := range reasons {
				if path == "/readyz" && !strings.Contains(w.Body.String(), reason) {
					t.Errorf("%s = %s, want it to say %q", path, w.Body, reason)
				}
			}
		}
	}
	says(200, 503, 503, "starting", "not open yet", "being issued")
	listeners.Holds()
	r.Started()
	says(200, 200, 503, "not ready", "being issued")
	certificate.Holds()
	says(200, 200, 200, `"ok"`)
	certificate.Fails("expired")
	says(200, 200, 503, "expired")
	certificate.Holds()
	listeners.Fails("stopping")
	says(200, 200, 503, "stopping")
	if got, want := strings.Join(told, "; "), "true ; false certificate: expired; true ; false listeners: stopping"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if r.Ready() {
		t.Error("it is ready at its end")
	}
}

// Only SIGTERM waits.
func TestOnlySIGTERMWaits(t *testing.T) {
	for cause, want := range map[error]bool{
		life.Stopped{Signal: syscall.SIGTERM}: true, life.Stopped{Signal: syscall.SIGINT}: false, context.Canceled: false,
		fmt.Errorf("wrapped: %w", life.Stopped{Signal: syscall.SIGTERM}): true,
	} {
		if got := life.Waits(cause); got != want {
			t.Errorf("Waits(%v) = %t", cause, got)
		}
	}
}
