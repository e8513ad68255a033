//go:build !linux

package sandbox

import (
	"os/exec"
	"syscall"
)

// spawn starts a process in a group of its own, so that a terminal's Ctrl-C
// reaches only the one who started it, who ends it in order.
func spawn() func(*exec.Cmd) error {
	return func(c *exec.Cmd) error {
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return c.Start()
	}
}
