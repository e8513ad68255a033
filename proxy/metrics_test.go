package proxy_test

import (
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
)

// What the processor does for an envelope has a histogram, which stands before
// the first one.
func TestSealingAndOpeningAreTimed(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for _, p := range []*proxytest.Party{w.A, w.B} {
		for _, operation := range []string{"seal", "open"} {
			if n := p.Metric("enclave_envelope_seconds", operation); n != 0 {
				t.Errorf("%v of %s before the first envelope", n, operation)
			}
		}
	}
	finished(t, w, verify(t, w, request(w)))
	for _, p := range []*proxytest.Party{w.A, w.B} {
		for _, operation := range []string{"seal", "open"} {
			if n := p.Metric("enclave_envelope_seconds", operation); n < 1 {
				t.Errorf("%v envelopes were timed for %s", n, operation)
			}
		}
	}
}
