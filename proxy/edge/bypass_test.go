package edge_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// More parties: a trusted load balancer, a second one behind it, and a caller
// that was on the list when it connected.
const (
	balancer = "127.0.0.7"
	inner    = "127.0.0.8"
	outcast  = "127.0.0.5"
)

// enoughBypasses is how many attempts there are at least.
const enoughBypasses = 500

// None of these attempts to pass for a member is admitted: no request reaches
// the handler, each is counted under the reason expected, and who does not
// come through a proxy that ends TLS is sent no byte and shown no certificate
// (attacks N1, N2, threats 1.6.9).
func TestNoBypassIsAdmitted(t *testing.T) {
	total := 0
	for _, group := range []struct {
		name string
		run  func(*testing.T) int
	}{
		{"strangers", strangersKnock},
		{"outcasts with headers", outcastsSendHeaders},
		{"PROXY protocol", balancersSendProxyHeaders},
		{"forwarding headers", balancersForward},
	} {
		t.Run(group.name, func(t *testing.T) {
			n := group.run(t)
			t.Logf("%d attempts", n)
			total += n
		})
	}
	t.Logf("%d attempts in all", total)
	if total < enoughBypasses {
		t.Errorf("%d attempts, want at least %d", total, enoughBypasses)
	}
}

// claims are ways to write the member's address, and some others that software
// takes for "anybody" or "here".
func claims() []string {
	return []string{
		member, "::ffff:127.0.0.3", "::FFFF:7f00:3", "0:0:0:0:0:ffff:127.0.0.3", "[::ffff:127.0.0.3]", "[::ffff:127.0.0.3]:443", "127.0.0.3:443", "[127.0.0.3]",
		"[127.0.0.3]:443", "127.0.0.3%lo", "::ffff:127.0.0.3%lo", "::ffff:127.0.0.3%25lo", "127.0.0.03", "127.0.0.003", "0127.0.0.3", "127.000.000.003",
		"0177.0.0.3", "0x7f.0.0.3", "0x7f.0x0.0x0.0x3", "0x7f000003", "2130706435", "017700000003", "127.3", "127.0.3", "127.0.0.3.", ".127.0.0.3", "127..0.0.3",
		"127.0.0.3/32", "127.0.0.0/8", "127.0.0.3/", "127.0.0.259", "127.0.0.3.in-addr.arpa", "127.0.0.3.nip.io", `"127.0.0.3"`, "'127.0.0.3'", `"127.0.0.3`,
		`127.0.0.3"`, `\"127.0.0.3\"`, "for=127.0.0.3", `for="127.0.0.3"`, "by=127.0.0.3", "::127.0.0.3", "::7f00:3", "2002:7f00:3::", "2002:7f00:3::1",
		"64:ff9b::127.0.0.3", "64:ff9b::7f00:3", "64:ff9b:1::127.0.0.3", "::ffff:0:127.0.0.3", "fe80::7f00:3%lo", "::1", "::1%lo", "unknown", "_hidden", "localhost",
		"central", "-", "*", "null", "undefined", "true", "0.0.0.0", "::", "::ffff:0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1", "127.0.0.3;127.0.0.9",
		"127.0.0.3 127.0.0.9", "127.0.0.3\t127.0.0.9", "127.0.0.3|127.0.0.9", "127.0.0.3&127.0.0.9", "127.0.0.3%2C", "%3127.0.0.3", "127.0.0.3#", "127.0.0.3?",
		"//127.0.0.3", "https://127.0.0.3", "user@127.0.0.3", "127.0.0.3,", ",127.0.0.3", "127.0.0.3,,127.0.0.3", "127.0.0.3, 127.0.0.3", ", ,", "127.0.0.-3", "+127.0.0.3",
		"127.0.0.3e0", "127.0.0.0b11", "１２７.0.0.3", "127。0。0。3", "127.0.0.٣", "127.0.0.3\u200b", "\u202e3.0.0.721", "127.0.0.3\xff",
	}
}

