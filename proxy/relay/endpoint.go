package relay

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// ParseEndpoint reads the URL of a registered base: https, a host, and
// perhaps a path under which the wire's own paths lie. A slash at its end does
// not count.
func ParseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, len(text) > 512:
		return nil, errors.New("is not a URL; write it as https://host/path")
	case u.Scheme != "https":
		return nil, errors.New("must begin with https://")
	case u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("must name a host, as in https://host/path")
	case u.User != nil:
		return nil, errors.New("must not hold a user name or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("must not have a query or fragment: take ? or # and what follows out")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if !isPlainPath(u) {
		return nil, errors.New("must have a plain path: letters, digits and - . _ ~ between single slashes, and no . or .. in it")
	}
	return u, nil
}

// isPlainPath tells whether a path has one spelling only, so that nobody on
// the way can write it otherwise and break the signature.
func isPlainPath(u *url.URL) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	if u.RawPath != "" {
		return false
	}
	if u.Path == "" {
		return true
	}
	for segment := range strings.SplitSeq(u.Path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, letters) != "" {
			return false
		}
	}
	return true
}

// Below cuts the path of the registered base off each request, if it is
// there: a proxy in front may have done so already. The signature covers what
// is below.
func Below(base *url.URL, next http.Handler) http.Handler {
	path := strings.TrimRight(base.Path, "/")
	if path == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, ok := strings.CutPrefix(r.URL.Path, path)
		if ok && strings.HasPrefix(rest, "/") {
			u := *r.URL
			u.Path, u.RawPath = rest, strings.TrimPrefix(u.RawPath, path)
			r = r.WithContext(r.Context())
			r.URL = &u
		}
		next.ServeHTTP(w, r)
	})
}

// NewTransport makes connections for this wire to an endpoint that the
// operator configured. Roots nil takes the system's; source binds the local
// address, if valid, since allow lists judge by it.
func NewTransport(roots *x509.CertPool, source netip.Addr) *http.Transport {
	return NewTransportTo(outward.Config{Secure: outward.Configured, Trust: outward.NewTrust(roots, nil), Source: source})
}

// NewTransportTo makes connections for this wire: https only, many of them
// kept open. What the wire itself decides is set here; addresses and trust are
// the caller's.
func NewTransportTo(c outward.Config) *http.Transport {
	c.Plain, c.Socket = 0, ""
	c.IdleTimeout = 90 * time.Second // less than the listener's 120 s
	c.MaxIdle, c.MaxConns = 512, 0
	c.MaxHeader = 16 << 10
	c.Buffer = 16 << 10 // an envelope in one system call
	return outward.NewTransport(c)
}

// Endpoint is the other end of the wire: where it is and how requests to it
// are signed. It may be used concurrently.
type Endpoint struct {
	Base      *url.URL // from ParseEndpoint
	Signer    *Signer
	Transport http.RoundTripper // follows no redirect, which no client of ours does
}

// Call is one request.
type Call struct {
	Method    string
	Path      string // below the base
	Recipient string // VASP id, or ToCentral
	MediaType string // of the body; "" without one
	Body      []byte
	MaxReply  int64 // bytes; more is an error
}

// Reply is an answer of any status, read to its end.
type Reply struct {
	Status     int
	MediaType  string
	Body       []byte
	RetryAfter time.Duration // that the answer asks to wait; zero when it does not say
}

// Do signs and sends one request. It never repeats one: the nonce is spent.
func (e *Endpoint) Do(ctx context.Context, c Call) (*Reply, error) {
	target := *e.Base
	target.Path += c.Path
	r, err := http.NewRequestWithContext(ctx, c.Method, target.String(), bytes.NewReader(c.Body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("User-Agent", "vasp-enclave")
	if c.MediaType != "" {
		r.Header.Set("Content-Type", c.MediaType)
	}
	if err := e.Signer.Sign(r, c.Path, c.Recipient, c.Body); err != nil {
		return nil, err
	}
	response, err := e.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return readReply(response, c.MaxReply)
}

func readReply(r *http.Response, most int64) (*Reply, error) {
	if r.ContentLength > most {
		return nil, fmt.Errorf("reply is longer than %d bytes", most)
	}
	body, err := readAll(http.MaxBytesReader(nil, r.Body, most), r.ContentLength)
	if err != nil {
		return nil, fmt.Errorf("read reply: %w", err)
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return &Reply{Status: r.StatusCode, MediaType: mediaType, Body: body, RetryAfter: parseRetryAfter(r.Header.Get("Retry-After"))}, nil
}
