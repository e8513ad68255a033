package keyring

import (
	"slices"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// strongest lists the suites that seal, best first.
var strongest = []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}

// stronger says whether a is known to be stronger than b.
func stronger(a, b identity.Suite) bool {
	i, j := slices.Index(strongest, a), slices.Index(strongest, b)
	return i >= 0 && (j < 0 || i < j)
}
