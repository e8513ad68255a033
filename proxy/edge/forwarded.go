package edge

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
)

// Bounds of a forwarding header: more hops than any path to us has.
const (
	maxHops         = 32
	maxForwardedLen = 2048 // bytes
)

// errForwarded has no detail: a caller may have written what is wrong, and it
// must not reach a log.
var errForwarded = errors.New("edge: the forwarding header names no caller")

// forwardedFor is the caller that the header called name tells of: walked from
// the right, past the hops that are proxies, the first other one (threats
// 1.6.9). Everything left of that is the caller's own word and counts for
// nothing, but must be well-formed.
//
// A name that ends in Forwarded-For holds a list of addresses, Forwarded the
// elements of RFC 7239, any other name one address. Refused are a missing
// header and one on several lines (each hop is to extend the one there is),
// and a list in which anything is no plain address.
func forwardedFor(name string, header http.Header, proxies Addresses) (netip.Addr, error) {
	lines := header[http.CanonicalHeaderKey(name)]
	if len(lines) != 1 || len(lines[0]) > maxForwardedLen {
		return netip.Addr{}, errForwarded
	}
	hops, ok := parseHops(name, lines[0])
	if !ok {
		return netip.Addr{}, errForwarded
	}
	for i := len(hops) - 1; i >= 0; i-- {
		if !proxies.Contains(hops[i]) {
			return hops[i], nil
		}
	}
	return netip.Addr{}, errForwarded
}

func parseHops(name, line string) ([]netip.Addr, bool) {
	name = strings.ToLower(name)
	switch {
	case name == "forwarded":
		return parseEach(line, parseElement)
	case strings.HasSuffix(name, "forwarded-for"):
		return parseEach(line, parseHop)
	}
	hop, ok := parseHop(line)
	return []netip.Addr{hop}, ok
}

// parseEach reads a list separated by commas. No quoted string that we take
// holds a comma, so that a list cut inside of one has elements that we refuse.
func parseEach(line string, parse func(string) (netip.Addr, bool)) ([]netip.Addr, bool) {
	if strings.Count(line, ",") >= maxHops {
		return nil, false
	}
	var hops []netip.Addr
	for element := range strings.SplitSeq(line, ",") {
		hop, ok := parse(strings.Trim(element, " \t"))
		if !ok {
			return nil, false
		}
		hops = append(hops, hop)
	}
	return hops, true
}

// parseHop reads an address as proxies write it: no port, no brackets, no zone.
func parseHop(text string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(text)
	if err != nil || !isCaller(addr) {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

// parseElement reads one forwarded-element of RFC 7239, section 4, and returns
// the node of its for parameter, of which there must be exactly one.
// Parameters that say other things must look like parameters.
func parseElement(element string) (hop netip.Addr, ok bool) {
	seen := make(map[string]bool)
	for pair := range strings.SplitSeq(element, ";") {
		name, value, found := strings.Cut(pair, "=")
		name = strings.ToLower(name)
		if !found || !isToken(name) || seen[name] {
			return netip.Addr{}, false
		}
		seen[name] = true
		value, quoted := unquote(value)
		if !quoted && !isToken(value) {
			return netip.Addr{}, false
		}
		if name != "for" {
			continue
		}
		if hop, ok = parseNode(value, quoted); !ok {
			return netip.Addr{}, false
		}
	}
	return hop, seen["for"]
}

// unquote takes the quotes off a quoted-string. What is escaped in one is no
// address, and stays as it is.
func unquote(value string) (text string, quoted bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return value, false
	}
	text = value[1 : len(value)-1]
	if strings.ContainsAny(text, "\"\\") {
		return value, false
	}
	return text, true
}

// parseNode reads a node of RFC 7239, section 6: IPv4 with or without a port,
// IPv6 in brackets, quoted. The names unknown and _hidden name nobody.
func parseNode(text string, quoted bool) (netip.Addr, bool) {
	if strings.HasPrefix(text, "[") {
		if host, ok := strings.CutSuffix(text[1:], "]"); ok {
			return parseBracketed(host, quoted)
		}
	}
	if quoted && strings.HasSuffix(text, ":"+portOf(text)) {
		return parseNodeWithPort(text)
	}
	hop, ok := parseHop(text)
	return hop, ok && !strings.Contains(text, ":")
}

// parseBracketed reads what stands in brackets, which is IPv6 and quoted.
func parseBracketed(host string, quoted bool) (netip.Addr, bool) {
	hop, ok := parseHop(host)
	return hop, ok && quoted && strings.Contains(host, ":")
}

func parseNodeWithPort(text string) (netip.Addr, bool) {
	with, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{}, false
	}
	return with.Addr().Unmap(), isCaller(with.Addr())
}

// portOf is the digits behind the last colon, "-" when there are none.
func portOf(text string) string {
	_, port, found := strings.Cut(text[strings.LastIndex(text, "]")+1:], ":")
	if !found || port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
		return "-"
	}
	return port
}

// isToken tells whether text is a token of RFC 9110, section 5.6.2.
func isToken(text string) bool {
	const marks = "!#$%&'*+-.^_`|~"
	return text != "" && strings.IndexFunc(text, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune(marks, r)
	}) < 0
}
