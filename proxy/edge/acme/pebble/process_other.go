//go:build !linux

package pebble

import "syscall"

// attributes of a process in a group of its own.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
