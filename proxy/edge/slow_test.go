package edge_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// slowKinds are clients that hold what they got for as long as they may. Each
// opens its connection, says the first part, and then a byte at a time.
var slowKinds = []struct {
	name, first, rest string
	reads             bool // takes the answer
}{
	{"handshake", "", "", false},
	{"header", "GET / HTTP/1.1\r\nHost: x\r\nX: ", "x", true},
	{"body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4096\r\n\r\n", "x", true},
	{"read", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", "", false},
}

// Slow clients from addresses on the list cost a place each until their time is
// up, and strangers do not even that: a call of central's beside them is
// answered as if they were not there, and memory stays bounded (attack N5).
func TestSlowClientsCostLittle(t *testing.T) {
	slow, calls, strangers := 300, 200, 500
	if os.Getenv("TORTURE") != "" {
		slow, calls, strangers = 2000, 2000, 15_000
	}
	w := newWorld(t, edge.Config{MaxConns: 4096, MaxConnsPerSource: 1024})
	large := make([]byte, 8<<20) // more than the sockets' buffers hold
	w.handler = func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = rw.Write(large)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, "here")
	}
	honest := w.client(server, "http/1.1")
	alone := w.timed(honest, calls)
	before := residentMiB(t)

	stop := make(chan struct{})
	var all sync.WaitGroup
	closed := make([]int, len(slowKinds)) // by the listener, guarded by mu
	var mu sync.Mutex
	var open sync.WaitGroup
	for i := range slow {
		kind := i % len(slowKinds)
		from := []string{member, "127.0.0.4"}[i/len(slowKinds)%2]
		open.Add(1)
		all.Go(func() {
			conn := w.slowly(from, kind)
			open.Done()
			if conn == nil {
				return
			}
			defer conn.Close()
			if linger(conn, slowKinds[kind].rest, slowKinds[kind].reads, stop) {
				mu.Lock()
				closed[kind]++
				mu.Unlock()
			}
		})
	}
	open.Wait()
	all.Go(func() { w.knock(strangers, stop) })
	beside := w.timed(honest, calls)
	grown := residentMiB(t) - before
	t.Logf("%d slow clients, and strangers: p50 of a call %s (alone %s), p99 %s (alone %s); memory of clients and server together grew by %d MiB",
		slow, at(beside, 50), at(alone, 50), at(beside, 99), at(alone, 99), grown)
	if grown > 256 {
		t.Errorf("memory grew by %d MiB, want at most 256", grown)
	}
	if os.Getenv("TORTURE") != "" && at(beside, 99) > 50*time.Millisecond {
		t.Errorf("p99 of a call is %s, want less than 50 ms", at(beside, 99))
	}
	// Nobody keeps a place for longer than the handshake and the header may take.
	w.eventually("slow handshakes and headers are closed", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return closed[0] >= slow/len(slowKinds) && closed[1] >= slow/len(slowKinds)
	})
	close(stop)
	all.Wait()
	w.eventually("all places are given back but the honest client's", func() bool { return w.open() <= 1 })
}

// slowly opens a connection and says its first part, as the kind does.
func (w *world) slowly(from string, kind int) net.Conn {
	raw, err := dialerFrom(from).DialContext(w.t.Context(), "tcp", w.addr)
	if err != nil {
		w.t.Errorf("slow client: %v", err)
		return nil
	}
	if slowKinds[kind].name == "handshake" {
		_, _ = raw.Write([]byte{22}) // the first byte of a record
		return raw
	}
	conn := tls.Client(raw, &tls.Config{RootCAs: w.roots, ServerName: server})
	if _, err := io.WriteString(conn, slowKinds[kind].first); err != nil {
		w.t.Errorf("slow %s: %v", slowKinds[kind].name, err)
	}
	return conn
}

// linger says a byte now and then until the other end closes or stop is
// closed, and tells which of the two it was.
func linger(conn net.Conn, say string, reads bool, stop <-chan struct{}) (closed bool) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return false
		case <-tick.C:
		}
		if _, err := io.WriteString(conn, say); say != "" && err != nil {
			return true
		}
		if reads || say == "" && !isTLS(conn) {
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := conn.Read(make([]byte, 512)); err != nil && !os.IsTimeout(err) {
				return true
			}
		}
	}
}

func isTLS(conn net.Conn) bool { _, ok := conn.(*tls.Conn); return ok }

// knock connects n times from an address on no list.
func (w *world) knock(n int, stop <-chan struct{}) {
	for range n {
		select {
		case <-stop:
			return
		default:
		}
		conn, err := dialerFrom(stranger).DialContext(w.t.Context(), "tcp", w.addr)
		if err != nil {
			continue // reset already
		}
		_, _ = conn.Read(make([]byte, 1))
		conn.Close()
	}
}

// timed makes n calls one after the other, with a pause between them.
func (w *world) timed(client *http.Client, n int) (took []time.Duration) {
	w.t.Helper()
	for range n {
		start := time.Now()
		if status, err := w.get(client); status != http.StatusOK || err != nil {
			w.t.Fatalf("an honest call: %d, %v", status, err)
		}
		took = append(took, time.Since(start))
		time.Sleep(2 * time.Millisecond) // the calls are spread over what the others do
	}
	slices.Sort(took)
	return took
}

// at is a percentile of what is sorted.
func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[len(sorted)*percent/100]
}

// open is the number of connections that the listener says are open.
func (w *world) open() float64 {
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "enclave_open_connections" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return -1
}

// residentMiB is this process's memory as the system sees it.
func residentMiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}
