//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package auditsink

import (
	"errors"
	"os"
	"syscall"
)

// lock keeps another enclave from writing between our lines, until the file is
// closed.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.New("another program writes to " + f.Name() + "; give each enclave a file of its own")
	}
	return err
}
