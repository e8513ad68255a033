package plugins

import (
	"context"

	"github.com/vasp-enclave/vasp-enclave/proxy"
)

// Catalog is every point there is. Resist one more until it has two real
// drivers.
type Catalog struct {
	KeySources        Point[KeySource]       // picked by VEGA_KEY_SOURCE
	PayloadValidators Point[proxy.Validator] // picked by VEGA_PAYLOAD_VALIDATOR
}

// KeySource is where the key that wraps all other keys comes from.
type KeySource interface {
	// Key gives the raw key bytes. Configured is the text of
	// VEGA_ENCRYPTION_KEY_BASE64, empty when unset: the key itself for one
	// source, a reference or a wrapped key for another, nothing for a third.
	// It is called once at start, and never from two goroutines. An error
	// holds no part of the key or of configured.
	Key(ctx context.Context, configured string) ([]byte, error)
}
