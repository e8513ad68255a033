package sandbox

import (
	"context"
	"net/http"
)

// WrapTransport puts a transport around the one that all calls to enclaves and
// robots go through.
func WrapTransport(wrap func(http.RoundTripper) http.RoundTripper) {
	client.Transport = wrap(client.Transport)
}

// StartAuthority starts the local certificate authority alone.
func (a *Alliance) StartAuthority(ctx context.Context) error { return a.startAuthority(ctx) }

// StopAuthority ends it.
func (a *Alliance) StopAuthority() error { return a.issuer.Kill() }
