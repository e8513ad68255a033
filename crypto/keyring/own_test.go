package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

const (
	life = 48 * time.Hour // of the longest envelope
	skew = time.Minute
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// ownStore keeps keys in memory.
type ownStore struct {
	mu      sync.Mutex
	keys    map[identity.KeyID]keyring.OwnKey
	puts    int
	dropped int           // ids that DropOwnKeys was asked to delete, also when it failed
	fail    error         // what PutOwnKey and DropOwnKeys answer
	gate    chan struct{} // when set, PutOwnKey waits for it
	fall    bool          // newest first
}

func (s *ownStore) OwnKeys(context.Context) ([]keyring.OwnKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []keyring.OwnKey
	for _, k := range s.keys {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b keyring.OwnKey) int { return a.NotAfter.Compare(b.NotAfter) })
	if s.fall {
		slices.Reverse(all)
	}
	return all, nil
}

func (s *ownStore) PutOwnKey(_ context.Context, k keyring.OwnKey) error {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if s.fail == nil {
		s.keys[k.ID] = k
	}
	return s.fail
}

func (s *ownStore) DropOwnKeys(_ context.Context, ids ...identity.KeyID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped += len(ids)
	if s.fail != nil {
		return s.fail
	}
	for _, id := range ids {
		delete(s.keys, id)
	}
	return nil
}

// owner is one VASP with its store and clock.
type owner struct {
	*clock
	store  *ownStore
	config keyring.OwnConfig
}

func newOwner(t testing.TB) *owner {
	t.Helper()
	o := &owner{clock: newClock(), store: &ownStore{keys: map[identity.KeyID]keyring.OwnKey{}}}
	o.config = keyring.OwnConfig{
		Signer: newSigner(t, 7), Store: o.store, AEAD: insecure.AEAD(t, 1), Suite: identity.SuiteX25519,
		Now: o.now, MaxEnvelopeLife: life, Skew: skew,
	}
	return o
}

func newSigner(t testing.TB, vasp identity.VASPID) *identity.Signer {
	t.Helper()
	s, err := identity.NewSigner(vasp)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (o *owner) open(t testing.TB) *keyring.Own {
	t.Helper()
	own, err := keyring.OpenOwn(t.Context(), o.config)
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// perVASP gives the current bundle, parsed.
func perVASP(t testing.TB, own *keyring.Own) *identity.Bundle {
	t.Helper()
	encoded, err := own.PerVASP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := identity.ParseBundle(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPerVASPKeyIsStoredAndOpensWhatIsSealedToIt(t *testing.T) {
	for _, suite := range []identity.Suite{identity.SuiteXWing, identity.SuiteX25519} {
		o := newOwner(t)
		o.config.Suite = suite
		own := o.open(t)
		b := perVASP(t, own)
		if b.Type != identity.PerVASP || b.Suite != suite || b.Audience != 0 || b.Nonce != [32]byte{} || b.VASP != 7 ||
			!b.NotBefore.Equal(o.now()) || b.NotAfter.Sub(b.NotBefore) != 24*time.Hour || !slices.Equal(b.Suites, []identity.Suite{suite}) {
			t.Errorf("bundle = %+v", b)
		}
		stored, ok := o.store.keys[b.KeyID]
		if !ok || !stored.NotAfter.Equal(b.NotAfter) || !stored.DeleteAfter.Equal(b.NotAfter.Add(life+skew)) {
			t.Errorf("stored key = %v, %t", stored.DeleteAfter, ok)
		}
		for name, own := range map[string]*keyring.Own{"made": own, "loaded": o.open(t)} {
			k, err := own.Private(b.KeyID)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(k.Public().Bytes(), b.PublicKey) {
				t.Errorf("%s: the private key is another one", name)
			}
		}
		if again := perVASP(t, o.open(t)); again.KeyID != b.KeyID {
			t.Error("a restart changes the key")
		}
	}
}

// Attack K11: keys change daily with overlap, and the old private part goes
// when nothing sealed to it can arrive any more.
func TestPerVASPKeyRotatesWithOverlap(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	first := perVASP(t, own)
	o.advance(18 * time.Hour)
	if b := perVASP(t, own); b.KeyID != first.KeyID {
		t.Error("with 6 hours left the key changes")
	}
	o.advance(time.Millisecond)
	second := perVASP(t, own)
	if second.KeyID == first.KeyID || second.Serial <= first.Serial {
		t.Errorf("with less than 6 hours left: same key, or serial %d after %d", second.Serial, first.Serial)
	}
	end := first.NotAfter.Add(life + skew)
	o.advance(end.Add(-time.Millisecond).Sub(o.now()))
	if err := own.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := own.Private(first.KeyID); err != nil {
		t.Errorf("just before the end: Private = %v", err)
	}
	o.advance(time.Millisecond)
	if _, err := own.Private(first.KeyID); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("at the end, before Sweep: Private = %v, want ErrUnknownKey", err)
	}
	if err := own.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, stored := o.store.keys[first.KeyID]; stored {
		t.Error("Sweep leaves an ended key in the store")
	}
	if _, err := own.Private(second.KeyID); err != nil {
		t.Errorf("Sweep took a key before its end: %v", err)
	}
}

func TestSweepMakesTheNextKeyInTime(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	if err := own.Sweep(t.Context()); err != nil || o.store.puts != 1 {
		t.Errorf("first Sweep: %v, %d keys made, want 1", err, o.store.puts)
	}
	if err := own.Sweep(t.Context()); err != nil || o.store.puts != 1 {
		t.Errorf("second Sweep: %v, %d keys made, want 1", err, o.store.puts)
	}
	o.advance(19 * time.Hour)
	if err := own.Sweep(t.Context()); err != nil || o.store.puts != 2 {
		t.Errorf("Sweep after 19 hours: %v, %d keys made, want 2", err, o.store.puts)
	}
}

func TestManyCallersMakeOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwner(t)
		own := o.open(t)
		o.store.gate = make(chan struct{})
		ids := make([][]byte, 100)
		for i := range ids {
			go func() {
				b, err := own.PerVASP(t.Context())
				if err != nil {
					t.Error(err)
				}
				ids[i] = b
			}()
		}
		synctest.Wait() // all are waiting: one for the store, the others for it
		close(o.store.gate)
		synctest.Wait()
		for _, b := range ids {
			if !bytes.Equal(b, ids[0]) {
				t.Fatal("callers got different keys")
			}
		}
		if o.store.puts != 1 {
			t.Errorf("%d keys made, want 1", o.store.puts)
		}
	})
}

func TestWaitingForAKeyCanBeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwner(t)
		own := o.open(t)
		o.store.gate = make(chan struct{})
		go func() { _, _ = own.PerVASP(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := own.PerVASP(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("PerVASP = %v, want context.Canceled", err)
		}
		close(o.store.gate)
	})
}

func TestCurrentKeyServesWhenTheNextCannotBeStored(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	full := errors.New("disk full")
	o.store.fail = full
	if _, err := own.PerVASP(t.Context()); !errors.Is(err, full) {
		t.Errorf("no key at all: PerVASP = %v, want %v", err, full)
	}
	o.store.fail = nil
	first := perVASP(t, own)
	o.store.fail = full
	o.advance(23 * time.Hour)
	if b := perVASP(t, own); b.KeyID != first.KeyID {
		t.Error("a key that was not stored is handed out")
	}
	if err := own.Sweep(t.Context()); !errors.Is(err, full) {
		t.Errorf("Sweep = %v, want %v", err, full)
	}
	o.advance(time.Hour)
	if _, err := own.PerVASP(t.Context()); !errors.Is(err, full) {
		t.Errorf("after its end: PerVASP = %v, want %v", err, full)
	}
	o.store.fail = nil
	if b := perVASP(t, own); b.KeyID == first.KeyID {
		t.Error("the expired key is handed out")
	}
}

func TestOpenDropsEndedKeys(t *testing.T) {
	o := newOwner(t)
	first := perVASP(t, o.open(t))
	o.advance(24*time.Hour + life + skew)
	k := o.store.keys[first.KeyID]
	k.Wrapped = nil // an ended key need not even unwrap
	o.store.keys[first.KeyID] = k
	own := o.open(t)
	if len(o.store.keys) != 0 {
		t.Error("OpenOwn leaves an ended key in the store")
	}
	if _, err := own.Private(first.KeyID); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("Private = %v, want ErrUnknownKey", err)
	}
}

