package edge

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// admitLast lets no new connection begin, and waits until those that the
// kernel holds ready were accepted: closing the socket would reset them, with
// the request that their callers have sent.
//
// The kernel is told to drop what still comes for the listening socket by
// asking for the highest time to live (RFC 5082), which no caller's packets
// have. Such a caller tries again, as after any lost packet, and finds the
// port closed. Where that cannot be asked nothing is different but the
// protection.
func admitLast(ctx context.Context, l *lastListener) {
	raw := rawOf(l.Listener)
	if raw == nil {
		return
	}
	l.closing.Store(true)
	minTTL(raw, 255)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	// Three times in a row, since the one accepted last has to reach the server.
	for empty := 0; empty < 3; empty++ {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if backlog(raw) > 0 {
			empty = 0
		}
	}
}

// letTalk undoes for a connection what it took over from its listener.
func letTalk(c net.Conn) {
	if raw := rawOf(c); raw != nil {
		minTTL(raw, 0)
	}
}

func rawOf(socket any) syscall.RawConn {
	switch ours := socket.(type) {
	case *gate:
		socket = ours.Listener
	case *admitted:
		socket = ours.Conn
	}
	s, ok := socket.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// minTTL sets it for both families; a socket may serve both. One that is
// neither has none, and an error of it means just that.
func minTTL(raw syscall.RawConn, ttl int) {
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MINTTL, ttl)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, ttl)
	})
}

// backlog is how many connections wait to be accepted: for a listening socket
// tcp_info counts them as unacked.
func backlog(raw syscall.RawConn) (n uint32) {
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = info.Unacked
		}
	})
	return n
}
