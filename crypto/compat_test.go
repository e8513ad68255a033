package crypto_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/hybrid/hpke"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Our side of the trade with the archived Tink, which crypto/compat starts,
// twice: it names the folder in which the files are traded. By itself the
// test trades with itself.
func TestTradeWithTheArchivedTink(t *testing.T) {
	dir := os.Getenv("VASP_ENCLAVE_COMPAT")
	if dir != "" {
		trade(t, dir, "ours", "archived")
		tradeLetters(t, dir)
		return
	}
	dir = t.TempDir()
	for range 2 {
		trade(t, dir, "ours", "archived")
		tradeLetters(t, dir)
		trade(t, dir, "archived", "ours")
	}
}

// letter is an envelope of VASP 7 to VASP 9, with the keys of both, wrapped
// at place, and two keysets of kinds that the archived Tink does not know.
type letter struct {
	KEK              []byte // AES-256-GCM, in clear
	Identity, Sealed []byte // private keysets of the sender's identity and the recipient's hybrid key
	PublicKey        []byte // of the recipient, raw
	Envelope         []byte
	Payload          []byte
	XAES, XWing      []byte // keysets in clear
}

// tradeLetters writes a letter, and opens what came back: an envelope with
// the same keys and payload that the other side made.
func tradeLetters(t *testing.T, dir string) {
	t.Helper()
	l := newLetter(t)
	path := filepath.Join(dir, "letter")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = json.Marshal(l)
		must(t, err)
		must(t, os.WriteFile(path, b, 0o600))
	}
	must(t, err)
	must(t, json.Unmarshal(b, &l))
	l.open(t, l.Envelope)
	if back, err := os.ReadFile(filepath.Join(dir, "letter-back")); err == nil {
		l.open(t, back)
	}
}

func newLetter(t *testing.T) (l letter) {
	t.Helper()
	kek := newHandle(t, aead.AES256GCMNoPrefixKeyTemplate())
	l.KEK, l.XAES, l.XWing = inClear(t, kek), inClear(t, newHandle(t, aead.XAES256GCM192BitNonceNoPrefixKeyTemplate())), inClear(t, newXWing(t))
	sender, err := identity.NewSigner(7)
	must(t, err)
	key, err := envelope.GenerateKey(identity.SuiteX25519)
	must(t, err)
	l.Identity, err = sender.Wrap(l.kek(t), []byte(place))
	must(t, err)
	l.Sealed, err = key.Wrap(l.kek(t), []byte(place))
	must(t, err)
	l.PublicKey, l.Payload = key.Public().Bytes(), []byte(`{"a":1}`)
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	l.Envelope, err = envelope.Seal(sender, key.Public(), envelope.Header{
		Type: envelope.VerificationRequest, Direction: envelope.ToBeneficiary, Network: "test", Verification: [16]byte{1},
		Sender: 7, Recipient: 9, Serial: 1, KeyType: identity.PerVASP, Created: now, Expires: now.Add(time.Minute),
	}, envelope.Body{Sequence: 1, Payload: l.Payload})
	must(t, err)
	return l
}

func newXWing(t *testing.T) *keyset.Handle {
	t.Helper()
	parameters, err := hpke.NewParameters(hpke.ParametersOpts{
		KEMID: hpke.X_WING, KDFID: hpke.HKDFSHA256, AEADID: hpke.AES256GCM, Variant: hpke.VariantNoPrefix,
	})
	must(t, err)
	m := keyset.NewManager()
	id, err := m.AddNewKeyFromParameters(parameters)
	must(t, err)
	must(t, m.SetPrimary(id))
	h, err := m.Handle()
	must(t, err)
	return h
}

func inClear(t *testing.T, h *keyset.Handle) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&b)))
	return b.Bytes()
}

func (l *letter) kek(t *testing.T) identity.AEAD {
	t.Helper()
	h, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(l.KEK)))
	must(t, err)
	a, err := aead.New(h)
	must(t, err)
	return a
}

// open reads an envelope with our packages and the letter's keys.
func (l *letter) open(t *testing.T, sealed []byte) {
	t.Helper()
	sender, err := identity.UnwrapSigner(7, l.Identity, l.kek(t), []byte(place))
	must(t, err)
	key, err := envelope.UnwrapPrivateKey(identity.SuiteX25519, l.Sealed, l.kek(t), []byte(place))
	must(t, err)
	e, err := envelope.Parse(sealed)
	must(t, err)
	a, err := e.Authenticate(sender.Public())
	must(t, err)
	body, err := a.Open(key)
	must(t, err)
	if !bytes.Equal(body.Payload, l.Payload) {
		t.Errorf("another payload: %q", body.Payload)
	}
}