// Attack K7: serials rise over restarts, even when the clock was set back.
func TestSerialRisesWhenTheClockFalls(t *testing.T) {
	o := newOwner(t)
	first := perVASP(t, o.open(t))
	o.advance(-time.Hour)
	second := perVASP(t, o.open(t))
	if second.KeyID == first.KeyID || second.Serial != first.Serial+1 {
		t.Errorf("serial %d after %d", second.Serial, first.Serial)
	}
}

func TestBundlesAnnounceAllSuitesFromTheStartOn(t *testing.T) {
	o := newOwner(t)
	o.config.Suite = identity.SuiteXWing
	first := perVASP(t, o.open(t))
	o.config.Suites = []identity.Suite{identity.SuiteX25519}
	if b := perVASP(t, o.open(t)); b.KeyID == first.KeyID || len(b.Suites) != 2 {
		t.Errorf("after another suite was added: bundle announces %v", b.Suites)
	}
}

func TestOldKeysOpenButAreNotHandedOut(t *testing.T) {
	for name, change := range map[string]func(o *owner){
		"next identity": func(o *owner) { o.config.Signer = newSigner(t, 7) },
		"other suite":   func(o *owner) { o.config.Suite = identity.SuiteXWing },
		"suite added": func(o *owner) {
			o.config.Suite, o.config.Suites = identity.SuiteXWing, []identity.Suite{identity.SuiteX25519}
		},
	} {
		o := newOwner(t)
		first := perVASP(t, o.open(t))
		change(o)
		own := o.open(t)
		if b := perVASP(t, own); b.KeyID == first.KeyID || b.Identity.Fingerprint() != o.config.Signer.Public().Fingerprint() {
			t.Errorf("%s: the old key is handed out", name)
		}
		if _, err := own.Private(first.KeyID); err != nil {
			t.Errorf("%s: what is on its way to the old key does not open: %v", name, err)
		}
	}
}

// Whatever is handed out after Resign is signed by the next identity, and
// what was sealed to keys of the former one still opens.
func TestResignSignsWithTheNextIdentity(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	before := handedOut(t, own)
	next := newSigner(t, 7)
	if err := own.Resign(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	for name, b := range handedOut(t, own) {
		if b.Identity.Fingerprint() != next.Public().Fingerprint() || b.Serial <= before[name].Serial {
			t.Errorf("%s: signed by %s, serial %d after %d", name, b.Identity.Fingerprint(), b.Serial, before[name].Serial)
		}
		if b.KeyID == before[name].KeyID && b.Epoch == 0 {
			t.Errorf("%s: the former identity's key is handed out", name)
		}
		if !o.opens(t, own, b, 9) || !o.opens(t, own, before[name], 9) {
			t.Errorf("%s: a key of the former identity or of this one does not open", name)
		}
	}
	if err := own.Resign(t.Context(), newSigner(t, 8)); err == nil {
		t.Error("another VASP's identity signs")
	}
	o.store.fail = errors.New("disk full")
	if err := own.Resign(t.Context(), newSigner(t, 7)); !errors.Is(err, o.store.fail) {
		t.Errorf("Resign without a store = %v, want %v", err, o.store.fail)
	}
	if _, err := own.PerVASP(t.Context()); !errors.Is(err, o.store.fail) {
		t.Errorf("after it, PerVASP = %v: the former identity's key is handed out", err)
	}
}

// Attack K5: who supports a stronger suite does not hand out weaker keys.
func TestWeakerKeysThanAnnouncedAreRefused(t *testing.T) {
	o := newOwner(t)
	o.config.Suites = []identity.Suite{identity.SuiteXWing}
	if _, err := keyring.OpenOwn(t.Context(), o.config); err == nil {
		t.Error("x25519 keys beside x-wing: OpenOwn succeeds, want an error")
	}
	o.config.Suite, o.config.Suites = identity.SuiteXWing, []identity.Suite{identity.SuiteX25519}
	if b := perVASP(t, o.open(t)); !slices.Equal(b.Suites, []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}) {
		t.Errorf("Suites = %v", b.Suites)
	}
	o.config.Suites = []identity.Suite{200}
	if _, err := keyring.OpenOwn(t.Context(), o.config); err == nil {
		t.Error("a suite that we do not know is announced")
	}
	o.config.Suite, o.config.Suites = identity.SuiteClear, nil
	if _, err := keyring.OpenOwn(t.Context(), o.config); err == nil {
		t.Error("clear suite: OpenOwn succeeds, want an error")
	}
}

