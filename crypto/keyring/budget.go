package keyring

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Limit is how many keys one peer may ask for: PerSecond on average, and
// Burst at once.
type Limit struct {
	PerSecond float64
	Burst     int
}

// DefaultLimits let a busy peer through and keep one that asks without end
// from more than a small part of one core: a PerVerification key costs a
// fifth of a millisecond, a PerVasp key next to nothing.
func DefaultLimits() map[identity.KeyType]Limit {
	return map[identity.KeyType]Limit{
		identity.PerVASP:         {PerSecond: 5, Burst: 100},
		identity.PerAddress:      {PerSecond: 100, Burst: 1000},
		identity.PerVerification: {PerSecond: 300, Burst: 1000},
	}
}

// maxBudgets is of how many peers a Budget keeps count. One that was not
// heard of for the longest time is forgotten, and starts anew.
const maxBudgets = 4096

// Budget bounds how many keys each peer may ask for, by type (attack K9). It
// is asked after the peer's signature was checked and before a key is made; see
// Left for before.
// It is safe for concurrent use.
type Budget struct {
	limits map[identity.KeyType]Limit
	now    func() time.Time

	mu    sync.Mutex
	peers *recent[identity.VASPID, map[identity.KeyType]*rate.Limiter]
}

// NewBudget makes a Budget with the whole burst left for everybody. nil
// limits are DefaultLimits; a type without a limit is never allowed.
func NewBudget(limits map[identity.KeyType]Limit, now func() time.Time) *Budget {
	if limits == nil {
		limits = DefaultLimits()
	}
	return &Budget{limits: limits, now: now, peers: newRecent[identity.VASPID, map[identity.KeyType]*rate.Limiter](maxBudgets)}
}

// Allow says whether a peer may have one more key of a type now, and counts
// it if so.
func (b *Budget) Allow(peer identity.VASPID, t identity.KeyType) bool {
	l := b.of(peer)[t]
	return l != nil && l.AllowN(b.now(), 1)
}

// Left says whether a peer may have one more key of a type now, without
// counting it; of a peer never heard of, that it may, without remembering it.
// So it may be asked before the peer's signature is checked: only what was
// authentic has used a budget up, and then the authentic is refused as well.
func (b *Budget) Left(peer identity.VASPID, t identity.KeyType) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	buckets, known := b.peers.get(peer)
	if !known {
		return true
	}
	l := buckets[t]
	return l != nil && l.TokensAt(b.now()) >= 1
}

// of gives a peer's buckets, which are full when the peer is new.
func (b *Budget) of(peer identity.VASPID) map[identity.KeyType]*rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	buckets, known := b.peers.get(peer)
	if !known {
		buckets = make(map[identity.KeyType]*rate.Limiter, len(b.limits))
		for t, l := range b.limits {
			buckets[t] = rate.NewLimiter(rate.Limit(l.PerSecond), l.Burst)
		}
		b.peers.put(peer, buckets)
	}
	return buckets
}
