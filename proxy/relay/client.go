package relay

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Config is what an enclave needs to speak to central.
type Config struct {
	Endpoint      string                // central's base, see ParseEndpoint
	AccessKey     string                // names the key; central may know a second one meanwhile
	SecretKey     Secret                // at least 16 bytes
	Roots         *x509.CertPool        // nil: the system's
	SourceAddress netip.Addr            // local address of connections; zero: any
	Metrics       prometheus.Registerer // nil: none
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
	transport := NewTransport(c.Roots, c.SourceAddress)
	client := &Client{
		close: transport.CloseIdleConnections, now: c.Now,
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
	const call = "register"
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

// do sends one request and turns every status but 200 into an *Error.
func (c *Client) do(ctx context.Context, name string, call Call) (*Reply, error) {
	start := c.now()
	reply, err := c.endpoint.Load().Do(ctx, call)
	switch {
	case err != nil:
		err = &TransportError{name, err}
	case reply.Status != http.StatusOK:
		err = newError(reply.Status, reply.Body)
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
