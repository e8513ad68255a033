package edge

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
)

// FuzzProxyHeader holds the reader of PROXY headers against a second, smaller
// one: whoever is let in is the caller that the bytes name, is on the list, and
// cost no more than a header's bytes to find out (attack N1).
func FuzzProxyHeader(f *testing.F) {
	for _, seed := range []string{
		"", "P", "PROXY", "PROXY UNKNOWN\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 4000 8443\r\n\x16\x03\x01", "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
		"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", "PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "GET / HTTP/1.1\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x0f\xa0\x20\xfb\x16\x03\x01",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x10\xc0\x00\x02\x01\xc0\x00\x02\x02\x0f\xa0\x20\xfb\x04\x00\x01x",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" + strings.Repeat("\x00", 15) + "\x01\x0f\xa0\x20\xfb",
		"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + strings.Repeat("/", 216), "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + strings.Repeat("x", 300),
	} {
		f.Add([]byte(seed))
	}
	list := mustList(f, "192.0.2.1, 192.0.2.64/26, 2001:db8::1")
	s := &sources{Sources{Proxies: mustList(f, "192.0.2.7"), ProxyProtocol: true}, list}
	const buffer = 512
	f.Fuzz(func(t *testing.T, data []byte) {
		source := &counting{r: bytes.NewReader(data)}
		reader := bufio.NewReaderSize(source, buffer)
		caller, err := readProxyHeader(reader)
		if most := 16 + 4096 + buffer; source.n > most {
			t.Fatalf("%d bytes were read, want at most %d", source.n, most)
		}
		if err != nil {
			if caller.IsValid() {
				t.Fatalf("an error, and the caller %s", caller)
			}
			return
		}
		want, rest, ok := secondReading(data)
		if !ok || caller != want {
			t.Fatalf("caller %s, want %s (%v)", caller, want, ok)
		}
		if left, _ := io.ReadAll(reader); !bytes.Equal(left, rest) {
			t.Fatalf("what follows the header is %q, want %q", left, rest)
		}
		if a := caller.Addr(); s.mayCall(a) && (!list.Contains(a) || a.Is4In6() || a.Zone() != "") {
			t.Fatalf("%s was let in", a)
		}
	})
}

// secondReading reads a header that is known to be well-formed, with the
// offsets and words of the specification.
func secondReading(data []byte) (caller netip.AddrPort, rest []byte, ok bool) {
	if line, rest, found := bytes.Cut(data, []byte("\r\n")); found && bytes.HasPrefix(line, []byte("PROXY TCP")) {
		words := strings.Split(string(line), " ")
		if len(words) != 6 {
			return caller, nil, false
		}
		if strings.Contains(words[2], ":") {
			words[2] = "[" + words[2] + "]"
		}
		caller, err := netip.ParseAddrPort(words[2] + ":" + words[4])
		return netip.AddrPortFrom(caller.Addr().Unmap(), caller.Port()), rest, err == nil
	}
	if len(data) < 28 || data[12] != 0x21 {
		return caller, nil, false
	}
	rest = data[16+binary.BigEndian.Uint16(data[14:]):]
	switch data[13] {
	case 0x11:
		addr, _ := netip.AddrFromSlice(data[16:20])
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(data[24:])), rest, true
	case 0x21:
		addr, _ := netip.AddrFromSlice(data[16:32])
		return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(data[48:])), rest, true
	}
	return caller, nil, false
}

// FuzzForwardedFor lets a stranger write whatever stands left of what a proxy
// adds: the caller found is the stranger, or none (attack N1).
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{
		"", "192.0.2.1", "192.0.2.1, 192.0.2.7", "for=192.0.2.1", `for="[2001:db8::1]:80";by=x`, `for="a`, `for="\"`, "unknown", ",", ", ,", "::ffff:192.0.2.1", "192.0.2.1%lo",
		`for=192.0.2.1;for=192.0.2.1`, `by="x,for=192.0.2.1"`, "\t192.0.2.1\x00", "192.0.2.1:80", `for="192.0.2.1:80"`, `for=_x`, "64:ff9b::192.0.2.1",
	} {
		for kind := range uint8(3) {
			f.Add(kind, seed)
		}
	}
	stranger := netip.MustParseAddr("203.0.113.9")
	proxies, list := mustList(f, "192.0.2.7, 192.0.2.8"), mustList(f, "192.0.2.1")
	f.Fuzz(func(t *testing.T, kind uint8, text string) {
		kinds := []struct{ name, seen string }{
			{"X-Forwarded-For", ", 203.0.113.9, 192.0.2.8"}, {"Forwarded", ", for=203.0.113.9;proto=https, for=192.0.2.8"}, {"X-Real-Ip", ", 203.0.113.9"},
		}
		k := kinds[int(kind)%len(kinds)]
		for _, line := range []string{text + k.seen, strings.TrimPrefix(k.seen, ", ") + text + k.seen} {
			caller, err := forwardedFor(k.name, http.Header{k.name: {line}}, proxies)
			if err == nil && caller != stranger {
				t.Fatalf("%s: %q is %s", k.name, line, caller)
			}
			if list.Contains(caller) {
				t.Fatalf("%s: %q is on the list", k.name, line)
			}
		}
		caller, err := forwardedFor(k.name, http.Header{k.name: {text}}, proxies)
		if (err == nil) != isCaller(caller) || caller.Is4In6() || err == nil && proxies.Contains(caller) {
			t.Fatalf("%s: %q is %s, %v", k.name, text, caller, err)
		}
		if err == nil && !strings.ContainsAny(text, "0123456789:") {
			t.Fatalf("%s: %q holds no address", k.name, text)
		}
	})
}

// counting counts the bytes that were taken from r.
type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

func mustList(f *testing.F, text string) *allow.List {
	f.Helper()
	l, err := allow.ParseList(text)
	if err != nil {
		f.Fatal(err)
	}
	return l
}