// headerNames are those that software has taken a caller's address from, and
// twins of the one that we may be told to read.
func headerNames() []string {
	return []string{
		"X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "CF-Connecting-IPv6", "CF-Pseudo-IPv4", "Fastly-Client-IP", "Fly-Client-IP",
		"X-Client-IP", "Client-IP", "X-Cluster-Client-IP", "X-Forwarded", "Forwarded-For", "X-Originating-IP", "X-Original-Forwarded-For", "X-Remote-IP", "X-Remote-Addr",
		"Remote-Addr", "X-Host", "X-ProxyUser-Ip", "WL-Proxy-Client-IP", "Proxy-Client-IP", "X-Envoy-External-Address", "X-Azure-ClientIP", "X-Azure-SocketIP",
		"X-Appengine-User-Ip", "X-Appengine-Remote-Addr", "X-Nf-Client-Connection-Ip", "X-Vercel-Forwarded-For", "Ali-Cdn-Real-Ip", "Cdn-Src-Ip", "X-Forwarded-By",
		"X-Forwarded-Host", "Via", "X-Custom-IP-Authorization", "X_Forwarded_For", "X-Forwarded_For", "X_REAL_IP", "HTTP_X_FORWARDED_FOR", "X-Forwarded-For-", "XX-Forwarded-For",
		"X-ForwardedFor", "XForwarded-For", "X-Forwarded-For.", "x.forwarded.for",
	}
}

// strangersKnock sends what a stranger might send in place of TLS to listeners
// of each kind.
func strangersKnock(t *testing.T) (n int) {
	for name, c := range map[string]edge.Sources{
		"no proxies": {}, "PROXY protocol": {ProxyProtocol: true}, "X-Forwarded-For": {ForwardedHeader: "X-Forwarded-For"}, "Forwarded": {ForwardedHeader: "Forwarded"},
	} {
		w := newSourceWorld(t, c)
		for _, hello := range knocks() {
			w.refusedSilently(name, stranger, hello, "stranger")
			n++
		}
		if shown := w.certs.shown.Load(); shown != 0 {
			t.Errorf("%s: a certificate was chosen %d times", name, shown)
		}
	}
	return n
}

// knocks begin with TLS, or with something that is to change who calls.
func knocks() []string {
	hello := clientHello()
	list := []string{"", "\x00", hello, hello[:20], "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + member + "\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}
	for _, claim := range []string{member, "::ffff:" + member, balancer, stranger, "::1", "127.0.0.2"} {
		list = append(list,
			"PROXY TCP4 "+claim+" 127.0.0.2 4000 8443\r\n"+hello, "PROXY TCP6 "+claim+" ::1 4000 8443\r\n"+hello,
			"GET / HTTP/1.1\r\nHost: x\r\nForwarded: for="+claim+"\r\n\r\n")
		if from := netip.MustParseAddr(claim); from.Is4() {
			list = append(list, v2(0x21, 0x11, block4(claim, 4000), "")+hello)
		} else {
			list = append(list, v2(0x21, 0x21, block6(from, 4000), "")+hello)
		}
	}
	return append(list, "PROXY UNKNOWN\r\n"+hello, v2(0x20, 0x00, "", "")+hello, v2(0x20, 0x11, block4(member, 1), "")+hello)
}

// outcastsSendHeaders makes requests on connections whose address was taken off
// the list meanwhile, with every header that claims another.
func outcastsSendHeaders(t *testing.T) (n int) {
	for name, c := range map[string]edge.Sources{"no proxies": {}, "X-Forwarded-For": {ForwardedHeader: "X-Forwarded-For"}} {
		w := newSourceWorld(t, c)
		for _, header := range headerNames() {
			for _, claim := range []string{member, balancer + ", " + member, "for=" + member} {
				w.allow.Swap(mustParse(t, outcast))
				conn := w.mustTLS(outcast)
				w.allow.Swap(mustParse(t, member))
				w.forbidden(name, conn, header+": "+claim+"\r\n", "request")
				conn.Close()
				n++
			}
		}
	}
	return n
}

// balancersSendProxyHeaders lets the trusted balancer name strangers, and name
// members in ways that the PROXY protocol does not know.
func balancersSendProxyHeaders(t *testing.T) (n int) {
	w := newSourceWorld(t, edge.Sources{ProxyProtocol: true})
	for _, c := range append(proxyText(), proxyBinary()...) {
		w.refusedSilently("balancer", balancer, c.hello, c.reason)
		n++
	}
	for _, c := range proxyText()[:20] { // not through the balancer: closed unread
		w.refusedSilently("member", member, c.hello, "stranger")
		n++
	}
	if shown := w.certs.shown.Load(); shown != 0 {
		t.Errorf("a certificate was chosen %d times", shown)
	}
	return n
}

// A proxyCase is what a balancer sends, and why it gets nothing.
type proxyCase struct{ hello, reason string }

