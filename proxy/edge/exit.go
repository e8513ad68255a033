package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Exit ends an HTTP server without failing a request that was taken. The
// server's handler is what Wrap gives, and its ConnState is Track. The zero
// Exit is ready to use; its methods may be called concurrently.
type Exit struct {
	leaving  atomic.Bool
	requests atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]connState
}

// connState is what a connection does, and since when.
type connState struct {
	is    http.ConnState
	since time.Time
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

// Track follows the server's connections.
func (x *Exit) Track(c net.Conn, s http.ConnState) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s == http.StateClosed || s == http.StateHijacked {
		delete(x.conns, c)
		return
	}
	if x.conns == nil {
		x.conns = make(map[net.Conn]connState)
	}
	x.conns[c] = connState{s, time.Now()}
}

// A connection that is new, or has just been used, may bring a request that
// was sent already.
const (
	freshNew  = 5 * time.Second
	freshIdle = 250 * time.Millisecond
)

// busy says whether a request is in progress or may be on its way.
func (x *Exit) busy(now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.conns {
		age := now.Sub(c.since)
		if c.is == http.StateActive || c.is == http.StateNew && age < freshNew || c.is == http.StateIdle && age < freshIdle {
			return true
		}
	}
	return false
}

// settle waits until no connection is busy. http.Server cannot do that: from
// the moment of Shutdown it drops the requests it reads.
func (x *Exit) settle(ctx context.Context) {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for looks := 0; looks < 2 || x.busy(time.Now()); looks++ { // twice: a connection just accepted has to become known
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
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

// ListenTCP opens a socket that Drain can close without a reset: not a
// multipath one, as Go opens by default, which takes no filter. The error says
// what to do.
func ListenTCP(ctx context.Context, address string) (net.Listener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, cannotListen(err)
	}
	return l, nil
}

// cannotListen says what to do about it.
func cannotListen(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; stop what listens there, or choose another port", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w; this machine has no such address", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w; choose a port above 1023, or let the program have CAP_NET_BIND_SERVICE", err)
	}
	return err
}

// Drain stops listening and waits for requests in progress, for as long as
// grace. Connections that the kernel has accepted and the server has not yet
// are served too, where the system can tell (Linux). The error is a
// *CutOffError when not every request came to its end.
func (x *Exit) Drain(name string, server *http.Server, listener net.Listener, grace time.Duration) error {
	x.Leave()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	admitLast(ctx, listener)
	_ = listener.Close() // upon which Serve returns, and connections go on
	x.settle(ctx)
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

// SetMaxConns changes how many connections may be open, and requests in
// progress, from the next one on; those that are there stay.
func (e *Listener) SetMaxConns(n int) {
	e.gate.mu.Lock()
	e.gate.config.MaxConns = n
	e.gate.mu.Unlock()
	e.load.setMax(n)
}
