package envelope

import (
	"crypto/ecdh"
	stdhpke "crypto/hpke"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/hybrid/hpke"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/rawkey"
)

// SeedSize is the length in bytes of the seeds that DeriveKey takes.
const SeedSize = 32

// DeriveKey makes the key pair of a suite that follows from a secret seed,
// always the same: HPKE's DeriveKeyPair, as crypto/FORMAT.md writes it out.
// Who knows the seed knows the key. The caller may clear seed.
func DeriveKey(suite identity.Suite, seed []byte) (*PrivateKey, error) {
	parameters, err := hpkeParameters(suite)
	if err != nil {
		return nil, fmt.Errorf("derive key: %v", err)
	}
	if len(seed) != SeedSize {
		return nil, fmt.Errorf("derive key: seed has %d bytes, want %d", len(seed), SeedSize)
	}
	raw, err := deriveKeyPair(suite, seed)
	if err != nil {
		return nil, fmt.Errorf("derive key: %v", err)
	}
	defer clear(raw)
	k, err := hpke.NewPrivateKey(rawkey.Secret(raw), 0, parameters)
	if err != nil {
		return nil, fmt.Errorf("derive key: the derived bytes do not fit %s", suite)
	}
	h, err := onekey.Of(k)
	if err != nil {
		return nil, fmt.Errorf("derive key: %v", err)
	}
	return newPrivateKey(suite, h)
}

// deriveKeyPair is the standard library's, for Tink has none. Its result is
// the private key as HPKE serialises it, which is what Tink takes.
func deriveKeyPair(suite identity.Suite, seed []byte) ([]byte, error) {
	kem := stdhpke.MLKEM768X25519() // X-Wing
	if suite == identity.SuiteX25519 {
		kem = stdhpke.DHKEM(ecdh.X25519())
	}
	private, err := kem.DeriveKeyPair(seed)
	if err != nil {
		return nil, err
	}
	return private.Bytes()
}
