package outward

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// ErrSpied ends a connection that was about to be made.
var ErrSpied = errors.New("spied")

// Spy is NewTransport whose dialers tell, instead of connecting, which address
// they were about to connect to: the rules have passed it.
func Spy(c Config, connects func(secure bool, to netip.AddrPort)) *http.Transport {
	if c.Trust == nil {
		c.Trust = NewTrust(nil, nil)
	}
	spied := func(allowed Class, secure bool) dial {
		d := c.dialer(allowed)
		judge := d.ControlContext
		d.ControlContext = func(ctx context.Context, network, address string, raw syscall.RawConn) error {
			if err := judge(ctx, network, address, raw); err != nil {
				return err
			}
			connects(secure, netip.MustParseAddrPort(address))
			return ErrSpied
		}
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			return d.DialContext(ctx, network, address)
		}
	}
	t := NewTransport(c)
	t.DialContext, t.DialTLSContext = spied(c.Plain, false), spied(c.Secure, true)
	return t
}
