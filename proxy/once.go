package proxy

import (
	"sync"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// onceLimit is how many account checks of one counterparty are remembered,
// more than its budget lets it make while an envelope lives.
const onceLimit = 1 << 14

// once remembers which envelopes of account checks were answered, as long as
// they live: their sender seals a new one for each try, so one that comes
// twice was replayed, and would ask our backend and use up its sender's budget
// (attack K4). Verifications have their receipts instead, which outlive a
// restart.
//
// Only authentic envelopes get in, and each counterparty has its own room.
type once struct {
	mu sync.Mutex
	of map[identity.VASPID]map[[32]byte]time.Time // until when
}

// add remembers an envelope until it ends, or says why it must be refused.
func (o *once) add(from identity.VASPID, hash [32]byte, until, now time.Time) (reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.of = make(map[identity.VASPID]map[[32]byte]time.Time)
	}
	seen := o.of[from]
	if seen == nil {
		seen = make(map[[32]byte]time.Time)
		o.of[from] = seen
	}
	if _, again := seen[hash]; again {
		return "replay"
	}
	if len(seen) >= onceLimit {
		forget(seen, now)
	}
	if len(seen) >= onceLimit { // rather refuse than forget
		return "flood"
	}
	seen[hash] = until
	return ""
}

func forget(seen map[[32]byte]time.Time, now time.Time) {
	for hash, until := range seen {
		if until.Before(now) {
			delete(seen, hash)
		}
	}
}