// proxyText are headers of version 1.
func proxyText() (list []proxyCase) {
	hello := clientHello()
	add := func(line, reason string) { list = append(list, proxyCase{line + hello, reason}) }
	for _, from := range []string{stranger, outcast, balancer, "127.0.0.2", "0.0.0.1", "8.8.8.8", "255.255.255.255"} {
		add("PROXY TCP4 "+from+" 127.0.0.2 4000 8443\r\n", "stranger")
		add("PROXY TCP6 ::ffff:"+from+" ::1 4000 8443\r\n", "stranger")
	}
	for _, claim := range claims() {
		if claim != member {
			add("PROXY TCP4 "+claim+" 127.0.0.2 4000 8443\r\n", whyText(claim, false))
		}
		if a, err := netip.ParseAddr(claim); err != nil || a.Zone() != "" || a.Unmap().String() != member || !a.Is6() {
			add("PROXY TCP6 "+claim+" ::1 4000 8443\r\n", whyText(claim, true))
		}
	}
	ok := "PROXY TCP4 " + member + " 127.0.0.2 4000 8443"
	for _, line := range []string{
		ok, ok + "\n", ok + "\r", ok + "\r\r\n", ok + " \r\n", ok + " x\r\n", " " + ok + "\r\n", "\r\n" + ok + "\r\n", "x" + ok + "\r\n", "P", "PRO", "PROXY", "PROXY\r\n", "PROXY \r\n",
		strings.ToLower(ok) + "\r\n", strings.Replace(ok, "PROXY", "PROXYX", 1) + "\r\n", strings.Replace(ok, "TCP4", "tcp4", 1) + "\r\n", strings.Replace(ok, "TCP4", "UDP4", 1) + "\r\n",
		strings.Replace(ok, "TCP4", "TCP5", 1) + "\r\n", strings.Replace(ok, "TCP4", "TCP6", 1) + "\r\n", strings.ReplaceAll(ok, " ", "  ") + "\r\n", strings.ReplaceAll(ok, " ", "\t") + "\r\n",
		"PROXY TCP4 " + member + "\r\n", "PROXY TCP4 " + member + " 127.0.0.2\r\n", "PROXY TCP4 " + member + " 127.0.0.2 4000\r\n", "PROXY TCP4 " + member + " ::1 4000 8443\r\n",
		"PROXY TCP4 " + member + " x 4000 8443\r\n", strings.Replace(ok, "4000", "04000", 1) + "\r\n", strings.Replace(ok, "4000", "65536", 1) + "\r\n", strings.Replace(ok, "4000", "-1", 1) + "\r\n",
		strings.Replace(ok, "4000", "+4000", 1) + "\r\n", strings.Replace(ok, "4000", "0x10", 1) + "\r\n", strings.Replace(ok, "4000", "", 1) + "\r\n", strings.Replace(ok, "4000", "0", 1) + "\r\n",
		strings.Replace(ok, "8443", "99999", 1) + "\r\n", ok + strings.Repeat(" ", 200) + "\r\n", "PROXY TCP4 " + strings.Repeat("1", 120) + "\r\n",
		"PROXY TCP4 " + member + "," + stranger + " 127.0.0.2 4000 8443\r\n", "PROXY TCP4 127.0.0.2 " + member + "\r\n4000 8443\r\n",
	} {
		add(line, "proxy-header")
	}
	list = append(list, proxyCase{"PROXY UNKNOWN\r\n" + hello, "health-check"}, proxyCase{"PROXY UNKNOWN " + member + " 127.0.0.2 4000 8443\r\n" + hello, "health-check"}, proxyCase{"", "health-check"})
	for _, text := range []string{hello, "GET / HTTP/1.1\r\nX-Forwarded-For: " + member + "\r\n\r\n", "\x00", "\r\n\r\n\x00", "\r\n\r\n"} {
		list = append(list, proxyCase{text, "proxy-header"})
	}
	// Of two headers the first counts.
	add("PROXY TCP4 "+stranger+" 127.0.0.2 4000 8443\r\n"+ok+"\r\n", "stranger")
	add("PROXY UNKNOWN\r\n"+ok+"\r\n", "health-check")
	return list
}

// whyText is why an address other than the member's is refused: it is one of a
// stranger, or none at all.
func whyText(claim string, six bool) string {
	a, err := netip.ParseAddr(claim)
	switch plain := a.Unmap(); {
	case err != nil, a.Zone() != "", a.Is6() != six, plain.IsUnspecified(), plain.IsMulticast():
		return "proxy-header"
	}
	return "stranger"
}

