package bolt

import "golang.org/x/sys/unix"

// PretendFilesystem has every directory on a filesystem of that number.
func PretendFilesystem(magic int64) (restore func()) {
	kept := statfs
	statfs = func(_ string, s *unix.Statfs_t) error {
		s.Type = magic
		return nil
	}
	return func() { statfs = kept }
}
