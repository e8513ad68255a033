package bolt

import (
	"os"

	"golang.org/x/sys/unix"
)

// PretendFilesystem has every directory on a filesystem of that number.
func PretendFilesystem(magic int64) (restore func()) {
	kept := statfs
	statfs = func(_ string, s *unix.Statfs_t) error {
		s.Type = magic
		return nil
	}
	return func() { statfs = kept }
}

// PretendAllocate has the reserve taken by another function.
func PretendAllocate(fn func(f *os.File, size int64) error) (restore func()) {
	kept := allocate
	allocate = fn
	return func() { allocate = kept }
}
