//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package central

import "os"

// lockFile only opens the file: on this system two processes are not kept
// apart.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
