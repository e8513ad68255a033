package envelope_test

import (
	"bytes"
	"testing"

	"github.com/tink-crypto/tink-go/v2/hybrid/hpke"
	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/signature/ed25519"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

func TestPublicKeyIsReadBackFromItsBytes(t *testing.T) {
	for _, suite := range suites {
		k := newWorld(t, suite).key.Public()
		got, err := envelope.ParsePublicKey(suite, k.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if got.ID() != k.ID() || got.Suite() != suite || !bytes.Equal(got.Bytes(), k.Bytes()) {
			t.Errorf("%s: ParsePublicKey(Bytes) = %v, want %v", suite, got, k)
		}
		if k.ID() != domain("vasp-enclave/v1/key-id", []byte{byte(suite)}, k.Bytes()) {
			t.Errorf("%s: ID is not the hash that FORMAT.md names", suite)
		}
		if len(k.Bytes()) != suite.PublicKeySize() {
			t.Errorf("%s: %d bytes, PublicKeySize is %d", suite, len(k.Bytes()), suite.PublicKeySize())
		}
	}
}

// Attack K10: a key is raw bytes of a suite in a fixed table, nothing else.
func TestParsePublicKeyRefusesOtherSuitesAndLengths(t *testing.T) {
	for _, suite := range suites {
		raw := newWorld(t, suite).key.Public().Bytes()
		for name, c := range map[string]struct {
			suite identity.Suite
			raw   []byte
		}{
			"clear": {identity.SuiteClear, raw}, "unknown suite": {3, raw}, "other suite": {3 - suite, raw},
			"short": {suite, raw[1:]}, "long": {suite, append(bytes.Clone(raw), 0)}, "empty": {suite, nil},
		} {
			if _, err := envelope.ParsePublicKey(c.suite, c.raw); err == nil {
				t.Errorf("%s %s: ParsePublicKey succeeds, want refusal", suite, name)
			}
		}
	}
	if _, err := envelope.GenerateKey(identity.SuiteClear); err == nil {
		t.Error("GenerateKey(clear) succeeds, want an error")
	}
}

func TestSealingToNoPointIsAnError(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	for suite, raw := range map[identity.Suite][]byte{
		identity.SuiteX25519: make([]byte, 32),                 // every shared secret would be zero
		identity.SuiteXWing:  bytes.Repeat([]byte{0xff}, 1216), // coefficients beyond the modulus (FIPS 203, 7.2)
	} {
		k, err := envelope.ParsePublicKey(suite, raw)
		if err != nil {
			continue
		}
		if _, err := envelope.Seal(w.alice, k, w.header(envelope.TxReport), body); err == nil {
			t.Errorf("%s: sealed to a key that is none", suite)
		}
	}
}

func TestWrappedKeyComesBack(t *testing.T) {
	kek := insecure.AEAD(t, 1)
	for _, suite := range suites {
		w := newWorld(t, suite)
		wrapped, err := w.key.Wrap(kek, []byte("place"))
		if err != nil {
			t.Fatal(err)
		}
		k, err := envelope.UnwrapPrivateKey(suite, wrapped, kek, []byte("place"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(w.seal(t), w.alice.Public(), k); err != nil {
			t.Errorf("%s: opened with the unwrapped key: %v", suite, err)
		}
	}
}

// Attacks S2, K10: a wrapped key opens at its place and as its suite only, and
// a Tink keyset that holds something else is refused.
func TestWrappedKeyIsBoundToItsPlace(t *testing.T) {
	kek := insecure.AEAD(t, 1)
	w := newWorld(t, identity.SuiteX25519)
	wrapped, err := w.key.Wrap(kek, []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	signing, err := w.alice.Wrap(kek, []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	place := append(append(tlv.Domain("vasp-enclave/v1/wrapped-hybrid-key"), byte(identity.SuiteX25519)), "place"...)
	unwrap := func(suite identity.Suite, b []byte, kek identity.AEAD, place string) error {
		_, err := envelope.UnwrapPrivateKey(suite, b, kek, []byte(place))
		return err
	}
	for name, err := range map[string]error{
		"other place":         unwrap(identity.SuiteX25519, wrapped, kek, "elsewhere"),
		"other suite":         unwrap(identity.SuiteXWing, wrapped, kek, "place"),
		"clear suite":         unwrap(identity.SuiteClear, wrapped, kek, "place"),
		"other KEK":           unwrap(identity.SuiteX25519, wrapped, insecure.AEAD(t, 2), "place"),
		"wrapped identity":    unwrap(identity.SuiteX25519, signing, kek, "place"),
		"cut short":           unwrap(identity.SuiteX25519, wrapped[:len(wrapped)-1], kek, "place"),
		"signing key inside":  unwrap(identity.SuiteX25519, wrapNew(t, signingParameters(t), kek, place), kek, "place"),
		"prefixed key inside": unwrap(identity.SuiteX25519, wrapNew(t, prefixedParameters(t), kek, place), kek, "place"),
	} {
		if err == nil {
			t.Errorf("%s: UnwrapPrivateKey succeeds, want refusal", name)
		}
	}
	if err := unwrap(identity.SuiteX25519, wrapNew(t, rawParameters(t), kek, place), kek, "place"); err != nil {
		t.Errorf("a fitting keyset wrapped by Tink itself: %v", err)
	}
}

func signingParameters(t *testing.T) *ed25519.Parameters {
	t.Helper()
	p, err := ed25519.NewParameters(ed25519.VariantNoPrefix)
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

func rawParameters(t *testing.T) *hpke.Parameters      { return variant(t, hpke.VariantNoPrefix) }
func prefixedParameters(t *testing.T) *hpke.Parameters { return variant(t, hpke.VariantTink) }

func variant(t *testing.T, v hpke.Variant) *hpke.Parameters {
	t.Helper()
	p, err := hpke.NewParameters(hpke.ParametersOpts{
		KEMID: hpke.DHKEM_X25519_HKDF_SHA256, KDFID: hpke.HKDFSHA256, AEADID: hpke.AES256GCM, Variant: v,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wrapNew wraps a fresh key of any kind with Tink alone.
func wrapNew(t *testing.T, parameters key.Parameters, kek identity.AEAD, place []byte) []byte {
	t.Helper()
	m := keyset.NewManager()
	id, err := m.AddNewKeyFromParameters(parameters)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	h, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&b), kek, place); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
