package relay

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How many requests an address may make that no key has signed, before they
// are answered 429 and their connection is closed (attack N5). What is signed
// passes always: a member and an attacker may share an address (attack N2).
const (
	unsignedPerSecond = 20
	unsignedAtOnce    = 1000

	// unsignedSources is how many addresses are told apart. Only addresses of
	// an allowlist come so far.
	unsignedSources = 4096
)

// patience is what each address has left of it. It may be asked concurrently.
type patience struct {
	now func() time.Time

	mu   sync.Mutex
	of   map[netip.Prefix]*rate.Limiter
	rest *rate.Limiter // of those that came when the memory was full
}

func newPatience(now func() time.Time) *patience {
	return &patience{now: now, of: make(map[netip.Prefix]*rate.Limiter), rest: rate.NewLimiter(unsignedPerSecond, unsignedAtOnce)}
}

// take says whether the caller may be told what is wrong once more.
func (p *patience) take(remote string) bool {
	now := p.now()
	p.mu.Lock()
	found := p.find(sourceOf(remote), now)
	p.mu.Unlock()
	return found.AllowN(now, 1)
}

func (p *patience) find(source netip.Prefix, now time.Time) *rate.Limiter {
	if found, ok := p.of[source]; ok {
		return found
	}
	if len(p.of) >= unsignedSources {
		for other, l := range p.of {
			if l.TokensAt(now) >= unsignedAtOnce {
				delete(p.of, other)
			}
		}
	}
	if len(p.of) >= unsignedSources {
		return p.rest
	}
	l := rate.NewLimiter(unsignedPerSecond, unsignedAtOnce)
	p.of[source] = l
	return l
}

// sourceOf is an address, or the network of an IPv6 one: whoever has one of
// those has all of its /64.
func sourceOf(remote string) netip.Prefix {
	from, _ := netip.ParseAddrPort(remote)
	addr := from.Addr().Unmap().WithZone("")
	if addr.Is6() {
		network, _ := addr.Prefix(64)
		return network
	}
	return netip.PrefixFrom(addr, addr.BitLen())
}
