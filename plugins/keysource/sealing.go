package keysource

import (
	"crypto/hpke"
	"encoding/base64"
)

// Response sealing is an addition to contract 3.5, which works without it: the
// request carries a fresh public key as "recipient", and the answer has
// "sealedKey" in the place of "outputKey". Proxies that end TLS in between, and
// their logs, then see no key (attack S5).
//
// It is HPKE (RFC 9180) in base mode with X-Wing, HKDF-SHA256 and AES-256-GCM;
// the info is sealingInfo and the inputKey, so that an answer about another
// value does not open. Both members are base64; sealedKey is the encapsulated
// key followed by the ciphertext.
const sealingInfo = "vasp-enclave decrypt-api v1\x00"

// recipient is the key of one call.
type recipient struct{ key hpke.PrivateKey }

func newRecipient() (recipient, error) {
	key, err := hpke.MLKEM768X25519().GenerateKey()
	return recipient{key}, err
}

func (r recipient) public() string {
	return base64.StdEncoding.EncodeToString(r.key.PublicKey().Bytes())
}

func (r recipient) open(sealed []byte, inputKey string) ([]byte, error) {
	return hpke.Open(r.key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealingInfo+inputKey), sealed)
}
