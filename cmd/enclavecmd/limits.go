package enclavecmd

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// Limits of the plain listeners (attack N5). Each has its own, so that metrics
// and probes are answered while the backend's is full.
const (
	plainConnections = 4096 // of one listener; more wait until one is closed
	backendInFlight  = 2048
)

func limitConnections(l net.Listener) net.Listener {
	return limited{Listener: netutil.LimitListener(l, plainConnections), socket: l}
}

// limited is a listener with a cap, which still tells what socket it has: see
// edge.Exit.
type limited struct {
	net.Listener
	socket net.Listener
}

func (l limited) SyscallConn() (syscall.RawConn, error) {
	if socket, ok := l.socket.(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// limitBackend refuses requests of the backend at once, with 503 OVERLOADED and
// Retry-After, when more are being answered than can be in time. Its health
// check is answered nevertheless.
func limitBackend(h http.Handler, metrics prometheus.Registerer) http.Handler {
	return edge.NewLoad(edge.LoadConfig{
		Listener: "backend", Max: backendInFlight, Urgent: isHealthPoll, Namespace: "enclave", Metrics: metrics,
	}).Limit(h, nil)
}

// isHealthPoll knows a health check, of central's and of the backend's, below
// whatever path. It costs next to nothing to answer.
func isHealthPoll(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, relay.HealthPath)
}
