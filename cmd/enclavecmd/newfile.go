package enclavecmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vasp-enclave/vasp-enclave/storage/files"
)

// newFile leaves a file that write has filled under the name, readable by this
// user only and on the disk, or none. What is there already stays; what says
// what would have replaced it.
func newFile(name, what string, write func(*os.File) error) error {
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("%s is there already; %s replaces nothing", name, what)
	}
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*.part") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return files.Sync(dir)
}