// proxyBinary are headers of version 2.
func proxyBinary() (list []proxyCase) {
	hello := clientHello()
	add := func(header, reason string) { list = append(list, proxyCase{header + hello, reason}) }
	for _, from := range []string{stranger, outcast, balancer, "127.0.0.2", "8.8.8.8", "0.0.0.1", "255.255.255.255"} {
		add(v2(0x21, 0x11, block4(from, 4000), ""), "stranger")
		add(v2(0x21, 0x21, block6(netip.MustParseAddr("::ffff:"+from), 4000), ""), "stranger")
		add(v2(0x21, 0x11, block4(from, 4000), "\x04\x00\x01x"), "stranger")
	}
	for _, from := range []string{"::1", "::127.0.0.3", "2002:7f00:3::", "64:ff9b::127.0.0.3", "::ffff:0:127.0.0.3", "fe80::7f00:3", "2001:db8::1", "7f00:3::"} {
		add(v2(0x21, 0x21, block6(netip.MustParseAddr(from), 4000), ""), "stranger")
	}
	for _, from := range []string{"::", "::ffff:0.0.0.0", "ff02::1", "::ffff:224.0.0.1"} {
		add(v2(0x21, 0x21, block6(netip.MustParseAddr(from), 4000), ""), "proxy-header")
	}
	ok := block4(member, 4000)
	for _, family := range []byte{0x00, 0x01, 0x02, 0x10, 0x12, 0x13, 0x1f, 0x20, 0x22, 0x23, 0x30, 0x31, 0x32, 0x33, 0x40, 0x41, 0x51, 0x91, 0xf1, 0xff} {
		add(v2(0x21, family, ok, ""), "proxy-header")
		add(v2(0x21, family, ok+strings.Repeat("\x00", 204), ""), "proxy-header") // as long as the names of Unix sockets
	}
	for _, command := range []byte{0x00, 0x01, 0x10, 0x11, 0x22, 0x23, 0x2f, 0x31, 0x41, 0xa1, 0xff} {
		add(v2(command, 0x11, ok, ""), "proxy-header")
	}
	for _, family := range []byte{0x00, 0x11, 0x21, 0x31} {
		add(v2(0x20, family, ok, ""), "health-check")
		add(v2(0x20, family, "", ""), "health-check")
	}
	for _, rest := range []string{"\x04", "\x04\x00", "\x04\x00\x01", "\x04\x00\x05abcd", "\x04\xff\xffx", "\x03\x00\x04abcd\x04"} { // lengths that lie
		add(v2(0x21, 0x11, ok, rest), "proxy-header")
	}
	add(v2(0x21, 0x11, block4(member, 0), ""), "proxy-header")
	for length := range len(ok) { // a block that is too short for its family
		add(v2(0x21, 0x11, ok[:length], ""), "proxy-header")
	}
	whole := v2(0x21, 0x11, ok, "")
	for length := 1; length < len(whole); length++ { // the connection ends within the header
		list = append(list, proxyCase{whole[:length], "proxy-header"})
	}
	add(whole[:14]+"\xff\xff"+ok+strings.Repeat("\x00", 5000), "proxy-header")
	add(whole[:11]+"\x0b"+whole[12:], "proxy-header")
	add(v2(0x21, 0x11, block4(stranger, 4000), "")+whole, "stranger")
	add(v2(0x20, 0x00, "", "")+whole, "health-check")
	return list
}

// balancersForward lets the trusted balancer, which adds the address that it
// saw, forward what a stranger wrote before it.
func balancersForward(t *testing.T) (n int) {
	for header, element := range map[string]func(string) string{
		"X-Forwarded-For": func(a string) string { return a },
		"Forwarded":       func(a string) string { return "for=" + a },
		"X-Real-IP":       func(a string) string { return a },
	} {
		w := newSourceWorld(t, edge.Sources{ForwardedHeader: header})
		single := header == "X-Real-IP"
		conn := w.mustTLS(balancer)
		try := func(lines, reason string) {
			t.Helper()
			conn = w.forbiddenKept(header, conn, lines, reason)
			n++
		}
		seen := header + ": " + element(stranger) + "\r\n" // what the balancer saw
		try(seen, "request")
		try("", "forwarded-header")
		try(header+": \r\n", "forwarded-header")
		for _, claim := range claims() {
			if !single {
				try(header+": "+element(claim)+", "+element(stranger)+"\r\n", "either")
				try(header+": "+element(claim)+", "+element(stranger)+", "+element(inner)+"\r\n", "either")
			}
			try(header+": "+element(claim)+"\r\n"+seen, "forwarded-header")
			try(seen+header+": "+element(claim)+"\r\n", "forwarded-header")
			if !honestClaims[claim] { // not even alone
				try(header+": "+element(claim)+"\r\n", "either")
			}
		}
		for _, other := range headerNames() {
			if strings.EqualFold(other, header) {
				continue
			}
			try(other+": "+element(member)+"\r\n"+seen, "request")
			try(seen+other+": "+element(member)+"\r\n", "request")
			try(other+": "+element(member)+"\r\n", "forwarded-header")
		}
		for _, c := range tricks(header, element) {
			try(c, "either")
		}
	}
	return n
}

