package envelope_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// Attacks K4, K5: an envelope has one encoding, and its header makes sense,
// whoever signed it.
func TestParseIsStrict(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	zero := make([]byte, 32)
	for name, change := range map[string]func(r *raw){
		"format":                func(r *raw) { r.format = 2 },
		"trailing byte":         func(r *raw) { r.tail = []byte{0} },
		"short signature":       func(r *raw) { r.signature = r.signature[:63] },
		"no signature":          func(r *raw) { r.signature = nil },
		"two signatures":        func(r *raw) { r.signature = append(r.signature, r.signature...) },
		"field missing":         func(r *raw) { r.fields = r.fields[:18] },
		"first field missing":   func(r *raw) { r.fields = r.fields[1:] },
		"field twice":           func(r *raw) { r.fields = append(r.fields, r.fields[18]) },
		"unknown field":         func(r *raw) { r.fields = append(r.fields, field{20, nil}) },
		"fields swapped":        func(r *raw) { r.fields[5], r.fields[6] = r.fields[6], r.fields[5] },
		"long id":               func(r *raw) { r.set(6, make([]byte, 9)) },
		"short id":              func(r *raw) { r.set(6, make([]byte, 7)) },
		"no suite":              func(r *raw) { r.set(1, nil) },
		"unknown suite":         func(r *raw) { r.set(1, []byte{3}) },
		"type zero":             func(r *raw) { r.set(2, []byte{0}) },
		"type 14":               func(r *raw) { r.set(2, []byte{14}) },
		"direction zero":        func(r *raw) { r.set(3, []byte{0}) },
		"direction three":       func(r *raw) { r.set(3, []byte{3}) },
		"no network":            func(r *raw) { r.set(4, nil) },
		"network of 65":         func(r *raw) { r.set(4, bytes.Repeat([]byte("n"), 65)) },
		"network with newline":  func(r *raw) { r.set(4, []byte("a\n")) },
		"network with 0x7f":     func(r *raw) { r.set(4, []byte{0x7f}) },
		"sender zero":           func(r *raw) { r.set(6, make([]byte, 8)) },
		"recipient zero":        func(r *raw) { r.set(7, make([]byte, 8)) },
		"no sender identity":    func(r *raw) { r.set(8, zero) },
		"no key":                func(r *raw) { r.set(10, zero) },
		"no key type":           func(r *raw) { r.set(12, []byte{0}) },
		"unknown key type":      func(r *raw) { r.set(12, []byte{4}) },
		"created after 9999":    func(r *raw) { r.set(14, []byte{1, 0, 0, 0, 0, 0, 0, 0}) },
		"expires when created":  func(r *raw) { r.set(15, r.fields[13].value) },
		"expires after 9999":    func(r *raw) { r.set(15, bytes.Repeat([]byte{0xff}, 8)) },
		"downgraded to clear":   func(r *raw) { r.set(1, []byte{0}) },
		"clear and without key": func(r *raw) { r.set(1, []byte{0}); r.set(10, zero) },
		"sealed type of clear":  func(r *raw) { r.set(2, []byte{byte(envelope.KeyRequest)}) },
		"clear type with key":   func(r *raw) { r.set(1, []byte{0}); r.set(2, []byte{byte(envelope.Refusal)}) },
	} {
		r := takeApart(t, w.seal(t))
		change(r)
		if len(r.signature) == 64 {
			r.sign(t, w.alice)
		}
		if _, err := envelope.Parse(r.bytes()); reason(err) != envelope.Malformed {
			t.Errorf("%s: Parse = %v, want %s", name, err, envelope.Malformed)
		}
	}
	// Attack K5: a clear type that claims a suite.
	r := takeApart(t, w.clear(t))
	r.set(1, []byte{byte(identity.SuiteX25519)})
	if _, err := envelope.Parse(r.bytes()); reason(err) != envelope.Malformed {
		t.Errorf("clear type with a suite: Parse = %v, want %s", err, envelope.Malformed)
	}
}

func TestParseRefusesEveryPrefix(t *testing.T) {
	sealed := newWorld(t, identity.SuiteX25519).seal(t)
	for n := range sealed {
		if _, err := envelope.Parse(sealed[:n]); reason(err) != envelope.Malformed {
			t.Fatalf("cut to %d of %d bytes: Parse = %v, want %s", n, len(sealed), err, envelope.Malformed)
		}
	}
	if _, err := envelope.Parse(make([]byte, envelope.MaxEnvelope+1)); reason(err) != envelope.Malformed || !strings.Contains(err.Error(), "large") {
		t.Errorf("too large: Parse = %v", err)
	}
	huge := tlv.AppendPart([]byte{1}, nil)
	for i := range 4 {
		huge[1+i] = math.MaxUint8
	}
	if _, err := envelope.Parse(huge); reason(err) != envelope.Malformed {
		t.Errorf("length near 4 GiB: Parse = %v, want %s", err, envelope.Malformed)
	}
}

