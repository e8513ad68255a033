// Package plugins is the places where an operator may put code of their own,
// chosen when the binary is built.
//
// A place is a Point: drivers register under a URL scheme, a setting picks one
// by its URL. Registration is explicit, in a program's main: what a binary can
// do is a file that one can read and compare, nothing is loaded at run time,
// and nothing registers itself. A VASP's own build is a copy of
// cmd/enclave/main.go with one more line. Extension by another process exists
// already: it is the VASP's HTTP API.
package plugins

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Open makes a driver from the URL of a setting. It checks the URL and may do
// I/O; an error names what is wrong with the URL and what would be right.
type Open[T any] func(ctx context.Context, u *url.URL) (T, error)

// Point is one place for plugins of type T. The zero Point is empty and ready.
// Register everything before the first Open; Open may be called concurrently.
type Point[T any] struct{ drivers map[string]Open[T] }

// Register adds a driver for a URL scheme, in lower case and without the
// colon. It panics when the scheme is taken: two drivers under one name is a
// mistake in the program, and which one would win is a security question.
func (p *Point[T]) Register(scheme string, open Open[T]) {
	if _, taken := p.drivers[scheme]; taken {
		panic("plugins: scheme " + scheme + " is registered twice")
	}
	if p.drivers == nil {
		p.drivers = map[string]Open[T]{}
	}
	p.drivers[scheme] = open
}

// Open makes the driver that the URL's scheme names. The error of a scheme
// that nobody registered lists those that are, and of one without its colon says
// so; it does not repeat the URL, which may hold a secret.
func (p *Point[T]) Open(ctx context.Context, rawURL string) (T, error) {
	var none T
	u, err := url.Parse(rawURL)
	if err != nil {
		return none, fmt.Errorf("is not a URL; schemes known: %s", strings.Join(p.Schemes(), ", "))
	}
	if _, bare := p.drivers[strings.ToLower(u.Path)]; bare && u.Scheme == "" {
		return none, fmt.Errorf("has no colon; did you mean %s:? schemes known: %s", strings.ToLower(u.Path), strings.Join(p.Schemes(), ", "))
	}
	open, known := p.drivers[u.Scheme]
	if !known {
		return none, fmt.Errorf("has no known scheme; schemes known: %s", strings.Join(p.Schemes(), ", "))
	}
	return open(ctx, u)
}

// Schemes lists what is registered, sorted, each with its colon.
func (p *Point[T]) Schemes() []string {
	schemes := slices.Sorted(maps.Keys(p.drivers))
	for i := range schemes {
		schemes[i] += ":"
	}
	return schemes
}
