package outward_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward/outwardtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Addresses by what they are, each with a spelling that netip reads.
var (
	public   = []string{"1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "11.0.0.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"}
	loopback = []string{
		"127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:2", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "64:ff9b:1:7f00:0:100::",
		"2002:7f00:1::1", "::127.0.0.1", "::ffff:0:7f00:1", "2001:0:808:808::80ff:fffe", "2001:0:7f00:1::f7f7:f7f7", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:7f00:1",
	}
	private = []string{
		"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.254", "100.64.0.1", "100.127.255.254", "fc00::1", "fd12:3456::1", "fec0::1",
		"::ffff:10.0.0.1", "::ffff:192.168.1.1", "64:ff9b::a00:1", "64:ff9b::c0a8:101", "64:ff9b:1::a00:1", "64:ff9b:1:a00:0:100::", "2002:a00:1::", "2002:c0a8:101::1", "2002:6440:1::1",
		"2001:0:808:808::f5ff:fffe", "::10.0.0.1", "2606:4700::5efe:a00:1", "64:ff9b:1::808:808", "fd00::5efe:808:808",
	}
	reserved = []string{
		"192.0.2.1", "198.51.100.1", "203.0.113.7", "198.18.0.1", "198.19.255.255", "192.0.0.8", "192.88.99.1", "240.0.0.1", "255.255.255.254", "2001:db8::1", "3fff::1", "100::1", "4000::1",
		"2002:808:808::1", "2001:0:808:808::f7f7:f7f7", "::8.8.8.8", "2001:10::1", "64:ff9b::c000:201", "5f00::1",
	}
	odd = []string{
		"169.254.169.254", "169.254.0.1", "169.254.170.2", "0.0.0.0", "0.0.0.1", "224.0.0.1", "239.255.255.250", "255.255.255.255", "100.100.100.200", "192.0.0.192", "168.63.129.16",
		"::", "fe80::1", "fe80::a9fe:a9fe", "febf::1", "ff02::1", "ff05::2", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42",
		"::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:224.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "2002:a9fe:a9fe::1", "2002::1",
		"2001:0:a9fe:a9fe::f7f7:f7f7", "2001:0:808:808::5601:5601", "::169.254.169.254", "::ffff:0:a9fe:a9fe", "fe80::5efe:a9fe:a9fe", "2606:4700::5efe:a9fe:a9fe", "64:ff9b::6464:64c8",
	}
)

// Attack V2: what each set of classes lets be dialled, for every kind of
// address and every way to wrap an IPv4 address in an IPv6 one.
func TestJudge(t *testing.T) {
	kinds := map[outward.Class][]string{outward.Global: public, outward.Loopback: loopback, outward.Private: private, outward.Reserved: reserved, 0: odd}
	for allowed := outward.Class(0); allowed <= outward.Configured; allowed++ {
		for kind, addresses := range kinds {
			for _, text := range addresses {
				err := allowed.Judge(netip.MustParseAddr(text))
				if want := allowed&kind != 0; (err == nil) != want {
					t.Errorf("with %d, %s = %v, want allowed: %t", allowed, text, err, want)
				}
				if err != nil && !errors.Is(err, outward.ErrRefused) {
					t.Errorf("%s: %v is no ErrRefused", text, err)
				}
			}
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::1%lo"), netip.MustParseAddr("::ffff:127.0.0.1%lo"), netip.MustParseAddr("fd00::1%2")} {
		if err := (outward.Global | outward.Reserved).Judge(a); err == nil {
			t.Errorf("%v is allowed", a)
		}
	}
}

func join(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// spy notes every address that the rules let a connection be made to.
type spy struct {
	mu   sync.Mutex
	seen []netip.AddrPort
}

func (s *spy) connects(_ bool, to netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, to)
}

func (s *spy) take() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

func get(t *testing.T, transport *http.Transport, url string) error {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(r)
	if err == nil {
		response.Body.Close()
	}
	return err
}

// Attack V2: a URL that came off the wire leads nowhere but to public
// addresses, whatever it says, whatever its name resolves to, and though the
// name resolves to something else when it is dialled than when it was judged.
func TestNoURLLeadsElsewhere(t *testing.T) {
	const open = "8.8.4.4"
	dns, spied := outwardtest.NewDNS(t), new(spy)
	transport := outward.Spy(outward.Config{Secure: outward.Global, Resolver: dns.Resolver()}, spied.connects)
	bad, tried := join(loopback, private, reserved, odd), 0
	try := func(url string, allowed ...string) {
		t.Helper()
		tried++
		if err := get(t, transport, url); err == nil {
			t.Errorf("%s was answered", url)
		}
		seen := spied.take()
		for _, to := range seen {
			if len(allowed) == 0 || to.Addr().String() != allowed[0] {
				t.Errorf("%s: a connection to %v", url, to)
			}
		}
		if len(allowed) > 0 && len(seen) == 0 {
			t.Errorf("%s: no connection at all, want one to %s", url, allowed[0])
		}
	}
	addr := func(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }
	for i, text := range bad {
		host := text
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		try("https://" + host + "/")
		try("https://" + host + ":8443/")

		// A record holds addresses of its own family: a mapped one is AAAA.
		name := fmt.Sprintf("n%d.example", i)
		dns.Answer(name, addr(text))
		try("https://" + name + ":22/")

		mixed := fmt.Sprintf("m%d.example", i)
		dns.Answer(mixed, append(addr(text), addr(open)...))
		try("https://"+mixed+"/", open)
		if err := outward.Global.JudgeHost(t.Context(), dns.Resolver(), mixed); err == nil {
			t.Errorf("%s, which resolves to %s and %s, is judged fine", mixed, text, open)
		}

		rebound := fmt.Sprintf("r%d.example", i)
		dns.Answer(rebound, addr(open), addr(text))
		if err := outward.Global.JudgeHost(t.Context(), dns.Resolver(), rebound); err != nil {
			t.Errorf("%s, at first: %v", rebound, err)
		}
		try("https://" + rebound + "/")
	}
	// Spellings that some resolvers take for numbers, and names of this machine.
	for _, host := range []string{
		"localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "0177.1", "127.0.0.1.", "00000127.0.0.1", "127.000.000.001", "0", "0x0",
		"127.0.0.1.nip.io", "localtest.me", "metadata.google.internal", "metadata", "169.254.43518", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376",
		"１２７.０.０.１", "①②⑦.0.0.1", "127。0。0。1", "[::ffff:127.0.0.1%25lo]", "[::1%25lo]", "[fe80::1%25eth0]", "[0:0:0:0:0:0:0:1]", "[0000::1]", "[::ffff:7f00:0001]",
		"kubernetes.default.svc", "ip6-localhost", "%31%32%37.0.0.1", "8.8.8.8@127.0.0.1", "127.0.0.1#@8.8.8.8", "127.0.0.1?@8.8.8.8", `127.0.0.1\@8.8.8.8`,
	} {
		if !strings.ContainsAny(host, `%[@#?\`) {
			to := "127.0.0.1"
			if strings.Contains(host, "meta") || strings.HasPrefix(host, "169") || strings.HasPrefix(host, "0xa9") {
				to = "169.254.169.254"
			}
			dns.Answer(strings.ToLower(strings.TrimSuffix(host, ".")), addr(to))
		}
		try("https://" + host + "/")
	}
	// http is not for these targets at all.
	for _, url := range []string{"http://8.8.8.8/", "http://127.0.0.1/", "http://n0.example/", "ftp://8.8.8.8/", "file:///etc/passwd", "gopher://127.0.0.1/", "unix:///run/x.sock", "//8.8.8.8/"} {
		try(url)
	}
	if tried < 200 {
		t.Errorf("%d URLs, want at least 200", tried)
	}
	t.Logf("%d URLs", tried)

	// And the spy does see what is allowed.
	for _, text := range public {
		try("https://"+net.JoinHostPort(text, "443")+"/", text)
	}
	dns.Answer("good.example", addr(open))
	try("https://good.example/", open)
}

// The same with real connections: a service of this machine hears nothing, by
// whatever name it is called.
func TestALoopbackServiceHearsNothing(t *testing.T) {
	var heard atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			heard.Add(1)
			c.Close()
		}
	}()
	defer func() { l.Close(); <-done }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	dns := outwardtest.NewDNS(t)
	dns.Answer("localhost", []netip.Addr{netip.MustParseAddr("127.0.0.1")}) // with a dot at its end the hosts file is not asked
	dns.Answer("me.example", []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	config := outward.Config{Secure: outward.Global, Plain: outward.Global, Resolver: dns.Resolver()}
	transport := outward.NewTransport(config)
	names := []string{"127.0.0.1", "localhost", "localhost.", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]", "[::ffff:7f00:1]", "me.example", "me.example."}
	for _, host := range names {
		for _, scheme := range []string{"http", "https"} {
			if err := get(t, transport, scheme+"://"+host+":"+port+"/"); !errors.Is(err, outward.ErrRefused) {
				t.Errorf("%s://%s: %v, want refusal", scheme, host, err)
			}
		}
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	config.Secure = outward.Global | outward.Loopback
	for _, host := range []string{"127.0.0.1", "me.example"} {
		_ = get(t, outward.NewTransport(config), "https://"+host+":"+port+"/")
	}
	if n := heard.Load(); n != 2 {
		t.Errorf("with loopback allowed %d connections, want 2", n)
	}
}

// A configuration that says nothing reaches nobody.
func TestTheZeroConfigReachesNobody(t *testing.T) {
	spied := new(spy)
	transport := outward.Spy(outward.Config{}, spied.connects)
	for _, text := range join(public, loopback, private, reserved, odd) {
		for _, scheme := range []string{"http", "https"} {
			if err := get(t, transport, scheme+"://"+net.JoinHostPort(text, "80")+"/"); !errors.Is(err, outward.ErrRefused) {
				t.Errorf("%s://%s: %v, want refusal", scheme, text, err)
			}
		}
	}
	if seen := spied.take(); len(seen) != 0 {
		t.Errorf("connections to %v", seen)
	}
}

func FuzzJudge(f *testing.F) {
	for _, text := range join(public, loopback, private, reserved, odd) {
		f.Add(netip.MustParseAddr(text).AsSlice())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		// Whatever the tables say, the standard library's idea of an address
		// that is not public is never passed as one.
		u := a.Unmap()
		if outward.Global.Judge(a) == nil && (!u.IsGlobalUnicast() || u.IsPrivate() || u.IsLoopback() || u.IsLinkLocalUnicast()) {
			t.Errorf("%v counts as public", a)
		}
		if outward.Configured.Judge(a) == nil && (u.IsLinkLocalUnicast() || u.IsMulticast() || u.IsUnspecified()) {
			t.Errorf("%v may be configured", a)
		}
	})
}
