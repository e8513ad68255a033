package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// Beyond what one address may have under way, and all together, requests get
// 503 and Retry-After at once; health polls are answered; and when one request
// ends another is taken (attack N5).
func TestRequestsInFlightAreCapped(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(strings.ReplaceAll(protocol, "/", "-"), func(t *testing.T) {
			w := newWorld(t, edge.Config{
				MaxInFlight: 3, MaxInFlightPerSource: 2, Urgent: func(r *http.Request) bool { return r.URL.Path == "/healthcheck" },
			})
			arrived, release := make(chan struct{}), make(chan struct{})
			w.handler = func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					arrived <- struct{}{}
					<-release
				}
			}
			var all sync.WaitGroup
			for _, from := range []string{member, member, server} {
				client := w.client(from, protocol)
				all.Go(func() {
					if r, err := client.Get("https://" + w.addr + "/slow"); err != nil || r.StatusCode != 200 {
						t.Errorf("one of those taken on: %v", err)
					} else {
						read(t, r)
					}
				})
				<-arrived
			}
			for _, from := range []string{member, server, "127.0.0.4"} {
				client := w.client(from, protocol)
				r, err := client.Get("https://" + w.addr + "/one-more")
				if err != nil {
					t.Fatal(err)
				}
				if body := read(t, r); r.StatusCode != 503 || r.Header.Get("Retry-After") != "1" || !strings.Contains(body, `"OVERLOADED"`) {
					t.Errorf("one too many from %s: %d %s", from, r.StatusCode, body)
				}
				if r, err := client.Get("https://" + w.addr + "/healthcheck"); err != nil || read(t, r) != "" || r.StatusCode != 200 {
					t.Errorf("a health poll from %s: %v", from, err)
				}
			}
			if got := w.metric("enclave_shed_requests_total"); got != 3 {
				t.Errorf("%v requests counted as shed, want 3", got)
			}
			if got := w.metric("enclave_requests_in_flight"); got != 3 {
				t.Errorf("%v requests counted as under way, want 3", got)
			}
			close(release)
			all.Wait()
			w.eventually("room again", func() bool {
				got, err := w.get(w.client(member, protocol))
				return err == nil && got == 200
			})
		})
	}
}

// Bodies that are announced take room before they are sent, so that slow
// senders of long ones cannot fill the memory; one address has a quarter.
func TestAnnouncedBodiesAreCapped(t *testing.T) {
	w := newWorld(t, edge.Config{MaxBody: 1 << 20})
	w.handler = func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	const fits = 16 // of 1 MiB in 16 MiB
	for i := range fits {
		conn := w.mustTLS(member)
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<20)
		w.eventually("it is under way", func() bool { return w.metric("enclave_requests_in_flight") == float64(i+1) })
	}
	if status, _ := w.converse("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"); status != "503" {
		t.Errorf("one more: %s, want 503", status)
	}
	if got, err := w.get(w.client(server, "h2")); got != 200 || err != nil {
		t.Errorf("from another address: %d, %v", got, err)
	}
}

// What a Load has counted in it counts out again, however a request ends.
func TestLoadForgetsNothing(t *testing.T) {
	l := edge.NewLoad(edge.LoadConfig{Max: 1})
	quiet := l.Limit(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), nil)
	for range 3 {
		func() {
			defer func() {
				if p := recover(); p != http.ErrAbortHandler {
					t.Errorf("panic %v, want the handler's", p)
				}
			}()
			quiet.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}()
	}
}

// metric is the sum of a metric's series.
func (w *world) metric(name string) (sum float64) {
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
