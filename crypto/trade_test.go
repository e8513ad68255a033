package crypto_test

// This file is here twice, with the two import paths of Tink: in crypto, and
// in crypto/compat for the archived module. What one of them sealed, signed or
// wrote, the other opens, verifies and reads.

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/signature"
)

// both are the kinds of keys that both modules know. What we use ourselves is
// marked; XAES-256-GCM and X-Wing are ours too, and unknown to the other.
var both = map[string]map[string]func() *tinkpb.KeyTemplate{
	"hybrid": {
		"x25519 raw":    hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Raw_Key_Template, // ours: suite 2
		"x25519":        hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template,
		"x25519 chacha": hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_CHACHA20_POLY1305_Raw_Key_Template,
	},
	"signature": {
		"ed25519 raw": signature.ED25519KeyWithoutPrefixTemplate, // ours: identities
		"ed25519":     signature.ED25519KeyTemplate,
	},
	"prf": {
		"hmac-sha256": prf.HMACSHA256PRFKeyTemplate, // ours: epoch secrets, blind indexes
	},
	"aead": {
		"aes-256-gcm raw":    aead.AES256GCMNoPrefixKeyTemplate,
		"aes-256-gcm":        aead.AES256GCMKeyTemplate,
		"aes-128-gcm":        aead.AES128GCMKeyTemplate,
		"aes-256-ctr-hmac":   aead.AES256CTRHMACSHA256KeyTemplate,
		"chacha20-poly1305":  aead.ChaCha20Poly1305KeyTemplate,
		"xchacha20-poly1305": aead.XChaCha20Poly1305KeyTemplate,
	},
}

// parcel is one key, in every form in which a keyset is written, and what it
// made of a message.
type parcel struct {
	Kind, Name        string
	Binary, JSON      []byte // in clear
	Wrapped, Readable []byte // encrypted under the offer's KEK, binary and JSON
	Public            []byte // of pairs
	Message, Context  []byte
	Made              []byte // ciphertext, signature or PRF
}

// offer is what one side writes first; reply is the other's offer with Made
// made anew.
type offer struct {
	KEK     []byte // in clear
	Parcels []parcel
}

const place = "where the keyset is kept"

// trade does what a side can do with what lies in the folder: write its
// offer, answer the other's, and open what came back.
func trade(t *testing.T, dir, self, other string) {
	t.Helper()
	mine, err := read(dir, self+"-offer")
	if errors.Is(err, fs.ErrNotExist) {
		mine, err = newOffer(t), nil
		write(t, dir, self+"-offer", mine)
	}
	must(t, err)
	theirs, err := read(dir, other+"-offer")
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	write(t, dir, self+"-reply", theirs.answer(t))
	back, err := read(dir, other+"-reply")
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	for i, p := range mine.Parcels {
		p.Made = back.Parcels[i].Made
		p.open(t, p.clear(t, keyset.NewBinaryReader(bytes.NewReader(p.Binary))))
	}
}

func read(dir, name string) (o offer, err error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(b, &o)
}

func write(t *testing.T, dir, name string, o offer) {
	t.Helper()
	b, err := json.Marshal(o)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
}

func newOffer(t *testing.T) (o offer) {
	t.Helper()
	kek := newHandle(t, aead.AES256GCMNoPrefixKeyTemplate())
	var b bytes.Buffer
	must(t, insecurecleartextkeyset.Write(kek, keyset.NewBinaryWriter(&b)))
	o.KEK = b.Bytes()
	for kind, templates := range both {
		for name, template := range templates {
			for _, size := range []int{0, 1, 4096} {
				p := parcel{Kind: kind, Name: name, Message: bytes.Repeat([]byte("m"), size), Context: bytes.Repeat([]byte("c"), size/9)}
				h := newHandle(t, template())
				p.write(t, h, kek)
				p.make(t, h)
				o.Parcels = append(o.Parcels, p)
			}
		}
	}
	return o
}

func newHandle(t *testing.T, template *tinkpb.KeyTemplate) *keyset.Handle {
	t.Helper()
	h, err := keyset.NewHandle(template)
	must(t, err)
	return h
}

