package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// readOnly says so once, gives up the reserve, and keeps trying with later
// changes.
func (db *DB) readOnly(cause error) error {
	if err := db.reserve.release(); err != nil {
		db.log.Error("the reserve for the audit log cannot be given up", "err", err)
	}
	if !db.full {
		db.full = true
		db.log.Error("store is read-only until there is room", "error", cause)
	}
	db.metrics.readOnly.Set(1)
	return fmt.Errorf("%w: %v", storage.ErrReadOnly, cause)
}

// fail marks the store as failed and tells OnFail, the first time.
func (db *DB) fail(cause error) error {
	err := fmt.Errorf("%w: %v", storage.ErrFailed, cause)
	if db.failed.CompareAndSwap(nil, &err) {
		db.metrics.failed.Set(1)
		db.log.Error("store failed; stop the program and look at the disk", "error", cause)
		if db.onFail != nil {
			go db.onFail(err)
		}
	}
	return err
}

// failure is what every method answers once the store has failed.
func (db *DB) failure() error {
	if err := db.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// noRoom tells a disk that is full, before anything of the transaction is
// valid, from an unknown state. bbolt writes pages with WriteAt, which gives
// a PathError; its fdatasync gives a bare errno, and after a failed sync
// nothing is known even when the reason is a full disk. The extension of the
// file is reported as text only.
func noRoom(err error) bool {
	var path *fs.PathError
	if errors.As(err, &path) && path.Op == "write" {
		return full(path.Err.Error())
	}
	text, resize := strings.CutPrefix(err.Error(), "file resize error: ")
	return resize && full(text)
}

func full(text string) bool {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if strings.HasSuffix(text, errno.Error()) {
			return true
		}
	}
	return false
}
