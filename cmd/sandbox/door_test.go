package sandbox_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// from is a dialer that calls from one address.
func from(address string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 5 * time.Second}
}

// A caller with an address that is not on the list sees no certificate: its
// handshake ends before a byte of TLS comes back (N1, N2, N5).
func TestAStrangerCompletesNoHandshake(t *testing.T) {
	a := start(t, sandbox.Options{})
	for name, door := range map[string]struct{ endpoint, stranger, welcome string }{
		"enclave": {a.VASPs[0].PublicEndpoint, "127.0.0.9", "127.0.0.4"},
		"central": {a.CentralEndpoint, "127.0.0.9", "127.0.0.2"},
	} {
		host := strings.TrimPrefix(door.endpoint, "https://")
		seen := false
		config := &tls.Config{RootCAs: a.Roots, VerifyConnection: func(tls.ConnectionState) error { seen = true; return nil }}
		if c, err := tls.DialWithDialer(from(door.stranger), "tcp", host, config); err == nil {
			c.Close()
			t.Errorf("%s: a stranger completed a handshake", name)
		}
		if seen {
			t.Errorf("%s: a stranger saw a certificate", name)
		}
		c, err := tls.DialWithDialer(from(door.welcome), "tcp", host, config)
		if err != nil {
			t.Errorf("%s: an allowed address was refused: %v", name, err)
			continue
		}
		if group := c.ConnectionState().CurveID; group != tls.X25519MLKEM768 {
			t.Errorf("%s: key exchange is %s, want the hybrid post-quantum one", name, group)
		}
		c.Close()
	}
	page := metrics(t, a.VASPs[0].Metrics)
	if got := sumOf(page, "enclave_refused_connections_total{"); got == 0 {
		t.Errorf("refused connections are not counted:\n%s", grep(page, "refused"))
	}
}

// One with the right address and a wrong or repeated signature gets 401, and
// is counted, at the enclave and at central (K4, O4).
func TestARightAddressWithoutARightSignatureIsRefused(t *testing.T) {
	a := start(t, sandbox.Options{})
	sender := a.VASPs[0]
	for name, door := range map[string]struct {
		endpoint, address, metrics, refused string
		direction                           relay.Direction
		recipient                           string
	}{
		"enclave": {sender.PublicEndpoint, "127.0.0.4", sender.Metrics, "enclave_relay_refused_total{", relay.CentralToEnclave, sender.ID},
		"central": {a.CentralEndpoint, "127.0.0.2", a.CentralMetrics, "central_relay_refused_total{", relay.EnclaveToCentral, a.VASPs[1].ID},
	} {
		t.Run(name, func(t *testing.T) {
			client := &http.Client{Transport: &http.Transport{
				DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
					return from(door.address).DialContext(ctx, network, host)
				},
				TLSClientConfig: &tls.Config{RootCAs: a.Roots},
			}}
			defer client.CloseIdleConnections()
			base, err := url.Parse(door.endpoint)
			if err != nil {
				t.Fatal(err)
			}
			body := []byte("not an envelope")
			post := func(sign func(*http.Request)) int {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base.String()+relay.MessagesPath, bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", relay.MediaType)
				sign(r)
				response, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				return response.StatusCode
			}
			signed := func(secret string, d relay.Direction) func(*http.Request) {
				signer, err := relay.NewSigner(relay.Key{Access: sender.AccessKey, Secret: relay.NewSecret(secret)}, d)
				if err != nil {
					t.Fatal(err)
				}
				return func(r *http.Request) {
					if err := signer.Sign(r, relay.MessagesPath, door.recipient, body); err != nil {
						t.Fatal(err)
					}
				}
			}
			before := sumOf(metrics(t, door.metrics), door.refused)
			if got := post(func(*http.Request) {}); got != http.StatusUnauthorized {
				t.Errorf("unsigned: status %d, want 401", got)
			}
			if got := post(signed(strings.Repeat("0", 64), door.direction)); got != http.StatusUnauthorized {
				t.Errorf("signed with a wrong key: status %d, want 401", got)
			}
			other := relay.EnclaveToCentral
			if door.direction == other {
				other = relay.CentralToEnclave
			}
			if got := post(signed(sender.SecretKey, other)); got != http.StatusUnauthorized {
				t.Errorf("reflected from the other direction: status %d, want 401", got)
			}
			var first http.Header
			good := post(func(r *http.Request) {
				signed(sender.SecretKey, door.direction)(r)
				first = r.Header.Clone()
			})
			if good == http.StatusUnauthorized {
				t.Errorf("rightly signed: status %d", good)
			}
			if got := post(func(r *http.Request) { r.Header = first }); got != http.StatusUnauthorized {
				t.Errorf("replayed: status %d, want 401", got)
			}
			if after := sumOf(metrics(t, door.metrics), door.refused); after-before != 4 {
				t.Errorf("4 refusals were counted as %v", after-before)
			}
		})
	}
}
