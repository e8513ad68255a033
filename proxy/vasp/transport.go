package vasp

import (
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// keepAlive is how long an idle connection is kept: below the 5 s after which
// Node's and many other servers close one. Whoever closes first knows that it
// carries nothing.
const keepAlive = 4 * time.Second

// newTransport makes a transport for many short calls of one host. Backends
// live at private addresses and on this machine, so all that the operator can
// have meant is dialled; http stays on this machine, whatever its host's name
// resolves to (attack V2).
func newTransport(cfg Config) *http.Transport {
	to := outward.Config{
		Secure: outward.Configured, Plain: outward.Loopback, Socket: cfg.Socket, Trust: cfg.Trust,
		IdleTimeout: cfg.KeepAlive, MaxIdle: 256, MaxConns: 512, MaxHeader: 64 << 10,
	}
	if cfg.UnsafeHTTP {
		to.Plain = outward.Configured
	}
	if to.Trust == nil {
		to.Trust = outward.NewTrust(cfg.Roots, nil)
	}
	if to.IdleTimeout == 0 {
		to.IdleTimeout = keepAlive
	}
	return outward.NewTransport(to)
}

// judge looks at an answer's head; 0 means that the body is worth reading.
func judge(resp *http.Response) Problem {
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode <= 399:
		return Redirect
	case resp.StatusCode != http.StatusOK:
		return Status
	case resp.ContentLength > maxAnswer:
		return TooLarge
	case !saysJSON(resp.Header):
		return NotJSON
	}
	return 0
}

// saysJSON accepts application/json, its kin, and silence.
func saysJSON(h http.Header) bool {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return false
	}
	given := h.Get("Content-Type")
	if given == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(given)
	return err == nil && (kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json"))
}
