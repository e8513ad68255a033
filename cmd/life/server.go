package life

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// Server is one plain HTTP listener that can leave without failing a request.
type Server struct {
	Name     string
	listener net.Listener
	http     *http.Server
	exit     edge.Exit
}

// NewServer takes over a listener and an http.Server without a listener.
func NewServer(name string, l net.Listener, h *http.Server) *Server {
	s := &Server{Name: name, http: h}
	s.listener = s.exit.Take(h, l)
	return s
}

// Addr is the address listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Leave asks callers to open new connections, see edge.Exit.
func (s *Server) Leave() { s.exit.Leave() }

// Serve answers until ctx ends; then it stops listening and finishes what is
// in progress, within grace. The error is an *edge.CutOffError when not all
// was finished, or says that the socket failed.
func (s *Server) Serve(ctx context.Context, grace time.Duration) error {
	stopped := make(chan error, 1)
	go func() { stopped <- s.http.Serve(s.listener) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("%s listener: %w", s.Name, err)
	case <-ctx.Done():
	}
	err := s.exit.Drain(s.Name, grace)
	if served := <-stopped; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// Close stops listening, for a Server that is never served.
func (s *Server) Close() error { return s.listener.Close() }

// Linger waits for delay when the cause of ctx's end asks for it, see Waits,
// or until failed ends.
func Linger(ctx, failed context.Context, delay time.Duration) {
	if delay <= 0 || !Waits(context.Cause(ctx)) {
		return
	}
	wait := time.NewTimer(delay)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-failed.Done():
	}
}
