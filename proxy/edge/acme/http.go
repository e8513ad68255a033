package acme

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// Limits of the challenge listener: a validator sends one small request.
const (
	httpTime     = 5 * time.Second // from accept to close
	httpBytes    = 4 << 10         // of a request
	httpCallers  = 32              // at once
	acceptFailed = 100 * time.Millisecond
)

// httpChallenge answers validators of HTTP-01 (RFC 8555 section 8.3). To
// anything but the one request that is expected, while it is expected, it
// closes the connection without a byte: there is no server to recognize
// (attack N2). It does not use net/http's server, which answers a bad request
// in its own words.
type httpChallenge struct {
	listener net.Listener
	host     string
	patience time.Duration // with a caller
	callers  chan struct{}
}

func listenHTTP(ctx context.Context, address, host string) (*httpChallenge, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("VEGA_ACME_HTTP_LISTEN: %w; free that port, or use VEGA_ACME_CHALLENGE=tls-alpn-01, which needs no port of its own", err)
	}
	return &httpChallenge{listener: listener, host: host, patience: httpTime, callers: make(chan struct{}, httpCallers)}, nil
}

// serve answers until ctx ends, then closes the listener and waits for the
// last caller.
func (h *httpChallenge) serve(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { _ = h.listener.Close() })()
	var callers sync.WaitGroup
	defer callers.Wait()
	for {
		conn, err := h.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, say
			time.Sleep(acceptFailed)
			continue
		case !h.pending():
			_ = conn.Close()
			continue
		}
		select {
		case h.callers <- struct{}{}:
			callers.Go(func() {
				defer func() { <-h.callers }()
				h.answer(ctx, conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

// pending tells whether a validator is expected.
func (h *httpChallenge) pending() bool {
	_, pending := certmagic.GetACMEChallenge(h.host)
	return pending
}

// answer reads one request and closes the connection.
func (h *httpChallenge) answer(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(h.patience))
	request, err := http.ReadRequest(bufio.NewReaderSize(io.LimitReader(conn, httpBytes), httpBytes))
	if err != nil {
		return
	}
	challenge, pending := certmagic.GetACMEChallenge(h.host)
	if !pending || request.Method != http.MethodGet || request.RequestURI != challenge.HTTP01ResourcePath() || !sameHost(request.Host, h.host) {
		return
	}
	// A failed write is the validator's to notice.
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		len(challenge.KeyAuthorization), challenge.KeyAuthorization)
}

// sameHost compares a Host header, with or without a port, with our host.
func sameHost(header, host string) bool {
	if name, _, err := net.SplitHostPort(header); err == nil {
		header = name
	}
	return strings.EqualFold(strings.Trim(header, "[]"), host)
}