// write writes the keyset in each of its forms.
func (p *parcel) write(t *testing.T, h, kek *keyset.Handle) {
	t.Helper()
	master, err := aead.New(kek)
	must(t, err)
	var clear, text, wrapped, readable, public bytes.Buffer
	must(t, insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&clear)))
	must(t, insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&text)))
	must(t, h.WriteWithAssociatedData(keyset.NewBinaryWriter(&wrapped), master, []byte(place)))
	must(t, h.WriteWithAssociatedData(keyset.NewJSONWriter(&readable), master, []byte(place)))
	if p.Kind == "hybrid" || p.Kind == "signature" {
		pub, err := h.Public()
		must(t, err)
		must(t, pub.WriteWithNoSecrets(keyset.NewBinaryWriter(&public)))
	}
	p.Binary, p.JSON, p.Wrapped, p.Readable, p.Public = clear.Bytes(), text.Bytes(), wrapped.Bytes(), readable.Bytes(), public.Bytes()
}

// answer opens every parcel with every form of its keyset, and makes each
// anew.
func (o offer) answer(t *testing.T) offer {
	t.Helper()
	kek, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(o.KEK)))
	must(t, err)
	master, err := aead.New(kek)
	must(t, err)
	var back offer
	for _, p := range o.Parcels {
		p.open(t, p.clear(t, keyset.NewBinaryReader(bytes.NewReader(p.Binary))))
		p.open(t, p.clear(t, keyset.NewJSONReader(bytes.NewReader(p.JSON))))
		for _, r := range []keyset.Reader{keyset.NewBinaryReader(bytes.NewReader(p.Wrapped)), keyset.NewJSONReader(bytes.NewReader(p.Readable))} {
			h, err := keyset.ReadWithAssociatedData(r, master, []byte(place))
			if err != nil {
				t.Fatalf("%s %s: the wrapped keyset does not open: %v", p.Kind, p.Name, err)
			}
			p.open(t, h)
		}
		if _, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(p.Wrapped)), master, []byte("elsewhere")); err == nil {
			t.Errorf("%s %s: the wrapped keyset opens at another place", p.Kind, p.Name)
		}
		p.make(t, p.clear(t, keyset.NewBinaryReader(bytes.NewReader(p.Binary))))
		back.Parcels = append(back.Parcels, parcel{Made: p.Made})
	}
	return back
}

func (p *parcel) clear(t *testing.T, r keyset.Reader) *keyset.Handle {
	t.Helper()
	h, err := insecurecleartextkeyset.Read(r)
	if err != nil {
		t.Fatalf("%s %s: the keyset is not read: %v", p.Kind, p.Name, err)
	}
	return h
}

// public is the half that the other side would have: from the public keyset
// alone.
func (p *parcel) public(t *testing.T) *keyset.Handle {
	t.Helper()
	h, err := keyset.ReadWithNoSecrets(keyset.NewBinaryReader(bytes.NewReader(p.Public)))
	if err != nil {
		t.Fatalf("%s %s: the public keyset is not read: %v", p.Kind, p.Name, err)
	}
	return h
}

// make seals, signs or computes; h is the secret half.
func (p *parcel) make(t *testing.T, h *keyset.Handle) {
	t.Helper()
	var err error
	switch p.Kind {
	case "aead":
		a, e := aead.New(h)
		must(t, e)
		p.Made, err = a.Encrypt(p.Message, p.Context)
	case "hybrid":
		encrypt, e := hybrid.NewHybridEncrypt(p.public(t))
		must(t, e)
		p.Made, err = encrypt.Encrypt(p.Message, p.Context)
	case "signature":
		s, e := signature.NewSigner(h)
		must(t, e)
		p.Made, err = s.Sign(p.Message)
	case "prf":
		set, e := prf.NewPRFSet(h)
		must(t, e)
		p.Made, err = set.ComputePrimaryPRF(p.Message, 32)
	}
	must(t, err)
}

// open opens or verifies what was made; h is the secret half.
func (p *parcel) open(t *testing.T, h *keyset.Handle) {
	t.Helper()
	got, err := p.Message, error(nil)
	switch p.Kind {
	case "aead":
		a, e := aead.New(h)
		must(t, e)
		got, err = a.Decrypt(p.Made, p.Context)
	case "hybrid":
		decrypt, e := hybrid.NewHybridDecrypt(h)
		must(t, e)
		got, err = decrypt.Decrypt(p.Made, p.Context)
	case "signature":
		v, e := signature.NewVerifier(p.public(t))
		must(t, e)
		err = v.Verify(p.Made, p.Message)
	case "prf":
		again := *p
		again.make(t, h)
		if !bytes.Equal(again.Made, p.Made) {
			err = errors.New("another value")
		}
	}
	if err != nil || !bytes.Equal(got, p.Message) {
		t.Errorf("%s %s of %d bytes does not open: %v", p.Kind, p.Name, len(p.Message), err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
