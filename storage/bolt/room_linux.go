package bolt

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// FreeSpace is how much may be written below a directory, in bytes.
func FreeSpace(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask %s for its free space: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// roomFor refuses early what the disk would not hold.
func roomFor(dir string, size int64) error {
	free, err := FreeSpace(dir)
	if err != nil {
		return err
	}
	if free < uint64(size) {
		return fmt.Errorf("%s has %d bytes free and %d are needed: make room", dir, free, size)
	}
	return nil
}

// keepOwner gives a new file to whom the one it replaces belongs: an enclave
// could not open what root compacted.
func keepOwner(name string, like os.FileInfo) error {
	s, ok := like.Sys().(*syscall.Stat_t)
	if !ok || int(s.Uid) == os.Geteuid() {
		return nil
	}
	return os.Chown(name, int(s.Uid), int(s.Gid))
}
