// Package identity says who a VASP is: its signing key, the fingerprint that
// peers pin, the safety number that two operators compare, the key bundles it
// signs and the chain of statements by which one identity follows another.
//
// Hybrid encryption does not say who sealed a message, and the central server
// hands out everybody's keys. So every key and every message is signed by the
// identity that the peer has pinned (attacks K1, K2, K3). The bytes are
// described in crypto/FORMAT.md.
package identity

// Purposes keep what is hashed and signed apart; see crypto/FORMAT.md.
const (
	purposeFingerprint = "vasp-enclave/v1/fingerprint"
	purposeDigits      = "vasp-enclave/v1/safety-number"
	purposeKeyID       = "vasp-enclave/v1/key-id"
	purposeBundle      = "vasp-enclave/v1/key-bundle"
	purposeBundleHash  = "vasp-enclave/v1/key-bundle-hash"
	purposeStatement   = "vasp-enclave/v1/identity-statement"
	purposeSuccession  = "vasp-enclave/v1/identity-succession"
	purposeWrap        = "vasp-enclave/v1/wrapped-identity"
)

// formatV1 is the first byte of what travels or is kept.
const formatV1 = 0x01

// AEAD encrypts with associated data. It has the methods of Tink's AEAD, so
// that callers need not import Tink. Implementations are safe for concurrent
// use.
type AEAD interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}
