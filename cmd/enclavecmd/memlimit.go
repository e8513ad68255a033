package enclavecmd

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// memoryShare is how much of the container's memory the garbage collector may
// let the heap fill, in percent. The rest is for what it does not count: the
// mapped history, and stacks of C libraries.
const memoryShare = 90

// limitMemory tells the garbage collector the limit of the container that the
// program runs in, so that it works harder before the kernel kills the
// program. A limit that GOMEMLIMIT sets is left alone. GOMAXPROCS needs no
// such help: the runtime follows the container's share of processors.
func limitMemory(root string, environ []string, logger *slog.Logger) {
	for _, e := range environ {
		if strings.HasPrefix(e, "GOMEMLIMIT=") {
			return
		}
	}
	limit, err := memoryLimit(root)
	switch {
	case err != nil:
		logger.Debug("the container's memory limit cannot be read", "err", err)
	case limit > 0:
		share := limit / 100 * memoryShare
		debug.SetMemoryLimit(share)
		logger.Info("memory limit follows the container's", "container_bytes", limit, "limit_bytes", share)
	}
}

// memoryLimit is the least limit of memory, in bytes, of the control group
// (version 2) that this process is in and of those around it; 0 when there is
// none. root is / but in tests.
func memoryLimit(root string) (int64, error) {
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(groups)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return leastLimit(filepath.Join(root, "sys/fs/cgroup"), filepath.Clean("/"+path))
		}
	}
	return 0, nil // version 1
}

func leastLimit(mount, group string) (int64, error) {
	least := int64(math.MaxInt64)
	for {
		text, err := os.ReadFile(filepath.Join(mount, group, "memory.max"))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // the root has none
			return 0, err
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // else max
			least = min(least, n)
		}
		if group == "/" {
			break
		}
		group = filepath.Dir(group)
	}
	if least == math.MaxInt64 {
		return 0, nil
	}
	return least, nil
}
