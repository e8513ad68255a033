package envelope_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/sha3"
	"fmt"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
)

func derive(t testing.TB, suite identity.Suite, seed []byte) *envelope.PrivateKey {
	t.Helper()
	k, err := envelope.DeriveKey(suite, seed)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOneSeedGivesOneKey(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	seen := map[identity.KeyID]bool{}
	for _, suite := range suites {
		for fill := range byte(3) {
			w.key = derive(t, suite, insecure.Seed(fill))
			seen[w.key.Public().ID()] = true
			if _, err := open(w.seal(t), w.alice.Public(), derive(t, suite, insecure.Seed(fill))); err != nil {
				t.Errorf("%s: the key derived again does not open: %v", suite, err)
			}
		}
	}
	if len(seen) != 6 {
		t.Errorf("6 seeds and suites give %d keys", len(seen))
	}
}

// What FORMAT.md says of DeriveKeyPair, written out with hashes alone.
func TestDerivedKeyFollowsTheFormat(t *testing.T) {
	for _, suite := range suites {
		for n := range 20 {
			seed := sha256.Sum256(fmt.Append(nil, "seed", n))
			private := deriveByFormat(t, suite, seed[:])
			got := derive(t, suite, seed[:]).Public().Bytes()
			if want := private.PublicKey().Bytes(); !bytes.Equal(got, want) {
				t.Fatalf("%s: public key of seed %x = %x, want %x", suite, seed, got, want)
			}
		}
	}
}

func deriveByFormat(t *testing.T, suite identity.Suite, seed []byte) hpke.PrivateKey {
	t.Helper()
	var raw []byte
	if suite == identity.SuiteXWing {
		h := sha3.NewSHAKE256()
		fmt.Fprintf(h, "%sHPKE-v1KEM\x64\x7a\x00\x0dDeriveKeyPair\x00\x20", seed)
		raw = make([]byte, 32)
		_, _ = h.Read(raw)
	} else {
		prk, err := hkdf.Extract(sha256.New, append([]byte("HPKE-v1KEM\x00\x20dkp_prk"), seed...), nil)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = hkdf.Expand(sha256.New, prk, "\x00\x20HPKE-v1KEM\x00\x20sk", 32); err != nil {
			t.Fatal(err)
		}
	}
	private, err := kem(suite).NewPrivateKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

// The standard library's own DeriveKeyPair is the other witness; what it
// derived opens what was sealed to ours.
func TestStandardLibraryDerivesTheSameKey(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		w.key = derive(t, suite, insecure.Seed(9))
		private, err := kem(suite).DeriveKeyPair(insecure.Seed(9))
		if err != nil {
			t.Fatal(err)
		}
		checkWithStandardLibrary(t, w.seal(t), private)
	}
}

func TestDeriveKeyRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		suite identity.Suite
		seed  []byte
	}{
		"clear suite":   {identity.SuiteClear, insecure.Seed(1)},
		"unknown suite": {3, insecure.Seed(1)},
		"no seed":       {identity.SuiteXWing, nil},
		"short seed":    {identity.SuiteXWing, insecure.Seed(1)[:31]},
		"long seed":     {identity.SuiteX25519, append(insecure.Seed(1), 1)},
	} {
		if _, err := envelope.DeriveKey(c.suite, c.seed); err == nil {
			t.Errorf("%s: DeriveKey succeeds, want an error", name)
		}
	}
}

// What the caller does with its seed afterwards does not matter.
func TestDeriveKeyKeepsItsOwnCopy(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		seed := insecure.Seed(5)
		w.key = derive(t, suite, seed)
		clear(seed)
		if _, err := open(w.seal(t), w.alice.Public(), w.key); err != nil {
			t.Errorf("%s: after the seed was cleared: %v", suite, err)
		}
	}
}

func BenchmarkDeriveKey(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			seed := insecure.Seed(1)
			for b.Loop() {
				derive(b, suite, seed)
			}
		})
	}
}
