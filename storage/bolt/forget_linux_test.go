package bolt_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// forgetFile has the system forget what it keeps of a closed file in memory.
func forgetFile(tb testing.TB, path string) {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()); err != nil {
		tb.Fatal(err)
	}
}
