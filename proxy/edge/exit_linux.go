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
// The kernel is told to drop what still comes for the listening socket, by a
// filter that takes no byte of any packet. A caller then tries again, as after
// any lost packet, and finds the port closed. Where filters are not allowed
// nothing is different but the protection.
func admitLast(ctx context.Context, l net.Listener) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil || !dropNew(raw) {
		return
	}
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for looks := 0; looks < 2 || backlog(raw) > 0; looks++ { // twice: the last one has to reach the server
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

func dropNew(raw syscall.RawConn) bool {
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	program := unix.SockFprog{Len: 1, Filter: &nothing}
	err := unix.EINVAL
	if control := raw.Control(func(fd uintptr) {
		if unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program) == nil {
			err = 0
		}
	}); control != nil {
		return false
	}
	return err == 0
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
