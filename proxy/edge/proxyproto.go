package edge

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pires/go-proxyproto"
)

// Bounds of the PROXY protocol's header.
const (
	proxyHeaderTimeout = 5 * time.Second // from accept to its last byte
	maxUnreadHeaders   = 256             // connections of proxies that have sent none yet
)

var (
	// errHealthCheck is a connection that a proxy made for itself.
	errHealthCheck = errors.New("edge: the proxy connects for nobody")
	// errProxyHeader has no detail, as it would be text from the network.
	errProxyHeader = errors.New("edge: the PROXY header names no caller")
)

// readProxyHeader reads a header of the PROXY protocol, version 1 or 2, and
// returns the caller that it names. Taken is TCP over IPv4 or IPv6; LOCAL,
// UNKNOWN and an end before the first byte are errHealthCheck, everything else
// (datagrams, Unix sockets, bad lengths, an address that is no machine's) is
// errProxyHeader. The reader may have read more than the header.
//
// Version 2 may be at most as long as the library takes, 4 KiB, of which
// nothing but the address is used.
func readProxyHeader(r *bufio.Reader) (netip.AddrPort, error) {
	if _, err := r.Peek(1); err != nil {
		return netip.AddrPort{}, silence(err)
	}
	header, err := proxyproto.Read(r)
	if err != nil {
		return netip.AddrPort{}, errProxyHeader
	}
	if !header.Command.IsProxy() {
		return netip.AddrPort{}, errHealthCheck
	}
	if _, err := header.TLVs(); err != nil {
		return netip.AddrPort{}, errProxyHeader
	}
	return namedCaller(header)
}

// silence tells a connection that was only opened, as health checks do, from
// one that was held open.
func silence(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errProxyHeader
	}
	return errHealthCheck
}

func namedCaller(header *proxyproto.Header) (netip.AddrPort, error) {
	tcp, _, ok := header.TCPAddrs()
	if !ok {
		return netip.AddrPort{}, errProxyHeader
	}
	addr, ok := netip.AddrFromSlice(tcp.IP)
	if !ok || !isCaller(addr) || tcp.Port <= 0 || tcp.Port > 0xffff {
		return netip.AddrPort{}, errProxyHeader
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(tcp.Port)), nil
}

// proxied is a connection through a proxy: its other end is the caller that
// the proxy named, and what was read with the header is read first.
type proxied struct {
	net.Conn
	caller netip.AddrPort
	rest   []byte // only Read uses it
}

// unwrapProxy reads the header from a proxy's connection, for 5 s at most.
func unwrapProxy(conn net.Conn) (*proxied, error) {
	if err := conn.SetReadDeadline(time.Now().Add(proxyHeaderTimeout)); err != nil {
		return nil, errHealthCheck
	}
	r := bufio.NewReaderSize(conn, 512)
	caller, err := readProxyHeader(r)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, errProxyHeader
	}
	rest, _ := r.Peek(r.Buffered())
	return &proxied{Conn: conn, caller: caller, rest: rest}, nil
}

// Read is for one caller at a time, as TLS reads.
func (p *proxied) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.rest)
	if p.rest = p.rest[n:]; len(p.rest) == 0 {
		p.rest = nil // the buffer is not kept
	}
	return n, nil
}

// RemoteAddr is the caller's.
func (p *proxied) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.caller) }
