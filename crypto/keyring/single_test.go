package keyring_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

func TestPerVerificationKeyIsFreshAndInMemoryOnly(t *testing.T) {
	for _, suite := range suites {
		o := newOwner(t)
		o.config.Suite = suite
		own := o.open(t)
		a, b := perVerification(t, own, 9), perVerification(t, own, 9)
		if a.Type != identity.PerVerification || a.Suite != suite || a.Audience != 9 || a.Scope != [32]byte{} || a.Epoch != 0 ||
			a.Nonce != [32]byte{0xbb} || a.NotAfter.Sub(a.NotBefore) != 15*time.Minute {
			t.Errorf("%s: bundle = %+v", suite, a)
		}
		if a.KeyID == b.KeyID || b.Serial <= a.Serial {
			t.Errorf("%s: two requests got one key, or serial %d after %d", suite, b.Serial, a.Serial)
		}
		if len(o.store.keys) != 0 || o.opens(t, o.open(t), a, 9) {
			t.Errorf("%s: %d keys stored, or one that outlives a restart", suite, len(o.store.keys))
		}
		if _, err := own.PerVerification(0, [32]byte{}); err == nil {
			t.Errorf("%s: a key for nobody was made", suite)
		}
	}
}

// Invariant: a consumed one-time key never opens anything again.
func TestConsumedKeyIsGone(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	a, b := perVerification(t, own, 9), perVerification(t, own, 9)
	for range 2 { // opening is not consuming
		if !o.opens(t, own, a, 9) {
			t.Error("before Consume the key does not open")
		}
	}
	if own.Consume(useOf(a, 10)) || !o.opens(t, own, a, 9) {
		t.Error("another peer's word consumed the key")
	}
	if !own.Consume(useOf(a, 9)) {
		t.Error("Consume of a usable key = false")
	}
	if own.Consume(useOf(a, 9)) || own.Consume(keyring.Use{ID: identity.KeyID{1}, Type: identity.PerVerification, Peer: 9}) {
		t.Error("Consume of a consumed or unknown key = true")
	}
	if o.opens(t, own, a, 9) {
		t.Error("a consumed key opens")
	}
	if !o.opens(t, own, b, 9) {
		t.Error("Consume took another key along")
	}
}

// Consume is for keys that peers asked us for; others it leaves alone.
func TestConsumeTakesSingleUseKeysOnly(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	for name, b := range handedOut(t, own) {
		if consumed := own.Consume(useOf(b, 9)); consumed != (name == "PerVerification") || o.opens(t, own, b, 9) == consumed {
			t.Errorf("%s: Consume = %t", name, consumed)
		}
	}
}

// Of many who consume one key at once, one is told that it had it.
func TestOneConsumerWins(t *testing.T) {
	own := newOwner(t).open(t)
	for range 20 {
		b := perVerification(t, own, 9)
		var won atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := own.PrivateFor(useOf(b, 9)); err == nil && own.Consume(useOf(b, 9)) {
					won.Add(1)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d consumers won, want 1", won.Load())
		}
		if _, err := own.PrivateFor(useOf(b, 9)); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("after Consume: PrivateFor = %v", err)
		}
	}
}

// Attack K9: a peer that drains keys gets 1,000 and then an error, never a
// key of another type; others are served. What it uses or lets end comes back.
func TestOnePeerGetsSoManyKeys(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	first := perVerification(t, own, 9)
	for range 999 {
		perVerification(t, own, 9)
	}
	for range 3 {
		if b, err := own.PerVerification(9, [32]byte{}); !errors.Is(err, keyring.ErrExhausted) || b != nil {
			t.Fatalf("key 1001: PerVerification = %x, %v", b, err)
		}
	}
	if !o.opens(t, own, perVerification(t, own, 10), 10) {
		t.Error("another peer's key does not open")
	}
	if !o.opens(t, own, first, 9) || !own.Consume(useOf(first, 9)) {
		t.Error("the first key was lost")
	}
	perVerification(t, own, 9)
	if _, err := own.PerVerification(9, [32]byte{}); !errors.Is(err, keyring.ErrExhausted) {
		t.Errorf("one consumed, two made: PerVerification = %v", err)
	}
	o.advance(15*time.Minute + life + skew)
	for range 1000 {
		perVerification(t, own, 9)
	}
}

// The same for all peers together.
func TestAllPeersGetSoManyKeys(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	for n := range 20_000 {
		if _, err := own.PerVerification(identity.VASPID(n%100+1), [32]byte{}); err != nil {
			t.Fatalf("key %d: %v", n+1, err)
		}
	}
	if _, err := own.PerVerification(1000, [32]byte{}); !errors.Is(err, keyring.ErrExhausted) {
		t.Errorf("key 20001: PerVerification = %v", err)
	}
	o.advance(15*time.Minute + life + skew)
	perVerification(t, own, 1000)
}

// Who asks at once gets no more than who asks one after the other.
func TestLimitHoldsInACrowd(t *testing.T) {
	own := newOwner(t).open(t)
	var made atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 60 {
				if _, err := own.PerVerification(9, [32]byte{}); err == nil {
					made.Add(1)
				} else if !errors.Is(err, keyring.ErrExhausted) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if made.Load() != 1000 {
		t.Errorf("%d keys made, want 1000", made.Load())
	}
}
