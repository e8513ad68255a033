package enclavecmd

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// container is a root with the given control groups.
func container(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestMemoryLimit(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"of the container itself": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n"}, 512 << 20},
		"of a slice around it": {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "1000000\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n"}, 1000000},
		"the least counts": {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "1000000\n",
			"sys/fs/cgroup/a/b/memory.max": "500000\n"}, 500000},
		"none":          {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0},
		"version 1":     {map[string]string{"proc/self/cgroup": "4:memory:/a\n", "sys/fs/cgroup/a/memory.max": "1\n"}, 0},
		"not mounted":   {map[string]string{"proc/self/cgroup": "0::/a\n"}, 0},
		"outside of it": {map[string]string{"proc/self/cgroup": "0::/../../a\n", "sys/fs/cgroup/a/memory.max": "700000\n"}, 700000},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := memoryLimit(container(t, c.files)); err != nil || got != c.want {
				t.Errorf("%d, %v, want %d", got, err, c.want)
			}
		})
	}
}

func TestLimitMemoryTellsTheRuntime(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	root := container(t, map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "8000000000\n"})
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	limitMemory(root, []string{"GOMEMLIMIT=1GiB"}, logger)
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("GOMEMLIMIT is set, and the limit became %d", got)
	}
	limitMemory(root, nil, logger)
	if got := debug.SetMemoryLimit(-1); got != 7_200_000_000 || !strings.Contains(log.String(), "limit_bytes=7200000000") {
		t.Errorf("the limit is %d, the log says %q", got, log.String())
	}
}
