package keyring_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

// refusal is one of testdata/refusals.json: a bundle that VASP 9 must not
// use, and why. It answers a request of VASP 9 to VASP 7 for the key of the
// frozen bundle that it was made of, by patches.
type refusal struct {
	Of, By, Change string
	Patches        []insecure.Patch
	Reason         keyring.Reason
}

func (r refusal) String() string { return r.Of + ", " + r.By + ", " + r.Change }

// rawBundle is a bundle taken apart by FORMAT.md, so that a hostile owner or
// relay can write it as he likes.
type rawBundle struct {
	format byte
	fields []rawField
	tail   []byte
}

type rawField struct {
	tag   uint16
	value []byte
}

const signatureTag = 15

func takeApart(encoded []byte) *rawBundle {
	r := &rawBundle{format: encoded[0]}
	for b := encoded[1:]; len(b) > 0; {
		n := 6 + binary.BigEndian.Uint32(b[2:])
		r.fields = append(r.fields, rawField{binary.BigEndian.Uint16(b), bytes.Clone(b[6:n])})
		b = b[n:]
	}
	return r
}

func (r *rawBundle) bytes() []byte {
	b := []byte{r.format}
	for _, f := range r.fields {
		b = tlv.Append(b, f.tag, f.value)
	}
	return append(b, r.tail...)
}

func (r *rawBundle) set(tag uint16, value []byte) { r.fields[tag-1].value = value }

// sign replaces the signature, which is the last field.
func (r *rawBundle) sign(t *testing.T, s *identity.Signer) {
	t.Helper()
	last := &r.fields[len(r.fields)-1]
	signed := *r
	signed.fields = r.fields[:len(r.fields)-1]
	sig, err := s.Sign("vasp-enclave/v1/key-bundle", signed.bytes())
	if err != nil {
		t.Fatal(err)
	}
	last.value = sig
}

// change is what somebody does to a bundle. A relay cannot sign; the owner
// can sign anything.
type change struct {
	name  string
	owner bool // signed anew by the owner
	do    func(r *rawBundle)
}

func set(tag uint16, value []byte) func(*rawBundle) {
	return func(r *rawBundle) { r.set(tag, value) }
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

var fieldNames = [...]string{
	1: "vasp", 2: "identity", 3: "suite", 4: "key id", 5: "public key", 6: "type", 7: "scope", 8: "epoch", 9: "audience", 10: "serial",
	11: "not before", 12: "not after", 13: "nonce", 14: "suites", signatureTag: "signature",
}

// byRelay changes one field of a PerAddress bundle to a value that makes
// sense, field by field.
func byRelay(b *identity.Bundle, other *identity.Signer) []change {
	flipped := bytes.Clone(b.PublicKey)
	flipped[0] ^= 1
	id := identity.NewKeyID(b.Suite, flipped)
	ms := uint64(b.NotBefore.UnixMilli())
	values := [...][]byte{
		1: u64(8), 2: other.Public().Bytes(), 3: {1}, 4: id[:], 5: flipped, 6: {2}, 7: make([]byte, 32), 8: u64(b.Epoch + 1), 9: u64(10),
		10: u64(b.Serial + 1), 11: u64(ms - 1), 12: u64(ms + 2), 13: make([]byte, 32), 14: {2, 200}, signatureTag: make([]byte, 64),
	}
	if b.Type == identity.PerAddress {
		values[6] = []byte{3}
	} else {
		values[7], values[13] = bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{1}, 32)
	}
	var all []change
	for tag, v := range values[1:] {
		all = append(all, change{fieldNames[tag+1] + ": another", false, set(uint16(tag+1), v)})
	}
	return all
}

