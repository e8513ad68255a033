package proxy

import (
	"net/http"
	"net/url"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// Public is what central may call, behind the address allowlist: messages and
// the health poll, each signed. The base path of the registered endpoint is
// cut off if a proxy in front has not done so.
func (e *Enclave) Public(v *relay.Verifier, base *url.URL) http.Handler {
	return relay.Below(base, e.publicRoutes(v).Handler())
}

func (e *Enclave) publicRoutes(v *relay.Verifier) edge.Routes {
	return edge.Routes{
		"POST " + relay.MessagesPath: v.Require(http.HandlerFunc(e.ServeMessage)),
		"GET " + relay.HealthPath:    v.RequireOr(http.HandlerFunc(e.ServeHealth), http.HandlerFunc(bareHealth)),
	}
}

// PublicRoutes are the patterns that Public serves.
func PublicRoutes() []string { return new(Enclave).publicRoutes(new(relay.Verifier)).Patterns() }

// bareHealth tells an unsigned caller that the enclave is up, and no more.
func bareHealth(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
