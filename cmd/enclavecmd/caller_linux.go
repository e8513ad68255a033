package enclavecmd

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// caller is the user at the other end of a Unix socket.
func caller(c net.Conn) string {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return "unknown"
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return "unknown"
	}
	name := "unknown"
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			name = fmt.Sprintf("uid %d", peer.Uid)
		}
	})
	return name
}
