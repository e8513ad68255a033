package keyring_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

const ttl = 30 * time.Minute

// cache is a PeerCache in memory that says what was done to it.
type cache struct {
	mu      sync.Mutex
	entries map[keyring.Ref][]byte
	ttls    []time.Duration
	reads   int
	fail    error
	hold    chan struct{} // when set, the next read waits for it before it answers
}

func (c *cache) PeerKey(_ context.Context, ref keyring.Ref) ([]byte, error) {
	b, hold, err := c.read(ref)
	if hold != nil {
		<-hold
	}
	return b, err
}

func (c *cache) read(ref keyring.Ref) (b []byte, hold chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	hold, c.hold = c.hold, nil
	if b, ok := c.entries[ref]; ok && c.fail == nil {
		return b, hold, nil
	}
	return nil, hold, cmp.Or(c.fail, keyring.ErrNotFound)
}

func (c *cache) PutPeerKey(_ context.Context, ref keyring.Ref, bundle []byte, ttl time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ttls = append(c.ttls, ttl)
	if c.fail == nil {
		c.entries[ref] = bundle
	}
	return c.fail
}

func (c *cache) DropPeerKey(_ context.Context, ref keyring.Ref) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, ref)
	return c.fail
}

// seeker is VASP 9, which looks for keys of VASP 7, the owner.
type seeker struct {
	*clock
	*cache
	owner    *identity.Signer
	peers    *keyring.Peers
	answer   func(ref keyring.Ref, nonce [32]byte) ([]byte, error) // what the owner says
	gate     chan struct{}                                         // when set, requests wait for it
	mu       sync.Mutex
	requests int
	events   map[keyring.Event]int
	highest  func(identity.VASPID) uint64
	onSerial func(*identity.Public, uint64)
}

func (s *seeker) RequestKey(ctx context.Context, ref keyring.Ref, nonce [32]byte) ([]byte, error) {
	s.mu.Lock()
	s.requests++
	s.mu.Unlock()
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.answer(ref, nonce)
}

func (s *seeker) observe(e keyring.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events[e]++
}

func newSeeker(t testing.TB) *seeker {
	t.Helper()
	s := &seeker{
		clock: newClock(), cache: &cache{entries: map[keyring.Ref][]byte{}},
		owner: newSigner(t, 7), events: map[keyring.Event]int{},
	}
	s.answer = func(ref keyring.Ref, nonce [32]byte) ([]byte, error) {
		b := s.bundle(t)
		b.Type, b.Scope = ref.Type, ref.Scope
		if ref.Type != identity.PerVASP {
			b.Nonce, b.Audience = nonce, 9
		}
		return sign(t, s.owner, b), nil
	}
	s.restart()
	return s
}

// restart forgets all that is kept in memory.
func (s *seeker) restart() {
	s.peers = keyring.NewPeers(keyring.PeersConfig{
		Cache: s.cache, Requester: s, TTL: ttl, Now: s.now, Skew: skew, Self: 9, Observe: s.observe,
		HighestSerial: s.highest, OnSerial: s.onSerial,
	})
}

// bundle is what the owner would sign now.
func (s *seeker) bundle(t testing.TB) identity.Bundle {
	t.Helper()
	k, err := envelope.GenerateKey(identity.SuiteX25519)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Bundle{
		Suite: identity.SuiteX25519, PublicKey: k.Public().Bytes(), Type: identity.PerVASP,
		Serial: uint64(s.now().UnixMilli()), NotBefore: s.now(), NotAfter: s.now().Add(24 * time.Hour),
		Suites: []identity.Suite{identity.SuiteX25519},
	}
}

