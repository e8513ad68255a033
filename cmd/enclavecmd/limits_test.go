package enclavecmd_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
)

// A backend that asks for more at once than is answered in time hears so at
// once; its health check is answered, and so is all else as soon as there is
// room (attack N5).
func TestTheBackendListenerShedsWhatIsTooMuch(t *testing.T) {
	registry := prometheus.NewRegistry()
	arrived, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(enclavecmd.LimitBackend(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-release
		}
	}), registry))
	defer server.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	get := func(path string) (*http.Response, string) {
		r, err := (&http.Client{Transport: transport}).Get(server.URL + path)
		if err != nil {
			t.Error(err)
			return new(http.Response), ""
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(r.Body)
		return r, string(body)
	}
	var all sync.WaitGroup
	for range enclavecmd.BackendInFlight {
		all.Go(func() {
			if r, _ := get("/slow"); r.StatusCode != 200 {
				t.Errorf("one of those taken on: %d", r.StatusCode)
			}
		})
	}
	for range enclavecmd.BackendInFlight {
		<-arrived
	}
	for range 10 {
		if r, body := get("/v1/vasps"); r.StatusCode != 503 || r.Header.Get("Retry-After") != "1" || !strings.HasPrefix(body, `{"code":"OVERLOADED",`) {
			t.Errorf("one too many: %d %s", r.StatusCode, body)
		}
	}
	if r, _ := get("/healthcheck"); r.StatusCode != 200 {
		t.Errorf("the health check meanwhile: %d", r.StatusCode)
	}
	want := `# HELP enclave_shed_requests_total Requests refused with 503 because too many were being answered, by listener.
# TYPE enclave_shed_requests_total counter
enclave_shed_requests_total{listener="backend"} 10
`
	if err := testutil.GatherAndCompare(registry, bytes.NewReader([]byte(want)), "enclave_shed_requests_total"); err != nil {
		t.Error(err)
	}
	close(release)
	all.Wait()
	if r, _ := get("/v1/vasps"); r.StatusCode != 200 {
		t.Errorf("afterwards: %d", r.StatusCode)
	}
}
