package enclavecmd

import (
	"io"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// storedRow is a row as it lies in a history's file, which a running enclave
// holds locked: a copy is read, without its key.
func storedRow(database, id string) ([]byte, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(database), "copy-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, filepath.Base(database))
	if err := copyFile(copied, database); err != nil {
		return nil, err
	}
	return bolt.Sealed(copied, parsed)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