func TestParseKeepsItsOwnCopy(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	sealed := w.seal(t)
	e, err := envelope.Parse(sealed)
	if err != nil {
		t.Fatal(err)
	}
	clear(sealed)
	if _, err := e.Authenticate(w.alice.Public()); err != nil {
		t.Errorf("after the caller reused its buffer: %v", err)
	}
}

// A sender who holds all keys still cannot make a body that has two
// encodings, or that the header does not commit to.
func TestBodiesAreCanonicalWhoeverSealsThem(t *testing.T) {
	w := newWorld(t, identity.SuiteX25519)
	salt := [32]byte{1}
	bundle, payload := []byte("bundle"), []byte("payload")
	commitment := domain("vasp-enclave/v1/commitment", salt[:], payload)
	reply := domain("vasp-enclave/v1/key-bundle-hash", bundle)
	good := plain(salt, 5, bundle, payload, 4096)
	dirty := bytes.Clone(good)
	dirty[4095] = 1
	for name, c := range map[string]struct {
		plaintext         []byte
		commitment, reply [32]byte
		want              envelope.Reason
	}{
		"as it should be":   {good, commitment, reply, ""},
		"empty":             {nil, commitment, reply, envelope.BadBody},
		"no padding":        {plain(salt, 5, bundle, payload, 0), commitment, reply, envelope.BadBody},
		"larger class":      {plain(salt, 5, bundle, payload, 8192), commitment, reply, envelope.BadBody},
		"off class":         {plain(salt, 5, bundle, payload, 4097), commitment, reply, envelope.BadBody},
		"dirty padding":     {dirty, commitment, reply, envelope.BadBody},
		"bundle too long":   {overwrite(good, 40, 0, 0, 0x0f, 0xff), commitment, reply, envelope.BadBody},
		"payload too long":  {overwrite(good, 50, 0, 0, 0x10, 0), commitment, reply, envelope.BadBody},
		"length near 4 GiB": {overwrite(good, 40, 0xff, 0xff, 0xff, 0xff), commitment, reply, envelope.BadBody},
		"bundle over limit": {plain(salt, 5, make([]byte, identity.MaxBundle+1), payload, 4096), commitment, reply, envelope.BadBody},
		"other salt":        {plain([32]byte{2}, 5, bundle, payload, 4096), commitment, reply, envelope.BadCommitment},
		"other payload":     {plain(salt, 5, bundle, []byte("Payload"), 4096), commitment, reply, envelope.BadCommitment},
		"other bundle":      {plain(salt, 5, []byte("Bundle"), payload, 4096), commitment, reply, envelope.BadReplyKey}, // K2
		"bundle left out":   {plain(salt, 5, nil, payload, 4096), commitment, reply, envelope.BadReplyKey},
		"bundle unnamed":    {good, commitment, [32]byte{}, envelope.BadReplyKey},
	} {
		r := takeApart(t, w.seal(t))
		r.set(18, c.commitment[:])
		r.set(17, c.reply[:])
		r.fill(t, w.key.Public(), c.plaintext)
		r.sign(t, w.alice)
		if _, err := open(r.bytes(), w.alice.Public(), w.key); reason(err) != c.want || (c.want == "") != (err == nil) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	clear := takeApart(t, w.clear(t))
	clear.ciphertext = append(clear.ciphertext, 0)
	clear.sign(t, w.alice)
	if _, err := open(clear.bytes(), w.alice.Public(), nil); reason(err) != envelope.BadBody {
		t.Errorf("padded clear body: %v, want %s", err, envelope.BadBody)
	}
}

func overwrite(b []byte, at int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return b
}

func FuzzParse(f *testing.F) {
	w := newWorld(f, identity.SuiteX25519)
	f.Add(w.seal(f))
	f.Add(w.clear(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := envelope.Parse(b)
		if err != nil {
			if reason(err) != envelope.Malformed {
				t.Errorf("Parse = %v, want a refusal", err)
			}
			return
		}
		if e.Hash() != envelope.Hash(b) || !bytes.Equal(takeApart(t, b).bytes(), b) {
			t.Error("an envelope has two encodings")
		}
		if a, err := e.Authenticate(w.alice.Public()); err == nil {
			_, _ = a.Open(w.key)
			_, _ = a.Clear()
		}
	})
}
