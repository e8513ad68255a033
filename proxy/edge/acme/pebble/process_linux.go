package pebble

import "syscall"

// attributes of a process that the kernel kills when the thread that started
// it ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
