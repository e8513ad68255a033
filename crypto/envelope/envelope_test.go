package envelope_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

func TestSealedBodyComesBack(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		for name, b := range map[string]envelope.Body{
			"empty":        {},
			"payload only": {Sequence: 1, Payload: []byte("x")},
			"with bundle":  body,
			"full class":   {Payload: bytes.Repeat([]byte("x"), 4096-48)},
			"next class":   {Payload: bytes.Repeat([]byte("x"), 4096-47)},
			"largest":      {ReplyBundle: make([]byte, identity.MaxBundle), Payload: make([]byte, envelope.MaxBody-identity.MaxBundle)},
		} {
			sealed, err := envelope.Seal(w.alice, w.key.Public(), w.header(envelope.TxReport), b)
			if err != nil {
				t.Fatalf("%s %s: %v", suite, name, err)
			}
			got, err := open(sealed, w.alice.Public(), w.key)
			if err != nil {
				t.Fatalf("%s %s: %v", suite, name, err)
			}
			if !cmp.Equal(b, *got) {
				t.Errorf("%s %s: the body came back changed", suite, name)
			}
			if len(sealed) > envelope.MaxEnvelope {
				t.Errorf("%s %s: %d bytes, MaxEnvelope is %d", suite, name, len(sealed), envelope.MaxEnvelope)
			}
		}
	}
}

func TestClearMessagesAreSignedOnly(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	for _, m := range []envelope.MessageType{envelope.KeyRequest, envelope.KeyAnswer, envelope.Refusal} {
		h := w.header(m)
		h.KeyType = 0
		sealed, err := envelope.Seal(w.alice, nil, h, body)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(sealed, body.Payload) {
			t.Errorf("%s: a clear message hides its payload", m)
		}
		got, err := open(sealed, w.alice.Public(), nil)
		if err != nil || !cmp.Equal(body, *got) {
			t.Errorf("%s: Clear = %v, %v", m, got, err)
		}
	}
}

func TestSealFillsInTheHeader(t *testing.T) {
	w := newWorld(t, identity.SuiteXWing)
	h := w.header(envelope.VerificationRequest)
	h.Created = h.Created.Add(999 * time.Microsecond).In(time.FixedZone("elsewhere", 3600))
	sealed, err := envelope.Seal(w.alice, w.key.Public(), h, body)
	if err != nil {
		t.Fatal(err)
	}
	e, err := envelope.Parse(sealed)
	if err != nil {
		t.Fatal(err)
	}
	want := w.header(envelope.VerificationRequest)
	want.Suite, want.Key = identity.SuiteXWing, w.key.Public().ID()
	want.SenderIdentity = w.alice.Public().Fingerprint()
	want.ReplyBundle = identity.HashBundle(body.ReplyBundle)
	want.Commitment = e.Header.Commitment // checked by Open
	if diff := cmp.Diff(want, e.Header); diff != "" {
		t.Errorf("header differs (-want +got):\n%s", diff)
	}
	if e.Hash() != sha256.Sum256(sealed) || envelope.Hash(sealed) != e.Hash() {
		t.Error("Hash is not the SHA-256 of all bytes")
	}
}

func TestNoTwoEnvelopesAreAlike(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	a, b := takeApart(t, w.seal(t)), takeApart(t, w.seal(t))
	if bytes.Equal(a.fields[17].value, b.fields[17].value) {
		t.Error("two commitments to one payload are equal: the salt is not fresh")
	}
}

// Attack K14: a verdict and a name do not show in the length.
func TestLengthsShowOnlyTheSizeClass(t *testing.T) {
	for suite, overhead := range map[identity.Suite]int{identity.SuiteXWing: 1136, identity.SuiteX25519: 48} {
		w := newWorld(t, suite)
		for payload, class := range map[int]int{
			0: 4096, 1: 4096, 4096 - 48: 4096, 4096 - 47: 8192, 8192 - 48: 8192, 8192 - 47: 16384, envelope.MaxBody: 512 << 10,
		} {
			sealed, err := envelope.Seal(w.alice, w.key.Public(), w.header(envelope.VerificationAnswer), envelope.Body{Payload: make([]byte, payload)})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(takeApart(t, sealed).ciphertext); got != class+overhead {
				t.Errorf("%s: payload of %d bytes: ciphertext has %d, want %d", suite, payload, got, class+overhead)
			}
		}
	}
}

