package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// maxSocketPath is what Linux allows, less what listenOperator adds meanwhile.
const maxSocketPath = 107 - len("/.o1234567890/s")

// listenOperator opens the socket file. What lies there was left by a crash:
// the history's lock says that no other enclave runs.
func listenOperator(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, configError{fmt.Errorf("VEGA_OPERATOR_SOCKET: %s is longer than the %d bytes a socket may have; set it to a shorter path", path, maxSocketPath)}
	}
	if found, err := os.Lstat(path); err == nil && found.Mode().Type() != os.ModeSocket {
		return nil, configError{fmt.Errorf("VEGA_OPERATOR_SOCKET: %s is there and no socket; give another path", path)}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("operator socket: %w", err)
	}
	// Made in a directory that only we may enter, then moved: at no moment
	// can another user connect.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".o")
	if err != nil {
		return nil, fmt.Errorf("operator socket: %w", err)
	}
	defer os.RemoveAll(dir)
	private := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", private)
	if err != nil {
		return nil, fmt.Errorf("operator socket: %w", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(private, 0o600), os.Rename(private, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("operator socket: %w", err), listener.Close())
	}
	return movedListener{listener, path}, nil
}

// movedListener says where its socket is since it was moved.
type movedListener struct {
	net.Listener
	path string
}

func (l movedListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// operatorServer serves the operator's socket. Who connects is told by the
// kernel and kept with the connection.
func operatorServer(path string, h http.Handler, panicked func(), logger *slog.Logger) (*life.Server, error) {
	listener, err := listenOperator(path)
	if err != nil {
		return nil, err
	}
	return life.NewServer("operator", listener, &http.Server{
		Handler: edge.Recover(logger, panicked, h), ErrorLog: edge.ServerLog(logger, "operator"),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: time.Minute,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, caller(c))
		},
	}), nil
}

type callerKey struct{}

// operatorName is who made a request on the operator's socket, for the audit
// log: the user id that the kernel vouches for.
func operatorName(r *http.Request) string {
	name, _ := r.Context().Value(callerKey{}).(string)
	return name
}
