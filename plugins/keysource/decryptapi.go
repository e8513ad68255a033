package keysource

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

const (
	// callTime bounds one call, from dialling to the last byte of the answer.
	// The contract gives none; what stands behind the API may be slow to wake.
	callTime = 15 * time.Second
	// maxAnswer bounds an answer, in bytes: a key is 32, a sealed one 1,168.
	maxAnswer = 16 << 10
)

// DecryptAPI is "decrypt-api:https://host/path": the API of contract 3.5. It
// is sent the configured text, a wrapped key or the name of one, and answers
// with the key.
//
// Who asks must be proven to it (attack S5), by a token, a client certificate
// or both: the text alone is no secret. It is asked by https, or http on this
// machine; no redirect is followed and no proxy asked, so that the token
// reaches that URL and nothing else.
func DecryptAPI(_ context.Context, u *url.URL) (plugins.KeySource, error) {
	endpoint, err := url.Parse(u.Opaque)
	switch {
	case err != nil, u.Opaque == "", endpoint.Hostname() == "", endpoint.Scheme != "https" && endpoint.Scheme != "http":
		return nil, errors.New("must be decrypt-api:https://host/path")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || endpoint.User != nil:
		return nil, errors.New("must be decrypt-api:https://host/path, without user, query and fragment")
	}
	return &decryptAPI{endpoint: endpoint}, nil
}

type decryptAPI struct {
	endpoint *url.URL
	call     plugins.KeyCall
}

var _ plugins.RemoteKeySource = (*decryptAPI)(nil)

// Use refuses http to another machine, unless the settings say otherwise.
func (d *decryptAPI) Use(call plugins.KeyCall) error {
	if d.endpoint.Scheme == "http" && !call.UnsafeHTTP && !outward.ThisMachine(d.endpoint.Hostname()) {
		return errors.New("is http to another machine, which would show it the key; use https")
	}
	d.call = call
	return nil
}

// request and answer are the contract's, with a member each for sealing.
type request struct {
	InputKey  string `json:"inputKey"`
	Recipient string `json:"recipient,omitempty"` // see sealing.go
}

type answer struct {
	OutputKey string `json:"outputKey"`
	SealedKey string `json:"sealedKey"` // see sealing.go
}

// Key asks once. What the API or the way to it does wrong is a KeyAway; only
// what our own settings do wrong is final.
func (d *decryptAPI) Key(ctx context.Context, configured string) ([]byte, error) {
	if configured == "" {
		return nil, errors.New("VEGA_ENCRYPTION_KEY_BASE64 is not set: it is what the decrypt API is asked to decrypt")
	}
	if !d.call.Sealed {
		a, err := d.ask(ctx, request{InputKey: configured})
		if err != nil {
			return nil, err
		}
		return decode(a.OutputKey, "outputKey")
	}
	recipient, err := newRecipient()
	if err != nil {
		return nil, err
	}
	a, err := d.ask(ctx, request{InputKey: configured, Recipient: recipient.public()})
	switch {
	case err != nil:
		return nil, err
	case a.OutputKey != "" || a.SealedKey == "":
		return nil, refused("the decrypt API did not seal its answer, as VEGA_DECRYPT_API_SEALED demands: it cannot, or somebody in between answered")
	}
	sealed, err := decode(a.SealedKey, "sealedKey")
	if err != nil {
		return nil, err
	}
	key, err := recipient.open(sealed, configured)
	if err != nil {
		return nil, refused("the decrypt API's sealed answer does not open: it was sealed to another key or for another input")
	}
	return key, nil
}

// ask makes one call.
func (d *decryptAPI) ask(ctx context.Context, r request) (*answer, error) {
	text, err := d.post(ctx, r)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return read(text)
}

// post sends a request and gives the answer's text. Errors quote nothing of
// what was sent or answered.
func (d *decryptAPI) post(ctx context.Context, request any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	transport, err := d.transport()
	if err != nil {
		return nil, away("the client certificate of the decrypt API: %w", err)
	}
	defer transport.CloseIdleConnections()
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, d.endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Content-Type", "application/json")
	post.Header.Set("Accept", "application/json")
	if d.call.Authorize != nil {
		d.call.Authorize(post.Header)
	}
	// RoundTrip and not a Client: a redirect is an answer like any other.
	response, err := transport.RoundTrip(post)
	var alert *net.OpError
	switch {
	case errors.Is(err, outward.ErrRefused):
		return nil, refused("VEGA_DECRYPT_API_ENDPOINT leads to no place that may be asked: %w", err)
	case errors.As(err, &alert) && alert.Op == "remote error": // as crypto/tls has it
		return nil, refused("the decrypt API broke off the TLS handshake: it does not take our client certificate, or wants one: %w", err)
	case err != nil:
		return nil, away("the decrypt API was not reached: %w", err)
	}
	defer response.Body.Close()
	if err := judge(response.StatusCode); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, away("the decrypt API's answer broke off: %w", err)
	}
	return text, nil
}

// transport is for one call: nothing is kept, so that a certificate that was
// renewed counts. It never dials link-local and metadata addresses (V2), and
// for http nothing but this machine, wherever the name leads now.
func (d *decryptAPI) transport() (*http.Transport, error) {
	var certificate *tls.Certificate
	if d.call.Certificate != nil {
		var err error
		if certificate, err = d.call.Certificate(); err != nil {
			return nil, err
		}
	}
	plain := outward.Loopback
	if d.call.UnsafeHTTP {
		plain = outward.Configured
	}
	t := outward.NewTransport(outward.Config{
		Secure: outward.Configured, Plain: plain,
		Trust: outward.NewTrust(d.call.Roots, certificate), MaxConns: 1, MaxHeader: 16 << 10,
	})
	t.DisableKeepAlives = true
	return t, nil
}

// judge says what a status means: 200 may hold a key, what passes by itself is
// asked again soon, and what an operator must mend at leisure.
func judge(status int) error {
	switch {
	case status == http.StatusOK:
		return nil
	case status >= 300 && status <= 399:
		return refused("the decrypt API answers with a redirect (status %d), which is not followed: configure the URL that it leads to", status)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return refused("the decrypt API gives no key to this caller (status %d): its token or client certificate is not the right one, or the value of VEGA_ENCRYPTION_KEY_BASE64 is not for this caller", status)
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return away("the decrypt API is in trouble (status %d)", status)
	}
	return refused("the decrypt API refuses the request (status %d): is its URL right, and the value of VEGA_ENCRYPTION_KEY_BASE64 one of its own?", status)
}

func read(text []byte) (*answer, error) {
	a := new(answer)
	if err := unmarshal(text, a); err != nil {
		return nil, err
	}
	return a, nil
}

func unmarshal(text []byte, into any) error {
	if len(text) > maxAnswer {
		return refused("the decrypt API's answer is longer than %d bytes", maxAnswer)
	}
	if err := wirejson.Unmarshal(text, into, wirejson.WithLimits(wirejson.Limits{Bytes: maxAnswer, Depth: 4, Tokens: 64})); err != nil {
		return refused("the decrypt API's answer is not the contract's: %w", err)
	}
	return nil
}

func decode(text, member string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) == 0 {
		return nil, refused("the decrypt API's answer has no %s in base64", member)
	}
	return b, nil
}

func away(format string, args ...any) error {
	return &plugins.KeyAway{Err: fmt.Errorf(format, args...)}
}

func refused(format string, args ...any) error {
	return &plugins.KeyAway{Refused: true, Err: fmt.Errorf(format, args...)}
}
