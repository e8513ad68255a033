package enclavecmd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// guardMemory keeps what is in memory, keys among it, from the disk and from
// other processes of this user (attack L2): no core dump, whatever the limits
// say that the program was started with, and no reading of /proc/PID/mem and
// environ or attaching of a debugger, but by root.
func guardMemory() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid other processes to read this one's memory: %w", err)
	}
	return nil
}
