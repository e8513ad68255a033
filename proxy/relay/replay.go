package relay

import "sync"

// defaultReplayLimit is how many nonces of one key are remembered. A request
// is remembered for a minute (its age at most), so this allows 4,000 a second.
const defaultReplayLimit = 1 << 18

// nonce is as much of a request's nonce as tells requests apart: 128 random
// bits. Whoever could choose two alike holds the key and refuses only itself.
type nonce [16]byte

// nonces remembers the requests of one key that were accepted, for as long as
// their time of creation would be. Only requests with a right signature get in
// here, so a stranger cannot fill it, and one member cannot fill another's.
type nonces struct {
	mu      sync.Mutex
	limit   int
	count   int
	floor   int64 // created before this is too old, whatever the clock says now
	seconds map[int64]map[nonce]struct{}
}

func newNonces(limit int) *nonces {
	return &nonces{limit: limit, seconds: make(map[int64]map[nonce]struct{})}
}

// add remembers a nonce, or says why its request must be refused. Times are
// Unix seconds.
func (n *nonces) add(id nonce, created, now int64) reason {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(now)
	second := n.seconds[created]
	switch _, seen := second[id]; {
	case seen:
		return reasonReplay
	case created < n.floor: // forgotten already: the clock was set back
		return reasonStale
	case n.count >= n.limit: // rather refuse than forget
		return reasonFull
	}
	if second == nil {
		second = make(map[nonce]struct{})
		n.seconds[created] = second
	}
	second[id] = struct{}{}
	n.count++
	return ""
}

// forget drops what is too old to be accepted. Called with mu held.
func (n *nonces) forget(now int64) {
	floor := now - int64(Skew.Seconds())
	if floor <= n.floor {
		return
	}
	n.floor = floor
	for created, second := range n.seconds {
		if created < floor {
			n.count -= len(second)
			delete(n.seconds, created)
		}
	}
}
