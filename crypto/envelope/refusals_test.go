package envelope_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
)

// refusal is one of testdata/refusals.json: an envelope that must not open,
// and why, for a recipient who pinned the sender of vectors.json and has the
// key. It is made by patches of the envelope of vectors.json of that suite.
type refusal struct {
	Of, By, Change string
	Patches        []insecure.Patch
	Reason         envelope.Reason
}

func (r refusal) String() string { return r.Of + ", " + r.By + ", " + r.Change }

// change is what somebody does to an envelope. A relay cannot sign; the sender
// can sign anything, but what it sealed it sealed under another header.
type change struct {
	name   string
	sender bool // signed anew by the sender
	do     func(r *raw)
}

var fieldNames = [...]string{
	1: "suite", 2: "type", 3: "direction", 4: "network", 5: "verification", 6: "sender", 7: "recipient", 8: "sender identity",
	9: "recipient identity", 10: "key", 11: "serial", 12: "key type", 13: "scope", 14: "created", 15: "expires", 16: "in reply to",
	17: "reply bundle", 18: "commitment", 19: "epoch",
}

// otherValues gives another value that makes sense for every field of a
// sealed envelope, in the order of the tags.
func otherValues(suite identity.Suite) [][]byte {
	id := func(v byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, v} }
	hash := bytes.Repeat([]byte{0x77}, 32)
	other := identity.SuiteX25519
	if suite == other {
		other = identity.SuiteXWing
	}
	return [][]byte{
		{byte(other)}, {byte(envelope.TxReport)}, {byte(envelope.ToOriginator)}, []byte("prod"), bytes.Repeat([]byte{9}, 16), id(10), id(10), hash,
		hash, hash, id(6), {byte(identity.PerVerification)}, hash, {0, 0, 1, 0, 0, 0, 0, 0}, {0, 0, 2, 0, 0, 0, 0, 0}, hash,
		hash, hash, id(8),
	}
}

func otherHeaders(suite identity.Suite) []change {
	var all []change
	for i, v := range otherValues(suite) {
		do := func(r *raw) { r.set(uint16(i+1), v) }
		all = append(all, change{fieldNames[i+1] + ": another", false, do})
		if suite != identity.SuiteClear { // of what is only signed the sender may sign anything
			all = append(all, change{fieldNames[i+1] + ": another", true, do})
		}
	}
	return all
}

// malformedHeaders have no sense, whoever signs them.
func malformedHeaders() []change {
	zero, all := make([]byte, 32), []change{}
	add := func(tag uint16, name string, value []byte) {
		all = append(all, change{fieldNames[tag] + ": " + name, true, func(r *raw) { r.set(tag, value) }})
	}
	add(1, "clear", []byte{0})
	add(1, "unknown", []byte{3})
	for _, m := range []byte{0, byte(envelope.KeyRequest), byte(envelope.KeyAnswer), byte(envelope.Refusal), 14} {
		add(2, fmt.Sprint("type ", m), []byte{m})
	}
	add(3, "none", []byte{0})
	add(3, "unknown", []byte{3})
	add(4, "none", nil)
	add(4, "65 bytes", bytes.Repeat([]byte("n"), 65))
	add(4, "with a newline", []byte("test\n"))
	add(6, "none", zero[:8])
	add(7, "none", zero[:8])
	add(8, "none", zero)
	add(10, "none", zero)
	add(12, "none", []byte{0})
	add(12, "unknown", []byte{4})
	add(14, "after the year 9999", []byte{1, 0, 0, 0, 0, 0, 0, 0})
	add(15, "before created", []byte{0, 0, 0, 0, 0, 0, 0, 1})
	add(15, "after the year 9999", bytes.Repeat([]byte{0xff}, 8))
	for i := range fieldNames[1:] {
		name := fieldNames[i+1]
		all = append(all,
			change{name + ": left out", true, func(r *raw) { r.fields = slices.Delete(r.fields, i, i+1) }},
			change{name + ": twice", true, func(r *raw) { r.fields = slices.Insert(r.fields, i, r.fields[i]) }},
			change{name + ": under another tag", true, func(r *raw) { r.fields[i].tag += 20 }},
		)
		if name != "network" {
			all = append(all,
				change{name + ": a byte longer", true, func(r *raw) { r.fields[i].value = append(r.fields[i].value, 0) }},
				change{name + ": a byte shorter", true, func(r *raw) { r.fields[i].value = r.fields[i].value[1:] }},
			)
		}
	}
	return all
}

// otherFrames change what is around the header and inside the ciphertext.
func otherFrames() []change {
	last := func(b []byte) []byte { return b[len(b)-1:] }
	return []change{
		{"format: 2", true, func(r *raw) { r.format = 2 }},
		{"end: a byte more", true, func(r *raw) { r.tail = []byte{0} }},
		{"signature: another", false, func(r *raw) { clear(r.signature) }},
		{"signature: a byte shorter", false, func(r *raw) { r.signature = r.signature[:63] }},
		{"signature: left out", false, func(r *raw) { r.signature = nil }},
		{"ciphertext: first bit", false, func(r *raw) { r.ciphertext[0] ^= 0x80 }},
		{"ciphertext: first bit", true, func(r *raw) { r.ciphertext[0] ^= 0x80 }},
		{"ciphertext: last bit", true, func(r *raw) { last(r.ciphertext)[0] ^= 1 }},
		{"ciphertext: a byte shorter", true, func(r *raw) { r.ciphertext = r.ciphertext[:len(r.ciphertext)-1] }},
		{"ciphertext: a byte longer", true, func(r *raw) { r.ciphertext = append(r.ciphertext, 0) }},
		{"ciphertext: left out", true, func(r *raw) { r.ciphertext = nil }},
	}
}

