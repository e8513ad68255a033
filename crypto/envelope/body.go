package envelope

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/redact"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// Plaintexts are padded to the next of 4 KiB, 8 KiB ... 512 KiB, so that the
// length of a ciphertext tells little about names and verdicts (attack K14).
const (
	minClass = 4 << 10
	maxClass = 512 << 10
)

const saltSize = 32

// bodyOverhead is what a body has beside reply bundle and payload.
const bodyOverhead = saltSize + 8 + 4 + 4

// MaxBody is how many bytes reply bundle and payload may have together.
const MaxBody = maxClass - bodyOverhead

// ErrTooLarge says that reply bundle and payload exceed MaxBody.
var ErrTooLarge = errors.New("payload is too large to seal")

// Body is what is sealed. It prints as [redacted] under every verb, in JSON
// and in slog.
type Body struct {
	Sequence    uint64 // rises with every message from this sender to this recipient (attack K13)
	ReplyBundle []byte // signed key bundle to answer to, or nothing
	Payload     []byte
}

// Format implements fmt.Formatter.
func (Body) Format(s fmt.State, verb rune) { redact.Secret{}.Format(s, verb) }

// MarshalText implements encoding.TextMarshaler.
func (Body) MarshalText() ([]byte, error) { return redact.Secret{}.MarshalText() }

// LogValue implements slog.LogValuer.
func (Body) LogValue() slog.Value { return redact.Secret{}.LogValue() }

type salt [saltSize]byte

// encodeBody writes salt, sequence, reply bundle and payload, then zeros up
// to the size class.
func encodeBody(s salt, b Body, padded bool) ([]byte, error) {
	if len(b.ReplyBundle) > identity.MaxBundle {
		return nil, fmt.Errorf("reply bundle has %d bytes, at most %d are sealed", len(b.ReplyBundle), identity.MaxBundle)
	}
	if len(b.ReplyBundle)+len(b.Payload) > MaxBody {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b.ReplyBundle)+len(b.Payload), MaxBody)
	}
	size := bodyOverhead + len(b.ReplyBundle) + len(b.Payload)
	if padded {
		size = class(size)
	}
	out := make([]byte, 0, size)
	out = append(out, s[:]...)
	out = binary.BigEndian.AppendUint64(out, b.Sequence)
	out = tlv.AppendPart(out, b.ReplyBundle)
	out = tlv.AppendPart(out, b.Payload)
	return out[:size], nil // the rest of a fresh slice is zero
}

// class is the smallest size class that holds n bytes.
func class(n int) int {
	c := minClass
	for c < n {
		c *= 2
	}
	return c
}

// decodeBody reads the one encoding of a body: the smallest class, nothing
// but zeros as padding. The result keeps slices of b.
func decodeBody(b []byte, padded bool) (s salt, body Body, err error) {
	bad := errors.New("not a body")
	if len(b) < bodyOverhead || len(b) > maxClass {
		return s, body, bad
	}
	copy(s[:], b)
	body.Sequence = binary.BigEndian.Uint64(b[saltSize:])
	bundle, rest, ok := cutPart(b[saltSize+8:], identity.MaxBundle)
	if !ok {
		return s, body, bad
	}
	payload, rest, ok := cutPart(rest, MaxBody)
	if !ok {
		return s, body, bad
	}
	size := len(b) - len(rest)
	if padded && len(b) != class(size) || !padded && len(rest) > 0 || len(bytes.Trim(rest, "\x00")) > 0 {
		return s, body, bad
	}
	if len(bundle) > 0 {
		body.ReplyBundle = bundle
	}
	if len(payload) > 0 {
		body.Payload = payload
	}
	return s, body, nil
}

func cutPart(b []byte, max int) (part, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	if b = b[4:]; n > int64(len(b)) || n > int64(max) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// commit binds a payload without revealing it: with the salt either side can
// later prove what was agreed.
func commit(s salt, payload []byte) [32]byte { return tlv.Hash(purposeCommitment, s[:], payload) }

// bundleHash is what the header says of a reply bundle; zero for none.
func bundleHash(bundle []byte) [32]byte {
	if len(bundle) == 0 {
		return [32]byte{}
	}
	return identity.HashBundle(bundle)
}
