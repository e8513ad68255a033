package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Exit ends an HTTP server without failing a request that was taken. Take
// comes first, before the server serves; Leave and Drain may be called
// concurrently with everything.
type Exit struct {
	server   *http.Server
	listener *lastListener
	leaving  atomic.Bool
	requests atomic.Int64

	mu      sync.Mutex
	fresh   map[net.Conn]time.Time // connections that have not asked anything yet, since when
	working map[net.Conn]bool      // connections with a request in progress
}

// Take makes a server one that can leave, and gives the listener for it to
// serve. Handler and ConnState of the server must be set before, and not
// changed afterwards.
func (x *Exit) Take(server *http.Server, l net.Listener) net.Listener {
	x.fresh, x.working = make(map[net.Conn]time.Time), make(map[net.Conn]bool)
	x.server, x.listener = server, &lastListener{Listener: l, closed: make(chan struct{})}
	server.Handler = x.count(server.Handler)
	before := server.ConnState
	server.ConnState = func(c net.Conn, s http.ConnState) {
		x.see(c, s)
		if before != nil {
			before(c, s)
		}
	}
	return x.listener
}

// count counts the requests in progress, and tells callers that we leave.
func (x *Exit) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.requests.Add(1)
		defer x.requests.Add(-1)
		if x.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

func (x *Exit) see(c net.Conn, s http.ConnState) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.fresh, c)
	delete(x.working, c)
	switch s {
	case http.StateNew:
		x.fresh[c] = time.Now()
	case http.StateActive:
		x.working[c] = true
	}
}

// silence is how long a new connection may say nothing before it is taken for
// one that has nothing to say, as some clients open more than they need.
const silence = 5 * time.Second

// busy tells whether a request is in progress or to be expected.
func (x *Exit) busy() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, since := range x.fresh {
		if time.Since(since) < silence {
			return true
		}
	}
	return len(x.working) > 0
}

// Leave asks every caller, with its next answer, to open a new connection: by
// Connection: close in HTTP/1.1, which is GOAWAY in HTTP/2. An idle connection
// is not touched, since its next request may be on the way.
func (x *Exit) Leave() { x.leaving.Store(true) }

// CutOffError says that requests were still in progress when the time for them
// was over.
type CutOffError struct {
	Listener string
	Requests int64
	After    time.Duration
}

func (e *CutOffError) Error() string {
	return fmt.Sprintf("%s listener: %d requests still in progress after %s were cut off", e.Listener, e.Requests, e.After)
}

// Drain stops listening and waits for requests in progress, for as long as
// grace. Connections that the kernel has accepted and the server has not yet
// are served too, where the system can tell (Linux). The error is a
// *CutOffError when not every request came to its end.
//
// http.Server.Shutdown comes last: from then on the server drops a request
// that it has just read.
func (x *Exit) Drain(name string, grace time.Duration) error {
	x.Leave()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	admitLast(ctx, x.listener)
	x.listener.shut()
	x.settle(ctx)
	err := x.server.Shutdown(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	cut := x.requests.Load()
	_ = x.server.Close()
	if cut == 0 { // a connection that never asked anything
		return nil
	}
	return &CutOffError{name, cut, grace}
}

// settle waits until no request is in progress or to be expected.
func (x *Exit) settle(ctx context.Context) {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for x.busy() {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// lastListener is a listener whose last connections are served before it
// closes, see admitLast.
type lastListener struct {
	net.Listener
	closing atomic.Bool
	closed  chan struct{} // closed with the server
	once    sync.Once
}

// Accept gives a connection that is not bound by what its listener was told.
// Once the port is closed it waits for Close, so that the server does not take
// it for a failure.
func (l *lastListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && l.closing.Load() {
		<-l.closed
	}
	if err == nil && l.closing.Load() {
		letTalk(conn)
	}
	return conn, err
}

// shut closes the port.
func (l *lastListener) shut() {
	l.closing.Store(true)
	_ = l.Listener.Close()
}

// Close is what the server calls at its end.
func (l *lastListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	if l.closing.Load() {
		return nil
	}
	return l.Listener.Close()
}

// SetMaxConns changes how many connections may be open from the next one on;
// those that are open stay.
func (e *Listener) SetMaxConns(n int) {
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	e.gate.config.MaxConns = n
}
