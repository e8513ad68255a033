package keyring_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

// allowed counts how many of n requests a budget lets through.
func allowed(b *keyring.Budget, peer identity.VASPID, t identity.KeyType, n int) int {
	count := 0
	for range n {
		if b.Allow(peer, t) {
			count++
		}
	}
	return count
}

// Attack K9: a peer that asks without end is held to its budget; another peer
// and another type are not touched by it.
func TestBudgetIsPerPeerAndType(t *testing.T) {
	c := newClock()
	b := keyring.NewBudget(map[identity.KeyType]keyring.Limit{
		identity.PerAddress: {PerSecond: 2, Burst: 10}, identity.PerVerification: {PerSecond: 1, Burst: 5},
	}, c.now)
	if n := allowed(b, 9, identity.PerAddress, 1000); n != 10 {
		t.Errorf("at once: %d allowed, want the burst of 10", n)
	}
	if n := allowed(b, 10, identity.PerAddress, 1000); n != 10 {
		t.Errorf("another peer: %d allowed, want 10", n)
	}
	if n := allowed(b, 9, identity.PerVerification, 1000); n != 5 {
		t.Errorf("another type: %d allowed, want 5", n)
	}
	if n := allowed(b, 9, identity.PerVASP, 10) + allowed(b, 9, 0, 10) + allowed(b, 9, 4, 10); n != 0 {
		t.Errorf("types without a limit: %d allowed, want none", n)
	}
	c.advance(3 * time.Second)
	if n := allowed(b, 9, identity.PerAddress, 1000); n != 6 {
		t.Errorf("3 seconds later: %d allowed, want 6", n)
	}
	c.advance(-time.Hour)
	if n := allowed(b, 9, identity.PerAddress, 1000); n != 0 {
		t.Errorf("clock set back: %d allowed, want none", n)
	}
	c.advance(24 * time.Hour)
	if n := allowed(b, 9, identity.PerAddress, 1000); n != 10 {
		t.Errorf("a day later: %d allowed, want the burst of 10", n)
	}
}

// Target 28: 100,000 key requests in a minute.
func TestDefaultBudgetBoundsADrain(t *testing.T) {
	for kind, l := range keyring.DefaultLimits() {
		c := newClock()
		b := keyring.NewBudget(nil, c.now)
		n := 0
		for range 1000 {
			n += allowed(b, 9, kind, 100)
			c.advance(60 * time.Millisecond)
		}
		if most := l.Burst + int(60*l.PerSecond); n > most || n < most-l.Burst {
			t.Errorf("%s: %d of 100,000 allowed in a minute, want at most %d", kind, n, most)
		}
	}
}

// Nobody can make a budget remember without bound.
func TestBudgetForgetsWhoWasSilentTheLongest(t *testing.T) {
	c := newClock()
	b := keyring.NewBudget(map[identity.KeyType]keyring.Limit{identity.PerVASP: {PerSecond: 1, Burst: 2}}, c.now)
	allowed(b, 1, identity.PerVASP, 2)
	allowed(b, 2, identity.PerVASP, 2)
	for n := range identity.VASPID(4094) {
		b.Allow(1000+n, identity.PerVASP)
	}
	if b.Allow(1, identity.PerVASP) {
		t.Error("forgotten among 4,096 peers")
	}
	b.Allow(999, identity.PerVASP)
	if !b.Allow(2, identity.PerVASP) {
		t.Error("the peer that was silent the longest is still remembered among 4,097")
	}
	if b.Allow(1, identity.PerVASP) {
		t.Error("a peer that was just heard of is forgotten")
	}
}

func TestBudgetHoldsInACrowd(t *testing.T) {
	b := keyring.NewBudget(map[identity.KeyType]keyring.Limit{identity.PerVASP: {PerSecond: 1, Burst: 50}}, newClock().now)
	var count atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { count.Add(int64(allowed(b, 9, identity.PerVASP, 100))) })
	}
	all.Wait()
	if count.Load() != 50 {
		t.Errorf("%d allowed, want 50", count.Load())
	}
}
