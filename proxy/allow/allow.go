// Package allow says which addresses may connect.
//
// A List holds addresses and address ranges, never names: what a name means is
// decided by whoever answers DNS, at the moment of asking (contract 9.5). An
// address is a filter and no identity (attack N2), so a caller on the list
// still has to sign its requests.
package allow

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// List is a set of IP addresses. It does not change once made, may be used
// concurrently, and its zero value and nil hold nobody.
type List struct {
	hosts    map[netip.Addr]struct{}
	networks []netip.Prefix
}

// Contains tells whether a caller at addr may connect. IPv4 written as IPv6
// (::ffff:192.0.2.1) is the IPv4 address it stands for; an address with a zone
// is on no list (threats 1.6.9).
func (l *List) Contains(addr netip.Addr) bool {
	if l == nil || !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	if _, ok := l.hosts[addr]; ok {
		return true
	}
	for _, network := range l.networks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// Len is the number of entries, each address or range counted once.
func (l *List) Len() int {
	if l == nil {
		return 0
	}
	return len(l.hosts) + len(l.networks)
}

// String is the entries in the form that ParseList reads, sorted.
func (l *List) String() string {
	if l == nil {
		return ""
	}
	var entries []string
	for host := range l.hosts {
		entries = append(entries, host.String())
	}
	for _, network := range l.networks {
		entries = append(entries, spell(network))
	}
	slices.Sort(entries)
	return strings.Join(entries, ",")
}

// Union is the list of everybody who is on one of the lists.
func Union(lists ...*List) *List {
	all := new(List)
	for _, l := range lists {
		if l == nil {
			continue
		}
		for host := range l.hosts {
			all.addHost(host)
		}
		for _, network := range l.networks {
			all.addNetwork(network)
		}
	}
	return all
}

// Overlap is an entry of l that shares an address with others, in the form
// that ParseList reads; empty when there is none.
func (l *List) Overlap(others *List) string {
	if l == nil || others == nil {
		return ""
	}
	for host := range l.hosts {
		if others.Contains(host) {
			return host.String()
		}
	}
	for _, network := range l.networks {
		if others.overlaps(network) {
			return spell(network)
		}
	}
	return ""
}

func (l *List) overlaps(network netip.Prefix) bool {
	for host := range l.hosts {
		if network.Contains(host) {
			return true
		}
	}
	return slices.ContainsFunc(l.networks, network.Overlaps)
}

func (l *List) addHost(addr netip.Addr) {
	if l.hosts == nil {
		l.hosts = make(map[netip.Addr]struct{})
	}
	l.hosts[addr] = struct{}{}
}

func (l *List) addNetwork(network netip.Prefix) {
	if network.IsSingleIP() {
		l.addHost(network.Addr())
		return
	}
	if !slices.Contains(l.networks, network) {
		l.networks = append(l.networks, network)
	}
}

// Current is a List that can be exchanged while it is in use. Its zero value
// holds nobody. Methods may be called concurrently.
type Current struct{ list atomic.Pointer[List] }

// NewCurrent starts with l.
func NewCurrent(l *List) *Current {
	c := new(Current)
	c.Swap(l)
	return c
}

// Load reads text as ParseList does and makes it the list from now on. An
// error names the entries and what to write instead, and leaves the list of
// before in force; an entry that shares an address with proxies is one, since
// everybody comes from a proxy's address.
func (c *Current) Load(text string, proxies *List) error {
	list, err := ParseCallers(text, proxies)
	if err == nil {
		c.Swap(list)
	}
	return err
}

// Len is the number of entries of the list of this moment.
func (c *Current) Len() int { return c.list.Load().Len() }

// Swap makes l the list from now on and returns the one before. Whoever is
// connected already stays connected.
func (c *Current) Swap(l *List) *List { return c.list.Swap(l) }

// Contains asks the list of this moment.
func (c *Current) Contains(addr netip.Addr) bool { return c.list.Load().Contains(addr) }
