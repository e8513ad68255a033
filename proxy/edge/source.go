package edge

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Sources says by what a caller's address is known when other machines stand
// between the caller and us (threats 1.6.9). Its zero value takes the address
// of the socket's other end and no word of anybody.
type Sources struct {
	// Proxies are the machines that may name a caller: by ProxyProtocol or by
	// ForwardedHeader. Nil holds none. They are no callers themselves.
	Proxies Addresses

	// ProxyProtocol wants a PROXY header, version 1 or 2, in front of TLS. Only
	// Proxies may connect then.
	ProxyProtocol bool

	// ForwardedHeader is the one header of HTTP in which Proxies, which open TLS
	// connections of their own, name the caller; empty reads none. Whoever is
	// no proxy is known by its socket as ever, whatever headers it sends.
	ForwardedHeader string

	// ReportOnly lets callers in that are on no list, and counts them. What
	// names no caller, such as a malformed header, is refused nevertheless.
	ReportOnly bool
}

func (s Sources) check() error {
	switch {
	case s.ProxyProtocol && s.ForwardedHeader != "":
		return errors.New("public listener: a caller is named by the PROXY protocol or by a header, not by both")
	case s.Proxies == nil && (s.ProxyProtocol || s.ForwardedHeader != ""):
		return errors.New("public listener: nobody is trusted to name callers")
	}
	return nil
}

// sources is the one place that decides who calls, and whether it may.
// Methods may be called concurrently.
type sources struct {
	Sources
	allow Addresses
}

// isProxy tells whether the machine at peer may name callers.
func (s *sources) isProxy(peer netip.Addr) bool {
	return s.Proxies != nil && s.Proxies.Contains(peer)
}

// listed tells whether caller is on the list.
func (s *sources) listed(caller netip.Addr) bool { return s.allow.Contains(caller) }

// mayCall tells whether caller is let in: it is listed, or the list only
// reports. An address that is none is never let in.
func (s *sources) mayCall(caller netip.Addr) bool {
	return s.listed(caller) || s.ReportOnly && caller.IsValid()
}

// mayShake tells whether the other end of a connection gets a handshake: a
// caller that may call, or a proxy that will name one in each request.
func (s *sources) mayShake(source netip.Addr) bool {
	return s.mayCall(source) || s.namesInHeader(source)
}

func (s *sources) namesInHeader(peer netip.Addr) bool {
	return s.ForwardedHeader != "" && s.isProxy(peer)
}

// caller is who made a request: the other end of its connection, or whom that
// names if it is a proxy. A reason says why there is none, or why it may not
// call.
func (s *sources) caller(r *http.Request) (netip.Addr, reason) {
	caller := requestAddress(r)
	if s.namesInHeader(caller) {
		var err error
		if caller, err = forwardedFor(s.ForwardedHeader, r.Header, s.Proxies); err != nil {
			return netip.Addr{}, reasonForwarded
		}
	}
	if !s.mayCall(caller) {
		return caller, reasonRequest
	}
	return caller, ""
}

// identify finds out who made a request and writes it into RemoteAddr, for
// everything after. When that is nobody who may call, it answers 403 and
// returns false. The connection of a proxy is kept for its other callers.
func (e *Listener) identify(w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	peer := requestAddress(r)
	caller, why := e.gate.sources.caller(r)
	proxy := netip.Addr{}
	if e.gate.sources.namesInHeader(peer) {
		proxy = peer
	}
	if why != "" {
		e.gate.refuseVia(why, caller, proxy)
		if !proxy.IsValid() {
			w.Header().Set("Connection", "close")
		}
		http.Error(w, "forbidden", http.StatusForbidden)
		return r, false
	}
	if proxy.IsValid() {
		if !e.gate.sources.listed(caller) {
			e.gate.report(caller)
		}
		r = r.WithContext(r.Context()) // a copy: net/http goes on to use its own
		r.RemoteAddr = netip.AddrPortFrom(caller, 0).String()
	}
	return r, true
}

// list is the metrics about the list itself; it returns the counter of those
// whom the list only reports.
func (m *metrics) list(c Config) prometheus.Counter {
	wouldRefuse := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: c.Namespace, Name: "allowlist_would_refuse_total",
		Help: "Connections, and with a forwarding header requests, of addresses on no list that were let in because the list only reports.",
	})
	reportOnly := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: c.Namespace, Name: "allowlist_report_only", Help: "1 while addresses on no list are let in and only reported.",
	})
	if c.Sources.ReportOnly {
		reportOnly.Set(1)
	}
	if c.Metrics == nil {
		return wouldRefuse
	}
	c.Metrics.MustRegister(wouldRefuse, reportOnly)
	if counted, ok := c.Allow.(interface{ Len() int }); ok {
		c.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: c.Namespace, Name: "allowlist_entries", Help: "Addresses and ranges that may connect; 0 is nobody.",
		}, func() float64 { return float64(counted.Len()) }))
	}
	return wouldRefuse
}

// addressOf is the IP address of a socket's other end, the zero Addr when
// there is none. IPv4 is never returned in IPv6 clothes.
func addressOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// requestAddress is the address of a request's connection, as net/http took it
// from the socket, or of the caller once that is known.
func requestAddress(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}

// isCaller tells whether addr is one that a caller can have: of one machine,
// and not of an interface of ours.
func isCaller(addr netip.Addr) bool {
	plain := addr.Unmap() // which forgets a zone
	return addr.IsValid() && addr.Zone() == "" && !plain.IsUnspecified() && !plain.IsMulticast()
}

// CheckForwardedHeader tells whether name can be a ForwardedHeader.
func CheckForwardedHeader(name string) error {
	switch {
	case name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "":
		return errors.New("is not the name of one HTTP header, such as X-Forwarded-For")
	case notForwarding[http.CanonicalHeaderKey(name)]:
		return errors.New("names a header that callers send for something else; give the one in which your proxy names the caller, such as X-Forwarded-For")
	}
	return nil
}

// notForwarding are headers that say nothing of who calls.
var notForwarding = map[string]bool{
	"Host": true, "Authorization": true, "Connection": true, "Content-Length": true, "Content-Type": true, "Content-Digest": true, "Cookie": true,
	"Date": true, "Signature": true, "Signature-Input": true, "Transfer-Encoding": true, "User-Agent": true,
	"X-Forwarded-Host": true, "X-Forwarded-Proto": true, "X-Forwarded-Port": true, "Via": true,
}
