package envelope_test

import (
	"bytes"
	"crypto/hpke"
	"sync"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// eachBit calls f for every bit with a copy of b in which it is flipped, on
// all processors.
func eachBit(b []byte, f func(bit int, flipped []byte)) {
	const workers = 4
	var all sync.WaitGroup
	for first := range workers {
		all.Go(func() {
			flipped := bytes.Clone(b)
			for bit := first; bit < 8*len(b); bit += workers {
				flipped[bit/8] ^= 1 << (bit % 8)
				f(bit, flipped)
				flipped[bit/8] ^= 1 << (bit % 8)
			}
		})
	}
	all.Wait()
}

// Attacks K2, K3, K4, K5: every bit of every part counts. That it is the
// header's, the ciphertext's or a length's makes no difference.
func TestEveryBitOfAnEnvelopeCounts(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		for name, sealed := range map[string][]byte{"sealed": w.seal(t), "clear": w.clear(t)} {
			k := w.key
			if name == "clear" {
				k = nil
			}
			if _, err := open(sealed, w.alice.Public(), k); err != nil {
				t.Fatalf("%s %s: unchanged: %v", suite, name, err)
			}
			eachBit(sealed, func(bit int, flipped []byte) {
				if _, err := open(flipped, w.alice.Public(), k); reason(err) == "" {
					t.Errorf("%s %s: bit %d flipped: %v, want refusal", suite, name, bit, err)
				}
			})
		}
	}
}

// Attack K4: and without the signature's help, every bit of the encapsulated
// key and of the tag.
func TestEveryBitOfAnEncapsulatedKeyCounts(t *testing.T) {
	for suite, size := range map[identity.Suite]int{identity.SuiteXWing: 1120, identity.SuiteX25519: 32} {
		w := newWorld(t, suite)
		sealed := w.seal(t)
		whole := takeApart(t, sealed).ciphertext
		refused := func(bit int, ciphertext []byte) {
			bad := takeApart(t, sealed)
			bad.ciphertext = ciphertext
			bad.sign(t, w.alice)
			if _, err := open(bad.bytes(), w.alice.Public(), w.key); reason(err) != envelope.Undecryptable {
				t.Errorf("%s: bit %d flipped: %v, want %s", suite, bit, err, envelope.Undecryptable)
			}
		}
		eachBit(whole[:size], func(bit int, flipped []byte) {
			refused(bit, append(bytes.Clone(flipped), whole[size:]...))
		})
		eachBit(whole[len(whole)-16:], func(bit int, flipped []byte) {
			refused(bit, append(bytes.Clone(whole[:len(whole)-16]), flipped...))
		})
	}
}

// Attack K8: who breaks X25519 one day, and has recorded everything until
// then, still lacks the other half of the key, and the other way round: a
// ciphertext opens with both halves of the key or not at all.
func TestHalfAnXWingKeyOpensNothing(t *testing.T) {
	w, other := newWorld(t, identity.SuiteXWing), newWorld(t, identity.SuiteXWing)
	const post = 1184 // bytes of ML-KEM-768; 32 of X25519 follow
	ours, theirs := w.key.Public().Bytes(), other.key.Public().Bytes()
	for name, public := range map[string][]byte{
		"both halves ours":  ours,
		"only X25519 ours":  append(bytes.Clone(theirs[:post]), ours[post:]...),
		"only ML-KEM ours":  append(bytes.Clone(ours[:post]), theirs[post:]...),
		"neither half ours": theirs,
	} {
		r := takeApart(t, w.seal(t))
		to, err := hpke.MLKEM768X25519().NewPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		salt := [32]byte{1}
		commitment, reply := domain("vasp-enclave/v1/commitment", salt[:], body.Payload), domain("vasp-enclave/v1/key-bundle-hash", body.ReplyBundle)
		r.set(18, commitment[:])
		r.set(17, reply[:])
		plaintext := plain(salt, 1, body.ReplyBundle, body.Payload, 4096)
		if r.ciphertext, err = hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), r.header(), plaintext); err != nil {
			t.Fatal(err)
		}
		want := envelope.Undecryptable
		if bytes.Equal(public, ours) {
			want = ""
		}
		if _, err := open(r.sign(t, w.alice).bytes(), w.alice.Public(), w.key); reason(err) != want || (err == nil) != (want == "") {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
