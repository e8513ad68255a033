package plugins

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
)

// Catalog is every point there is. Resist one more until it has two real
// drivers.
type Catalog struct {
	KeySources        Point[KeySource]       // picked by VEGA_KEY_SOURCE
	PayloadValidators Point[proxy.Validator] // picked by VEGA_PAYLOAD_VALIDATOR
	AuditSinks        Point[audit.Sink]      // picked by VEGA_AUDIT_SINKS
}

// KeySource is where the key that wraps all other keys comes from.
type KeySource interface {
	// Key gives the raw key bytes. Configured is the text of
	// VEGA_ENCRYPTION_KEY_BASE64, empty when unset: the key itself for one
	// source, a reference or a wrapped key for another, nothing for a third.
	// It is called at start, and never from two goroutines. An error holds no
	// part of the key or of configured. One that wraps a *KeyAway is no end of
	// the start: Key is called again for as long as it takes.
	Key(ctx context.Context, configured string) ([]byte, error)
}

// RemoteKeySource is a KeySource that asks another program over the network.
// The start does not depend on that program: the enclave is sealed, alive and
// not ready, until the key has arrived, and check-config opens the source and
// does not ask it.
type RemoteKeySource interface {
	KeySource
	// Use tells how to call, before Key is called. Its errors name what is
	// wrong with the URL that the source was opened with.
	Use(KeyCall) error
}

// KeyCall is what the settings say about calls for a key.
type KeyCall struct {
	Roots       *x509.CertPool                   // nil: the system's
	Certificate func() (*tls.Certificate, error) // the client's, read anew for each call; nil: none
	Authorize   func(http.Header)                // adds the token's header; nil: none
	UnsafeHTTP  bool                             // http to another machine is allowed
	Sealed      bool                             // the key must come sealed to a key of this call
}

// KeyAway is the error of a KeySource whose key may still come.
type KeyAway struct {
	// Refused tells that the source was reached and gave no key: nothing
	// changes before somebody acts, so it is asked again at leisure, and
	// loudly. Otherwise it could not be reached or was in trouble.
	Refused bool
	Err     error
}

func (e *KeyAway) Error() string { return e.Err.Error() }
func (e *KeyAway) Unwrap() error { return e.Err }