func sign(t testing.TB, s *identity.Signer, b identity.Bundle) []byte {
	t.Helper()
	encoded, err := s.SignBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

var theKey = keyring.Ref{VASP: 7, Type: identity.PerVASP}

func (s *seeker) key(t testing.TB) (*keyring.PeerKey, error) {
	return s.peers.Key(t.Context(), theKey, s.owner.Public())
}

func (s *seeker) mustKey(t testing.TB) *keyring.PeerKey {
	t.Helper()
	k, err := s.key(t)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func reason(err error) keyring.Reason {
	var r *keyring.RefusedError
	if !errors.As(err, &r) || !errors.Is(err, keyring.ErrRefused) {
		return ""
	}
	return r.Reason
}

func TestKeyIsAskedForOnceAndThenCached(t *testing.T) {
	s := newSeeker(t)
	first := s.mustKey(t)
	if first.Public.ID() != first.Bundle.KeyID || first.Bundle.VASP != 7 {
		t.Errorf("Key = %v, %v", first.Public, first.Bundle)
	}
	if again := s.mustKey(t); again != first {
		t.Error("the cached bundle was verified and built again")
	}
	s.restart()
	if again := s.mustKey(t); again.Public.ID() != first.Public.ID() {
		t.Error("after a restart the cache gives another key")
	}
	if s.requests != 1 {
		t.Errorf("%d requests, want 1", s.requests)
	}
	if want := (map[keyring.Event]int{keyring.Miss: 1, keyring.Fetched: 1, keyring.Hit: 2}); !maps.Equal(s.events, want) {
		t.Errorf("events = %v, want %v", s.events, want)
	}
}

func TestCacheKeepsABundleNoLongerThanItIsValid(t *testing.T) {
	for rest, want := range map[time.Duration][]time.Duration{
		24 * time.Hour:              {ttl},
		10 * time.Minute:            {10*time.Minute - skew},
		skew + 1*time.Millisecond:   {time.Millisecond},
		skew:                        nil,
		skew - 500*time.Millisecond: nil,
	} {
		s := newSeeker(t)
		b := s.bundle(t)
		b.NotAfter = s.now().Add(rest)
		s.answer = func(keyring.Ref, [32]byte) ([]byte, error) { return sign(t, s.owner, b), nil }
		s.mustKey(t)
		if len(s.ttls) != len(want) || len(want) > 0 && s.ttls[0] != want[0] {
			t.Errorf("bundle valid for %v: kept %v, want %v", rest, s.ttls, want)
		}
	}
}

// Attacks K1, K5, K6, K7: whatever the cache or the answer holds, no key is
// used but the one that was looked for. A poisoned cache costs one lookup.
func TestWrongBundlesAreNeverUsed(t *testing.T) {
	other := newSigner(t, 8)
	usurper := newSigner(t, 7)
	for name, c := range map[string]struct {
		make func(s *seeker, b identity.Bundle) []byte
		want keyring.Reason
	}{
		"nothing":        {func(*seeker, identity.Bundle) []byte { return nil }, keyring.BadBundle},
		"garbage":        {func(*seeker, identity.Bundle) []byte { return []byte("garbage") }, keyring.BadBundle},
		"bare key":       {func(_ *seeker, b identity.Bundle) []byte { return b.PublicKey }, keyring.BadBundle},
		"flipped bit":    {func(s *seeker, b identity.Bundle) []byte { e := sign(t, s.owner, b); e[99] ^= 1; return e }, keyring.BadBundle},
		"trailing byte":  {func(s *seeker, b identity.Bundle) []byte { return append(sign(t, s.owner, b), 0) }, keyring.BadBundle},
		"other VASP":     {func(_ *seeker, b identity.Bundle) []byte { return sign(t, other, b) }, keyring.OtherVASP},
		"other identity": {func(_ *seeker, b identity.Bundle) []byte { return sign(t, usurper, b) }, keyring.OtherIdentity},
		"expired": {func(s *seeker, b identity.Bundle) []byte {
			b.NotBefore, b.NotAfter = s.now().Add(-time.Hour), s.now()
			return sign(t, s.owner, b)
		}, keyring.Expired},
		"not yet valid": {func(s *seeker, b identity.Bundle) []byte {
			b.NotBefore = s.now().Add(skew + time.Millisecond)
			return sign(t, s.owner, b)
		}, keyring.NotYetValid},
		"other type": {func(s *seeker, b identity.Bundle) []byte {
			b.Type = identity.PerAddress
			return sign(t, s.owner, b)
		}, keyring.OtherType},
		"other audience": {func(s *seeker, b identity.Bundle) []byte {
			b.Audience = 10
			return sign(t, s.owner, b)
		}, keyring.OtherAudience},
		"downgraded": {func(s *seeker, b identity.Bundle) []byte {
			b.Suites = []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}
			return sign(t, s.owner, b)
		}, keyring.Downgraded},
	} {
		s := newSeeker(t)
		bad := c.make(s, s.bundle(t))
		s.entries[theKey] = bad
		k := s.mustKey(t)
		if s.requests != 1 || s.events[keyring.CacheRefused] != 1 || s.events[keyring.Hit] != 0 {
			t.Errorf("%s in the cache: %d requests, events %v", name, s.requests, s.events)
		}
		if bytes.Equal(s.entries[theKey], bad) {
			t.Errorf("%s in the cache: still there", name)
		}
		if again := s.mustKey(t); again.Public.ID() != k.Public.ID() || s.requests != 1 {
			t.Errorf("%s in the cache: costs more than one lookup", name)
		}

		owner := s.owner
		s = newSeeker(t)
		s.owner = owner
		s.answer = func(keyring.Ref, [32]byte) ([]byte, error) { return bad, nil }
		if k, err := s.key(t); reason(err) != c.want {
			t.Errorf("%s as the answer: Key = %v, %v, want %s", name, k, err, c.want)
		}
		if len(s.entries) != 0 || s.events[keyring.FetchRefused] != 1 {
			t.Errorf("%s as the answer: cached, or events %v", name, s.events)
		}
	}
}

// A bad entry goes even when the owner cannot be asked.
func TestBadEntryIsDroppedWhenTheOwnerIsSilent(t *testing.T) {
	s := newSeeker(t)
	silent := errors.New("silent")
	s.entries[theKey] = []byte("garbage")
	s.answer = func(keyring.Ref, [32]byte) ([]byte, error) { return nil, silent }
	if _, err := s.key(t); !errors.Is(err, silent) {
		t.Errorf("Key = %v, want %v", err, silent)
	}
	if len(s.entries) != 0 || s.events[keyring.FetchFailed] != 1 {
		t.Errorf("the bad entry is kept; events %v", s.events)
	}
}

// Attack K5: our own floor holds whatever the owner offers.
func TestSuitesBelowTheFloorAreRefused(t *testing.T) {
	s := newSeeker(t)
	s.peers = keyring.NewPeers(keyring.PeersConfig{
		Cache: s.cache, Requester: s, TTL: ttl, Now: s.now, Skew: skew, Self: 9, Floor: []identity.Suite{identity.SuiteXWing},
	})
	if _, err := s.key(t); reason(err) != keyring.BelowFloor {
		t.Errorf("Key = %v, want %s", err, keyring.BelowFloor)
	}
	// Who seals to x25519 only is not told that x-wing would be better.
	b := s.bundle(t)
	b.Suites = []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}
	s.answer = func(keyring.Ref, [32]byte) ([]byte, error) { return sign(t, s.owner, b), nil }
	s.peers = keyring.NewPeers(keyring.PeersConfig{
		Cache: s.cache, Requester: s, TTL: ttl, Now: s.now, Skew: skew, Self: 9, Floor: []identity.Suite{identity.SuiteX25519},
	})
	if _, err := s.key(t); err != nil {
		t.Errorf("Key = %v", err)
	}
}

