//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package central

import (
	"errors"
	"os"
	"syscall"
)

// lockFile keeps other processes out until the file is closed or the process
// ends, however it ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another central uses it; stop that one first")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
