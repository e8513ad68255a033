// Package compat proves that what github.com/google/tink/go v1.7.0 sealed,
// signed or wrote opens with our crypto, and the other way round. That module
// is archived, and its continuation, github.com/tink-crypto/tink-go/v2, is
// what we use; a program cannot hold both, for their protobuf types clash. So
// this is a module of its own, whose tests trade files with a test of
// package crypto.
package compat