// Attack K7: a directed key answers our request and no earlier one.
func TestAnswersMustEchoTheNonce(t *testing.T) {
	scoped := keyring.Ref{VASP: 7, Type: identity.PerAddress, Scope: [32]byte{1}}
	single := keyring.Ref{VASP: 7, Type: identity.PerVerification, Scope: [32]byte{2}}
	for name, c := range map[string]struct {
		ref   keyring.Ref
		nonce func(asked [32]byte) [32]byte
		want  keyring.Reason
	}{
		"PerAddress, echoed":      {scoped, func(n [32]byte) [32]byte { return n }, ""},
		"PerAddress, none":        {scoped, func([32]byte) [32]byte { return [32]byte{} }, keyring.OtherNonce},
		"PerAddress, other":       {scoped, func(n [32]byte) [32]byte { n[31] ^= 1; return n }, keyring.OtherNonce},
		"PerVerification, echoed": {single, func(n [32]byte) [32]byte { return n }, ""},
		"PerVerification, none":   {single, func([32]byte) [32]byte { return [32]byte{} }, keyring.OtherNonce},
		"PerVASP, echoed":         {theKey, func(n [32]byte) [32]byte { return n }, ""},
		"PerVASP, none":           {theKey, func([32]byte) [32]byte { return [32]byte{} }, ""},
		"PerVASP, other":          {theKey, func(n [32]byte) [32]byte { n[0] ^= 1; return n }, keyring.OtherNonce},
	} {
		s := newSeeker(t)
		s.answer = func(ref keyring.Ref, nonce [32]byte) ([]byte, error) {
			b := s.bundle(t)
			b.Type, b.Scope, b.Nonce, b.Audience = ref.Type, ref.Scope, c.nonce(nonce), 9
			return sign(t, s.owner, b), nil
		}
		_, err := s.peers.Key(t.Context(), c.ref, s.owner.Public())
		if reason(err) != c.want || (c.want == "") != (err == nil) {
			t.Errorf("%s: Key = %v, want %q", name, err, c.want)
		}
		if len(s.entries) > 0 && (c.want != "" || c.ref.Type == identity.PerVerification) {
			t.Errorf("%s: cached", name)
		}
	}
}