// otherBodies are clear bodies that the header does not name, or that are
// none.
func otherBodies() []change {
	write := func(bundle, payload []byte, size int) func(*raw) {
		return func(r *raw) { r.ciphertext = plain([32]byte{1}, body.Sequence, bundle, payload, size) }
	}
	hash := bytes.Repeat([]byte{0x77}, 32)
	sealed := func(r *raw) { r.set(1, []byte{2}); r.set(2, []byte{byte(envelope.TxReport)}); r.set(10, hash) }
	return []change{
		{"suite, type and key: of a sealed message", false, sealed},
		{"suite, type and key: of a sealed message", true, sealed},
		{"body: another salt", true, write(body.ReplyBundle, body.Payload, 0)},
		{"body: padded", true, write(nil, nil, 4096)},
		{"body: reply bundle over the limit", true, write(make([]byte, identity.MaxBundle+1), nil, 0)},
		{"body: empty", true, func(r *raw) { r.ciphertext = nil }},
		{"body: payload changed", true, func(r *raw) { r.ciphertext[len(r.ciphertext)-1] ^= 1 }},
		{"body: reply bundle changed", true, func(r *raw) { r.ciphertext[44] ^= 1 }},
		{"commitment: another", true, func(r *raw) { r.set(18, hash) }},
		{"reply bundle: another", true, func(r *raw) { r.set(17, hash) }},
		{"reply bundle: none", true, func(r *raw) { r.set(17, make([]byte, 32)) }},
	}
}

// changesOf are the changes that are made to the envelope of a suite.
func changesOf(suite identity.Suite) []change {
	switch suite {
	case identity.SuiteXWing:
		return append(otherHeaders(suite), otherFrames()...)
	case identity.SuiteX25519:
		return slices.Concat(otherHeaders(suite), malformedHeaders(), otherFrames())
	}
	return slices.Concat(otherHeaders(suite), otherFrames()[:6], otherBodies())
}

func suiteOf(name string) identity.Suite {
	suite, err := identity.ParseSuite(name)
	if err != nil {
		return identity.SuiteClear
	}
	return suite
}

// refusals are what the file must hold: made of the frozen envelopes, and
// judged now.
func refusals(t *testing.T) []refusal {
	t.Helper()
	var v vectors
	insecure.Vectors(t, "testdata/vectors.json", &v)
	sender := insecure.Signer(t, 7, v.InsecureSenderSeed)
	var all []refusal
	for _, base := range v.Envelopes {
		for _, c := range changesOf(suiteOf(base.Suite)) {
			raw := takeApart(t, base.Envelope)
			c.do(raw)
			r := refusal{Of: base.Suite, By: "relay", Change: c.name}
			if c.sender {
				raw.sign(t, sender)
				r.By = "sender"
			}
			r.Patches = insecure.Diff(base.Envelope, raw.bytes())
			r.Reason = v.judge(t, r)
			all = append(all, r)
		}
	}
	return all
}

// judge says why a refused envelope does not open.
func (v *vectors) judge(t *testing.T, r refusal) envelope.Reason {
	t.Helper()
	base := v.Envelopes[slices.IndexFunc(v.Envelopes, func(e envelopeVector) bool { return e.Suite == r.Of })]
	var k *envelope.PrivateKey
	if suite := suiteOf(base.Suite); suite != identity.SuiteClear {
		k = insecure.PrivateKey(t, suite, base.InsecureKeySeed)
	}
	got, err := open(insecure.Apply(base.Envelope, r.Patches), insecure.Signer(t, 7, v.InsecureSenderSeed).Public(), k)
	if got != nil || reason(err) == "" {
		t.Errorf("%s: opens: %v, %v", r, got, err)
	}
	return reason(err)
}

// Attacks K2, K3, K4, K5: no field of an envelope can be changed by who
// relays it, and none under a ciphertext by the sender himself.
func TestFrozenRefusalsAreStillRefused(t *testing.T) {
	var v vectors
	insecure.Vectors(t, "testdata/vectors.json", &v)
	var file []refusal
	insecure.Vectors(t, "testdata/refusals.json", &file)
	reasons := map[envelope.Reason]bool{}
	for _, r := range file {
		if why := v.judge(t, r); why != r.Reason {
			t.Errorf("%s: refused as %s, frozen is %s", r, why, r.Reason)
		}
		reasons[r.Reason] = true
	}
	for _, want := range []envelope.Reason{
		envelope.Malformed, envelope.OtherSender, envelope.OtherIdentity, envelope.BadSignature, envelope.OtherKey, envelope.Undecryptable,
		envelope.BadBody, envelope.BadCommitment, envelope.BadReplyKey,
	} {
		if !reasons[want] {
			t.Errorf("nothing among the vectors is refused as %s", want)
		}
	}
}

// The file holds every change that is named here, of every field.
func TestFrozenRefusalsAreAllThatAreNamed(t *testing.T) {
	var file []refusal
	insecure.Vectors(t, "testdata/refusals.json", &file)
	if diff := cmp.Diff(file, refusals(t), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("what is made now differs (-frozen +now):\n%s", diff)
	}
}
