//go:build !linux

package bolt

import (
	"errors"
	"os"
)

// FreeSpace is not known here.
func FreeSpace(string) (uint64, error) { return 0, errors.ErrUnsupported }

// roomFor leaves it to the write to fail.
func roomFor(string, int64) error { return nil }

func keepOwner(string, os.FileInfo) error { return nil }
