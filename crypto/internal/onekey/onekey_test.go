package onekey_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
)

func parameters(t *testing.T, saltSize int) *xaesgcm.Parameters {
	t.Helper()
	p, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, saltSize)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newKeyset(t *testing.T, p key.Parameters) *keyset.Handle {
	t.Helper()
	h, err := onekey.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func wrap(t *testing.T, h *keyset.Handle, kek tink.AEAD, place string) []byte {
	t.Helper()
	b, err := onekey.Wrap(h, kek, []byte(place))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKEK(t *testing.T) tink.AEAD {
	t.Helper()
	kek, err := aead.New(newKeyset(t, parameters(t, 12)))
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func TestUnwrapGivesTheKeyBack(t *testing.T) {
	kek, want := newKEK(t), parameters(t, 12)
	h := newKeyset(t, want)
	got, err := onekey.Unwrap(wrap(t, h, kek, "here"), kek, []byte("here"), want)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := onekey.Key(h)
	b, _ := onekey.Key(got)
	if !a.Equal(b) {
		t.Error("the unwrapped key is another one")
	}
}

// Attack K10: keysets with several keys, other kinds of keys or another place
// are refused.
func TestUnwrapRefusesOtherKeysets(t *testing.T) {
	kek, want := newKEK(t), parameters(t, 12)
	h := newKeyset(t, want)
	m := keyset.NewManagerFromHandle(h)
	if _, err := m.AddNewKeyFromParameters(want); err != nil {
		t.Fatal(err)
	}
	two, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := aesgcm.NewParameters(aesgcm.ParametersOpts{KeySizeInBytes: 32, IVSizeInBytes: 12, TagSizeInBytes: 16, Variant: aesgcm.VariantNoPrefix})
	if err != nil {
		t.Fatal(err)
	}
	prefixed, err := xaesgcm.NewParameters(xaesgcm.VariantTink, 12)
	if err != nil {
		t.Fatal(err)
	}
	good := wrap(t, h, kek, "here")
	for name, wrapped := range map[string][]byte{
		"two keys":         wrap(t, two, kek, "here"),
		"another kind":     wrap(t, newKeyset(t, gcm), kek, "here"),
		"another variant":  wrap(t, newKeyset(t, prefixed), kek, "here"),
		"other parameters": wrap(t, newKeyset(t, parameters(t, 8)), kek, "here"),
		"another place":    wrap(t, h, kek, "there"),
		"another KEK":      wrap(t, h, newKEK(t), "here"),
		"cut short":        good[:len(good)-1],
		"empty":            {},
		"unknown field":    append(bytes.Clone(good), 0x7a, 0),
		"trailing byte":    append(bytes.Clone(good), 0),
		"readable info":    append(bytes.Clone(good), 0x1a, 0),
		"field twice":      append(bytes.Clone(good), good...),
		"long length":      slices.Concat(good[:1], []byte{good[1], good[2] | 0x80, 0}, good[3:]),
	} {
		if _, err := onekey.Unwrap(wrapped, kek, []byte("here"), want); err == nil {
			t.Errorf("%s: Unwrap succeeds, want refusal", name)
		}
	}
	if good[2] >= 0x80 {
		t.Fatalf("the length of %d bytes takes more than the two bytes that this test stretches", len(good))
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		if _, err := onekey.Unwrap(bad, kek, []byte("here"), want); err == nil {
			t.Errorf("byte %d of %d changed: Unwrap succeeds, want refusal", i, len(good))
		}
	}
}

func FuzzUnwrap(f *testing.F) {
	p, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	if err != nil {
		f.Fatal(err)
	}
	h, err := onekey.New(p)
	if err != nil {
		f.Fatal(err)
	}
	kek, err := aead.New(h)
	if err != nil {
		f.Fatal(err)
	}
	wrapped, err := onekey.Wrap(h, kek, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Add([]byte{0x12, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := onekey.Unwrap(b, kek, []byte("elsewhere"), p); err == nil {
			t.Errorf("Unwrap(%x) for another place succeeds", b)
		}
	})
}
