package vasp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// endpoint is one API's URL and the header that it, and only it, is sent.
type endpoint struct {
	api      string
	url      *url.URL // nil when not configured
	deadline time.Duration
	// repeatable calls may reach the backend twice without harm: they ask, or
	// are callbacks, which the contract calls idempotent. The transport then
	// asks again when a kept connection turns out to be closed.
	repeatable bool
	breaker    *outward.Breaker // nil when not configured

	credential *atomic.Pointer[credential] // of all endpoints of a Client
}

// credential is the header that the token travels in.
type credential struct {
	header string  // "" for none
	value  *string // points, so that no dump of a Client shows it
}

// newEndpoint reads one API's URL. http is allowed to any host by anyHTTP,
// else to this machine.
func newEndpoint(api, raw string, anyHTTP bool) (*endpoint, error) {
	e := &endpoint{api: api, deadline: deadlines[api], repeatable: api != apiUser}
	if raw == "" {
		return e, nil
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, fmt.Errorf("vasp %s api: not a full url; write it as https://host/path", api)
	case u.User != nil:
		return nil, fmt.Errorf("vasp %s api: the url holds a user name or password; use the authorization token", api)
	case u.Fragment != "":
		return nil, fmt.Errorf("vasp %s api: the url has a fragment; take # and what follows out", api)
	case u.Scheme == "https":
	case u.Scheme != "http":
		return nil, fmt.Errorf("vasp %s api: the url must begin with https", api)
	case !anyHTTP && !outward.ThisMachine(u.Hostname()):
		return nil, fmt.Errorf("vasp %s api: http leaves this machine; use https, or allow it by the setting that says unsafe", api)
	}
	e.url = u
	return e, nil
}

// address is the host and port that the endpoint's connections go to.
func (e *endpoint) address() string {
	port := e.url.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[e.url.Scheme]
	}
	return net.JoinHostPort(e.url.Hostname(), port)
}

func (e *endpoint) fail(p Problem) error { return &Error{API: e.api, Problem: p} }

func (e *endpoint) request(ctx context.Context, body []byte) *http.Request {
	r := &http.Request{
		Method: http.MethodPost,
		URL:    e.url,
		Host:   e.url.Host,
		Header: http.Header{
			"Content-Type": {"application/json"},
			"Accept":       {"application/json"},
			"User-Agent":   {"vasp-enclave"},
		},
		Body:          io.NopCloser(bytes.NewReader(body)),
		GetBody:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		ContentLength: int64(len(body)),
	}
	if c := e.credential.Load(); c.header != "" {
		r.Header[c.header] = []string{*c.value}
	}
	if e.repeatable {
		r.Header["Idempotency-Key"] = nil // not sent; tells the transport
	}
	return r.WithContext(ctx)
}

// exchange sends body and gives the bytes of a 200 answer in JSON.
func (c *Client) exchange(ctx context.Context, e *endpoint, body []byte) ([]byte, error) {
	if e.url == nil {
		return nil, e.fail(NotConfigured)
	}
	ctx, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	var w witness
	// The transport alone, without http.Client: no redirects, no cookies.
	resp, err := c.transport.RoundTrip(e.request(w.watch(ctx, e.repeatable), body))
	if err != nil {
		return nil, e.fail(w.problem(ctx))
	}
	defer resp.Body.Close()
	if problem := judge(resp); problem != 0 {
		drain(resp.Body)
		return nil, &Error{API: e.api, Problem: problem, Code: code(problem, resp)}
	}
	answer, err := readBounded(resp)
	switch {
	case err != nil:
		return nil, e.fail(w.problem(ctx))
	case len(answer) > maxAnswer:
		return nil, e.fail(TooLarge)
	}
	return answer, nil
}

func code(p Problem, resp *http.Response) int {
	if p == Status || p == Redirect {
		return resp.StatusCode
	}
	return 0
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

func readBounded(resp *http.Response) ([]byte, error) {
	var b bytes.Buffer
	if n := resp.ContentLength; n > 0 {
		b.Grow(int(min(n, maxAnswer)) + bytes.MinRead)
	}
	_, err := b.ReadFrom(io.LimitReader(resp.Body, maxAnswer+1))
	return b.Bytes(), err
}

// drain reads the rest of a short answer that nobody wants, so that its
// connection can be used again.
func drain(body io.Reader) { io.CopyN(io.Discard, body, 16<<10) }

// witness sees whether a request may have reached the backend.
type witness struct{ connected atomic.Bool }

// watch hears of connections. When the transport tries again, a connection
// before carried nothing, unless the call is repeatable.
func (w *witness) watch(ctx context.Context, repeatable bool) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) {
			if !repeatable {
				w.connected.Store(false)
			}
		},
		GotConn: func(httptrace.GotConnInfo) { w.connected.Store(true) },
	})
}

// problem is why there is no answer. The error's own text is not asked: it
// holds addresses, and the same end of a connection has many texts.
func (w *witness) problem(ctx context.Context) Problem {
	switch {
	case !w.connected.Load():
		return Unreachable
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Timeout
	}
	return Broken
}
