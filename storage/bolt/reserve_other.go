//go:build !linux

package bolt

import "os"

// allocate makes the file long; whether blocks are set aside is up to the filesystem.
var allocate = func(f *os.File, size int64) error { return f.Truncate(size) }
