// Package validator is the payload validators of a stock build.
package validator

import (
	"context"
	"errors"
	"net/url"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
)

// Lenient is "lenient:": what the contract asks of a payload, and no more.
func Lenient(_ context.Context, u *url.URL) (proxy.Validator, error) {
	if *u != (url.URL{Scheme: u.Scheme}) {
		return nil, errors.New("lenient: takes nothing behind the colon")
	}
	return ivms101.Lenient{}, nil
}

// Strict is "strict:", every rule of the contract in both directions, or
// "strict:?inbound=lenient", which asks them of our own backend only.
func Strict(_ context.Context, u *url.URL) (proxy.Validator, error) {
	bare := *u
	bare.RawQuery, bare.ForceQuery = "", false
	if bare != (url.URL{Scheme: u.Scheme}) {
		return nil, errors.New("must be strict: or strict:?inbound=lenient")
	}
	switch u.RawQuery {
	case "", "inbound=strict":
		return ivms101.Strict{}, nil
	case "inbound=lenient":
		return ivms101.Strict{OutboundOnly: true}, nil
	}
	return nil, errors.New("strict: has one option: ?inbound=lenient")
}
