// Package envelope seals a payload to a peer VASP's public key, and opens one
// sealed to ours.
//
// A sealed payload is bound to its exchange: who sent it, to whom, for which
// verification, under which key and suite, and whether it asks or answers.
// The header that says so is the HPKE context info, byte for byte, and the
// sender's identity signs header and ciphertext. Moved, reflected or
// re-labelled, it does not open (attacks K3, K4, K5). The bytes are described
// in crypto/FORMAT.md.
package envelope

// Purposes keep what is hashed and signed apart; see crypto/FORMAT.md.
const (
	purposeSignature  = "vasp-enclave/v1/envelope"
	purposeCommitment = "vasp-enclave/v1/commitment"
	purposeWrap       = "vasp-enclave/v1/wrapped-hybrid-key"
)

const formatV1 = 0x01

const signatureSize = 64
