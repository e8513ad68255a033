package enclavecmd_test

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
)

// A handler of the backend's listener that panics is answered with 500 and
// counted; the counters are there from the start.
func TestAPanicOfOurOwnSideIsCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	backend, _ := enclavecmd.PanicCounters(registry)
	if n, err := testutil.GatherAndCount(registry, "enclave_local_handler_panics_total"); n != 2 || err != nil {
		t.Errorf("%d counters before the first panic, %v", n, err)
	}
	s, err := enclavecmd.NewServer("backend", "X", "127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a name") }), time.Second, backend, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(t.Context(), time.Second) }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusInternalServerError {
		t.Errorf("a panic is answered %s", answer.Status)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var counted float64
	for _, m := range families[0].GetMetric() {
		counted += m.GetCounter().GetValue()
	}
	if counted != 1 {
		t.Errorf("%v panics were counted", counted)
	}
}
