// Package conformance holds the public listener to HTTP/2's own test suite,
// h2spec. It is a module of its own, so that the suite's dependencies never
// meet the programs'.
package conformance
