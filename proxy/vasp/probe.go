package vasp

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// probeTimeout bounds the look at one host.
const probeTimeout = 2 * time.Second

// Probe connects to each configured host once, with TLS where the URL says so,
// and hangs up without asking anything (contract 3.0: the scan at boot). What
// it returns are warnings for the log: they name the APIs, the host and the
// cause, and hold no path and no token. None means that all can be reached.
func (c *Client) Probe(ctx context.Context) []error {
	hosts := c.hosts()
	found := make([]error, len(hosts))
	var wait sync.WaitGroup
	for i, h := range hosts {
		wait.Go(func() { found[i] = h.probe(ctx, c.transport) })
	}
	wait.Wait()
	return slices.DeleteFunc(found, func(err error) bool { return err == nil })
}

// Greet asks each configured API, by a GET, which none of them has, with the
// header of every call. It says which cannot be reached, which refuse the token
// (401, 403) and which redirect. Some backends say that there is no such method
// (404, 405) before they look at a token; then whether they take it is unknown,
// and unsure. It is for an operator, not for the start: a backend may log it.
func (c *Client) Greet(ctx context.Context) (found []error, unsure bool) {
	for _, e := range []*endpoint{c.account, c.user, c.transaction, c.callback} {
		if e.url == nil {
			continue
		}
		code, err := c.greet(ctx, e)
		if err != nil {
			found = append(found, err)
		}
		unsure = unsure || code == http.StatusNotFound || code == http.StatusMethodNotAllowed
	}
	return found, unsure
}

func (c *Client) greet(ctx context.Context, e *endpoint) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r := e.request(ctx, nil)
	r.Method, r.Body, r.GetBody = http.MethodGet, nil, nil
	r.Header.Del("Content-Type")
	answer, err := c.transport.RoundTrip(r)
	if err != nil {
		return 0, fmt.Errorf("vasp %s api at %s: %w", e.api, e.address(), err)
	}
	defer answer.Body.Close()
	switch code = answer.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return code, fmt.Errorf("vasp %s api at %s refuses the token with %d: VEGA_VERIFICATION_AUTHORIZATION_TOKEN must be the one it knows, and VEGA_VERIFICATION_AUTHORIZATION_KEY the header it looks in", e.api, e.address(), code)
	case code >= 300 && code < 400:
		return code, fmt.Errorf("vasp %s api at %s answers with a redirect (%d), which is never followed: give the URL that it leads to", e.api, e.address(), code)
	}
	return code, nil
}

// host is an address and the APIs behind it.
type host struct {
	address string
	tls     bool
	apis    []string
}

func (c *Client) hosts() (list []*host) {
	for _, e := range []*endpoint{c.account, c.user, c.transaction, c.callback} {
		if e.url == nil {
			continue
		}
		h := &host{address: e.address(), tls: e.url.Scheme == "https"}
		i := slices.IndexFunc(list, func(o *host) bool { return o.address == h.address && o.tls == h.tls })
		if i < 0 {
			i, list = len(list), append(list, h)
		}
		list[i].apis = append(list[i].apis, e.api)
	}
	return list
}

func (h *host) probe(ctx context.Context, t *http.Transport) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	dial := t.DialContext
	if h.tls {
		dial = t.DialTLSContext
	}
	conn, err := dial(ctx, "tcp", h.address)
	if err != nil {
		return h.warn(err)
	}
	// That it hangs up is no news.
	_ = conn.Close()
	return nil
}

func (h *host) warn(err error) error {
	return fmt.Errorf("vasp %s api at %s: %v", strings.Join(h.apis, ", "), h.address, err)
}