func TestScopesAreNotExchanged(t *testing.T) {
	s := newSeeker(t)
	a := keyring.Ref{VASP: 7, Type: identity.PerAddress, Scope: [32]byte{1}}
	b := keyring.Ref{VASP: 7, Type: identity.PerAddress, Scope: [32]byte{2}}
	ka, err := s.peers.Key(t.Context(), a, s.owner.Public())
	if err != nil {
		t.Fatal(err)
	}
	s.entries[b] = s.entries[a] // K6
	kb, err := s.peers.Key(t.Context(), b, s.owner.Public())
	if err != nil {
		t.Fatal(err)
	}
	if kb.Bundle.Scope != b.Scope || ka.Public.ID() == kb.Public.ID() || s.requests != 2 {
		t.Errorf("Key of another scope = %v after %d requests", kb.Bundle.Scope, s.requests)
	}
	answerA := func(keyring.Ref, [32]byte) ([]byte, error) { return s.entries[a], nil }
	s.answer = answerA
	c := keyring.Ref{VASP: 7, Type: identity.PerAddress, Scope: [32]byte{3}}
	if _, err := s.peers.Key(t.Context(), c, s.owner.Public()); reason(err) != keyring.OtherScope {
		t.Errorf("Key = %v, want %s", err, keyring.OtherScope)
	}
}

func TestSingleUseKeysAreNeverCached(t *testing.T) {
	s := newSeeker(t)
	ref := keyring.Ref{VASP: 7, Type: identity.PerVerification, Scope: [32]byte{1}}
	for n := 1; n <= 2; n++ {
		if _, err := s.peers.Key(t.Context(), ref, s.owner.Public()); err != nil {
			t.Fatal(err)
		}
		if s.requests != n || s.reads != 0 || len(s.entries) != 0 {
			t.Errorf("after %d lookups: %d requests, %d cache reads, %d entries", n, s.requests, s.reads, len(s.entries))
		}
	}
}

// Attack K7: once a newer bundle was seen, older ones are not accepted again,
// from the cache or as an answer.
func TestOlderSerialsAreRefused(t *testing.T) {
	s := newSeeker(t)
	old := s.bundle(t)
	newer := s.bundle(t)
	newer.Serial++
	same := s.bundle(t)
	same.Serial++
	s.answer = func(keyring.Ref, [32]byte) ([]byte, error) { return sign(t, s.owner, newer), nil }
	s.mustKey(t)
	s.entries[theKey] = sign(t, s.owner, old)
	if k := s.mustKey(t); k.Bundle.Serial != newer.Serial || s.events[keyring.CacheRefused] != 1 {
		t.Errorf("older one in the cache: Key has serial %d, want %d", k.Bundle.Serial, newer.Serial)
	}
	if err := s.peers.Drop(t.Context(), theKey); err != nil {
		t.Fatal(err)
	}
	s.answer = func(keyring.Ref, [32]byte) ([]byte, error) { return sign(t, s.owner, old), nil }
	if _, err := s.key(t); reason(err) != keyring.OldSerial {
		t.Errorf("older one as the answer: Key = %v, want %s", err, keyring.OldSerial)
	}
	s.answer = func(keyring.Ref, [32]byte) ([]byte, error) { return sign(t, s.owner, same), nil }
	if _, err := s.key(t); err != nil {
		t.Errorf("equal serial: Key = %v", err)
	}
	// A new identity, once pinned, starts anew.
	_ = s.peers.Drop(t.Context(), theKey)
	s.owner = newSigner(t, 7)
	s.answer = func(keyring.Ref, [32]byte) ([]byte, error) { return sign(t, s.owner, old), nil }
	if _, err := s.key(t); err != nil {
		t.Errorf("lower serial of a new identity: Key = %v", err)
	}
}

