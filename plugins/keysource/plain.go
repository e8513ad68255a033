// Package keysource is the key sources of a stock build.
package keysource

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"

	"github.com/vasp-enclave/vasp-enclave/plugins"
)

// Plain is "plain:": the setting holds the key itself, in base64. Whoever can
// read the process's environment, or the file it came from, has the key.
func Plain(_ context.Context, u *url.URL) (plugins.KeySource, error) {
	if *u != (url.URL{Scheme: u.Scheme}) {
		return nil, errors.New("plain: takes nothing behind the colon")
	}
	return plain{}, nil
}

type plain struct{}

func (plain) Key(_ context.Context, configured string) ([]byte, error) {
	if configured == "" {
		return nil, errors.New("is not set")
	}
	key, err := base64.StdEncoding.DecodeString(configured)
	if err != nil {
		return nil, errors.New("is not base64")
	}
	return key, nil
}
