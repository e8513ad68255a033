package outward_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward/outwardtest"
)

// Attacks N4 and V1: a server with a bad certificate, or with TLS that is none any
// more, is not spoken to. Each is refused for its own reason, and a good one
// beside it is not.
func TestBadServersAreRefused(t *testing.T) {
	company := outwardtest.NewCompany(t, "127.0.0.7", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	transport := outward.NewTransport(outward.Config{
		Secure: outward.Loopback, Trust: outward.NewTrust(company.Roots, nil), IdleTimeout: time.Minute, MaxIdle: 2,
	})
	t.Cleanup(transport.CloseIdleConnections)
	for _, s := range company.Good {
		for range 2 { // the second time with a session resumed
			if err := get(t, transport, s.URL); err != nil {
				t.Errorf("a good server at %s: %v", s.URL, err)
			}
			transport.CloseIdleConnections()
		}
	}
	for _, s := range company.Bad {
		err := get(t, transport, s.URL)
		if err == nil || s.Heard() != 0 {
			t.Errorf("%s: %v, and it heard %d requests", s.Name, err, s.Heard())
		} else if !strings.Contains(err.Error(), s.Says) {
			t.Errorf("%s: %v, want %q", s.Name, err, s.Says)
		}
	}
	if n := len(company.Bad); n < 30 {
		t.Errorf("%d kinds, want at least 30", n)
	} else {
		t.Logf("%d kinds", n)
	}
}
