package identity_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
)

func newSigner(t testing.TB, vasp identity.VASPID) *identity.Signer {
	t.Helper()
	s, err := identity.NewSigner(vasp)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignatureCountsForItsDomainAndMessageOnly(t *testing.T) {
	s := newSigner(t, 7)
	sig, err := s.Sign("domain", []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Public().Verify("domain", []byte("message"), sig); err != nil {
		t.Errorf("Verify its own signature: %v", err)
	}
	for name, err := range map[string]error{
		"other domain":            s.Public().Verify("domaim", []byte("message"), sig),
		"border moved right":      s.Public().Verify("domainm", []byte("essage"), sig),
		"border moved left":       s.Public().Verify("domai", []byte("nmessage"), sig),
		"other message":           s.Public().Verify("domain", []byte("messagf"), sig),
		"other identity":          newSigner(t, 7).Public().Verify("domain", []byte("message"), sig),
		"no signature":            s.Public().Verify("domain", []byte("message"), nil),
		"signature with a suffix": s.Public().Verify("domain", []byte("message"), append(sig, 0)),
	} {
		if err == nil {
			t.Errorf("%s: Verify = nil, want refusal", name)
		}
	}
}

func TestPublicIsReadBackFromItsBytes(t *testing.T) {
	p := newSigner(t, 7).Public()
	got, err := identity.ParsePublic(7, p.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got.Fingerprint() != p.Fingerprint() || got.VASP() != 7 || !bytes.Equal(got.Bytes(), p.Bytes()) {
		t.Errorf("ParsePublic(Bytes) = %v, want %v", got, p)
	}
	other, err := identity.ParsePublic(8, p.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if other.Fingerprint() == p.Fingerprint() {
		t.Error("one key has the same fingerprint for two VASPs") // K3: re-attribution
	}
}

func TestParsePublicRefusesWhatIsNoIdentity(t *testing.T) {
	good := newSigner(t, 7).Public().Bytes()
	for name, b := range map[string][]byte{
		"empty":             {},
		"too short":         good[:32],
		"too long":          append(bytes.Clone(good), 0),
		"unknown algorithm": append([]byte{2}, good[1:]...),
	} {
		if _, err := identity.ParsePublic(7, b); err == nil {
			t.Errorf("%s: ParsePublic succeeds, want refusal", name)
		}
	}
	if _, err := identity.ParsePublic(0, good); err == nil {
		t.Error("VASP id zero: ParsePublic succeeds, want refusal")
	}
}

// Attack K3: under a point of small order one signature fits any message, so
// nobody could be held to it. The list is every such encoding.
func TestParsePublicRefusesSmallOrder(t *testing.T) {
	for _, y := range [][]byte{
		insecure.Seed(0),
		append([]byte{1}, make([]byte, 31)...),
		nearPrime(0xec), nearPrime(0xed), nearPrime(0xee),
		unhex(t, "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
		unhex(t, "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
	} {
		for _, sign := range []byte{0, 0x80} {
			b := append([]byte{1}, y...)
			b[32] |= sign
			if _, err := identity.ParsePublic(7, b); err == nil {
				t.Errorf("ParsePublic(%x) succeeds, want refusal", b)
			}
		}
	}
}

func nearPrime(low byte) []byte {
	b := insecure.Seed(0xff)
	b[0], b[31] = low, 0x7f
	return b
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	var h insecure.Hex
	if err := h.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestWrappedSignerComesBack(t *testing.T) {
	s, kek := newSigner(t, 7), insecure.AEAD(t, 1)
	wrapped, err := s.Wrap(kek, []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := identity.UnwrapSigner(7, wrapped, kek, []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := got.Sign("d", []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Public().Verify("d", []byte("m"), sig); err != nil {
		t.Errorf("signature by the unwrapped signer: %v", err)
	}
}

// Attack S2: a wrapped identity moved to another VASP or place does not unwrap.
func TestWrappedSignerIsBoundToItsPlace(t *testing.T) {
	s, kek := newSigner(t, 7), insecure.AEAD(t, 1)
	wrapped, err := s.Wrap(kek, []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	unwrap := func(vasp identity.VASPID, b []byte, kek identity.AEAD, place string) error {
		_, err := identity.UnwrapSigner(vasp, b, kek, []byte(place))
		return err
	}
	for name, err := range map[string]error{
		"other VASP":  unwrap(8, wrapped, kek, "place"),
		"other place": unwrap(7, wrapped, kek, "elsewhere"),
		"no place":    unwrap(7, wrapped, kek, ""),
		"other KEK":   unwrap(7, wrapped, insecure.AEAD(t, 2), "place"),
		"cut short":   unwrap(7, wrapped[:len(wrapped)-1], kek, "place"),
		"empty":       unwrap(7, nil, kek, "place"),
	} {
		if err == nil {
			t.Errorf("%s: UnwrapSigner succeeds, want refusal", name)
		}
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 0x10
		if unwrap(7, bad, kek, "place") == nil {
			t.Errorf("byte %d changed: UnwrapSigner succeeds, want refusal", i)
		}
	}
}

func TestSignerPrintsNothing(t *testing.T) {
	s := insecure.Signer(t, 7, insecure.Seed(0x41))
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %x %d", s, s, s, s, *s)
	if err := json.NewEncoder(&out).Encode(s); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("signer", "signer", s)
	if got := strings.Count(out.String(), "[redacted]"); got != 7 {
		t.Errorf("printed %q: %d times redacted, want 7", out.String(), got)
	}
	if strings.Contains(out.String(), "4141") || strings.Contains(out.String(), "65 65") {
		t.Errorf("printed %q", out.String())
	}
}

func FuzzParsePublic(f *testing.F) {
	f.Add(uint64(7), newSigner(f, 7).Public().Bytes())
	f.Add(uint64(0), []byte{1})
	f.Fuzz(func(t *testing.T, vasp uint64, b []byte) {
		p, err := identity.ParsePublic(identity.VASPID(vasp), b)
		if err == nil && !bytes.Equal(p.Bytes(), b) {
			t.Errorf("ParsePublic(%x).Bytes() = %x", b, p.Bytes())
		}
	})
}

func BenchmarkSign(b *testing.B) {
	s := newSigner(b, 7)
	for b.Loop() {
		if _, err := s.Sign("domain", make([]byte, 512)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s := newSigner(b, 7)
	sig, err := s.Sign("domain", make([]byte, 512))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Public().Verify("domain", make([]byte, 512), sig); err != nil {
			b.Fatal(err)
		}
	}
}
