// Package relay is the wire between an enclave and the central server: the
// paths, the JSON of registration and directory, the signature on every
// request, and the enclave's client.
//
// A request in either direction carries an HTTP Message Signature (RFC 9421)
// under a key that only this enclave and central hold. It covers the method,
// the path below the registered base, the digest of the body and the recipient,
// with the time and a nonce; its tag and its key say the direction, so that a
// request cannot be sent back to whom it came from. WIRE.md has the bytes.
//
// What the signature proves is which alliance member calls. It says nothing
// of an envelope inside: that is sealed and signed from end to end
// (crypto/envelope), and central is not trusted with it.
package relay

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
)

// Paths below the registered base. The first is the same on both hops.
const (
	MessagesPath  = "/relay/v1/messages"      // POST an envelope, get the reply envelope
	RegisterPath  = "/relay/v1/enclaves/self" // PUT a Registration, get a Lease
	DirectoryPath = "/relay/v1/vasps"         // GET a Directory
	HealthPath    = "/healthcheck"            // GET, from central: a Health
)

// Headers and the media type of an envelope.
const (
	HeaderRecipient = "Relay-Recipient" // VASP id of the recipient; 0 is central itself
	MediaType       = "application/octet-stream"

	headerDigest    = "Content-Digest"
	headerInput     = "Signature-Input"
	headerSignature = "Signature"
)

// ToCentral is the recipient of a request that central itself answers.
const ToCentral = "0"

// MaxMessage is the most bytes a request or reply may have.
const MaxMessage = envelope.MaxEnvelope

// Skew is how far the clocks of the two ends may differ, either way.
const Skew = 60 * time.Second

// Direction is which way a request goes. It is part of the key and of the
// signature (attack K4, for requests).
type Direction string

const (
	EnclaveToCentral Direction = "enclave-to-central"
	CentralToEnclave Direction = "central-to-enclave"
)

// Key is an alliance key pair as the central server's operator gives it to a
// member: an access key, which names the member, and a secret key. Both ends
// may hold two for the time of a change.
type Key struct {
	Access string // 1 to 128 of A-Z a-z 0-9 . _ ~ + / = : @ -
	Secret Secret // at least 16 bytes
}

// minSecret is the shortest secret key taken, in bytes.
const minSecret = 16

// Check says what is wrong with a key pair, without its secret.
func (k Key) Check() error {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=:@-"
	switch {
	case k.Access == "":
		return errors.New("access key is empty")
	case len(k.Access) > 128 || strings.Trim(k.Access, letters) != "":
		return errors.New("access key must be 1 to 128 letters, digits or . _ ~ + / = : @ -")
	case len(k.Secret.Reveal()) < minSecret:
		return fmt.Errorf("secret key has %d bytes, fewer than %d: use the one that was issued, or make one with openssl rand -base64 32", len(k.Secret.Reveal()), minSecret)
	}
	return nil
}

// mac is the key of one direction's signatures (HKDF, RFC 5869).
func (k Key) mac(d Direction) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(k.Secret.Reveal()), nil, "vasp-enclave/v1/relay/"+string(d), 32)
}