// byOwner are bundles that contradict themselves or the lookup, with a good
// signature.
func byOwner(b *identity.Bundle, other *identity.Signer, now uint64) []change {
	var all []change
	add := func(tag uint16, name string, value []byte) {
		all = append(all, change{fieldNames[tag] + ": " + name, true, set(tag, value)})
	}
	add(1, "another VASP", u64(8))
	add(1, "none", u64(0))
	add(2, "another", other.Public().Bytes())
	add(2, "of an unknown algorithm", append([]byte{2}, b.Identity.Bytes()[1:]...))
	add(2, "of small order", append([]byte{1}, make([]byte, 32)...))
	for _, suite := range []byte{0, 1, 3} {
		add(3, fmt.Sprint("suite ", suite), []byte{suite})
	}
	add(4, "not the key's", make([]byte, 32))
	add(5, "not the id's", make([]byte, 32))
	for _, kind := range []byte{0, 1, 2, 3, 4} {
		if kind != byte(b.Type) {
			add(6, fmt.Sprint("type ", kind), []byte{kind})
		}
	}
	add(7, "another", bytes.Repeat([]byte{7}, 32))
	if b.Type == identity.PerAddress {
		add(7, "none", make([]byte, 32))
		add(9, "everybody", u64(0))
		add(13, "of another request", bytes.Repeat([]byte{7}, 32))
		add(13, "none", make([]byte, 32))
	}
	add(9, "another", u64(10))
	add(10, "none", u64(0))
	if b.Type == identity.PerVASP {
		add(10, "lower than seen", u64(b.Serial-1))
		add(13, "of another request", bytes.Repeat([]byte{7}, 32))
	}
	add(11, "a minute and a millisecond ahead", u64(now+60_001))
	add(11, "as not after", u64(uint64(b.NotAfter.UnixMilli())))
	add(12, "now", u64(now))
	all[len(all)-1].do = func(r *rawBundle) { r.set(11, u64(now-1)); r.set(12, u64(now)) }
	add(12, "before not before", u64(1))
	add(12, "after the year 9999", u64(1<<63))
	add(14, "a stronger one too", []byte{1, 2})
	for name, suites := range map[string][]byte{
		"without its own": {1}, "falling": {2, 1}, "one twice": {2, 2}, "clear": {0, 2}, "17": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17},
	} {
		add(14, name, suites)
	}
	for tag := uint16(1); tag < signatureTag; tag++ {
		all = append(all,
			change{fieldNames[tag] + ": a byte longer", true, func(r *rawBundle) { r.set(tag, append(r.fields[tag-1].value, 0)) }},
			change{fieldNames[tag] + ": a byte shorter", true, func(r *rawBundle) { r.set(tag, r.fields[tag-1].value[1:]) }},
			change{fieldNames[tag] + ": left out", true, func(r *rawBundle) { r.fields = slices.Delete(r.fields, int(tag-1), int(tag)) }},
			change{fieldNames[tag] + ": twice", true, func(r *rawBundle) { r.fields = slices.Insert(r.fields, int(tag), r.fields[tag-1]) }},
			change{fieldNames[tag] + ": under another tag", true, func(r *rawBundle) { r.fields[tag-1].tag += 20 }},
		)
	}
	return append(all,
		change{"format: 2", true, func(r *rawBundle) { r.format = 2 }},
		change{"signature: a byte longer", false, func(r *rawBundle) { r.set(signatureTag, append(r.fields[14].value, 0)) }},
		change{"signature: a byte shorter", false, func(r *rawBundle) { r.set(signatureTag, r.fields[14].value[1:]) }},
		change{"signature: left out", false, func(r *rawBundle) { r.fields = r.fields[:14] }},
		change{"end: a byte more", false, func(r *rawBundle) { r.tail = []byte{0} }},
	)
}

// refusals are what the file must hold: made from the frozen bundles, and
// judged now.
func refusals(t *testing.T, v *vectors) []refusal {
	t.Helper()
	owner, other := insecure.Signer(t, 7, v.InsecureIdentity), insecure.Signer(t, 7, insecure.Seed(0x12))
	var all []refusal
	for _, base := range bases(t, v) {
		b := parse(t, base.Bundle)
		for _, c := range append(byRelay(b, other), byOwner(b, other, uint64(v.Now.UnixMilli()))...) {
			r := takeApart(base.Bundle)
			c.do(r)
			by := "relay"
			if c.owner {
				r.sign(t, owner)
				by = "owner"
			}
			all = append(all, refusal{Of: base.Name, By: by, Change: c.name, Patches: insecure.Diff(base.Bundle, r.bytes())})
		}
		for by, s := range map[string]*identity.Signer{"another identity": other, "another vasp": insecure.Signer(t, 8, v.InsecureIdentity)} {
			all = append(all, refusal{Of: base.Name, By: by, Change: "none", Patches: insecure.Diff(base.Bundle, sign(t, s, *b))})
		}
	}
	slices.SortFunc(all, func(a, b refusal) int { return strings.Compare(a.String(), b.String()) })
	for i := range all {
		all[i].Reason = v.judge(t, all[i])
	}
	return all
}