// honestClaims are those that name the member and nobody else when a balancer
// makes the header of them.
var honestClaims = map[string]bool{
	member: true, "::ffff:127.0.0.3": true, "::FFFF:7f00:3": true, "0:0:0:0:0:ffff:127.0.0.3": true, // as a list, or one address
	"127.0.0.3, 127.0.0.3": true, // as a list
	`"127.0.0.3"`:          true, // as an element of RFC 7239
}

// tricks are lists that some parsers read from the wrong end, in pieces, or
// not to the end. Each ends with what the balancer saw, or is none that it
// would make.
func tricks(header string, element func(string) string) (list []string) {
	m, s := element(member), element(stranger)
	for _, value := range []string{
		m + "," + s, m + " ," + s, m + "\t,\t" + s, s + "," + balancer, m + ", " + s + ",", m + ", " + s + ", ", m + ",, " + s, "," + m + "," + s, m + ", " + s + " " + m,
		s + "; " + m, s + ";" + m, m + ";" + s, s + "\x0b" + m, m + ", \"" + s, "\"" + m + ", " + s + "\"", "\"" + m + "\", " + s, m + "\\, " + s, "(" + m + ")," + s, s + " (" + m + ")",
		strings.Repeat(m+", ", 31) + s, strings.Repeat(m+", ", 32) + s, strings.Repeat(m+", ", 5000/len(m)) + s, strings.Repeat(m+",", 100), strings.Repeat(" ", 1500) + s,
		strings.Repeat(",", 100) + m, element(balancer), element(balancer) + ", " + element(inner), m + ", " + s + ", " + element(balancer), m + ", " + element("unknown"), m + ", " + element("_x"),
	} {
		list = append(list, header+": "+value+"\r\n")
	}
	if header == "Forwarded" {
		for _, value := range []string{
			`for=` + stranger + `;for=` + member, `for="` + stranger + `;for=` + member + `"`, `by=` + member, `by=` + member + `;for=` + stranger, `FOR=` + stranger + `;by="x,for=` + member + `"`,
			`for="[::ffff:` + stranger + `]"`, `for=[::ffff:` + member + `]`, `for="::ffff:` + member + `"`, `for="[` + member + `]"`, `for="` + member + `:"`, `for="` + member + `:port"`,
			`for="` + member + `:123456"`, `for="[::ffff:` + member + `%lo]"`, `for = ` + member, `for=` + member + ` ;by=x`, `;for=` + member, `for=` + member + `;`, `for=`, `for=""`, `=` + member, `for`,
			`for="\1\2\7.0.0.3"`, `for=` + member + `;proto="https`, `for=` + member + `;proto`, `for=` + member + `;host=a b`, `for="unknown"`, `for="_` + member + `"`, `for=_` + member,
			`host=` + member + `;proto=https`, `for="` + stranger + `:80", by=` + member, `for="` + member + `" , for="` + stranger + `:443"`, `for="x\", for=` + member + `"`,
		} {
			list = append(list, "Forwarded: "+value+"\r\n")
		}
	}
	return append(list,
		header+": "+m+"\r\n "+s+"\r\n", header+": "+m+",\r\n "+s+"\r\n", // folded lines
		header+" : "+m+"\r\n", header+"\t: "+m+"\r\n", // which are no header
		"Trailer: "+header+"\r\n", "Connection: "+header+"\r\n", strings.ToLower(header)+": "+m+"\r\n"+strings.ToUpper(header)+": "+s+"\r\n")
}

