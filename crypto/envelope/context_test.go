package envelope_test

import (
	"bytes"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// substitutes gives for each header field another value that makes sense.
func (w *world) substitutes(t *testing.T) map[uint16][]byte {
	t.Helper()
	id := func(v byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, v} }
	hash := bytes.Repeat([]byte{0x77}, 32)
	return map[uint16][]byte{
		2:  {byte(envelope.TxReport)},     // K4: replayed as another message
		3:  {byte(envelope.ToOriginator)}, // K4: reflected
		4:  []byte("prod"),                // cross network
		5:  bytes.Repeat([]byte{9}, 16),   // K4: attached to another verification
		7:  id(10),                        // K4: to another recipient
		9:  hash,                          // K12: another view of the recipient
		11: id(6),
		12: {byte(identity.PerVerification)}, // K5: another key type
		13: hash,
		14: {0, 0, 1, 0, 0, 0, 0, 0}, // created earlier
		15: {0, 0, 2, 0, 0, 0, 0, 0}, // K4: expires later
		16: hash,                     // K4: answers another request
		17: hash,                     // K2: another reply key
		18: hash,
		19: id(8),
	}
}

// Attacks K2, K3, K4, K5: the header is context info. Even the sender himself
// cannot move a ciphertext under another header: signed anew, it does not open.
func TestCiphertextOpensUnderItsHeaderOnly(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		sealed := w.seal(t)
		for tag, value := range w.substitutes(t) {
			moved := takeApart(t, sealed)
			moved.set(tag, value)
			if _, err := open(moved.bytes(), w.alice.Public(), w.key); reason(err) != envelope.BadSignature {
				t.Errorf("%s: field %d changed: %v, want %s", suite, tag, err, envelope.BadSignature)
			}
			moved.sign(t, w.alice)
			if _, err := open(moved.bytes(), w.alice.Public(), w.key); reason(err) != envelope.Undecryptable {
				t.Errorf("%s: field %d changed and signed anew: %v, want %s", suite, tag, err, envelope.Undecryptable)
			}
		}
	}
}

// Attack K3: Mallory takes Alice's ciphertext for his own.
func TestCiphertextIsNotReattributed(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		stolen := takeApart(t, w.seal(t))
		fp := w.mallory.Public().Fingerprint()
		stolen.set(6, []byte{0, 0, 0, 0, 0, 0, 0, 11})
		stolen.set(8, fp[:])
		stolen.sign(t, w.mallory)
		if _, err := open(stolen.bytes(), w.mallory.Public(), w.key); reason(err) != envelope.Undecryptable {
			t.Errorf("%s: re-attributed: %v, want %s", suite, err, envelope.Undecryptable)
		}
	}
}

// Attack K5: suite and key id are the key's, whoever signs otherwise.
func TestSuiteAndKeyAreNotRelabelled(t *testing.T) {
	w := newWorld(t, identity.SuiteXWing)
	for tag, value := range map[uint16][]byte{1: {byte(identity.SuiteX25519)}, 10: bytes.Repeat([]byte{1}, 32)} {
		moved := takeApart(t, w.seal(t))
		moved.set(tag, value)
		moved.sign(t, w.alice)
		if _, err := open(moved.bytes(), w.alice.Public(), w.key); reason(err) != envelope.OtherKey {
			t.Errorf("field %d changed: %v, want %s", tag, err, envelope.OtherKey)
		}
	}
}

// No bit of an envelope can be changed on the way.
func TestEnvelopeWithAChangedBitIsRefused(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		for name, sealed := range map[string][]byte{"sealed": w.seal(t), "clear": w.clear(t)} {
			k := w.key
			if name == "clear" {
				k = nil
			}
			start := len(sealed) - 66 - len(takeApart(t, sealed).ciphertext) // where the ciphertext begins
			for bit := 0; bit < 8*len(sealed); bit++ {
				if bit/8 >= start && bit/8 < len(sealed)-66 && bit%61 != 0 {
					continue
				}
				bad := bytes.Clone(sealed)
				bad[bit/8] ^= 1 << (bit % 8)
				if _, err := open(bad, w.alice.Public(), k); reason(err) == "" {
					t.Fatalf("%s %s: bit %d changed: %v, want refusal", suite, name, bit, err)
				}
			}
		}
	}
}

func TestCiphertextWithAChangedBitDoesNotOpen(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		sealed := w.seal(t)
		for i := 0; i < len(takeApart(t, sealed).ciphertext); i += 37 {
			bad := takeApart(t, sealed)
			bad.ciphertext[i] ^= 1
			bad.sign(t, w.alice)
			if _, err := open(bad.bytes(), w.alice.Public(), w.key); reason(err) != envelope.Undecryptable {
				t.Fatalf("%s: byte %d of the ciphertext changed: %v, want %s", suite, i, err, envelope.Undecryptable)
			}
		}
	}
}
