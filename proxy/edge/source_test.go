package edge_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// The honest caller gets in by each of the ways, and is known by its own
// address from then on.
func TestTheHonestCallerGetsInThroughAProxy(t *testing.T) {
	w := newSourceWorld(t, edge.Sources{ProxyProtocol: true})
	for name, header := range map[string]string{
		"version 1":          "PROXY TCP4 127.0.0.3 127.0.0.2 4000 8443\r\n",
		"version 1, mapped":  "PROXY TCP6 ::ffff:127.0.0.3 ::1 4000 8443\r\n",
		"version 2":          v2(0x21, 0x11, block4(member, 4000), ""),
		"version 2, mapped":  v2(0x21, 0x21, block6(netip.MustParseAddr("::ffff:127.0.0.3"), 4000), ""),
		"version 2, options": v2(0x21, 0x11, block4(member, 4000), "\x04\x00\x00\x02\x00\x03abc\xea\x00\x04vpce"),
	} {
		for _, protocol := range []string{"http/1.1", "h2"} {
			r, err := w.clientBehind(balancer, header, protocol).Get("https://" + w.addr + "/hello")
			if err != nil {
				t.Errorf("%s, %s: %v", name, protocol, err)
				continue
			}
			if got, want := read(t, r), "GET /hello from "+member; got != want {
				t.Errorf("%s, %s: %q, want %q", name, protocol, got, want)
			}
		}
	}
}

func TestTheHonestCallerIsForwarded(t *testing.T) {
	for _, c := range []struct{ header, value string }{
		{"X-Forwarded-For", "127.0.0.3"},
		{"X-Forwarded-For", "::ffff:127.0.0.3"},
		{"X-Forwarded-For", "198.51.100.1, 2001:db8::1,127.0.0.3"},
		{"X-Forwarded-For", "198.51.100.1, 127.0.0.3, 127.0.0.8"},
		{"x-forwarded-for", "127.0.0.3 ,\t127.0.0.8, 127.0.0.7"},
		{"X-Real-IP", "127.0.0.3"},
		{"CF-Connecting-IP", "127.0.0.3"},
		{"Forwarded", "for=127.0.0.3"},
		{"Forwarded", `For="127.0.0.3:47011";proto=https;by=127.0.0.7`},
		{"Forwarded", `for="[2001:db8::1]:47011", for="[::ffff:127.0.0.3]";host="vasp.example:8443", for=127.0.0.8`},
	} {
		w := newSourceWorld(t, edge.Sources{ForwardedHeader: c.header})
		for _, protocol := range []string{"http/1.1", "h2"} {
			q, _ := http.NewRequest("GET", "https://"+w.addr+"/hello", nil)
			q.Header.Set(c.header, c.value)
			r, err := w.client(balancer, protocol).Do(q)
			if err != nil {
				t.Errorf("%s: %s, %s: %v", c.header, c.value, protocol, err)
				continue
			}
			if got, want := read(t, r), "GET /hello from "+member; got != want {
				t.Errorf("%s: %s, %s: %q, want %q", c.header, c.value, protocol, got, want)
			}
		}
	}
}

