package insecure

import (
	"bytes"
	"slices"
)

// Patch puts bytes in the place of others: frozen changes of a long vector
// stay readable, and need no key.
type Patch struct {
	At, Cut int
	Put     Hex
}

// Apply makes the changes one after the other.
func Apply(base []byte, patches []Patch) []byte {
	b := bytes.Clone(base)
	for _, p := range patches {
		b = slices.Replace(b, p.At, p.At+p.Cut, p.Put...)
	}
	return b
}

// signatureSize is how many bytes at the end change whenever something does.
const signatureSize = 64

// Diff finds the patches that make changed of base: at most one in front of
// the signature, and one in it.
func Diff(base, changed []byte) []Patch {
	split, cut := len(base)-signatureSize, len(changed)-signatureSize
	var patches []Patch
	for _, p := range []Patch{diff(base[:split], changed[:cut], 0), diff(base[split:], changed[cut:], cut)} {
		if p.Cut > 0 || len(p.Put) > 0 {
			patches = append(patches, p)
		}
	}
	return patches
}

func diff(a, b []byte, at int) Patch {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	a, b = a[n:], b[n:]
	m := 0
	for m < min(len(a), len(b)) && a[len(a)-1-m] == b[len(b)-1-m] {
		m++
	}
	return Patch{At: at + n, Cut: len(a) - m, Put: bytes.Clone(b[:len(b)-m])}
}
