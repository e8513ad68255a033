package identity_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, int(3*time.Millisecond), time.UTC)

// aBundle is a bundle in which every field differs from zero. Its key is no
// point of anything: a bundle carries bytes.
func aBundle(suite identity.Suite) identity.Bundle {
	return identity.Bundle{
		Suite: suite, PublicKey: bytes.Repeat([]byte{0x55}, suite.PublicKeySize()),
		Type: identity.PerAddress, Scope: [32]byte{1, 2}, Epoch: 3, Audience: 9, Serial: 1000,
		NotBefore: noon, NotAfter: noon.Add(24 * time.Hour), Nonce: [32]byte{4, 5},
		Suites: []identity.Suite{identity.SuiteXWing, identity.SuiteX25519, 200},
	}
}

func signBundle(t testing.TB, s *identity.Signer, b identity.Bundle) []byte {
	t.Helper()
	encoded, err := s.SignBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestBundleComesBack(t *testing.T) {
	s := newSigner(t, 7)
	for _, suite := range []identity.Suite{identity.SuiteXWing, identity.SuiteX25519} {
		want := aBundle(suite)
		encoded := signBundle(t, s, want)
		got, err := identity.ParseBundle(encoded)
		if err != nil {
			t.Fatal(err)
		}
		want.VASP, want.Identity, want.KeyID = 7, s.Public(), identity.NewKeyID(suite, want.PublicKey)
		samePublic := cmp.Comparer(func(a, b *identity.Public) bool { return a.Fingerprint() == b.Fingerprint() })
		if diff := cmp.Diff(&want, got, samePublic, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: ParseBundle(SignBundle(b)) differs (-want +got):\n%s", suite, diff)
		}
		if len(encoded) > identity.MaxBundle {
			t.Errorf("%s: %d bytes, MaxBundle is %d", suite, len(encoded), identity.MaxBundle)
		}
	}
}

func TestBundleTimesAreCutToMilliseconds(t *testing.T) {
	b := aBundle(identity.SuiteX25519)
	b.NotBefore = noon.Add(999 * time.Microsecond).In(time.FixedZone("elsewhere", 3600))
	got, err := identity.ParseBundle(signBundle(t, newSigner(t, 7), b))
	if err != nil || got.NotBefore != noon {
		t.Errorf("NotBefore = %v, %v, want %v", got.NotBefore, err, noon)
	}
}

// Attacks K1, K6: no bit of a bundle can be changed.
func TestBundleWithAChangedBitIsRefused(t *testing.T) {
	s := newSigner(t, 7)
	for suite, step := range map[identity.Suite]int{identity.SuiteX25519: 1, identity.SuiteXWing: 8} {
		encoded := signBundle(t, s, aBundle(suite))
		for bit := 0; bit < 8*len(encoded); bit += step {
			bad := bytes.Clone(encoded)
			bad[bit/8] ^= 1 << (bit / step % 8)
			if _, err := identity.ParseBundle(bad); err == nil {
				t.Fatalf("%s: byte %d changed: ParseBundle succeeds, want refusal", suite, bit/8)
			}
		}
	}
}

const bundleDomain = "vasp-enclave/v1/key-bundle" // as FORMAT.md has it

// rawBundle writes a bundle field by field and signs whatever came out, as a
// hostile owner would.
type rawBundle struct {
	format byte
	tags   []uint16
	values [][]byte
}

func newRawBundle(s *identity.Signer, b identity.Bundle) *rawBundle {
	r := &rawBundle{format: 1}
	id := identity.NewKeyID(b.Suite, b.PublicKey)
	var suites []byte
	for _, x := range b.Suites {
		suites = append(suites, byte(x))
	}
	for i, v := range [][]byte{
		u64(uint64(s.Public().VASP())), s.Public().Bytes(), {byte(b.Suite)}, id[:], b.PublicKey, {byte(b.Type)}, b.Scope[:],
		u64(b.Epoch), u64(uint64(b.Audience)), u64(b.Serial), u64(uint64(b.NotBefore.UnixMilli())), u64(uint64(b.NotAfter.UnixMilli())), b.Nonce[:], suites,
	} {
		r.tags, r.values = append(r.tags, uint16(i+1)), append(r.values, v)
	}
	return r
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func (r *rawBundle) sign(t *testing.T, s *identity.Signer) []byte {
	t.Helper()
	b := []byte{r.format}
	for i := range r.tags {
		b = tlv.Append(b, r.tags[i], r.values[i])
	}
	sig, err := s.Sign(bundleDomain, b)
	if err != nil {
		t.Fatal(err)
	}
	return tlv.Append(b, 15, sig)
}

// Attack K4: even its owner cannot sign a bundle that has two encodings, or
// one that contradicts itself.
func TestBundleIsCanonicalWhoeverSignsIt(t *testing.T) {
	s := newSigner(t, 7)
	base := aBundle(identity.SuiteX25519)
	if _, err := identity.ParseBundle(newRawBundle(s, base).sign(t, s)); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	other := newSigner(t, 8)
	for name, change := range map[string]func(r *rawBundle){
		"format":             func(r *rawBundle) { r.format = 2 },
		"unknown tag":        func(r *rawBundle) { r.tags[7] = 77 },
		"missing field":      func(r *rawBundle) { r.tags, r.values = r.tags[1:], r.values[1:] },
		"extra field":        func(r *rawBundle) { r.tags, r.values = append(r.tags, 15), append(r.values, nil) },
		"reordered":          func(r *rawBundle) { r.tags[7], r.tags[8] = r.tags[8], r.tags[7] },
		"long number":        func(r *rawBundle) { r.values[7] = append([]byte{0}, r.values[7]...) },
		"short number":       func(r *rawBundle) { r.values[7] = r.values[7][1:] },
		"zero VASP":          func(r *rawBundle) { r.values[0] = u64(0) },
		"other identity":     func(r *rawBundle) { r.values[1] = other.Public().Bytes() },
		"unknown suite":      func(r *rawBundle) { r.values[2] = []byte{3} },
		"clear suite":        func(r *rawBundle) { r.values[2] = []byte{0} },
		"suite of other key": func(r *rawBundle) { r.values[2] = []byte{byte(identity.SuiteXWing)} },
		"other key id":       func(r *rawBundle) { r.values[3] = make([]byte, 32) },
		"other key":          func(r *rawBundle) { r.values[4] = make([]byte, 32) },
		"short key": func(r *rawBundle) {
			k := r.values[4][:31]
			id := identity.NewKeyID(2, k)
			r.values[4], r.values[3] = k, id[:]
		},
		"key type zero":     func(r *rawBundle) { r.values[5] = []byte{0} },
		"key type 4":        func(r *rawBundle) { r.values[5] = []byte{4} },
		"PerVASP and scope": func(r *rawBundle) { r.values[5] = []byte{1} },
		"serial zero":       func(r *rawBundle) { r.values[9] = u64(0) },
		"time backwards":    func(r *rawBundle) { r.values[10], r.values[11] = r.values[11], r.values[10] },
		"no time":           func(r *rawBundle) { r.values[10] = r.values[11] },
		"time without end":  func(r *rawBundle) { r.values[11] = u64(math.MaxUint64) },
		"no suites":         func(r *rawBundle) { r.values[13] = nil },
		"suites fall":       func(r *rawBundle) { r.values[13] = []byte{2, 1} },
		"suite twice":       func(r *rawBundle) { r.values[13] = []byte{2, 2} },
		"suite clear":       func(r *rawBundle) { r.values[13] = []byte{0, 2} },
		"its suite missing": func(r *rawBundle) { r.values[13] = []byte{1} },
		"17 suites":         func(r *rawBundle) { r.values[13] = []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17} },
	} {
		r := newRawBundle(s, base)
		change(r)
		if b, err := identity.ParseBundle(r.sign(t, s)); err == nil {
			t.Errorf("%s: ParseBundle = %+v, want refusal", name, b)
		}
	}
	good := signBundle(t, s, base)
	for name, b := range map[string][]byte{
		"empty": nil, "trailing byte": append(bytes.Clone(good), 0), "cut": good[:len(good)-1],
		"signed for another domain": resign(t, s, good, "vasp-enclave/v1/envelope"),
	} {
		if _, err := identity.ParseBundle(b); err == nil {
			t.Errorf("%s: ParseBundle succeeds, want refusal", name)
		}
	}
}

func resign(t *testing.T, s *identity.Signer, encoded []byte, domain string) []byte {
	t.Helper()
	body := bytes.Clone(encoded[:len(encoded)-6-64])
	sig, err := s.Sign(domain, body)
	if err != nil {
		t.Fatal(err)
	}
	return tlv.Append(body, 15, sig)
}

func TestSignBundleRefusesWhatCannotBeRead(t *testing.T) {
	s := newSigner(t, 7)
	for name, change := range map[string]func(b *identity.Bundle){
		"clear suite":    func(b *identity.Bundle) { b.Suite = identity.SuiteClear },
		"key length":     func(b *identity.Bundle) { b.PublicKey = b.PublicKey[1:] },
		"key type":       func(b *identity.Bundle) { b.Type = 0 },
		"serial":         func(b *identity.Bundle) { b.Serial = 0 },
		"zero time":      func(b *identity.Bundle) { b.NotBefore = time.Time{} },
		"far time":       func(b *identity.Bundle) { b.NotAfter = time.UnixMilli(253402300800000) },
		"no suites":      func(b *identity.Bundle) { b.Suites = nil },
		"suite unlisted": func(b *identity.Bundle) { b.Suites = []identity.Suite{identity.SuiteXWing} },
	} {
		b := aBundle(identity.SuiteX25519)
		change(&b)
		if _, err := s.SignBundle(b); err == nil {
			t.Errorf("%s: SignBundle succeeds, want an error", name)
		}
	}
}

func TestBundleValidity(t *testing.T) {
	b, err := identity.ParseBundle(signBundle(t, newSigner(t, 7), aBundle(identity.SuiteX25519)))
	if err != nil {
		t.Fatal(err)
	}
	const skew = time.Minute
	for _, c := range []struct {
		at   time.Time
		want error
	}{
		{b.NotBefore.Add(-skew - 1), identity.ErrNotYetValid},
		{b.NotBefore.Add(-skew), nil},
		{b.NotBefore, nil},
		{b.NotAfter.Add(-1), nil},
		{b.NotAfter, identity.ErrExpired},
		{b.NotAfter.Add(skew), identity.ErrExpired},
	} {
		if got := b.ValidAt(c.at, skew); !errors.Is(got, c.want) {
			t.Errorf("ValidAt(%v) = %v, want %v", c.at, got, c.want)
		}
	}
}

// Attack K7: serials rise even when the clock was set back, and a restored
// backup is not stuck.
func TestNextSerialRises(t *testing.T) {
	ms := uint64(noon.UnixMilli())
	for _, c := range []struct{ last, want uint64 }{
		{0, ms}, {ms - 1, ms}, {ms, ms + 1}, {ms + 5, ms + 6}, {math.MaxUint64 - 1, math.MaxUint64}, {math.MaxUint64, math.MaxUint64},
	} {
		if got := identity.NextSerial(c.last, noon); got != c.want {
			t.Errorf("NextSerial(%d) = %d, want %d", c.last, got, c.want)
		}
	}
	if got := identity.NextSerial(4, time.Time{}); got != 5 {
		t.Errorf("NextSerial(4, zero time) = %d, want 5", got)
	}
}

func FuzzParseBundle(f *testing.F) {
	s := insecure.Signer(f, 7, insecure.Seed(1))
	f.Add(signBundle(f, s, aBundle(identity.SuiteX25519)))
	f.Add(signBundle(f, s, aBundle(identity.SuiteXWing))[:300])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := identity.ParseBundle(b)
		if err != nil || got.Identity.Fingerprint() != s.Public().Fingerprint() {
			return
		}
		again, err := s.SignBundle(*got)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("a parsed bundle is written as %x, %v, was %x", again, err, b)
		}
	})
}

func BenchmarkParseBundle(b *testing.B) {
	s := newSigner(b, 7)
	for _, suite := range []identity.Suite{identity.SuiteXWing, identity.SuiteX25519} {
		encoded := signBundle(b, s, aBundle(suite))
		b.Run(suite.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := identity.ParseBundle(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