// Attack S2: stored keys whose parts were swapped do not load.
func TestSwappedPartsAreRefused(t *testing.T) {
	for name, swap := range map[string]func(a, b *keyring.OwnKey){
		"private parts":   func(a, b *keyring.OwnKey) { a.Wrapped, b.Wrapped = b.Wrapped, a.Wrapped },
		"bundles":         func(a, b *keyring.OwnKey) { a.Bundle, b.Bundle = b.Bundle, a.Bundle },
		"ids":             func(a, b *keyring.OwnKey) { a.ID, b.ID = b.ID, a.ID },
		"type":            func(a, _ *keyring.OwnKey) { a.Type = identity.PerAddress },
		"no private part": func(a, _ *keyring.OwnKey) { a.Wrapped = nil },
		"no bundle":       func(a, _ *keyring.OwnKey) { a.Bundle = nil },
	} {
		o := newOwner(t)
		own := o.open(t)
		first := perVASP(t, own)
		o.advance(20 * time.Hour)
		second := perVASP(t, own)
		a, b := o.store.keys[first.KeyID], o.store.keys[second.KeyID]
		swap(&a, &b)
		o.store.keys = map[identity.KeyID]keyring.OwnKey{first.KeyID: a, second.KeyID: b}
		if _, err := keyring.OpenOwn(t.Context(), o.config); err == nil {
			t.Errorf("%s swapped: OpenOwn succeeds, want an error", name)
		}
	}
	o := newOwner(t)
	first := perVASP(t, o.open(t))
	stored := o.store.keys[first.KeyID]
	for name, k := range map[string]keyring.OwnKey{
		"bundle of another type": {ID: first.KeyID, Type: stored.Type, Wrapped: stored.Wrapped, Bundle: o.retyped(t, *first)},
		"another private key":    {ID: first.KeyID, Type: stored.Type, Wrapped: o.wrapAnother(t, first.KeyID), Bundle: stored.Bundle},
	} {
		k.DeleteAfter = stored.DeleteAfter
		o.store.keys[first.KeyID] = k
		if _, err := keyring.OpenOwn(t.Context(), o.config); err == nil {
			t.Errorf("%s: OpenOwn succeeds, want an error", name)
		}
	}
	o.store.keys[first.KeyID] = stored
	o.config.Signer = newSigner(t, 8)
	if _, err := keyring.OpenOwn(t.Context(), o.config); err == nil {
		t.Error("another VASP's keys: OpenOwn succeeds, want an error")
	}
}

// retyped signs the same key as one of another type.
func (o *owner) retyped(t *testing.T, b identity.Bundle) []byte {
	t.Helper()
	b.Type = identity.PerAddress
	return sign(t, o.config.Signer, b)
}

// wrapAnother wraps a fresh key as if it were the one with the id.
func (o *owner) wrapAnother(t *testing.T, id identity.KeyID) []byte {
	t.Helper()
	k, err := envelope.GenerateKey(identity.SuiteX25519)
	if err != nil {
		t.Fatal(err)
	}
	place := append([]byte("\x00\x17vasp-enclave/v1/own-key"), byte(identity.PerVASP))
	wrapped, err := k.Wrap(o.config.AEAD, append(place, id[:]...))
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

func TestNewestKeyIsHandedOutAfterARestart(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	perVASP(t, own)
	o.advance(20 * time.Hour)
	newest := perVASP(t, own)
	for _, fall := range []bool{false, true} {
		o.store.fall = fall
		if b := perVASP(t, o.open(t)); b.KeyID != newest.KeyID || o.store.puts != 2 {
			t.Errorf("loaded newest first = %t: another key than the newest, or a third", fall)
		}
	}
}

func TestStrangersAndPrintingGiveNothing(t *testing.T) {
	own := newOwner(t).open(t)
	if _, err := own.Private(identity.KeyID{1}); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("Private of a stranger = %v, want ErrUnknownKey", err)
	}
	if got := fmt.Sprintf("%v %+v %#v", own, own, own); strings.Count(got, "[redacted]") != 3 {
		t.Errorf("Own prints %s", got)
	}
}

func BenchmarkPerVASP(b *testing.B) {
	o := newOwner(b)
	own, err := keyring.OpenOwn(b.Context(), o.config)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := own.PerVASP(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
