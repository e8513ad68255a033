package envelope_test

import (
	"bytes"
	"crypto/hpke"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// The standard library's HPKE opens what Seal made, with the header as info:
// a third party needs neither Tink nor this package.
func TestStandardLibraryOpensWhatSealMade(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		private, err := kem(suite).GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		to, err := envelope.ParsePublicKey(suite, private.PublicKey().Bytes())
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := envelope.Seal(w.alice, to, w.header(envelope.AccountRequest), body)
		if err != nil {
			t.Fatal(err)
		}
		checkWithStandardLibrary(t, sealed, private)
	}
}

func checkWithStandardLibrary(t *testing.T, sealed []byte, private hpke.PrivateKey) {
	t.Helper()
	r := takeApart(t, sealed)
	got, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), r.header(), r.ciphertext)
	if err != nil {
		t.Fatalf("hpke.Open: %v", err)
	}
	want := plain([32]byte(got), body.Sequence, body.ReplyBundle, body.Payload, 4096)
	if !bytes.Equal(got, want) {
		t.Errorf("the standard library opens another plaintext: %x", got)
	}
	if commitment := domain("vasp-enclave/v1/commitment", got[:32], body.Payload); !bytes.Equal(r.fields[17].value, commitment[:]) {
		t.Error("the commitment is not the hash that FORMAT.md names")
	}
}

func TestOpenReadsWhatTheStandardLibrarySealed(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		salt := [32]byte{1, 2, 3}
		commitment := domain("vasp-enclave/v1/commitment", salt[:], body.Payload)
		r := takeApart(t, w.seal(t))
		r.set(18, commitment[:])
		r.fill(t, w.key.Public(), plain(salt, body.Sequence, body.ReplyBundle, body.Payload, 4096))
		r.sign(t, w.alice)
		got, err := open(r.bytes(), w.alice.Public(), w.key)
		if err != nil || !cmp.Equal(*got, body) {
			t.Errorf("%s: Open = %v, %v", suite, got, err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			w := newWorld(b, suite)
			b.ReportAllocs()
			for b.Loop() {
				w.seal(b)
			}
		})
	}
}

// BenchmarkOpen is parse, check of the signature and open.
func BenchmarkOpen(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			w := newWorld(b, suite)
			sealed := w.seal(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := open(sealed, w.alice.Public(), w.key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	w := newWorld(b, identity.SuiteXWing)
	sealed := w.seal(b)
	b.ReportAllocs()
	for b.Loop() {
		e, err := envelope.Parse(sealed)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Authenticate(w.alice.Public()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGenerateKey(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := envelope.GenerateKey(suite); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStandardLibrary is the floor: HPKE of one 4 KiB class without the
// envelope around it.
func BenchmarkStandardLibrary(b *testing.B) {
	for _, suite := range suites {
		private, err := kem(suite).GenerateKey()
		if err != nil {
			b.Fatal(err)
		}
		info, plaintext := make([]byte, 480), make([]byte, 4096)
		kdf, aead := hpke.HKDFSHA256(), hpke.AES256GCM()
		sealed, err := hpke.Seal(private.PublicKey(), kdf, aead, info, plaintext)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("seal/"+suite.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := hpke.Seal(private.PublicKey(), kdf, aead, info, plaintext); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("open/"+suite.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := hpke.Open(private, kdf, aead, info, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