// Attack K7: what was seen before a restart is remembered where the caller
// keeps it, per identity, and only a higher serial is worth telling.
func TestHighestSerialOutlivesARestart(t *testing.T) {
	s := newSeeker(t)
	first, second := s.owner, newSigner(t, 7)
	stored := map[identity.Fingerprint]uint64{}
	told := 0
	s.onSerial = func(owner *identity.Public, serial uint64) { stored[owner.Fingerprint()] = serial; told++ }
	s.highest = func(vasp identity.VASPID) uint64 {
		if vasp != 7 {
			t.Errorf("HighestSerial(%s) is asked, want 7", vasp)
		}
		return stored[s.owner.Public().Fingerprint()]
	}
	s.restart()
	answer := func(serial uint64) {
		s.answer = func(keyring.Ref, [32]byte) ([]byte, error) {
			b := s.bundle(t)
			b.Serial = serial
			return sign(t, s.owner, b), nil
		}
	}
	for _, step := range []struct {
		name   string
		do     func()
		want   keyring.Reason
		stored uint64
		told   int
	}{
		{"the first", func() { answer(100) }, "", 100, 1},
		{"a higher one", func() { answer(200) }, "", 200, 2},
		{"an equal one", func() { answer(200) }, "", 200, 2},
		{"a lower one", func() { answer(199) }, keyring.OldSerial, 200, 2},
		{"a lower one after a restart", func() { s.restart() }, keyring.OldSerial, 200, 2},
		{"an equal one after a restart", func() { answer(200); s.restart() }, "", 200, 2},
		{"a higher one after a restart", func() { answer(201); s.restart() }, "", 201, 3},
		{"a new identity's low one", func() { s.owner = second; answer(5) }, "", 5, 4},
		{"a new identity's lower one after a restart", func() { answer(4); s.restart() }, keyring.OldSerial, 5, 4},
		{"the old identity's old one", func() { s.owner = first; answer(200); s.restart() }, keyring.OldSerial, 201, 4},
	} {
		step.do()
		_ = s.peers.Drop(t.Context(), theKey)
		if _, err := s.key(t); reason(err) != step.want || (step.want == "") != (err == nil) {
			t.Errorf("%s: Key = %v, want %q", step.name, err, step.want)
		}
		if got := stored[s.owner.Public().Fingerprint()]; got != step.stored || told != step.told {
			t.Errorf("%s: stored %d after %d calls, want %d after %d", step.name, got, told, step.stored, step.told)
		}
	}
}

