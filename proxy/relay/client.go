package relay

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// Config is what an enclave needs to speak to central.
type Config struct {
	Endpoint      string                // central's base, see ParseEndpoint
	AccessKey     string                // names the key; central may know a second one meanwhile
	SecretKey     Secret                // at least 16 bytes
	Roots         *x509.CertPool        // nil: the system's
	Trust         *outward.Trust        // if not nil, counts instead of Roots
	SourceAddress netip.Addr            // local address of connections; zero: any
	Metrics       prometheus.Registerer // nil: none
	Log           *slog.Logger          // hears of the circuit; nil: nobody
	Now           func() time.Time      // for metrics
}

// Client is an enclave's side of the wire to central. Its methods may be
// called concurrently; each signs once and never repeats by itself. Their
// errors are *Error when central answered and *TransportError when it did not.
type Client struct {
	endpoint atomic.Pointer[Endpoint]
	close    func()
	now      func() time.Time
	seconds  *prometheus.HistogramVec
	breaker  *outward.Breaker
}

// NewClient makes a Client. It does not connect yet. Close it when done.
func NewClient(c Config) (*Client, error) {
	base, err := ParseEndpoint(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("central's endpoint %w", err)
	}
	signer, err := NewSigner(Key{c.AccessKey, c.SecretKey}, EnclaveToCentral)
	if err != nil {
		return nil, err
	}
	if c.Trust == nil {
		c.Trust = outward.NewTrust(c.Roots, nil)
	}
	breaker, err := outward.NewBreaker("central", c.Metrics, c.Log)
	if err != nil {
		return nil, fmt.Errorf("register central's metrics: %w", err)
	}
	transport := NewTransportTo(outward.Config{Secure: outward.Configured, Trust: c.Trust, Source: c.SourceAddress})
	client := &Client{
		breaker: breaker, close: transport.CloseIdleConnections, now: c.Now,
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "enclave", Name: "central_request_duration_seconds", Help: "Requests to central, by call and outcome.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"call", "outcome"}),
	}
	client.endpoint.Store(&Endpoint{Base: base, Signer: signer, Transport: transport})
	if c.Metrics != nil {
		c.Metrics.MustRegister(client.seconds)
	}
	return client, nil
}

// SetKey signs with another key from the next request on. After an error
// nothing changed.
func (c *Client) SetKey(k Key) error {
	signer, err := NewSigner(k, EnclaveToCentral)
	if err != nil {
		return err
	}
	endpoint := *c.endpoint.Load()
	endpoint.Signer = signer
	c.endpoint.Store(&endpoint)
	return nil
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.close() }

// Deliver gives an envelope to central for a recipient and waits for the
// recipient's reply envelope, as long as ctx lasts. Whether the recipient got
// it is not known when there is an error.
func (c *Client) Deliver(ctx context.Context, recipient identity.VASPID, envelope []byte) ([]byte, error) {
	reply, err := c.do(ctx, "deliver", Call{
		Method: http.MethodPost, Path: MessagesPath, Recipient: recipient.String(), MediaType: MediaType, Body: envelope, MaxReply: MaxMessage,
	})
	if err != nil {
		return nil, err
	}
	if reply.MediaType != MediaType {
		return nil, &TransportError{"deliver", errors.New("the reply is not an envelope")}
	}
	return reply.Body, nil
}

// Directory fetches the VASPs that this one is connected with.
func (c *Client) Directory(ctx context.Context) (*Directory, error) {
	const call = "directory"
	reply, err := c.do(ctx, call, Call{Method: http.MethodGet, Path: DirectoryPath, Recipient: ToCentral, MaxReply: maxDirectory})
	if err != nil {
		return nil, err
	}
	d, err := ParseDirectory(reply.Body)
	if err != nil {
		return nil, &TransportError{call, err}
	}
	return d, nil
}

// Register tells central where this enclave is, and that it lives.
func (c *Client) Register(ctx context.Context, r Registration) (*Lease, error) {
	const call = registerCall
	body, err := json.Marshal(r)
	if err != nil {
		return nil, &TransportError{call, err}
	}
	reply, err := c.do(ctx, call, Call{
		Method: http.MethodPut, Path: RegisterPath, Recipient: ToCentral, MediaType: "application/json", Body: body, MaxReply: 4 << 10,
	})
	if err != nil {
		return nil, err
	}
	lease, err := ParseLease(reply.Body)
	if err != nil {
		return nil, &TransportError{call, err}
	}
	return lease, nil
}

// registerCall names the one call that no circuit stops: it is the sign of
// life, has a pause of its own, and central must hear it as soon as it is back.
const registerCall = "register"

// errShort is a call that was not made.
var errShort = errors.New("central failed again and again; asked once a second until it answers")

// do sends one request, unless the last ones all failed.
func (c *Client) do(ctx context.Context, name string, call Call) (reply *Reply, err error) {
	if name == registerCall {
		return c.measured(ctx, name, call)
	}
	made := c.breaker.Do(func() outward.Verdict {
		reply, err = c.measured(ctx, name, call)
		return verdict(ctx, err)
	})
	if !made {
		return nil, &TransportError{name, errShort}
	}
	return reply, err
}

// verdict is what a call tells of central's health. One whose time ran out
// tells nothing: it waited for the recipient, and a slow recipient must not
// part us from all others. What central itself answers is a sign of life, but
// not what a proxy answers in its place.
func verdict(ctx context.Context, err error) outward.Verdict {
	var answered *Error
	switch {
	case err == nil:
		return outward.Well
	case errors.As(err, &answered):
		if answered.Code == CodeUnknown && answered.Status >= http.StatusBadGateway && answered.Status <= http.StatusGatewayTimeout {
			return outward.Failed
		}
		return outward.Well
	case ctx.Err() != nil:
		return outward.Nothing
	}
	return outward.Failed
}

// measured sends one request and turns every status but 200 into an *Error.
func (c *Client) measured(ctx context.Context, name string, call Call) (*Reply, error) {
	start := c.now()
	reply, err := c.endpoint.Load().Do(ctx, call)
	switch {
	case err != nil:
		err = &TransportError{name, err}
	case reply.Status != http.StatusOK:
		err = newError(reply.Status, reply.Body, reply.RetryAfter)
	}
	c.seconds.WithLabelValues(name, outcome(err)).Observe(c.now().Sub(start).Seconds())
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// outcome is a metric's label: ok, refused (central says no), failed (central
// or the recipient cannot now), timeout, canceled, unreachable.
func outcome(err error) string {
	var refused *Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refused) && refused.Status < 500:
		return "refused"
	case refused != nil:
		return "failed"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "unreachable"
}
