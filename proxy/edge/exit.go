package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Exit ends an HTTP server without failing a request that was taken. The
// server's handler is what Wrap gives, and its listener what Listener gives. The zero Exit is ready to use; its
// methods may be called concurrently.
type Exit struct {
	leaving  atomic.Bool
	requests atomic.Int64
	listener *lastListener
}

// Leave asks every caller, with its next answer, to open a new connection: by
// Connection: close in HTTP/1.1, which is GOAWAY in HTTP/2. An idle connection
// is not touched, since its next request may be on the way.
func (x *Exit) Leave() { x.leaving.Store(true) }

// Wrap counts the requests in progress, and tells callers that we leave.
func (x *Exit) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.requests.Add(1)
		defer x.requests.Add(-1)
		if x.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

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

// lastListener is a listener whose last connections are served before it
// closes, see admitLast.
type lastListener struct {
	net.Listener
	closing atomic.Bool
}

// Accept gives a connection that is not bound by what its listener was told.
func (l *lastListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil && l.closing.Load() {
		letTalk(conn)
	}
	return conn, err
}

// Listener is l as Drain wants it: the server must serve what this gives.
func (x *Exit) Listener(l net.Listener) net.Listener {
	x.listener = &lastListener{Listener: l}
	return x.listener
}

// Drain stops listening and waits for requests in progress, for as long as
// grace. Connections that the kernel has accepted and the server has not yet
// are served too, where the system can tell (Linux). The error is a
// *CutOffError when not every request came to its end.
func (x *Exit) Drain(name string, server *http.Server, grace time.Duration) error {
	x.Leave()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	admitLast(ctx, x.listener)
	err := server.Shutdown(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	cut := x.requests.Load()
	_ = server.Close()
	if cut == 0 { // a connection that never asked anything
		return nil
	}
	return &CutOffError{name, cut, grace}
}

// SetMaxConns changes how many connections may be open from the next one on;
// those that are open stay.
func (e *Listener) SetMaxConns(n int) {
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	e.gate.config.MaxConns = n
}