func TestSealRefuses(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	good := w.header(envelope.VerificationRequest)
	for name, change := range map[string]func(h *envelope.Header){
		"another sender":     func(h *envelope.Header) { h.Sender = 11 },
		"no sender":          func(h *envelope.Header) { h.Sender = 0 },
		"no recipient":       func(h *envelope.Header) { h.Recipient = 0 },
		"unknown type":       func(h *envelope.Header) { h.Type = 14 },
		"no type":            func(h *envelope.Header) { h.Type = 0 },
		"no direction":       func(h *envelope.Header) { h.Direction = 0 },
		"no network":         func(h *envelope.Header) { h.Network = "" },
		"network of 65":      func(h *envelope.Header) { h.Network = strings.Repeat("n", 65) },
		"network with NUL":   func(h *envelope.Header) { h.Network = "a\x00" },
		"network not ASCII":  func(h *envelope.Header) { h.Network = "né" },
		"no key type":        func(h *envelope.Header) { h.KeyType = 0 },
		"no time":            func(h *envelope.Header) { h.Created = time.Time{} },
		"expires at once":    func(h *envelope.Header) { h.Expires = h.Created },
		"clear type and key": func(h *envelope.Header) { h.Type = envelope.KeyRequest },
	} {
		h := good
		change(&h)
		if _, err := envelope.Seal(w.alice, w.key.Public(), h, body); err == nil {
			t.Errorf("%s: Seal succeeds, want an error", name)
		}
	}
	// Attack K5: what must be sealed is never sent in clear.
	if _, err := envelope.Seal(w.alice, nil, good, body); err == nil {
		t.Error("no key: Seal succeeds, want an error")
	}
	for name, b := range map[string]envelope.Body{
		"payload":       {Payload: make([]byte, envelope.MaxBody+1)},
		"bundle on top": {ReplyBundle: []byte{1}, Payload: make([]byte, envelope.MaxBody)},
	} {
		if _, err := envelope.Seal(w.alice, w.key.Public(), good, b); !errors.Is(err, envelope.ErrTooLarge) {
			t.Errorf("%s too large: Seal = %v, want ErrTooLarge", name, err)
		}
	}
	if _, err := envelope.Seal(w.alice, w.key.Public(), good, envelope.Body{ReplyBundle: make([]byte, identity.MaxBundle+1)}); err == nil {
		t.Error("reply bundle too large: Seal succeeds, want an error")
	}
}

// Attack K3: nobody is believed but the pinned identity of the named sender.
func TestAuthenticateRefusesOthers(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	sealed := w.seal(t)
	for name, c := range map[string]struct {
		from *identity.Public
		want envelope.Reason
	}{
		"another VASP":                  {w.mallory.Public(), envelope.OtherSender},
		"another identity of that VASP": {newSigner(t, 7).Public(), envelope.OtherIdentity},
	} {
		if _, err := open(sealed, c.from, w.key); reason(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	// Mallory signs in Alice's name, and in Alice's name with Alice's fingerprint.
	forged := takeApart(t, sealed).sign(t, w.mallory)
	if _, err := open(forged.bytes(), w.alice.Public(), w.key); reason(err) != envelope.BadSignature {
		t.Errorf("signed by another: %v, want %s", err, envelope.BadSignature)
	}
	fp := w.mallory.Public().Fingerprint()
	forged.set(8, fp[:])
	forged.sign(t, w.mallory)
	if _, err := open(forged.bytes(), w.alice.Public(), w.key); reason(err) != envelope.OtherIdentity {
		t.Errorf("signed by another with his fingerprint: %v, want %s", err, envelope.OtherIdentity)
	}
}

// Attack K4: a message reflected to its sender, or delivered to a third, does
// not open with their keys.
func TestOnlyTheNamedKeyOpens(t *testing.T) {
	for _, suite := range suites {
		w := newWorld(t, suite)
		for _, other := range suites {
			k, err := envelope.GenerateKey(other)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := open(w.seal(t), w.alice.Public(), k); reason(err) != envelope.OtherKey {
				t.Errorf("%s opened with another %s key: %v, want %s", suite, other, err, envelope.OtherKey)
			}
		}
	}
}

// Attack K5: a sealed message is not read as a clear one, nor the other way.
func TestClearAndSealedAreNotMistaken(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	if _, err := open(w.seal(t), w.alice.Public(), nil); reason(err) != envelope.OtherKey {
		t.Errorf("Clear of a sealed message: %v, want %s", err, envelope.OtherKey)
	}
	if _, err := open(w.clear(t), w.alice.Public(), w.key); reason(err) != envelope.OtherKey {
		t.Errorf("Open of a clear message: %v, want %s", err, envelope.OtherKey)
	}
}

func TestMessageTypesSayWhetherTheyAreSealed(t *testing.T) {
	names := map[string]bool{}
	for m := envelope.MessageType(0); m < 20; m++ {
		clear := m == envelope.KeyRequest || m == envelope.KeyAnswer || m == envelope.Refusal
		if valid := m >= 1 && m <= 13; m.Valid() != valid || m.Sealed() != (valid && !clear) {
			t.Errorf("type %d: Valid = %t, Sealed = %t", m, m.Valid(), m.Sealed())
		}
		names[m.String()] = true
	}
	if len(names) != 14 || !names["unknown"] {
		t.Errorf("names are not 13 and unknown: %v", names)
	}
}

func TestBodyAndKeyPrintNothing(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	var out bytes.Buffer
	b := envelope.Body{Sequence: 7705770577057, Payload: []byte("MARK"), ReplyBundle: []byte("MARK")}
	fmt.Fprintf(&out, "%v %+v %#v %s %x %d ", b, b, b, b, b, &b)
	fmt.Fprintf(&out, "%v %+v %#v %s %x %d ", w.key, w.key, w.key, w.key, w.key, *w.key)
	if err := json.NewEncoder(&out).Encode([]any{b, w.key}); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("both", "body", b, "key", w.key)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("both", "body", &b, "key", w.key)
	if got := strings.Count(out.String(), "[redacted]"); got != 18 || strings.Contains(out.String(), "MARK") || strings.Contains(out.String(), "7705770577057") {
		t.Errorf("%d times redacted, want 18: %s", got, out.String())
	}
}
