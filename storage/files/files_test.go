package files_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage/files"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// A lock is of one opening of the file, and ends with it.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, second := open(t, path), open(t, path)
	if err := files.Lock(first); err != nil {
		t.Fatal(err)
	}
	if err := files.Lock(second); !errors.Is(err, files.ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := files.Lock(second); err != nil {
		t.Errorf("after the first was closed: %v", err)
	}
}

func TestSync(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, open(t, filepath.Join(dir, "file")).Name()} {
		if err := files.Sync(path); err != nil {
			t.Error(err)
		}
	}
	if err := files.Sync(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}
