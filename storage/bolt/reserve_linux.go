package bolt

import (
	"os"

	"golang.org/x/sys/unix"
)

// allocate has the filesystem set blocks aside for a file; it is another one in a test.
var allocate = func(f *os.File, size int64) error { return unix.Fallocate(int(f.Fd()), 0, 0, size) }
