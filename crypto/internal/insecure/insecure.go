// Package insecure makes keys from seeds that everybody can read, for tests
// and frozen vectors. Only tests may import it.
package insecure

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/hybrid/hpke"
	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
	"github.com/tink-crypto/tink-go/v2/signature/ed25519"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/rawkey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// Seed is 32 equal bytes.
func Seed(fill byte) []byte { return bytes.Repeat([]byte{fill}, 32) }

// Signer is the Ed25519 identity whose private seed (RFC 8032) is given.
func Signer(tb testing.TB, vasp identity.VASPID, seed []byte) *identity.Signer {
	tb.Helper()
	parameters, err := ed25519.NewParameters(ed25519.VariantNoPrefix)
	must(tb, err)
	k, err := ed25519.NewPrivateKey(rawkey.Secret(seed), 0, parameters)
	must(tb, err)
	kek := AEAD(tb, 0xee)
	place := binary.BigEndian.AppendUint64(tlv.Domain("vasp-enclave/v1/wrapped-identity"), uint64(vasp))
	s, err := identity.UnwrapSigner(vasp, Wrap(tb, k, kek, place), kek, nil)
	must(tb, err)
	return s
}

// PrivateKey is the HPKE key whose private bytes (RFC 9180) are given.
func PrivateKey(tb testing.TB, suite identity.Suite, seed []byte) *envelope.PrivateKey {
	tb.Helper()
	opts := hpke.ParametersOpts{KEMID: hpke.X_WING, KDFID: hpke.HKDFSHA256, AEADID: hpke.AES256GCM, Variant: hpke.VariantNoPrefix}
	if suite == identity.SuiteX25519 {
		opts.KEMID = hpke.DHKEM_X25519_HKDF_SHA256
	}
	parameters, err := hpke.NewParameters(opts)
	must(tb, err)
	k, err := hpke.NewPrivateKey(rawkey.Secret(seed), 0, parameters)
	must(tb, err)
	kek := AEAD(tb, 0xee)
	place := append(tlv.Domain("vasp-enclave/v1/wrapped-hybrid-key"), byte(suite))
	private, err := envelope.UnwrapPrivateKey(suite, Wrap(tb, k, kek, place), kek, nil)
	must(tb, err)
	return private
}

// Wrap is a Tink keyset of one key, encrypted with exactly this associated
// data.
func Wrap(tb testing.TB, k key.Key, kek identity.AEAD, associatedData []byte) []byte {
	tb.Helper()
	h, err := onekey.Of(k)
	must(tb, err)
	wrapped, err := onekey.Wrap(h, kek, associatedData)
	must(tb, err)
	return wrapped
}

// AEAD encrypts under 32 equal bytes.
func AEAD(tb testing.TB, fill byte) identity.AEAD {
	tb.Helper()
	return AEADOf(tb, Seed(fill))
}

// AEADOf is XAES-256-GCM under a key that everybody can read.
func AEADOf(tb testing.TB, seed []byte) identity.AEAD {
	tb.Helper()
	h, err := onekey.Of(ValueKey(tb, seed))
	must(tb, err)
	a, err := aead.New(h)
	must(tb, err)
	return a
}

// ValueKey is the XAES-256-GCM key of AEADOf.
func ValueKey(tb testing.TB, seed []byte) *xaesgcm.Key {
	tb.Helper()
	parameters, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	must(tb, err)
	k, err := xaesgcm.NewKey(rawkey.Secret(seed), 0, parameters)
	must(tb, err)
	return k
}

// PRFKey is the HMAC-SHA256 PRF key whose bytes are given.
func PRFKey(tb testing.TB, seed []byte) key.Key {
	tb.Helper()
	parameters, err := hmacprf.NewParameters(32, hmacprf.SHA256)
	must(tb, err)
	k, err := hmacprf.NewKey(rawkey.Secret(seed), parameters)
	must(tb, err)
	return k
}

// Hex is a vector's bytes.
type Hex []byte

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(b []byte) (err error) {
	*h, err = hex.AppendDecode(nil, b)
	return err
}

// Vectors reads a frozen file.
func Vectors(tb testing.TB, path string, into any) {
	tb.Helper()
	b, err := os.ReadFile(path)
	must(tb, err)
	must(tb, json.Unmarshal(b, into))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