// bases are the frozen bundles that the refused ones are made of.
func bases(t testing.TB, v *vectors) []bundleVector {
	t.Helper()
	derived := slices.IndexFunc(v.Derived, func(d derivedVector) bool { return d.Suite == "x25519" && d.Requester == 9 })
	perVASP := slices.IndexFunc(v.Bundles, func(b bundleVector) bool { return b.Name == "PerVasp x25519" })
	return []bundleVector{{"PerAddress", v.Derived[derived].Bundle}, {"PerVasp", v.Bundles[perVASP].Bundle}}
}

// lookup looks for the key of a base, as VASP 9, and is answered with the
// refused bundle.
func (v *vectors) lookup(t testing.TB, r refusal) (s *seeker, ref keyring.Ref, bundle []byte) {
	t.Helper()
	all := bases(t, v)
	base := all[slices.IndexFunc(all, func(b bundleVector) bool { return b.Name == r.Of })].Bundle
	b, bundle := parse(t, base), insecure.Apply(base, r.Patches)
	s = newSeeker(t)
	s.clock.at, s.owner = v.Now, insecure.Signer(t, 7, v.InsecureIdentity)
	s.answer = func(keyring.Ref, [32]byte) ([]byte, error) { return bundle, nil }
	if b.Type == identity.PerVASP {
		s.highest = func(identity.VASPID) uint64 { return b.Serial }
	}
	s.restart()
	return s, keyring.Ref{VASP: 7, Type: b.Type, Scope: b.Scope}, bundle
}

// judge takes a refused bundle every way in: as an answer, from the cache, in
// an envelope. None may lead to its key, except that neither a cache nor an
// envelope has a nonce, and that an envelope may have waited.
func (v *vectors) judge(t *testing.T, r refusal) keyring.Reason {
	t.Helper()
	s, ref, _ := v.lookup(t, r)
	k, err := s.peers.Key(t.Context(), ref, s.owner.Public())
	why := reason(err)
	if k != nil || why == "" {
		t.Errorf("%s, as an answer: Key = %v, %v", r, k, err)
	}
	s, ref, bundle := v.lookup(t, r)
	s.entries[ref] = bundle
	if _, _ = s.peers.Key(t.Context(), ref, s.owner.Public()); s.events[keyring.CacheRefused] == 0 && why != keyring.OtherNonce {
		t.Errorf("%s, from the cache: used", r)
	}
	s, ref, bundle = v.lookup(t, r)
	_, err = s.peers.Adopt(t.Context(), ref, bundle, s.owner.Public())
	if reason(err) != why && why != keyring.OtherNonce && why != keyring.OldSerial {
		t.Errorf("%s, in an envelope: Adopt = %v, want %s", r, err, why)
	}
	return why
}

// Attacks K1, K5, K6, K7: no field of a bundle can be changed by who relays
// or caches it, and none by its owner so that it contradicts what was looked
// for.
func TestFrozenRefusalsAreStillRefused(t *testing.T) {
	v := frozen(t)
	var file []refusal
	insecure.Vectors(t, "testdata/refusals.json", &file)
	reasons := map[keyring.Reason]bool{}
	for _, r := range file {
		if why := v.judge(t, r); why != r.Reason {
			t.Errorf("%s: refused as %s, frozen is %s", r, why, r.Reason)
		}
		reasons[r.Reason] = true
	}
	for _, want := range []keyring.Reason{
		keyring.BadBundle, keyring.OtherVASP, keyring.OtherIdentity, keyring.Expired, keyring.NotYetValid, keyring.OtherType,
		keyring.OtherScope, keyring.OtherAudience, keyring.Downgraded, keyring.OtherNonce, keyring.OldSerial,
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
	if diff := cmp.Diff(file, refusals(t, frozen(t)), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("what is made now differs (-frozen +now):\n%s", diff)
	}
}