// Whoever is no proxy is known by its socket: a member's header is not read.
func TestAMembersOwnHeaderIsIgnored(t *testing.T) {
	w := newSourceWorld(t, edge.Sources{ForwardedHeader: "X-Forwarded-For"})
	for _, value := range []string{"127.0.0.9", "nonsense", "127.0.0.9, 127.0.0.7"} {
		q, _ := http.NewRequest("GET", "https://"+w.addr+"/", nil)
		q.Header.Set("X-Forwarded-For", value)
		r, err := w.client(member, "http/1.1").Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := read(t, r), "GET / from "+member; got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// A proxy that is slow with its header holds up nobody, gets no byte, and is
// closed after 5 s.
func TestASlowProxyHeaderHoldsUpNobody(t *testing.T) {
	t.Parallel() // with nothing but its own 5 s
	w := newSourceWorld(t, edge.Sources{ProxyProtocol: true})
	var slow []net.Conn
	for _, part := range []string{"", "P", "\r\n\r\n\x00", v2(0x21, 0x11, block4(member, 4000), "")[:20], v2(0x21, 0x11, block4(member, 4000), "")[:27]} {
		conn := dial(t, balancer, w.addr)
		_, _ = io.WriteString(conn, part)
		slow = append(slow, conn)
	}
	r, err := w.clientBehind(balancer, "PROXY TCP4 127.0.0.3 127.0.0.2 4000 8443\r\n", "h2").Get("https://" + w.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	read(t, r)
	if n := w.refused("proxy-header"); n != 0 {
		t.Errorf("%v of the slow ones are gone already", n)
	}
	for i, conn := range slow {
		if got, _ := io.ReadAll(conn); len(got) != 0 {
			t.Errorf("the slow proxy %d was sent % x", i, got)
		}
	}
	w.wantRefused("proxy-header", float64(len(slow)))
}

// A header that comes in pieces is one header: the network may cut it.
func TestAProxyHeaderMayComeInPieces(t *testing.T) {
	w := newSourceWorld(t, edge.Sources{ProxyProtocol: true})
	conn := dial(t, balancer, w.addr)
	for _, b := range []byte(v2(0x21, 0x11, block4(member, 4000), "")) {
		_, _ = conn.Write([]byte{b})
	}
	if err := tls.Client(conn, &tls.Config{RootCAs: w.roots, ServerName: server}).HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
}

// Connections that send no header are bounded in number, and once they are gone
// their places are free.
func TestUnreadProxyHeadersAreBounded(t *testing.T) {
	w := newSourceWorld(t, edge.Sources{ProxyProtocol: true})
	var idle []net.Conn
	for range 256 + 3 {
		idle = append(idle, dial(t, balancer, w.addr))
	}
	w.wantRefused("total-limit", 3)
	for _, conn := range idle {
		conn.Close()
	}
	w.wantRefused("health-check", 256)
	w.mustShakeBehind("PROXY TCP4 127.0.0.3 127.0.0.2 4000 8443\r\n")
}

// Limits count the caller that is named, not the proxy that all come through.
func TestLimitsCountTheNamedCaller(t *testing.T) {
	w := newWorld(t, edge.Config{MaxConnsPerSource: 1, Sources: edge.Sources{Proxies: mustParse(t, balancer), ProxyProtocol: true}})
	const first, second = "PROXY TCP4 127.0.0.3 127.0.0.2 4000 8443\r\n", "PROXY TCP4 127.0.0.4 127.0.0.2 4000 8443\r\n"
	w.mustShakeBehind(first)
	w.mustShakeBehind(second)
	if _, err := w.shakeBehind(first, &tls.Config{}); err == nil {
		t.Error("a second connection of one caller was served")
	}
	w.wantRefused("source-limit", 1)
}

// A refusal's log line names the caller and the proxy, and never what was in a
// header otherwise.
func TestARefusalNamesBothAddresses(t *testing.T) {
	w := newSourceWorld(t, edge.Sources{ProxyProtocol: true})
	w.refusedSilently("balancer", balancer, "PROXY TCP4 127.0.0.9 127.0.0.2 4000 8443\r\n", "stranger")
	w.refusedSilently("balancer", balancer, "PROXY TCP4 forged 127.0.0.2 4000 8443\r\n", "proxy-header")
	f := newSourceWorld(t, edge.Sources{ForwardedHeader: "X-Forwarded-For"})
	conn := f.mustTLS(balancer)
	f.forbidden("balancer", conn, "X-Forwarded-For: 127.0.0.9\r\n", "request")
	f.forbidden("balancer", conn, "X-Forwarded-For: forged\r\n", "forwarded-header")
	for name, log := range map[string]string{"PROXY protocol": w.log.String(), "header": f.log.String()} {
		if !strings.Contains(log, "address=127.0.0.9 proxy=127.0.0.7") {
			t.Errorf("%s: log %q lacks both addresses", name, log)
		}
		if strings.Contains(log, "forged") {
			t.Errorf("%s: log %q holds what was forged", name, log)
		}
	}
}

// While the list only reports, strangers are let in and counted, and what
// names no caller is refused as ever.
func TestAListThatOnlyReports(t *testing.T) {
	w := newSourceWorld(t, edge.Sources{ReportOnly: true})
	r, err := w.client(stranger, "h2").Get("https://" + w.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, r), "GET / from "+stranger; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	w.wantGauge("enclave_allowlist_would_refuse_total", 1)
	w.wantGauge("enclave_allowlist_report_only", 1)
	if log := w.log.String(); !strings.Contains(log, "would be refused") || !strings.Contains(log, "address=127.0.0.9") {
		t.Errorf("log %q does not say who would be refused", log)
	}

	p := newSourceWorld(t, edge.Sources{ReportOnly: true, ProxyProtocol: true})
	p.mustShakeBehind("PROXY TCP4 127.0.0.9 127.0.0.2 4000 8443\r\n")
	p.wantGauge("enclave_allowlist_would_refuse_total", 1)
	p.refusedSilently("balancer", balancer, "PROXY TCP4 x 127.0.0.2 4000 8443\r\n"+clientHello(), "proxy-header")
	p.refusedSilently("stranger", stranger, "PROXY TCP4 127.0.0.3 127.0.0.2 4000 8443\r\n"+clientHello(), "stranger")

	f := newSourceWorld(t, edge.Sources{ReportOnly: true, ForwardedHeader: "X-Forwarded-For"})
	conn := f.mustTLS(balancer)
	if response := f.raw(conn, "X-Forwarded-For: 127.0.0.9\r\n"); response == nil || response.StatusCode != http.StatusOK {
		t.Errorf("a forwarded stranger: %v", response)
	}
	f.wantGauge("enclave_allowlist_would_refuse_total", 1)
	f.forbidden("balancer", conn, "X-Forwarded-For: x\r\n", "forwarded-header")
}

// Strangers who are let in leave members half of the places.
func TestReportedStrangersTakeHalfOfThePlaces(t *testing.T) {
	w := newWorld(t, edge.Config{MaxConns: 4, Sources: edge.Sources{ReportOnly: true}})
	w.mustTLS(stranger)
	w.mustTLS(stranger)
	if _, err := w.handshake(stranger, &tls.Config{}); err == nil {
		t.Error("strangers took more than half of the places")
	}
	w.mustTLS(member)
	w.mustTLS(member)
}

// A validator that comes through the balancer gets as far as any.
func TestAValidatorComesThroughTheBalancer(t *testing.T) {
	w := newSourceWorld(t, edge.Sources{ProxyProtocol: true})
	const header = "PROXY TCP4 127.0.0.9 127.0.0.2 4000 8443\r\n"
	validator := &tls.Config{ServerName: "vasp.example", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}}
	if _, err := w.shakeBehind(header, validator); err == nil {
		t.Error("a validator passed when none is expected")
	}
	w.certs.challenge.Store(true)
	state, err := w.shakeBehind(header, validator)
	if err != nil || state.NegotiatedProtocol != "acme-tls/1" {
		t.Errorf("validator: %v, %q", err, state.NegotiatedProtocol)
	}
	if _, err := w.shakeBehind(header, &tls.Config{ServerName: "vasp.example", InsecureSkipVerify: true}); err == nil {
		t.Error("a stranger who is no validator got a handshake")
	}
	w.wantRefused("hello", 1)
}

// A listener that is to take a caller's name from nobody, or from two places,
// does not open.
func TestSourcesThatFitNothingAreRefused(t *testing.T) {
	nobody := mustParse(t, "")
	for name, s := range map[string]edge.Sources{
		"PROXY protocol of nobody": {ProxyProtocol: true},
		"header of nobody":         {ForwardedHeader: "X-Forwarded-For"},
		"both":                     {Proxies: nobody, ProxyProtocol: true, ForwardedHeader: "X-Forwarded-For"},
	} {
		if l, err := edge.Listen(t.Context(), edge.Config{Address: server + ":0", Sources: s}); err == nil {
			l.Close()
			t.Errorf("%s: a listener opened", name)
		}
	}
	w := newWorld(t, edge.Config{Sources: edge.Sources{Proxies: nobody, ProxyProtocol: true}})
	w.refusedSilently("proxies without entries", balancer, "PROXY TCP4 127.0.0.3 127.0.0.2 4000 8443\r\n"+clientHello(), "stranger")
}

// Stopping does not wait for headers that never come, and leaves no goroutine.
func TestStoppingGivesUpUnreadHeaders(t *testing.T) {
	w := newSourceWorld(t, edge.Sources{ProxyProtocol: true})
	conn := dial(t, balancer, w.addr)
	r, err := w.clientBehind(balancer, "PROXY TCP4 127.0.0.3 127.0.0.2 4000 8443\r\n", "h2").Get("https://" + w.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	read(t, r)
	w.stop()
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("the waiting proxy was sent % x", got)
	}
	select {
	case <-w.served:
	case <-t.Context().Done():
		t.Error("Serve did not return")
	}
}

// On a socket for both families IPv4 callers are judged as IPv4, and IPv6
// callers as IPv6 (threats 1.6.9).
func TestADualStackSocketKnowsIPv4Callers(t *testing.T) {
	w := newWorld(t, edge.Config{Address: "[::]:0"})
	_, port, _ := net.SplitHostPort(w.addr)
	w.addr = net.JoinHostPort(server, port)
	r, err := w.client(member, "http/1.1").Get("https://" + w.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	read(t, r)
	w.refusedSilently("mapped", stranger, clientHello(), "stranger")

	w.addr = net.JoinHostPort("::1", port)
	w.refusedSilently("IPv6", "::1", clientHello(), "stranger")
	w.allow.Swap(mustParse(t, "::2, ::ffff:0:1"))
	w.refusedSilently("IPv6", "::1", clientHello(), "stranger")
	w.allow.Swap(mustParse(t, "::1"))
	if got := w.exchange("::1", clientHello()); !strings.HasPrefix(got, "\x16\x03") {
		t.Errorf("an IPv6 caller on the list was sent % .20x, want a handshake", got)
	}
	w.addr = net.JoinHostPort("127.0.0.1", port)
	w.refusedSilently("IPv4 loopback", "127.0.0.1", clientHello(), "stranger")
}

func TestTheListsSizeIsAMetric(t *testing.T) {
	w := newWorld(t, edge.Config{})
	w.wantGauge("enclave_allowlist_entries", 3)
	w.wantGauge("enclave_allowlist_report_only", 0)
	w.allow.Swap(mustParse(t, member))
	w.wantGauge("enclave_allowlist_entries", 1)
	w.allow.Swap(nil)
	w.wantGauge("enclave_allowlist_entries", 0)
}

func TestNamesOfForwardingHeaders(t *testing.T) {
	for _, name := range []string{"X-Forwarded-For", "x-real-ip", "Forwarded", "CF-Connecting-IP"} {
		if err := edge.CheckForwardedHeader(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "X Forwarded For", "X_Forwarded_For", "X-Forwarded-For:", "X-Forwarded-For,X-Real-IP", "host", "AUTHORIZATION", "Signature", "X-Real-IP\r\n", "ſ"} {
		if edge.CheckForwardedHeader(name) == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func (w *world) clientBehind(proxy, header, protocol string) *http.Client {
	client := w.client(proxy, protocol)
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialerFrom(proxy).DialContext(ctx, network, addr)
		if err == nil {
			_, err = io.WriteString(conn, header)
		}
		return conn, err
	}
	return client
}

// shakeBehind makes a TLS connection through the balancer, which stays open.
func (w *world) shakeBehind(header string, c *tls.Config) (tls.ConnectionState, error) {
	w.t.Helper()
	conn := dial(w.t, balancer, w.addr)
	if _, err := io.WriteString(conn, header); err != nil {
		return tls.ConnectionState{}, err
	}
	c = c.Clone()
	if c.RootCAs = w.roots; c.ServerName == "" {
		c.ServerName = server
	}
	client := tls.Client(conn, c)
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	err := client.HandshakeContext(ctx)
	return client.ConnectionState(), err
}

func (w *world) mustShakeBehind(header string) {
	w.t.Helper()
	if _, err := w.shakeBehind(header, &tls.Config{}); err != nil {
		w.t.Fatalf("handshake behind %q: %v", header, err)
	}
}

func (w *world) wantGauge(name string, want float64) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%s = %v", name, want), func() bool {
		families, err := w.registry.Gather()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == name {
				m := f.GetMetric()[0]
				return m.GetGauge().GetValue()+m.GetCounter().GetValue() == want
			}
		}
		return false
	})
}
