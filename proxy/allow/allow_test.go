package allow_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
)

// The tables below are the crafted cases for attacks N1 and N2 that a list can
// decide: what may be written into it, and whom it then lets in.

func TestParseListAccepts(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"  \n\t\r\n ":                  "",
		",,,":                          "",
		"# nobody":                     "",
		"192.0.2.1":                    "192.0.2.1",
		" 192.0.2.1 ":                  "192.0.2.1",
		"192.0.2.1,192.0.2.1":          "192.0.2.1",
		"192.0.2.2,192.0.2.1":          "192.0.2.1,192.0.2.2",
		"192.0.2.1 192.0.2.2":          "192.0.2.1,192.0.2.2",
		"192.0.2.1\n192.0.2.2":         "192.0.2.1,192.0.2.2",
		"192.0.2.1\r\n192.0.2.2\r\n":   "192.0.2.1,192.0.2.2",
		"192.0.2.1\t192.0.2.2,":        "192.0.2.1,192.0.2.2",
		"192.0.2.1 # central":          "192.0.2.1",
		"# a\n192.0.2.1\n# b":          "192.0.2.1",
		"#192.0.2.1\n192.0.2.2":        "192.0.2.2",
		"192.0.2.1#,192.0.2.2":         "192.0.2.1",
		"127.0.0.2":                    "127.0.0.2",
		"255.255.255.255":              "255.255.255.255",
		"192.0.2.0/24":                 "192.0.2.0/24",
		"192.0.2.128/25":               "192.0.2.128/25",
		"192.0.2.7/32":                 "192.0.2.7",
		"192.0.2.6/31":                 "192.0.2.6/31",
		"192.0.2.0/24,192.0.2.0/24":    "192.0.2.0/24",
		"unsafe:192.0.2.0/24":          "192.0.2.0/24",
		"unsafe:192.0.2.1":             "192.0.2.1",
		"unsafe:10.0.0.0/8":            "unsafe:10.0.0.0/8",
		"unsafe:0.0.0.0/0":             "unsafe:0.0.0.0/0",
		"unsafe:::/0":                  "unsafe:::/0",
		"unsafe:2001:db8::/32":         "unsafe:2001:db8::/32",
		"unsafe:10.0.0.0/23":           "unsafe:10.0.0.0/23",
		"::1":                          "::1",
		"2001:db8::1":                  "2001:db8::1",
		"2001:DB8::A":                  "2001:db8::a",
		"2001:db8:0:0:0:0:0:1":         "2001:db8::1",
		"2001:db8::/56":                "2001:db8::/56",
		"2001:db8::/64":                "2001:db8::/64",
		"2001:db8::5/128":              "2001:db8::5",
		"::ffff:192.0.2.1":             "192.0.2.1",
		"::FFFF:c000:201":              "192.0.2.1",
		"::ffff:192.0.2.0/120":         "192.0.2.0/24",
		"::ffff:192.0.2.1/128":         "192.0.2.1",
		"unsafe:::ffff:10.0.0.0/104":   "unsafe:10.0.0.0/8",
		"::ffff:192.0.2.1,192.0.2.1":   "192.0.2.1",
		"2001:db8::192.0.2.1":          "2001:db8::c000:201",
		"192.0.2.1\n2001:db8::1, ::1#": "192.0.2.1,2001:db8::1,::1",
	} {
		l, err := allow.ParseList(text)
		if err != nil {
			t.Errorf("ParseList(%q): %v", text, err)
			continue
		}
		if got := l.String(); got != want {
			t.Errorf("ParseList(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestParseListRefuses(t *testing.T) {
	const (
		domain  = "domain names are refused"
		wide    = "write unsafe:"
		bits    = "did you mean the range"
		zone    = "zones are refused"
		length  = "must be a number from 0 to"
		pattern = "patterns and spans are refused"
		alone   = "without brackets and port"
		aURL    = "this is a URL"
		v4      = "not an IPv4 address"
		v6      = "not an IPv6 address"
		caller  = "no caller has this address"
	)
	for text, want := range map[string]string{
		"central.example":                  domain,
		"localhost":                        domain,
		"central":                          domain,
		"CENTRAL.EXAMPLE.":                 domain,
		"xn--bcher-kva.example":            domain,
		"bücher.example":                   domain,
		"central.example/24":               domain,
		"unsafe:central.example":           domain,
		"unsafe:central.example/24":        domain,
		"central.example:443":              domain,
		"*.example":                        domain,
		"my_host.example":                  domain,
		"any":                              domain,
		"all":                              domain,
		"0.0.0.0.nip.io":                   domain,
		"192.0.2.1.example":                domain,
		"0x7f.0.0.1":                       domain,
		"127.0.0.1\x00":                    domain,
		"１９２.0.2.1":                        domain,
		"192.0.2.1;192.0.2.2":              domain,
		"192.0.2.1|192.0.2.2":              domain,
		"0.0.0.0/0":                        wide,
		"::/0":                             wide,
		"10.0.0.0/8":                       wide,
		"192.0.2.0/23":                     wide,
		"128.0.0.0/1":                      wide,
		"2001:db8::/55":                    wide,
		"2001:db8::/32":                    wide,
		"::ffff:10.0.0.0/104":              wide,
		"::ffff:0.0.0.0/96":                wide,
		"192.0.2.1/24":                     bits,
		"192.0.2.1/31":                     bits,
		"unsafe:10.1.0.0/8":                bits,
		"unsafe:192.0.2.1/0":               bits,
		"2001:db8::1/64":                   bits,
		"fe80::1%eth0":                     zone,
		"fe80::1%25eth0":                   zone,
		"fe80::%1/64":                      zone,
		"unsafe:fe80::1%lo":                zone,
		"::ffff:192.0.2.1%eth0":            zone,
		"192.0.2.0/33":                     length,
		"192.0.2.0/-1":                     length,
		"192.0.2.0/":                       length,
		"192.0.2.0/024":                    length,
		"192.0.2.0/+24":                    length,
		"192.0.2.0/24/24":                  length,
		"192.0.2.0/255.255.255.0":          length,
		"192.0.2.0/x":                      length,
		"2001:db8::/129":                   length,
		"192.0.2.0/99999999999999999999":   length,
		"192.0.2.*":                        pattern,
		"*":                                pattern,
		"192.0.2.1-192.0.2.9":              pattern,
		"192.0.2.1-9":                      pattern,
		"192.0.2.1:8443":                   alone,
		"[2001:db8::1]":                    alone,
		"[2001:db8::1]:8443":               alone,
		"[192.0.2.1]:443":                  alone,
		"https://192.0.2.1":                aURL,
		"https://central.example/path":     aURL,
		"tcp://192.0.2.1:1":                aURL,
		"192.0.2.256":                      v4,
		"192.0.2":                          v4,
		"192.0.2.1.1":                      v4,
		"192.0.2.01":                       v4,
		"0300.0.2.1":                       v4,
		"3221225985":                       v4,
		"192.0..1":                         v4,
		"unsafe:":                          v4,
		".":                                v4,
		"1/24":                             v4,
		"/24":                              v4,
		"2001:db8:::1":                     v6,
		"2001:db8::1::1":                   v6,
		":::":                              v6,
		"2001:db8:0:0:0:0:0:0:1":           v6,
		"2001:db8::g":                      v6,
		"::ffff:192.0.2.256":               v6,
		"unsafe:unsafe:10.0.0.0/8":         domain,
		"unsafe:unsafe::/0":                v6,
		"0.0.0.0":                          caller,
		"::":                               caller,
		"::ffff:0.0.0.0":                   caller,
		"224.0.0.1":                        caller,
		"ff02::1":                          caller,
		"::ffff:0:0/95":                    "mixes IPv4 and IPv6",
		"192.0.2.1\ncentral.example":       domain,
		"192.0.2.1, 10.0.0.0/8":            wide,
		"192.0.2.1 # ok\n192.0.2.300 # no": v4,
	} {
		l, err := allow.ParseList(text)
		if err == nil {
			t.Errorf("ParseList(%q) = %v, want refusal", text, l)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("ParseList(%q): %v; want it to say %q", text, err, want)
		}
	}
}

func TestParseListNamesEveryBadEntry(t *testing.T) {
	_, err := allow.ParseList("192.0.2.1, central.example\n10.0.0.0/8 " + strings.Repeat("x", 300))
	if err == nil {
		t.Fatal("want refusal")
	}
	for _, want := range []string{`line 1, "central.example": domain names`, `line 2, "10.0.0.0/8": wider than /24`, `x"...: domain names`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	if _, err := allow.ParseList("192.0.2.1, central.example\n"); err == nil || strings.Contains(err.Error(), "line 1") {
		t.Errorf("of a single line: %v", err)
	}
	if n := strings.Count(err.Error(), "\n"); n != 2 {
		t.Errorf("%d line breaks, want one line for each of 3 entries", n)
	}
	if _, err := allow.ParseList(strings.Repeat(" ", 1<<20+1)); err == nil {
		t.Error("a list of a mebibyte was read")
	}
}

func TestContains(t *testing.T) {
	list := mustParse(t, "192.0.2.1, 198.51.100.0/24, 203.0.113.64/26, 2001:db8::1, 2001:db8:1::/56, ::ffff:192.0.2.77, unsafe:10.0.0.0/8")
	in := []string{
		"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.77", "::ffff:c000:24d", "198.51.100.0", "198.51.100.255", "::ffff:198.51.100.9",
		"203.0.113.64", "203.0.113.127", "2001:db8::1", "2001:db8:1::", "2001:db8:1:ff:ffff:ffff:ffff:ffff", "10.0.0.0", "10.255.255.255",
	}
	out := []string{
		"0.0.0.0", "127.0.0.1", "192.0.2.0", "192.0.2.2", "192.0.2.78", "198.51.99.255", "198.51.101.0", "203.0.113.63", "203.0.113.128",
		"2001:db8::", "2001:db8::2", "2001:db8:1:100::", "2001:db8:0:ffff::", "9.255.255.255", "11.0.0.0", "::1", "::",
		"::192.0.2.1",            // the deprecated IPv4-compatible form is another address
		"64:ff9b::192.0.2.1",     // NAT64 is not the IPv4 address
		"2002:c000:201::",        // nor is 6to4
		"::ffff:0:192.0.2.1",     // nor SIIT
		"2001:db8::1%eth0",       // a zone is never on the list
		"fe80::1%eth0",           //
		"::ffff:192.0.2.1%1",     // also not on a mapped address
		"2001:db8:1::1%lo",       //
		"::ffff:203.0.113.1",     //
		"100.64.0.1", "11.0.0.1", //
	}
	for _, text := range in {
		if !list.Contains(netip.MustParseAddr(text)) {
			t.Errorf("Contains(%s) = false, want true", text)
		}
	}
	for _, text := range out {
		if list.Contains(netip.MustParseAddr(text)) {
			t.Errorf("Contains(%s) = true, want false", text)
		}
	}
	if list.Contains(netip.Addr{}) {
		t.Error("the zero address is on the list")
	}
}

func TestNobodyIsOnAnEmptyList(t *testing.T) {
	var none *allow.List
	for name, list := range map[string]interface{ Contains(netip.Addr) bool }{
		"nil": none, "zero": new(allow.List), "parsed": mustParse(t, " # none"), "union": allow.Union(nil, none), "current": new(allow.Current),
	} {
		for _, text := range []string{"127.0.0.1", "::1", "192.0.2.1", "0.0.0.0"} {
			if list.Contains(netip.MustParseAddr(text)) {
				t.Errorf("%s list contains %s", name, text)
			}
		}
	}
	if none.Len() != 0 || none.String() != "" {
		t.Errorf("nil list: Len %d, String %q", none.Len(), none.String())
	}
}

func TestUnionHoldsEverybodyOnce(t *testing.T) {
	u := allow.Union(mustParse(t, "192.0.2.1,198.51.100.0/24"), nil, mustParse(t, "192.0.2.1,::1,198.51.100.0/24"))
	if got, want := u.String(), "192.0.2.1,198.51.100.0/24,::1"; got != want || u.Len() != 3 {
		t.Errorf("Union = %q (%d), want %q (3)", got, u.Len(), want)
	}
}

// A reload while connections are judged: each is judged by one list or the
// other, and afterwards by the new one.
func TestCurrentIsExchangedWhileInUse(t *testing.T) {
	first, second := mustParse(t, "192.0.2.1"), mustParse(t, "192.0.2.2")
	c := allow.NewCurrent(first)
	var judges sync.WaitGroup
	for range 4 {
		judges.Go(func() {
			for range 1000 {
				if c.Contains(netip.MustParseAddr("192.0.2.3")) {
					t.Error("a stranger was on the list")
				}
			}
		})
	}
	if old := c.Swap(second); old != first {
		t.Errorf("Swap returned %v, want the list before", old)
	}
	judges.Wait()
	if c.Contains(netip.MustParseAddr("192.0.2.1")) || !c.Contains(netip.MustParseAddr("192.0.2.2")) {
		t.Error("after Swap the old list still judges")
	}
}

// Everybody who comes through a proxy has its address: were that a caller's,
// the list would hold everybody.
func TestAProxyIsNoCaller(t *testing.T) {
	for _, c := range []struct{ callers, proxies, entry string }{
		{"192.0.2.1", "192.0.2.1", "192.0.2.1"},
		{"192.0.2.9, 192.0.2.1", "192.0.2.0/29", "192.0.2.1"},
		{"192.0.2.0/28", "192.0.2.7", "192.0.2.0/28"},
		{"192.0.2.0/28", "192.0.2.0/24", "192.0.2.0/28"},
		{"192.0.2.0/24", "192.0.2.128/25", "192.0.2.0/24"},
		{"::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"},
		{"unsafe:0.0.0.0/0", "192.0.2.1", "unsafe:0.0.0.0/0"},
		{"192.0.2.1", "unsafe:0.0.0.0/0", "192.0.2.1"},
		{"2001:db8::1", "2001:db8::/64", "2001:db8::1"},
		{"unsafe:::/0", "2001:db8::/64", "unsafe:::/0"},
	} {
		current := allow.NewCurrent(mustParse(t, "198.51.100.1"))
		err := current.Load(c.callers, mustParse(t, c.proxies))
		if err == nil || !strings.Contains(err.Error(), `"`+c.entry+`": holds a trusted proxy`) {
			t.Errorf("callers %q, proxies %q: %v, want one about %q", c.callers, c.proxies, err, c.entry)
		}
		if !current.Contains(netip.MustParseAddr("198.51.100.1")) || current.Len() != 1 {
			t.Errorf("callers %q: the list of before is gone", c.callers)
		}
	}
	for _, c := range []struct{ callers, proxies string }{
		{"192.0.2.1", ""}, {"", "192.0.2.1"}, {"192.0.2.1", "192.0.2.2"}, {"192.0.2.0/28", "192.0.2.16/28"},
		{"unsafe:0.0.0.0/0", "2001:db8::1"}, {"unsafe:::/0", "192.0.2.1"}, {"2001:db8::/64", "2001:db8:0:1::/64"},
	} {
		if err := new(allow.Current).Load(c.callers, mustParse(t, c.proxies)); err != nil {
			t.Errorf("callers %q, proxies %q: %v", c.callers, c.proxies, err)
		}
	}
}

// A list that cannot be read changes nothing, and the error says what to do.
func TestAnInvalidListKeepsTheOneBefore(t *testing.T) {
	current := allow.NewCurrent(mustParse(t, "192.0.2.1,192.0.2.2"))
	for text, want := range map[string]string{
		"192.0.2.3, central.example": `"central.example": domain names are refused`,
		"0.0.0.0/0":                  `"0.0.0.0/0": wider than /24`,
		"192.0.2.3, fe80::1%eth0":    `"fe80::1%eth0": zones are refused`,
	} {
		if err := current.Load(text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%q): %v, want %q", text, err, want)
		}
	}
	if current.Contains(netip.MustParseAddr("192.0.2.3")) || !current.Contains(netip.MustParseAddr("192.0.2.1")) || current.Len() != 2 {
		t.Error("a list that cannot be read changed who may connect")
	}
	if err := current.Load("192.0.2.3", nil); err != nil || !current.Contains(netip.MustParseAddr("192.0.2.3")) || current.Contains(netip.MustParseAddr("192.0.2.1")) {
		t.Errorf("a good list: %v, and it does not judge", err)
	}
	if err := current.Load("# nobody", nil); err != nil || current.Len() != 0 {
		t.Errorf("an empty list: %v, %d entries", err, current.Len())
	}
}

func FuzzParseList(f *testing.F) {
	for _, seed := range []string{
		"192.0.2.1", "2001:db8::/56 # x", "unsafe:0.0.0.0/0", "central.example", "::ffff:192.0.2.0/120", "fe80::1%eth0", "192.0.2.1/24", "a,b c\n#d", "[::1]:80", "unsafe:",
	} {
		f.Add(seed)
	}
	strangers := []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2606:4700::1111")}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := allow.ParseList(text)
		if err != nil {
			return
		}
		again, err := allow.ParseList(l.String())
		if err != nil || again.String() != l.String() {
			t.Fatalf("%q reads as %q, which reads as %v, %v", text, l, again, err)
		}
		if !strings.Contains(text, allow.Unsafe) && strings.Contains(l.String(), allow.Unsafe) {
			t.Fatalf("%q made a wide range without saying so: %q", text, l)
		}
		for _, a := range strangers {
			if l.Contains(a) != l.Contains(netip.AddrFrom16(a.As16())) {
				t.Fatalf("%q judges %s by how it is written", text, a)
			}
		}
	})
}

func mustParse(t *testing.T, text string) *allow.List {
	t.Helper()
	l, err := allow.ParseList(text)
	if err != nil {
		t.Fatalf("ParseList(%q): %v", text, err)
	}
	return l
}