// newSourceWorld is a world whose listener trusts the two balancers.
func newSourceWorld(t *testing.T, s edge.Sources) *world {
	t.Helper()
	s.Proxies = mustParse(t, balancer+","+inner)
	w := newWorld(t, edge.Config{Sources: s})
	w.allow.Swap(mustParse(t, member))
	return w
}

// clientHello is the first flight of an ordinary client.
func clientHello() string {
	var hello bytes.Buffer
	_ = tls.Client(oneWay{Writer: &hello}, &tls.Config{ServerName: "vasp.example"}).Handshake()
	return hello.String()
}

// oneWay is a connection that takes and never gives.
type oneWay struct {
	net.Conn
	io.Writer
}

func (o oneWay) Write(b []byte) (int, error) { return o.Writer.Write(b) }
func (oneWay) Read([]byte) (int, error)      { return 0, io.EOF }
func (oneWay) Close() error                  { return nil }

// v2 is a header of the PROXY protocol, version 2, with an address block and
// what follows it.
func v2(command, family byte, block, rest string) string {
	header := []byte("\r\n\r\n\x00\r\nQUIT\n")
	header = append(header, command, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(block)+len(rest)))
	return string(header) + block + rest
}

func block4(from string, port uint16) string {
	block := append(netip.MustParseAddr(from).AsSlice(), 127, 0, 0, 2)
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(block, port), 8443))
}

func block6(from netip.Addr, port uint16) string {
	source, local := from.As16(), netip.IPv6Loopback().As16()
	block := append(source[:], local[:]...)
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(block, port), 8443))
}

// refusedSilently sends text and the end of the stream, and wants no byte back
// and the refusal counted.
func (w *world) refusedSilently(name, from, text, reason string) {
	w.t.Helper()
	before, requests := w.refused(reason), w.requests.Load()
	if got := w.exchange(from, text); got != "" {
		w.t.Errorf("%s, from %s: %.80q was answered % .20x", name, from, text, got)
	}
	w.eventually(fmt.Sprintf("%s, from %s: %.80q is refused as %s", name, from, text, reason), func() bool { return w.refused(reason) == before+1 })
	if w.requests.Load() != requests {
		w.t.Errorf("%s, from %s: %.80q reached the handler", name, from, text)
	}
}

// exchange sends text and the end of the stream, and returns what comes back.
func (w *world) exchange(from, text string) string {
	w.t.Helper()
	conn, err := dialerFrom(from).DialContext(w.t.Context(), "tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, text) // may fail: the other end may be closed already
	_ = conn.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(conn) // fails when it was closed with bytes unread
	return string(got)
}

// forbidden makes a request with the header lines given, wants it refused and
// the refusal counted.
func (w *world) forbidden(name string, conn *tls.Conn, lines, reason string) (kept bool) {
	w.t.Helper()
	before, requests := w.refusedFor(reason), w.requests.Load()
	response := w.raw(conn, lines)
	switch {
	case response == nil:
		w.t.Errorf("%s: %.80q: no answer", name, lines)
		return false
	case response.StatusCode == http.StatusBadRequest: // net/http refused it, and counts nothing
		kept = false
	case response.StatusCode != http.StatusForbidden:
		w.t.Errorf("%s: %.80q: status %d, want 403", name, lines, response.StatusCode)
	case w.refusedFor(reason) != before+1:
		w.t.Errorf("%s: %.80q: not counted as %s", name, lines, reason)
	default:
		kept = !response.Close
	}
	if w.requests.Load() != requests {
		w.t.Errorf("%s: %.80q reached the handler", name, lines)
	}
	return kept
}

// refusedFor is refused, and for "either" how many requests were refused at
// all.
func (w *world) refusedFor(reason string) float64 {
	if reason == "either" {
		return w.refused("request") + w.refused("forwarded-header")
	}
	return w.refused(reason)
}

// forbiddenKept is forbidden on a connection that goes on, and returns one to
// go on with.
func (w *world) forbiddenKept(name string, conn *tls.Conn, lines, reason string) *tls.Conn {
	w.t.Helper()
	if w.forbidden(name, conn, lines, reason) {
		return conn
	}
	conn.Close()
	return w.mustTLS(conn.LocalAddr().(*net.TCPAddr).IP.String())
}

// raw makes a request with the header lines given, and returns the answer with
// its body read, nil if there is none.
func (w *world) raw(conn *tls.Conn, lines string) *http.Response {
	w.t.Helper()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: vasp.example\r\n"+lines+"\r\n"); err != nil {
		return nil
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil
	}
	body, _ := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response
}
