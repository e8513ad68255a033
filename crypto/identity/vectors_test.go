package identity_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
)

// vectors are testdata/vectors.json: frozen bytes that every version must
// write and read. Their keys are public, and so insecure.
type vectors struct {
	Identities   []identityVector
	SafetyNumber string
	Bundles      []bundleVector
	Chain        insecure.Hex // identity 0, then identity 1, then identity 2
}

type identityVector struct {
	VASP         identity.VASPID
	InsecureSeed insecure.Hex
	Public       insecure.Hex
	Fingerprint  string
	Digits       string
}

type bundleVector struct {
	Suite        string
	InsecureSeed insecure.Hex // of the hybrid key, as RFC 9180 serialises it
	KeyID        string
	Bundle       insecure.Hex
	Hash         insecure.Hex
}

func (v *vectors) signer(t *testing.T, i int) *identity.Signer {
	return insecure.Signer(t, v.Identities[i].VASP, v.Identities[i].InsecureSeed)
}

// recompute makes from the seeds what the rest of the file must be.
func (v *vectors) recompute(t *testing.T) *vectors {
	t.Helper()
	var got vectors
	for i, in := range v.Identities {
		p := v.signer(t, i).Public()
		got.Identities = append(got.Identities, identityVector{
			VASP: p.VASP(), InsecureSeed: in.InsecureSeed, Public: p.Bytes(),
			Fingerprint: p.Fingerprint().String(), Digits: identity.FingerprintDigits(p),
		})
	}
	got.SafetyNumber = identity.SafetyNumber(v.signer(t, 0).Public(), v.signer(t, 3).Public())
	for _, in := range v.Bundles {
		got.Bundles = append(got.Bundles, in.recompute(t, v.signer(t, 0)))
	}
	got.Chain = newChain(t, v.signer(t, 0))
	got.Chain = extend(t, got.Chain, v.signer(t, 0), v.signer(t, 1))
	got.Chain = extend(t, got.Chain, v.signer(t, 1), v.signer(t, 2))
	return &got
}

func (in bundleVector) recompute(t *testing.T, s *identity.Signer) bundleVector {
	t.Helper()
	suite, err := identity.ParseSuite(in.Suite)
	if err != nil {
		t.Fatal(err)
	}
	key := insecure.PrivateKey(t, suite, in.InsecureSeed).Public()
	b := aBundle(suite)
	b.PublicKey = key.Bytes()
	encoded := signBundle(t, s, b)
	hash := identity.HashBundle(encoded)
	return bundleVector{Suite: in.Suite, InsecureSeed: in.InsecureSeed, KeyID: key.ID().String(), Bundle: encoded, Hash: hash[:]}
}

func frozen(t *testing.T) *vectors {
	t.Helper()
	v := new(vectors)
	insecure.Vectors(t, "testdata/vectors.json", v)
	return v
}

func TestFrozenBytesAreStillWritten(t *testing.T) {
	v := frozen(t)
	if diff := cmp.Diff(v, v.recompute(t)); diff != "" {
		t.Errorf("what is written now differs from the frozen vectors (-frozen +now):\n%s", diff)
	}
}

func TestFrozenBytesAreStillRead(t *testing.T) {
	v := frozen(t)
	for _, in := range v.Bundles {
		b, err := identity.ParseBundle(in.Bundle)
		if err != nil {
			t.Fatalf("%s: %v", in.Suite, err)
		}
		if b.KeyID.String() != in.KeyID || b.Serial != 1000 || !b.NotBefore.Equal(noon) || b.Audience != 9 {
			t.Errorf("%s: ParseBundle = %+v", in.Suite, b)
		}
	}
	c, err := identity.ParseChain(v.Chain)
	if err != nil {
		t.Fatal(err)
	}
	if c.Len() != 3 || c.Current().Fingerprint().String() != v.Identities[2].Fingerprint {
		t.Errorf("ParseChain: %d identities, current %v", c.Len(), c.Current())
	}
}

// The formulas of FORMAT.md, written with the standard library alone.
func TestFrozenBytesFollowTheFormat(t *testing.T) {
	v := frozen(t)
	domain := func(s string) string { return string([]byte{0, byte(len(s))}) + s }
	for _, in := range v.Identities {
		private := ed25519.NewKeyFromSeed(in.InsecureSeed)
		public := append([]byte{1}, private.Public().(ed25519.PublicKey)...)
		if !bytes.Equal(public, in.Public) {
			t.Errorf("public identity of %s = %x", in.VASP, public)
		}
		id := string(u64(uint64(in.VASP)))
		fp := sha256.Sum256([]byte(domain("vasp-enclave/v1/fingerprint") + id + string(public)))
		if got := fmt.Sprintf("%x", fp); got != in.Fingerprint {
			t.Errorf("fingerprint of %s = %s", in.VASP, got)
		}
		sum := sha512.Sum512([]byte(domain("vasp-enclave/v1/safety-number") + id + string(public)))
		var groups []string
		for i := 0; i < 60; i += 5 {
			n := uint64(sum[i])<<32 | uint64(sum[i+1])<<24 | uint64(sum[i+2])<<16 | uint64(sum[i+3])<<8 | uint64(sum[i+4])
			groups = append(groups, fmt.Sprintf("%05d", n%100000))
		}
		if got := strings.Join(groups, " "); got != in.Digits {
			t.Errorf("digits of %s = %s", in.VASP, got)
		}
	}
	owner := ed25519.PublicKey(v.Identities[0].Public[1:])
	for _, in := range v.Bundles {
		body, sig := in.Bundle[:len(in.Bundle)-70], in.Bundle[len(in.Bundle)-64:]
		if !ed25519.Verify(owner, []byte(domain(bundleDomain)+string(body)), sig) {
			t.Errorf("%s: bundle signature does not verify", in.Suite)
		}
	}
}

func TestSafetyNumberIsThePairs(t *testing.T) {
	a, b := newSigner(t, 7).Public(), newSigner(t, 9).Public()
	number := identity.SafetyNumber(a, b)
	if number != identity.SafetyNumber(b, a) {
		t.Error("the two operators would read different numbers")
	}
	if want := identity.FingerprintDigits(a) + " " + identity.FingerprintDigits(b); number != want {
		t.Errorf("SafetyNumber = %s, want the lower VASP id's digits first: %s", number, want)
	}
	groups := strings.Split(number, " ")
	for _, g := range groups {
		if len(g) != 5 || strings.Trim(g, "0123456789") != "" {
			t.Errorf("group %q is not five digits", g)
		}
	}
	if len(groups) != 24 {
		t.Errorf("%d groups, want 24", len(groups))
	}
	// Attack K1: a person in the middle shows another identity of the same VASP.
	if middle := newSigner(t, 7).Public(); identity.SafetyNumber(middle, b) == number {
		t.Error("another identity has the same safety number")
	}
	same := newSigner(t, 7).Public()
	if identity.SafetyNumber(a, same) != identity.SafetyNumber(same, a) {
		t.Error("two identities of one VASP have two numbers")
	}
}
