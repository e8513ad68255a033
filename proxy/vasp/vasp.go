// Package vasp calls the APIs that a VASP's own backend offers its enclave
// (contract section 3): verify an account, verify a user, tell a transaction's
// status, take a callback.
//
// The backend is trusted with personal data and not with the enclave's life:
// every call has a deadline and a bounded answer that is read strictly, and a
// failure is one of a few Problems (attack V3). The token goes to the
// configured URLs and nowhere else: redirects are answers like any other, no
// proxy is asked, and no error, log or dump holds it (attack V1). An API that
// fails again and again is asked once a second until it answers.
package vasp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// Config is how to reach the VASP's backend.
type Config struct {
	// Account, Verification, Transaction and Callback are full URLs, https or,
	// on this machine only, http. The last two may be empty: calling one that
	// is fails with NotConfigured.
	Account, Verification, Transaction, Callback string
	// Socket, if not empty, is the path of a Unix socket at which the backend
	// listens: every http URL's connections are made to it.
	Socket string
	// UnsafeHTTP allows http to other machines: personal data and the token
	// then cross the network in clear.
	UnsafeHTTP bool

	// Token goes along as `Authorization: Bearer <token>`, or, when HeaderName
	// is set, as `<HeaderName>: <token>`. Without a token there is no such
	// header (contract 3.0).
	Token      Token
	HeaderName string

	// Roots are the authorities that may vouch for the backend; nil means the
	// system's.
	Roots *x509.CertPool
	// Trust, if not nil, counts instead of Roots: it may hold a client
	// certificate and be replaced.
	Trust *outward.Trust
	// KeepAlive is how long an idle connection is kept, which should be
	// shorter than the backend keeps it; 0 means 4 s.
	KeepAlive time.Duration

	// Now is the clock for measuring; nil means time.Now.
	Now func() time.Time
	// Metrics takes enclave_vasp_api_seconds and the circuits' state; nil
	// means nobody measures.
	Metrics prometheus.Registerer
	// Log hears of circuits that open and close; nil means nobody.
	Log *slog.Logger
}

// The APIs as errors and metrics name them.
const (
	apiAccount     = "account"
	apiUser        = "user"
	apiTransaction = "transaction"
	apiCallback    = "callback"
)

// deadlines are the contract's (3.0), from before dialling to the last byte of
// the answer.
var deadlines = map[string]time.Duration{
	apiAccount:     time.Second,
	apiUser:        5 * time.Second,
	apiTransaction: time.Second,
	apiCallback:    time.Second,
}

// Client calls one VASP's backend. Its methods may be called concurrently.
// They send the body they are given as it is, end at the contract's deadline
// or the context's, whichever is first, and fail with *Error.
type Client struct {
	account, user, transaction, callback *endpoint

	headerName string
	credential *atomic.Pointer[credential]

	transport *http.Transport
	now       func() time.Time
	seconds   *prometheus.HistogramVec
}

// New makes a client. It connects to nobody. Errors name the API or the header
// that is wrong, and hold neither a URL nor the token.
func New(cfg Config) (*Client, error) {
	c := &Client{headerName: cfg.HeaderName, credential: new(atomic.Pointer[credential]), transport: newTransport(cfg), now: cfg.Now, seconds: newSeconds()}
	if err := c.SetToken(cfg.Token); err != nil {
		return nil, err
	}
	if c.now == nil {
		c.now = time.Now
	}
	for _, e := range []struct {
		at       **endpoint
		api, url string
		needed   bool
	}{
		{&c.account, apiAccount, cfg.Account, true},
		{&c.user, apiUser, cfg.Verification, true},
		{&c.transaction, apiTransaction, cfg.Transaction, false},
		{&c.callback, apiCallback, cfg.Callback, false},
	} {
		endpoint, err := newEndpoint(e.api, e.url, cfg.UnsafeHTTP || cfg.Socket != "")
		if err != nil {
			return nil, err
		}
		if e.needed && e.url == "" {
			return nil, fmt.Errorf("vasp %s api: has no url", e.api)
		}
		endpoint.credential = c.credential
		*e.at = endpoint
		if e.url == "" {
			continue
		}
		if endpoint.breaker, err = outward.NewBreaker(e.api, cfg.Metrics, cfg.Log); err != nil {
			return nil, fmt.Errorf("register vasp api metrics: %w", err)
		}
	}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(c.seconds); err != nil {
			return nil, fmt.Errorf("register vasp api metrics: %w", err)
		}
	}
	return c, nil
}

// CheckToken says whether SetToken would take it.
func (c *Client) CheckToken(t Token) error {
	_, _, err := authorization(c.headerName, t)
	return err
}

// SetToken sends another token from the next call on, in the same header.
// After an error nothing changed.
func (c *Client) SetToken(t Token) error {
	header, value, err := authorization(c.headerName, t)
	if err != nil {
		return err
	}
	c.credential.Store(&credential{header, value})
	return nil
}

// Close closes the connections that nobody uses.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

func newSeconds() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "enclave_vasp_api_seconds",
		Help:    "Time of one call of the VASP's own APIs, from asking for a connection to the last byte.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, []string{"api", "outcome"})
}

// call makes one call, unless the last ones all failed. One that is not made
// fails with Unreachable, which is certain that the backend was not asked.
func (c *Client) call(ctx context.Context, e *endpoint, body []byte, read func(answer []byte) error) (err error) {
	if e.url == nil {
		return c.measured(ctx, e, body, read)
	}
	made := e.breaker.Do(func() outward.Verdict {
		err = c.measured(ctx, e, body, read)
		return verdict(ctx, err)
	})
	if !made {
		return e.fail(Unreachable)
	}
	return err
}

// verdict is what a call tells of the backend's health. A caller that gave up
// tells nothing; an answer is a sign of life, but for what proxies answer in
// the place of a backend that is away.
func verdict(caller context.Context, err error) outward.Verdict {
	var failed *Error
	if !errors.As(err, &failed) {
		return outward.Well
	}
	switch failed.Problem {
	case Unreachable, Timeout, Broken:
		if caller.Err() != nil {
			return outward.Nothing
		}
		return outward.Failed
	case Status:
		if failed.Code == http.StatusBadGateway || failed.Code == http.StatusServiceUnavailable || failed.Code == http.StatusGatewayTimeout {
			return outward.Failed
		}
	}
	return outward.Well
}

// measured makes one call and measures it.
func (c *Client) measured(ctx context.Context, e *endpoint, body []byte, read func(answer []byte) error) error {
	begun := c.now()
	answer, err := c.exchange(ctx, e, body)
	if err == nil {
		err = read(answer)
	}
	outcome := "ok"
	var failed *Error
	if errors.As(err, &failed) {
		outcome = failed.Problem.String()
	}
	c.seconds.WithLabelValues(e.api, outcome).Observe(c.now().Sub(begun).Seconds())
	return err
}