// A reply key that waited for delivery does not lower what is remembered, and
// keys for one use leave it alone.
func TestOnlyRisingSerialsAreTold(t *testing.T) {
	s := newSeeker(t)
	var told []uint64
	s.onSerial = func(_ *identity.Public, serial uint64) { told = append(told, serial) }
	s.restart()
	old := sign(t, s.owner, s.bundle(t))
	s.advance(time.Minute)
	newer := s.mustKey(t)
	if _, err := s.peers.Adopt(t.Context(), theKey, old, s.owner.Public()); err != nil {
		t.Fatal(err)
	}
	s.advance(time.Minute)
	for _, ref := range []keyring.Ref{
		{VASP: 7, Type: identity.PerAddress, Scope: [32]byte{1}}, {VASP: 7, Type: identity.PerVerification},
	} {
		if _, err := s.peers.Key(t.Context(), ref, s.owner.Public()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(told, []uint64{newer.Bundle.Serial}) {
		t.Errorf("OnSerial was told %v, want %d alone", told, newer.Bundle.Serial)
	}
}

// Attack K5: a key made for one VASP is not used by another, and one made for
// everybody is only a PerVasp key.
func TestDirectedKeysMustBeForUs(t *testing.T) {
	for _, ref := range []keyring.Ref{
		{VASP: 7, Type: identity.PerAddress, Scope: [32]byte{1}}, {VASP: 7, Type: identity.PerVerification}, theKey,
	} {
		for audience, want := range map[identity.VASPID]keyring.Reason{0: keyring.OtherAudience, 9: "", 10: keyring.OtherAudience} {
			if ref.Type == identity.PerVASP && audience == 0 {
				want = ""
			}
			s := newSeeker(t)
			var bundle []byte
			s.answer = func(ref keyring.Ref, nonce [32]byte) ([]byte, error) {
				b := s.bundle(t)
				b.Type, b.Scope, b.Nonce, b.Audience = ref.Type, ref.Scope, nonce, audience
				bundle = sign(t, s.owner, b)
				return bundle, nil
			}
			if _, err := s.peers.Key(t.Context(), ref, s.owner.Public()); reason(err) != want {
				t.Errorf("%s for %s: Key = %v, want %q", ref.Type, audience, err, want)
			}
			if _, err := s.peers.Adopt(t.Context(), ref, bundle, s.owner.Public()); reason(err) != want {
				t.Errorf("%s for %s: Adopt = %v, want %q", ref.Type, audience, err, want)
			}
		}
	}
}

// Target 8: of all pairs of type and suite that are asked for and offered,
// those pass whose type is equal and whose suite is the strongest that both
// sides have, asked for or adopted (attacks K5, K8).
func TestOnlyThePolicysPairsPass(t *testing.T) {
	types := []identity.KeyType{identity.PerVASP, identity.PerAddress, identity.PerVerification}
	both := []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}
	passed := 0
	for _, floor := range [][]identity.Suite{both, both[:1], both[1:]} {
		for _, suite := range both {
			for _, announced := range [][]identity.Suite{{suite}, both, append(slices.Clone(both), 200)} {
				for _, asked := range types {
					for _, offered := range types {
						strongest := slices.IndexFunc(floor, func(s identity.Suite) bool { return slices.Contains(announced, s) })
						want := asked == offered && strongest >= 0 && floor[strongest] == suite
						got := tryPair(t, floor, suite, announced, asked, offered)
						if got != want {
							t.Errorf("floor %v, asked for %s, offered %s of %s, announcing %v: used = %t", floor, asked, offered, suite, announced, got)
						}
						if got {
							passed++
						}
					}
				}
			}
		}
	}
	if passed != 3*(4+3+3) {
		t.Errorf("%d pairs passed, want 30", passed)
	}
}

// tryPair says whether a key is used, asked for and adopted alike.
func tryPair(t *testing.T, floor []identity.Suite, suite identity.Suite, announced []identity.Suite, asked, offered identity.KeyType) bool {
	t.Helper()
	s := newSeeker(t)
	s.peers = keyring.NewPeers(keyring.PeersConfig{Cache: s.cache, Requester: s, TTL: ttl, Now: s.now, Skew: skew, Self: 9, Floor: floor})
	var bundle []byte
	s.answer = func(_ keyring.Ref, nonce [32]byte) ([]byte, error) {
		b := s.bundle(t)
		b.Suite, b.PublicKey, b.Suites = suite, make([]byte, suite.PublicKeySize()), announced
		b.PublicKey[0] = 9
		b.Type, b.Nonce, b.Audience = offered, nonce, 9
		bundle = sign(t, s.owner, b)
		return bundle, nil
	}
	ref := keyring.Ref{VASP: 7, Type: asked}
	_, fetched := s.peers.Key(t.Context(), ref, s.owner.Public())
	_, adopted := s.peers.Adopt(t.Context(), ref, bundle, s.owner.Public())
	if (fetched == nil) != (adopted == nil) || fetched != nil && reason(fetched) == "" {
		t.Errorf("floor %v, asked for %s, offered %s of %s: Key = %v, Adopt = %v", floor, asked, offered, suite, fetched, adopted)
	}
	return fetched == nil
}

// Two verifications at once never share a single-use key.
func TestConcurrentLookupsOfSingleUseKeysAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeeker(t)
		s.gate = make(chan struct{})
		keys := make(chan *keyring.PeerKey, 10)
		for range cap(keys) {
			go func() {
				k, err := s.peers.Key(t.Context(), keyring.Ref{VASP: 7, Type: identity.PerVerification}, s.owner.Public())
				if err != nil {
					t.Error(err)
				}
				keys <- k
			}()
		}
		synctest.Wait()
		close(s.gate)
		seen := map[identity.KeyID]bool{}
		for range cap(keys) {
			seen[(<-keys).Public.ID()] = true
		}
		if len(seen) != cap(keys) || s.requests != cap(keys) {
			t.Errorf("%d lookups got %d keys by %d requests", cap(keys), len(seen), s.requests)
		}
	})
}

func TestManyMissesMakeOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeeker(t)
		s.entries[theKey] = []byte("garbage")
		s.gate = make(chan struct{})
		keys := make([]*keyring.PeerKey, 100)
		for i := range keys {
			go func() {
				k, err := s.key(t)
				if err != nil {
					t.Error(err)
				}
				keys[i] = k
			}()
		}
		synctest.Wait() // all have missed
		close(s.gate)
		synctest.Wait()
		for _, k := range keys {
			if k == nil || k.Public.ID() != keys[0].Public.ID() {
				t.Fatal("lookups got different keys")
			}
		}
		if s.requests != 1 {
			t.Errorf("%d requests, want 1", s.requests)
		}
	})
}

// One who missed while the request was under way, and comes to ask after it
// ended, finds its result.
func TestLateMissMakesNoSecondRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeeker(t)
		hold := make(chan struct{})
		s.hold = hold
		late := make(chan *keyring.PeerKey, 1)
		go func() {
			k, err := s.key(t)
			if err != nil {
				t.Error(err)
			}
			late <- k
		}()
		synctest.Wait() // it has missed, and does not know yet
		first := s.mustKey(t)
		close(hold)
		if k := <-late; k != first || s.requests != 1 {
			t.Errorf("another key, or %d requests", s.requests)
		}
	})
}

// Whoever gives up does not take the request away from those who wait.
func TestGivingUpLeavesTheOthersTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeeker(t)
		s.gate = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() {
			_, err := s.peers.Key(ctx, theKey, s.owner.Public())
			gaveUp <- err
		}()
		synctest.Wait()
		waited := make(chan error, 1)
		go func() {
			_, err := s.key(t)
			waited <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v, want context.Canceled", err)
		}
		close(s.gate)
		if err := <-waited; err != nil || s.requests != 1 {
			t.Errorf("who waited got %v after %d requests", err, s.requests)
		}
		if _, err := s.peers.Key(ctx, theKey, s.owner.Public()); !errors.Is(err, context.Canceled) {
			t.Errorf("Key with an ended context = %v", err)
		}
	})
}

// A request that nobody answers ends by itself.
func TestRequestsEnd(t *testing.T) {
	for _, ref := range []keyring.Ref{theKey, {VASP: 7, Type: identity.PerVerification}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSeeker(t)
			s.gate = make(chan struct{})
			if _, err := s.peers.Key(t.Context(), ref, s.owner.Public()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: Key = %v, want context.DeadlineExceeded", ref.Type, err)
			}
		})
	}
}

func TestFailingCacheCostsLookupsOnly(t *testing.T) {
	s := newSeeker(t)
	s.fail = errors.New("connection refused")
	for n := 1; n <= 2; n++ {
		s.mustKey(t)
		if s.requests != n {
			t.Errorf("lookup %d: %d requests", n, s.requests)
		}
	}
	if s.events[keyring.CacheFailed] != 4 || s.events[keyring.Miss] != 2 {
		t.Errorf("events = %v", s.events)
	}
	if err := s.peers.Drop(t.Context(), theKey); err == nil {
		t.Error("Drop hides that the cache failed")
	}
}

func TestDropMakesTheNextLookupAsk(t *testing.T) {
	s := newSeeker(t)
	first := s.mustKey(t)
	if err := s.peers.Drop(t.Context(), theKey); err != nil {
		t.Fatal(err)
	}
	if k := s.mustKey(t); k.Public.ID() == first.Public.ID() || s.requests != 2 {
		t.Errorf("after Drop: same key, or %d requests", s.requests)
	}
}

func TestPinMustBeTheVASPs(t *testing.T) {
	s := newSeeker(t)
	good := sign(t, s.owner, s.bundle(t))
	for name, pin := range map[string]*identity.Public{"none": nil, "another VASP's": newSigner(t, 8).Public()} {
		if _, err := s.peers.Key(t.Context(), theKey, pin); reason(err) != keyring.OtherIdentity {
			t.Errorf("pin %s: Key = %v, want %s", name, err, keyring.OtherIdentity)
		}
		if _, err := s.peers.Adopt(t.Context(), theKey, good, pin); reason(err) != keyring.OtherIdentity {
			t.Errorf("pin %s: Adopt = %v, want %s", name, err, keyring.OtherIdentity)
		}
	}
	if s.requests != 0 {
		t.Errorf("%d requests without a pin", s.requests)
	}
}

