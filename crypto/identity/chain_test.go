package identity_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

func newChain(t testing.TB, s *identity.Signer) []byte {
	t.Helper()
	chain, err := identity.NewChain(s, noon)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func extend(t testing.TB, chain []byte, old, next *identity.Signer) []byte {
	t.Helper()
	longer, err := identity.ExtendChain(chain, old, next, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return longer
}

func TestChainLeadsToTheCurrentIdentity(t *testing.T) {
	first, second, third := newSigner(t, 7), newSigner(t, 7), newSigner(t, 7)
	chain := newChain(t, first)
	for i, s := range []*identity.Signer{first, second, third} {
		if i > 0 {
			chain = extend(t, chain, []*identity.Signer{first, second}[i-1], s)
		}
		c, err := identity.ParseChain(chain)
		if err != nil {
			t.Fatal(err)
		}
		if c.Len() != i+1 || c.Current().Fingerprint() != s.Public().Fingerprint() || c.Current().VASP() != 7 {
			t.Errorf("after %d identities: Len = %d, Current = %v", i+1, c.Len(), c.Current())
		}
		if !c.Contains(first.Public().Fingerprint()) || c.Contains(third.Public().Fingerprint()) != (i == 2) {
			t.Errorf("after %d identities: Contains is wrong", i+1)
		}
	}
}

func TestExtendRefusesWhatDoesNotFollow(t *testing.T) {
	first, second := newSigner(t, 7), newSigner(t, 7)
	chain := extend(t, newChain(t, first), first, second)
	for name, c := range map[string]struct{ old, next *identity.Signer }{
		"old is not the current": {first, newSigner(t, 7)},
		"old is a stranger":      {newSigner(t, 7), newSigner(t, 7)},
		"next of another VASP":   {second, newSigner(t, 8)},
		"next was there before":  {second, first},
		"next is the current":    {second, second},
	} {
		if _, err := identity.ExtendChain(chain, c.old, c.next, noon); err == nil {
			t.Errorf("%s: ExtendChain succeeds, want refusal", name)
		}
	}
	if _, err := identity.ExtendChain(chain[:len(chain)-1], second, newSigner(t, 7), noon); err == nil {
		t.Error("damaged chain: ExtendChain succeeds, want refusal")
	}
}

func TestExtendLeavesTheOldChainAlone(t *testing.T) {
	first := newSigner(t, 7)
	roomy := append(make([]byte, 0, 4096), newChain(t, first)...)
	kept := bytes.Clone(roomy[:cap(roomy)])
	extend(t, roomy, first, newSigner(t, 7))
	if !bytes.Equal(roomy[:cap(roomy)], kept) {
		t.Error("ExtendChain wrote behind the chain it was given")
	}
}

func TestClockSetBackDoesNotBreakTheChain(t *testing.T) {
	first, second := newSigner(t, 7), newSigner(t, 7)
	chain, err := identity.ExtendChain(newChain(t, first), first, second, noon.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.ParseChain(chain); err != nil {
		t.Errorf("ParseChain: %v", err)
	}
}

func TestChainHasAnEnd(t *testing.T) {
	s := newSigner(t, 7)
	chain := newChain(t, s)
	for range 63 {
		next := newSigner(t, 7)
		chain, s = extend(t, chain, s, next), next
	}
	if c, err := identity.ParseChain(chain); err != nil || c.Len() != 64 || len(chain) > identity.MaxChain {
		t.Errorf("64 identities in %d bytes: %v", len(chain), err)
	}
	if _, err := identity.ExtendChain(chain, s, newSigner(t, 7), noon); err == nil {
		t.Error("65th identity: ExtendChain succeeds, want refusal")
	}
}

// Attacks K1, K12: no bit of a chain can be changed.
func TestChainWithAChangedByteIsRefused(t *testing.T) {
	first, second := newSigner(t, 7), newSigner(t, 7)
	chain := extend(t, newChain(t, first), first, second)
	for i := range chain {
		bad := bytes.Clone(chain)
		bad[i] ^= 1 << (i % 8)
		if _, err := identity.ParseChain(bad); err == nil {
			t.Errorf("byte %d of %d changed: ParseChain succeeds, want refusal", i, len(chain))
		}
		if _, err := identity.ParseChain(chain[:i]); err == nil && i != len(newChain(t, first)) {
			t.Errorf("cut to %d bytes: ParseChain succeeds, want refusal", i)
		}
	}
}

// link is a statement that whoever holds the keys may write as he likes.
type link struct {
	vasp            identity.VASPID
	public          []byte
	previous        identity.Fingerprint
	serial, created uint64
	self, before    *identity.Signer
}

func (l link) encode(t *testing.T) []byte {
	t.Helper()
	b := tlv.AppendUint64(nil, 1, uint64(l.vasp))
	b = tlv.Append(b, 2, l.public)
	b = tlv.Append(b, 3, l.previous[:])
	b = tlv.AppendUint64(b, 4, l.serial)
	b = tlv.AppendUint64(b, 5, l.created)
	own, err := l.self.Sign("vasp-enclave/v1/identity-statement", b)
	if err != nil {
		t.Fatal(err)
	}
	var before []byte
	if l.before != nil {
		if before, err = l.before.Sign("vasp-enclave/v1/identity-succession", b); err != nil {
			t.Fatal(err)
		}
	}
	return tlv.Append(tlv.Append(b, 6, own), 7, before)
}

// Attacks K1, K7: a link counts only as the next link of this very chain,
// signed by both sides.
func TestChainLinksAreCheckedWhoeverSignsThem(t *testing.T) {
	first, second, stranger := newSigner(t, 7), newSigner(t, 7), newSigner(t, 7)
	foreign := newSigner(t, 8)
	ms := uint64(noon.UnixMilli())
	one := link{vasp: 7, public: first.Public().Bytes(), serial: ms, created: ms, self: first}
	two := link{vasp: 7, public: second.Public().Bytes(), previous: first.Public().Fingerprint(),
		serial: ms + 1, created: ms, self: second, before: first}
	parse := func(links ...link) error {
		b := []byte{1}
		for i, l := range links {
			b = tlv.Append(b, uint16(i+1), l.encode(t))
		}
		_, err := identity.ParseChain(b)
		return err
	}
	if err := parse(one, two); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	with := func(l link, change func(l *link)) link { change(&l); return l }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no links":                 {parse(), "empty"},
		"second link alone":        {parse(two), "first one"},
		"first names one before":   {parse(with(one, func(l *link) { l.previous[0] = 1 })), "first one"},
		"first has a predecessor":  {parse(with(one, func(l *link) { l.before = second })), "first one"},
		"first signed by stranger": {parse(with(one, func(l *link) { l.self = stranger })), "signature"},
		"no predecessor":           {parse(one, with(two, func(l *link) { l.before = nil })), "predecessor's"},
		"predecessor a stranger":   {parse(one, with(two, func(l *link) { l.before = stranger })), "predecessor's"},
		"predecessor is itself":    {parse(one, with(two, func(l *link) { l.before = second })), "predecessor's"},
		"not signed by itself":     {parse(one, with(two, func(l *link) { l.self = first })), "its own"},
		"names another before":     {parse(one, with(two, func(l *link) { l.previous = stranger.Public().Fingerprint() })), "does not name"},
		"serial stands":            {parse(one, with(two, func(l *link) { l.serial = ms })), "serial"},
		"serial zero":              {parse(with(one, func(l *link) { l.serial = 0 })), "serial"},
		"time falls":               {parse(one, with(two, func(l *link) { l.created = ms - 1 })), "created"},
		"of another VASP":          {parse(one, with(two, func(l *link) { l.vasp, l.public, l.self = 8, foreign.Public().Bytes(), foreign })), "another VASP"},
		"identity twice": {parse(one, two, with(two, func(l *link) {
			l.public, l.self, l.before = first.Public().Bytes(), first, second
			l.previous, l.serial = second.Public().Fingerprint(), ms+2
		})), "twice"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: ParseChain = %v, want refusal with %q", name, c.err, c.want)
		}
	}
}

func TestChainIsCanonical(t *testing.T) {
	first, second := newSigner(t, 7), newSigner(t, 7)
	short := newChain(t, first)
	chain := extend(t, short, first, second)
	renumbered := bytes.Clone(chain)
	binary.BigEndian.PutUint16(renumbered[len(short):], 3)
	for name, b := range map[string][]byte{
		"empty":                nil,
		"format only":          {1},
		"unknown format":       append([]byte{2}, chain[1:]...),
		"trailing byte":        append(bytes.Clone(chain), 0),
		"statement left out":   append([]byte{1}, chain[len(short):]...),
		"statement twice":      append(bytes.Clone(short), short[1:]...),
		"statement renumbered": renumbered,
		"too large":            make([]byte, identity.MaxChain+1),
	} {
		if _, err := identity.ParseChain(b); err == nil {
			t.Errorf("%s: ParseChain succeeds, want refusal", name)
		}
	}
}

func FuzzParseChain(f *testing.F) {
	first, second := insecure.Signer(f, 7, insecure.Seed(1)), insecure.Signer(f, 7, insecure.Seed(2))
	f.Add(newChain(f, first))
	f.Add(extend(f, newChain(f, first), first, second))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := identity.ParseChain(b)
		if err == nil && (c.Len() == 0 || !c.Contains(c.Current().Fingerprint())) {
			t.Errorf("ParseChain(%x) = %d identities", b, c.Len())
		}
	})
}
