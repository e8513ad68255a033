package redis

import (
	"sync"
	"time"
)

// How long Redis is left alone after a failure: at first, and at most. Each
// failed trial doubles it.
const (
	coolFirst = time.Second
	coolMost  = 30 * time.Second
)

// verdict is what a call told about Redis.
type verdict int

const (
	healthy verdict = iota
	broken
	unknown
)

// breaker keeps calls away from a Redis that failed. When the time is up one
// call is let through as a trial; the others are kept away until it ended.
type breaker struct {
	now func() time.Time

	mu    sync.Mutex
	cool  time.Duration // zero while Redis is believed healthy
	until time.Time
	trial bool   // under way
	round uint64 // rises with each change, so that late ends of calls count no more
}

// enter says whether a call may be made, and in which round.
func (b *breaker) enter() (round uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cool == 0 {
		return b.round, true
	}
	if b.trial || b.now().Before(b.until) {
		return 0, false
	}
	b.trial = true
	return b.round, true
}

// leave reports how a call ended, and says whether Redis has recovered by it.
func (b *breaker) leave(round uint64, v verdict) (recovered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if round != b.round {
		return false
	}
	b.trial = false
	switch {
	case v == broken:
		b.cool = max(coolFirst, min(2*b.cool, coolMost))
		b.until = b.now().Add(b.cool)
	case v == healthy && b.cool > 0:
		b.cool, recovered = 0, true
	default:
		return false
	}
	b.round++
	return recovered
}