// Attack K2: a reply key is believed only when the pinned sender signed it.
func TestAdoptVerifiesReplyBundles(t *testing.T) {
	s := newSeeker(t)
	encoded := sign(t, s.owner, s.bundle(t))
	k, err := s.peers.Adopt(t.Context(), theKey, encoded, s.owner.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.mustKey(t); got != k || s.requests != 0 || len(s.ttls) != 1 {
		t.Errorf("after Adopt: another key, %d requests, cached %d times", s.requests, len(s.ttls))
	}
	if again, err := s.peers.Adopt(t.Context(), theKey, encoded, s.owner.Public()); err != nil || again != k || len(s.ttls) != 1 {
		t.Errorf("adopted twice: %v, cached %d times, want once", err, len(s.ttls))
	}
	expired := s.bundle(t)
	expired.NotBefore, expired.NotAfter = s.now().Add(-time.Hour), s.now()
	for name, c := range map[string]struct {
		bundle []byte
		want   keyring.Reason
	}{
		"another identity": {sign(t, newSigner(t, 7), s.bundle(t)), keyring.OtherIdentity},
		"another VASP":     {sign(t, newSigner(t, 8), s.bundle(t)), keyring.OtherVASP},
		"expired":          {sign(t, s.owner, expired), keyring.Expired},
		"garbage":          {[]byte("garbage"), keyring.BadBundle},
	} {
		if _, err := s.peers.Adopt(t.Context(), theKey, c.bundle, s.owner.Public()); reason(err) != c.want {
			t.Errorf("%s: Adopt = %v, want %s", name, err, c.want)
		}
	}
	if s.events[keyring.Adopted] != 2 || s.events[keyring.AdoptRefused] != 4 {
		t.Errorf("events = %v", s.events)
	}
}

// An envelope may have waited longer for delivery than its sender's next key.
func TestAdoptAcceptsAnOlderSerialButDoesNotCacheIt(t *testing.T) {
	s := newSeeker(t)
	old := sign(t, s.owner, s.bundle(t))
	s.advance(time.Minute)
	newer := s.mustKey(t)
	if _, err := s.peers.Adopt(t.Context(), theKey, old, s.owner.Public()); err != nil {
		t.Errorf("Adopt of an older one: %v", err)
	}
	if k := s.mustKey(t); k.Public.ID() != newer.Public.ID() || s.requests != 1 {
		t.Error("an older reply key replaced the newer cached one")
	}
}

func TestAdoptDoesNotCacheOtherTypes(t *testing.T) {
	s := newSeeker(t)
	s.mustKey(t)
	s.ttls = nil
	for _, ref := range []keyring.Ref{
		{VASP: 7, Type: identity.PerAddress, Scope: [32]byte{1}},
		{VASP: 7, Type: identity.PerVerification, Scope: [32]byte{1}},
	} {
		b := s.bundle(t)
		b.Type, b.Scope, b.Audience = ref.Type, ref.Scope, 9
		if _, err := s.peers.Adopt(t.Context(), ref, sign(t, s.owner, b), s.owner.Public()); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.ttls) != 0 {
		t.Errorf("cached %d of them", len(s.ttls))
	}
}

// Nobody can make an enclave remember without bound.
func TestVerifiedBundlesAreBounded(t *testing.T) {
	s := newSeeker(t)
	first := sign(t, s.owner, s.bundle(t))
	k, err := s.peers.Adopt(t.Context(), theKey, first, s.owner.Public())
	if err != nil {
		t.Fatal(err)
	}
	adopt := func(n int) {
		for range n {
			b := s.bundle(t)
			if _, err := s.peers.Adopt(t.Context(), theKey, sign(t, s.owner, b), s.owner.Public()); err != nil {
				t.Fatal(err)
			}
		}
	}
	adopt(511)
	if again, err := s.peers.Adopt(t.Context(), theKey, first, s.owner.Public()); err != nil || again != k {
		t.Error("forgotten among 512")
	}
	adopt(1)
	if again, err := s.peers.Adopt(t.Context(), theKey, first, s.owner.Public()); err != nil || again == k {
		t.Error("still remembered after 512 others")
	}
}

func TestEventsAreListed(t *testing.T) {
	listed := map[keyring.Event]bool{}
	for _, e := range keyring.Events() {
		listed[e] = true
	}
	if len(listed) != 9 {
		t.Errorf("Events lists %d events, want 9", len(listed))
	}
}

func BenchmarkKeyHit(b *testing.B) {
	s := newSeeker(b)
	s.mustKey(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.key(b); err != nil {
			b.Fatal(err)
		}
	}
}
