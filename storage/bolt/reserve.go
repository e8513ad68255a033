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
	once bool // it was held before, and given up
}

// hold takes the room, if it is not held. When it was given up there must be
// as much again: else it would take back what was just given up, and the next
// audit entry would find nothing. Only the writer calls it.
func (r *reserve) hold() error {
	if r == nil || r.held {
		return nil
	}
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	need := r.size
	if r.once {
		need *= 2
	}
	if err := allocate(f, need); err != nil {
		return errors.Join(fmt.Errorf("no room for %d bytes, the reserve and as much to go on: %w", need, err), f.Truncate(0), f.Close())
	}
	r.held, r.once = true, true
	return errors.Join(f.Truncate(r.size), f.Close())
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
