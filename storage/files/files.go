// Package files is what plain files need to last and to have one writer.
package files

import (
	"errors"
	"os"
)

// ErrLocked says that another process has the lock.
var ErrLocked = errors.New("another process has it locked")

// Sync makes what a file holds outlast a power cut, or, of a directory, the
// names in it: after a file was made there, renamed or linked.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
