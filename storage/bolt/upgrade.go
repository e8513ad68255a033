package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// upgradeBatch is how many rows one commit of an upgrade enters.
const upgradeBatch = 1024

// upgrade writes the chapters of a file of version 1, and the sums of one of
// version 2. It goes on where it was interrupted: the last chapter says how far
// it has come.
func (db *DB) upgrade() error {
	begun := time.Now()
	for {
		done, err := db.upgradeSome()
		if err != nil {
			return fmt.Errorf("upgrade to schema version %d: %w", schemaVersion, err)
		}
		if done {
			break
		}
	}
	db.log.Info("the history was upgraded", "schema", schemaVersion, "took", time.Since(begun).Round(time.Millisecond).String())
	return nil
}

// upgradeSome commits one batch, and says when it was the last.
func (db *DB) upgradeSome() (done bool, err error) {
	t, err := db.begin()
	if err != nil {
		return false, err
	}
	if err := attempt(func() error { done, err = t.upgrade(); return err }); err != nil {
		db.rollback(t)
		return false, err
	}
	return done, db.commit(t, 0)
}

func (t *txn) schema() string {
	return strings.TrimPrefix(string(t.bucket(meta).Get(schemaKey)), schemaPrefix)
}

func (t *txn) upgrade() (done bool, err error) {
	switch t.schema() {
	case schemaUnsummed:
		return true, t.endUpgrade()
	case schemaBefore:
		if err := t.beginUpgrade(); err != nil {
			return false, err
		}
	}
	last, err := t.lastListed()
	if err != nil {
		return false, err
	}
	c := t.bucket(verifications).Cursor()
	key, value := c.Seek(last[:])
	if bytes.Equal(key, last[:]) {
		key, value = c.Next()
	}
	for range upgradeBatch {
		if key == nil {
			return true, t.endUpgrade()
		}
		if len(key) != len(last) {
			return false, fmt.Errorf("%s: key of %d bytes: %w", verifications.name, len(key), storage.ErrCorrupt)
		}
		if err := t.enlist(rowKey(key), t.kindOf(rowKey(key), value)); err != nil {
			return false, err
		}
		key, value = c.Next()
	}
	return false, nil
}

func (t *txn) beginUpgrade() error {
	t.db.log.Info("the history is upgraded; it serves when this is done", "schema", schemaVersion, "rows", t.state.Cells[verifications.name])
	if _, err := t.CreateBucketIfNotExists([]byte(chapters.name)); err != nil {
		return err
	}
	if err := t.firstChapter(); err != nil {
		return err
	}
	return t.setSchema(schemaUpgraded)
}

// endUpgrade sums up what there is.
func (t *txn) endUpgrade() error {
	return errors.Join(t.takeSums(), t.setSchema(strconv.Itoa(schemaVersion)))
}

// lastListed is the newest row that is in a chapter, the zero key when there
// is none.
func (t *txn) lastListed() (k rowKey, err error) {
	key, value := t.bucket(chapters).Cursor().Last()
	c, err := t.openChapter(key, value)
	if err != nil || len(c.rows) == 0 {
		return k, err
	}
	return c.rows[len(c.rows)-1], nil
}

// kindOf says what a row is for its chapter. One that does not open is
// entered as what its header says, or as nothing, so that it does not keep the
// other rows from being served; to list it is an error, as it was before.
func (t *txn) kindOf(k rowKey, value []byte) kind {
	v, head, err := t.openRow(k, value)
	if err == nil {
		return newKind(t.keys, &head, v)
	}
	t.db.log.Error("a row of the history is damaged", "record", k.record(), "error", err)
	h, _, err := verifications.parseCell(k[:], value)
	if err != nil {
		return kind{}
	}
	head = parseRowHead(h.extra)
	return newKind(t.keys, &head, &storage.Verification{})
}
