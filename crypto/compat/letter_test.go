package compat_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/tink/go/aead"
	"github.com/google/tink/go/hybrid"
	"github.com/google/tink/go/insecurecleartextkeyset"
	"github.com/google/tink/go/keyset"
	"github.com/google/tink/go/signature"
)

// letter is what package crypto's test wrote: an envelope of VASP 7 to VASP 9
// with the keys of both.
type letter struct {
	KEK, Identity, Sealed, PublicKey, Envelope, Payload, XAES, XWing []byte
}

// answerLetter opens our envelope, and makes one in its place, with nothing
// but the archived Tink and what FORMAT.md says.
func answerLetter(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "letter"))
	must(t, err)
	var l letter
	must(t, json.Unmarshal(b, &l))
	l.refuseUnknownKinds(t)
	sender := l.unwrap(t, l.Identity, append(domain("wrapped-identity"), 0, 0, 0, 0, 0, 0, 0, 7))
	recipient := l.unwrap(t, l.Sealed, append(domain("wrapped-hybrid-key"), 2))
	must(t, os.WriteFile(filepath.Join(dir, "letter-back"), l.reseal(t, sender, recipient, l.open(t, sender, recipient)), 0o600))
}

func (l *letter) unwrap(t *testing.T, wrapped, purpose []byte) *keyset.Handle {
	t.Helper()
	kek, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(l.KEK)))
	must(t, err)
	master, err := aead.New(kek)
	must(t, err)
	h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), master, append(purpose, place...))
	must(t, err)
	return h
}

// open checks signature, ciphertext and body, and gives the header.
func (l *letter) open(t *testing.T, sender, recipient *keyset.Handle) (header []byte) {
	t.Helper()
	if l.Envelope[0] != 1 {
		t.Fatalf("format %d", l.Envelope[0])
	}
	header, rest := part(l.Envelope[1:])
	ciphertext, rest := part(rest)
	public, err := sender.Public()
	must(t, err)
	verifier, err := signature.NewVerifier(public)
	must(t, err)
	if err := verifier.Verify(rest[2:], signed(header, ciphertext)); err != nil {
		t.Errorf("the signature does not verify: %v", err)
	}
	decrypt, err := hybrid.NewHybridDecrypt(recipient)
	must(t, err)
	plaintext, err := decrypt.Decrypt(ciphertext, header)
	must(t, err)
	_, after := part(plaintext[40:]) // the reply bundle
	if payload, _ := part(after); !bytes.Equal(payload, l.Payload) || len(plaintext) != 4096 {
		t.Errorf("payload of a body of %d bytes = %q", len(plaintext), payload)
	}
	if commitment := sha256.Sum256(slices.Concat(domain("commitment"), plaintext[:32], l.Payload)); !bytes.Contains(header, commitment[:]) {
		t.Error("the header does not commit to the payload")
	}
	return header
}

// reseal makes an envelope like the one received, with another salt.
func (l *letter) reseal(t *testing.T, sender, recipient *keyset.Handle, header []byte) []byte {
	t.Helper()
	plaintext := make([]byte, 4096)
	copy(plaintext, "the salt of the archived module.")
	plaintext[39] = 2 // sequence
	binary.BigEndian.PutUint32(plaintext[44:], uint32(len(l.Payload)))
	copy(plaintext[48:], l.Payload)
	commitment := sha256.Sum256(slices.Concat(domain("commitment"), plaintext[:32], l.Payload))
	header = slices.Clone(header)
	copy(header[len(header)-14-32:], commitment[:]) // field 18, before field 19 of 6 + 8 bytes
	public, err := recipient.Public()
	must(t, err)
	encrypt, err := hybrid.NewHybridEncrypt(public)
	must(t, err)
	ciphertext, err := encrypt.Encrypt(plaintext, header)
	must(t, err)
	signer, err := signature.NewSigner(sender)
	must(t, err)
	sig, err := signer.Sign(signed(header, ciphertext))
	must(t, err)
	return slices.Concat([]byte{1}, withLength(header), withLength(ciphertext), []byte{0, 64}, sig)
}

func signed(header, ciphertext []byte) []byte {
	sum := sha256.Sum256(ciphertext)
	return slices.Concat(domain("envelope"), []byte{1}, header, sum[:])
}

func domain(purpose string) []byte {
	purpose = "vasp-enclave/v1/" + purpose
	return append([]byte{0, byte(len(purpose))}, purpose...)
}

func withLength(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func part(b []byte) (part, rest []byte) {
	n := 4 + binary.BigEndian.Uint32(b)
	return b[4:n], b[n:]
}

// XAES-256-GCM and X-Wing came after the archived module, which says so.
func (l *letter) refuseUnknownKinds(t *testing.T) {
	t.Helper()
	for name, kind := range map[string]struct {
		keyset []byte
		use    func(h *keyset.Handle) error
	}{
		"XAES-256-GCM": {l.XAES, func(h *keyset.Handle) error { _, err := aead.New(h); return err }},
		"X-Wing":       {l.XWing, func(h *keyset.Handle) error { _, err := hybrid.NewHybridDecrypt(h); return err }},
	} {
		h, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(kind.keyset)))
		if err == nil {
			err = kind.use(h)
		}
		if err == nil {
			t.Errorf("the archived Tink knows %s: it belongs into the trade", name)
		}
	}
}
