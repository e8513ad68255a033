package identity_test

import (
	"bytes"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Attacks K1, K6, K12: every bit of bundles of both suites, and of chains of
// one identity and of three, counts.
func TestEveryBitOfAStatementCounts(t *testing.T) {
	first, second, third := newSigner(t, 7), newSigner(t, 7), newSigner(t, 7)
	short := newChain(t, first)
	bundle := func(b []byte) error { _, err := identity.ParseBundle(b); return err }
	chain := func(b []byte) error { _, err := identity.ParseChain(b); return err }
	for _, c := range []struct {
		name    string
		encoded []byte
		parse   func([]byte) error
	}{
		{"X-Wing bundle", signBundle(t, first, aBundle(identity.SuiteXWing)), bundle},
		{"X25519 bundle", signBundle(t, first, aBundle(identity.SuiteX25519)), bundle},
		{"chain of one", short, chain},
		{"chain of three", extend(t, extend(t, short, first, second), second, third), chain},
	} {
		if err := c.parse(c.encoded); err != nil {
			t.Fatalf("%s: unchanged: %v", c.name, err)
		}
		for bit := range 8 * len(c.encoded) {
			flipped := bytes.Clone(c.encoded)
			flipped[bit/8] ^= 1 << (bit % 8)
			if c.parse(flipped) == nil {
				t.Errorf("%s: bit %d flipped: it is taken, want refusal", c.name, bit)
			}
		}
	}
}
