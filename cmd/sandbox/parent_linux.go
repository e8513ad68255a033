package sandbox

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// spawn starts a process that the kernel kills when this one ends, however it
// ends. The kernel's promise is about the starting thread, so one thread
// starts them all and lives as long as the process.
var spawn = sync.OnceValue(func() func(*exec.Cmd) error {
	type order struct {
		command *exec.Cmd
		started chan error
	}
	orders := make(chan order)
	go func() {
		runtime.LockOSThread()
		for o := range orders {
			o.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
			o.started <- o.command.Start()
		}
	}()
	return func(c *exec.Cmd) error {
		o := order{c, make(chan error)}
		orders <- o
		return <-o.started
	}
})
