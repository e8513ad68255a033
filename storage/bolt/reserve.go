package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// A reserve is room on the disk that is given up when the disk is full, so
// that what only writes to the audit log, such as an operator's look or a
// backup, is still possible: nothing may happen without its entry. Changes of
// other kinds are refused until the reserve is whole again, which is how the
// store finds out that there is room.
type reserve struct {
	path string
	size int64 // bytes
	held bool
}

// hold takes the room, if it is not held. Only the writer calls it.
func (r *reserve) hold() error {
	if r == nil || r.held {
		return nil
	}
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := allocate(f, r.size); err != nil {
		return errors.Join(fmt.Errorf("no room for a reserve of %d bytes: %w", r.size, err), f.Truncate(0), f.Close())
	}
	r.held = true
	return f.Close()
}

// release gives it up.
func (r *reserve) release() error {
	if r == nil {
		return nil
	}
	r.held = false
	err := os.Truncate(r.path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// admit refuses, while the disk is full and the reserve given up, what does
// more than write to the audit log.
func (db *DB) admit(batch []*job) (admitted []*job) {
	if !db.full || db.reserve == nil {
		return batch
	}
	cause := db.reserve.hold()
	if cause == nil {
		return batch
	}
	for _, j := range batch {
		if j.audit {
			admitted = append(admitted, j)
			continue
		}
		j.finish(db.readOnly(cause))
	}
	return admitted
}
