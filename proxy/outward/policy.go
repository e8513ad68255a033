package outward

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Class is a set of kinds of addresses. Zero allows none.
type Class uint8

// Each address has one kind, or is never dialled: link-local ones, where
// clouds serve credentials, other metadata addresses, multicast, broadcast and
// unspecified ones (attack V2). An IPv6 address that wraps an IPv4 one (mapped,
// NAT64, 6to4, Teredo, ISATAP and the like) counts as the worse of the two.
const (
	Global   Class = 1 << iota // reachable from anywhere
	Reserved                   // documentation, benchmarks, translators, not assigned
	Private                    // RFC 1918 and 6598, unique and site-local IPv6
	Loopback                   // this machine

	never Class = 0
)

// Configured is for URLs that the operator wrote down: any address that a
// service may have.
const Configured = Global | Reserved | Private | Loopback

// ErrRefused is an address that may not be dialled.
var ErrRefused = errors.New("refused address")

// Judge says why an address may not be dialled; nil when it may.
func (allowed Class) Judge(a netip.Addr) error {
	switch kind := classify(a); {
	case kind == never:
		return fmt.Errorf("%w: a link-local, multicast, unspecified or metadata address is never called", ErrRefused)
	case allowed&kind != 0:
		return nil
	default:
		return fmt.Errorf("%w: a %s address may not be called here", ErrRefused, kind)
	}
}

// String names a single kind.
func (c Class) String() string {
	switch c {
	case Global:
		return "public"
	case Reserved:
		return "reserved"
	case Private:
		return "private"
	case Loopback:
		return "loopback"
	}
	return "mixed"
}

// ThisMachine says whether the host of a URL is this machine by its very text: a
// loopback address or localhost, wherever that leads, which is judged when it
// is dialled.
func ThisMachine(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// lookupTimeout bounds JudgeHost.
const lookupTimeout = 2 * time.Second

// JudgeHost says why a host must not be taken for a target: it is, or resolves
// to, an address that may not be dialled. One such among several is enough. A
// name that does not resolve now passes, for whether it may be dialled is
// judged again when it is. Nil resolver: the system's.
func (allowed Class) JudgeHost(ctx context.Context, resolver *net.Resolver, host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		return allowed.Judge(a)
	}
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		if err := allowed.Judge(a); err != nil {
			return err
		}
	}
	return nil
}

// classify is an address's kind, or never.
func classify(a netip.Addr) Class {
	if !a.IsValid() {
		return never
	}
	a = a.Unmap().WithZone("")
	kind := look(a)
	if a.Is4() {
		return kind
	}
	for _, inner := range wrapped(a) {
		kind = worse(kind, look(inner))
	}
	return kind
}

func worse(a, b Class) Class {
	if a == never || b == never {
		return never
	}
	return max(a, b) // the constants are in that order
}

// look finds the first block that an address lies in.
func look(a netip.Addr) Class {
	list := blocks6
	if a.Is4() {
		list = blocks4
	}
	for _, b := range list {
		if b.prefix.Contains(a) {
			return b.kind
		}
	}
	return Reserved
}

type block struct {
	prefix netip.Prefix
	kind   Class
}

func blocks(kind Class, prefixes ...string) (list []block) {
	for _, p := range prefixes {
		list = append(list, block{netip.MustParsePrefix(p), kind})
	}
	return list
}

func join(lists ...[]block) (all []block) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// The blocks of IANA's special-purpose address registries (RFC 6890), and the
// addresses at which clouds serve credentials; the first that fits counts.
var (
	blocks4 = join(
		blocks(never, "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",
			"100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32"),
		blocks(Loopback, "127.0.0.0/8"),
		blocks(Private, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
		blocks(Reserved, "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
		blocks(Global, "0.0.0.0/0"),
	)
	blocks6 = join(
		blocks(never, "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128", "fd00:42::42/128"),
		blocks(Loopback, "::1/128"),
		blocks(Private, "fc00::/7", "fec0::/10", "64:ff9b:1::/48"),
		blocks(Global, "64:ff9b::/96"), // as what it wraps
		blocks(Reserved, "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
		blocks(Global, "2000::/3"),
	)
)

var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291, given up
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
	isatap     = [...]uint32{0x00005efe, 0x02005efe}      // RFC 5214, bits 64 to 95
)

// wrapped lists the IPv4 addresses that a packet to an IPv6 address may end
// up at.
func wrapped(a netip.Addr) (inner []netip.Addr) {
	b := a.As16()
	take := func(i, j, k, l int) { inner = append(inner, netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]})) }
	takeSome := func(i, j, k, l int) {
		if b[i]|b[j]|b[k]|b[l] != 0 {
			take(i, j, k, l)
		}
	}
	middle := binary.BigEndian.Uint32(b[8:])
	switch {
	case compatible.Contains(a) && a != netip.IPv6Unspecified() && a != netip.IPv6Loopback(), translated.Contains(a), nat64.Contains(a):
		take(12, 13, 14, 15)
	case localNAT64.Contains(a): // a /48 has the address around the eighth byte, a longer one at the end
		takeSome(6, 7, 9, 10)
		takeSome(12, 13, 14, 15)
	case sixToFour.Contains(a):
		take(2, 3, 4, 5)
	case teredo.Contains(a):
		take(4, 5, 6, 7)
		for i := 12; i < 16; i++ {
			b[i] = ^b[i]
		}
		take(12, 13, 14, 15)
	}
	if middle == isatap[0] || middle == isatap[1] {
		take(12, 13, 14, 15)
	}
	return inner
}
