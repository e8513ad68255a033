package sandbox_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// What the settings ask of a caller is what the public listener asks, and a
// central that does not show it is kept out (N2, N4, N6).
func TestTheListenersPolicyIsTheSettings(t *testing.T) {
	a := start(t, sandbox.Options{Enclave: []string{"VEGA_TLS_MIN_VERSION=1.3", "VEGA_PEER_MESSAGES_PER_SECOND=7"}})
	host := strings.TrimPrefix(a.VASPs[0].PublicEndpoint, "https://")
	if c, err := tls.DialWithDialer(from("127.0.0.4"), "tcp", host, &tls.Config{RootCAs: a.Roots, MaxVersion: tls.VersionTLS12}); err == nil {
		c.Close()
		t.Error("TLS 1.2 was accepted, though the setting says 1.3")
	}
	client := &http.Client{Transport: &http.Transport{DialContext: from("127.0.0.4").DialContext, TLSClientConfig: &tls.Config{RootCAs: a.Roots}}}
	defer client.CloseIdleConnections()
	for name, want := range map[string]int{"": http.StatusOK, "other.example": http.StatusMisdirectedRequest} {
		r, err := http.NewRequest(http.MethodGet, a.VASPs[0].PublicEndpoint+"/healthcheck", nil)
		if err != nil {
			t.Fatal(err)
		}
		if name != "" {
			r.Host = name
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("host %q: %d, want %d", name, answer.StatusCode, want)
		}
	}
	page := metrics(t, a.VASPs[0].Metrics)
	if sumOf(page, `enclave_tls_handshakes_total{group="X25519MLKEM768",result="ok",version="1.3"}`) == 0 || sumOf(page, `enclave_refused_requests_total{rule="host"}`) != 1 {
		t.Errorf("handshakes and refusals are not counted:\n%s%s", grep(page, "handshakes"), grep(page, "refused_requests"))
	}
}
