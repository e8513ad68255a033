package allow

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Unsafe, in front of a range, lets it be wider than a List otherwise takes.
const Unsafe = "unsafe:"

// The widest ranges that need no Unsafe in front of them: one site's worth.
const (
	widestV4 = 24
	widestV6 = 56
)

// maxText bounds a list's text, in bytes.
const maxText = 1 << 20

// ParseList reads IPv4 and IPv6 addresses and CIDR ranges, separated by
// commas, blanks or line breaks; # begins a comment that ends with its line.
// A text without entries is a List of nobody.
//
// Refused are names, ports, zones, ranges with host bits set, and ranges wider
// than /24 (IPv4) or /56 (IPv6) unless written as unsafe:10.0.0.0/8. The error
// joins one line for each bad entry, which says what to write instead.
func ParseList(text string) (*List, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("longer than %d bytes: use ranges", maxText)
	}
	list := new(List)
	var errs []error
	for n, line := range lines(text) {
		for _, entry := range entries(line) {
			network, err := parseEntry(entry)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s%s: %w", place(text, n), shorten(entry), err))
				continue
			}
			list.addNetwork(network)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return list, nil
}

// ParseCallers is ParseList for a list of callers that may come through
// proxies: no proxy may be on it. Proxies may be nil.
func ParseCallers(text string, proxies *List) (*List, error) {
	list, err := ParseList(text)
	if err != nil {
		return nil, err
	}
	if entry := list.Overlap(proxies); entry != "" {
		return nil, fmt.Errorf("%s: holds a trusted proxy, and would let in everybody who comes through it; give the callers' own addresses here and the proxy's there", shorten(entry))
	}
	return list, nil
}

func lines(text string) []string { return strings.SplitAfter(text, "\n") }

// place names a line of a text that has several.
func place(text string, line int) string {
	if !strings.Contains(strings.TrimSpace(text), "\n") {
		return ""
	}
	return fmt.Sprintf("line %d, ", line+1)
}

func entries(line string) []string {
	line, _, _ = strings.Cut(line, "#")
	return strings.FieldsFunc(line, isSeparator)
}

func isSeparator(r rune) bool {
	return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r'
}

// parseEntry reads one address or range; an address is a range of one.
func parseEntry(entry string) (netip.Prefix, error) {
	text, unsafe := strings.CutPrefix(entry, Unsafe)
	if strings.Contains(text, "/") && !strings.Contains(text, "://") {
		return parseRange(text, unsafe)
	}
	return parseAddress(text)
}

func parseAddress(text string) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return netip.Prefix{}, explain(text)
	case addr.Zone() != "":
		return netip.Prefix{}, errZone
	}
	addr = addr.Unmap()
	if addr.IsUnspecified() || addr.IsMulticast() {
		return netip.Prefix{}, errors.New("no caller has this address; give the address that connections come from")
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

var errZone = errors.New("zones are refused, they name an interface of this machine; give the address without % and what follows")

func parseRange(text string, unsafe bool) (netip.Prefix, error) {
	address, bits, _ := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return netip.Prefix{}, explain(address)
	case addr.Zone() != "":
		return netip.Prefix{}, errZone
	}
	length, err := strconv.Atoi(bits)
	if err != nil || strconv.Itoa(length) != bits || length < 0 || length > addr.BitLen() {
		return netip.Prefix{}, fmt.Errorf("the length after / must be a number from 0 to %d", addr.BitLen())
	}
	return checkRange(addr, length, unsafe)
}

func checkRange(addr netip.Addr, length int, unsafe bool) (netip.Prefix, error) {
	if addr.Is4In6() {
		if length < 96 {
			return netip.Prefix{}, errors.New("this range mixes IPv4 and IPv6; give each its own range")
		}
		addr, length = addr.Unmap(), length-96
	}
	network := netip.PrefixFrom(addr, length)
	if network.Masked() != network {
		return netip.Prefix{}, fmt.Errorf("bits after the length are set; did you mean the range %s or the address %s?", network.Masked(), addr)
	}
	if isWide(network) && !unsafe {
		return netip.Prefix{}, fmt.Errorf("wider than /%d lets strangers reach the TLS handshake; give smaller ranges, or write %s%s if you mean it", widest(network), Unsafe, network)
	}
	return network, nil
}

func isWide(network netip.Prefix) bool { return network.Bits() < widest(network) }

func widest(network netip.Prefix) int {
	if network.Addr().Is4() {
		return widestV4
	}
	return widestV6
}

// spell is the form that ParseList takes.
func spell(network netip.Prefix) string {
	if isWide(network) {
		return Unsafe + network.String()
	}
	return network.String()
}

// explain says what is wrong with a text that is no address.
func explain(text string) error {
	host, _, err := net.SplitHostPort(text)
	switch {
	case strings.Contains(text, "://"):
		return errors.New("this is a URL; give the IP address alone, without scheme, port and path")
	case strings.ContainsAny(text, "*-_") && !strings.ContainsAny(text, "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ"):
		return errors.New("patterns and spans are refused; give IP addresses or CIDR ranges such as 192.0.2.0/28")
	case err == nil && isAddress(host), isAddress(strings.Trim(text, "[]")):
		return errors.New("give the IP address alone, without brackets and port")
	case isNumbers(text):
		return errors.New("not an IPv4 address: four numbers from 0 to 255 without leading zeros, as in 192.0.2.10")
	case strings.Count(text, ":") > 1:
		return errors.New("not an IPv6 address; write it as in 2001:db8::10")
	}
	return errDomain
}

var errDomain = errors.New("domain names are refused: whoever answers DNS would decide who may connect; give the IP addresses that the name stands for, such as 192.0.2.10, or ranges such as 192.0.2.0/28")

func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// isNumbers tells whether text is made of digits and dots only.
func isNumbers(text string) bool { return strings.Trim(text, "0123456789.") == "" }

// shorten makes an entry fit for an error: quoted, and not longer than a
// domain name.
func shorten(entry string) string {
	const most = 80
	if len(entry) > most {
		return strconv.Quote(entry[:most]) + "..."
	}
	return strconv.Quote(entry)
}
