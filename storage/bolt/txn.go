package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// txn is one bbolt transaction, in which values are cells. Only the writer
// goroutine has one that writes.
type txn struct {
	*bbolt.Tx
	db    *DB
	keys  *atrest.Keys
	state *state // as this transaction leaves it; loaded on first use

	chapters map[rowKey]*openChapter // that the writer has open

	looked func(n uint64) // tells of values looked at, in a check

	wrote     bool // there is something to commit
	newPeriod bool // a period key is used that the file lacks

	rewrap  bool        // the keyring record is to be written
	kek     *atrest.KEK // under which, from now on; nil: the one of before
	without []uint32    // without these keys
	promote []uint32    // keys that become current when it holds
}

// view runs fn in a read transaction. What fn returns must not alias the
// file: openCell copies, keys and headers do not.
func (db *DB) view(fn func(*txn) error) (err error) {
	if err := db.failure(); err != nil {
		return err
	}
	defer guard(&err)()
	err = db.bolt.View(func(tx *bbolt.Tx) error {
		return fn(&txn{Tx: tx, db: db, keys: db.keys})
	})
	return closedError(err)
}

// guard turns what bbolt does on a damaged page, a panic or a read outside
// the file (SIGBUS, SIGSEGV), into ErrCorrupt. Use: defer guard(&err)().
func guard(err *error) func() {
	faults := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(faults)
		if r := recover(); r != nil {
			*err = fmt.Errorf("page of the file is damaged (%v): %w", r, storage.ErrCorrupt)
		}
	}
}

func (t *txn) bucket(b *bucket) *bbolt.Bucket {
	bucket := t.Bucket([]byte(b.name))
	if b.appends {
		bucket.FillPercent = 0.9
	}
	return bucket
}

// get opens the cell of a key; ErrNotFound when there is none.
func (t *txn) get(b *bucket, key []byte) (header, []byte, error) {
	value := t.bucket(b).Get(key)
	if value == nil {
		return header{}, nil, storage.ErrNotFound
	}
	return b.openCell(t.keys, key, value)
}

// each opens every cell of a bucket in the order of the keys, and is
// ErrCorrupt when they are not those that were written last: a damaged page
// can lose cells without a trace, and an older one opens as well.
func (t *txn) each(b *bucket, fn func(key []byte, h header, plaintext []byte) error) error {
	c := census{t: t, b: b}
	err := t.bucket(b).ForEach(func(key, value []byte) error {
		h, plaintext, err := b.openCell(t.keys, key, value)
		if err != nil {
			return err
		}
		c.add(key, h.version)
		return fn(key, h, plaintext)
	})
	if err != nil {
		return err
	}
	return c.agrees()
}

// only opens the one cell that a bucket has: that it is the one which was
// written last is seen by the way.
func (t *txn) only(b *bucket, name []byte) (found []byte, err error) {
	missing := storage.ErrNotFound
	err = t.each(b, func(key []byte, _ header, plaintext []byte) error {
		if bytes.Equal(key, name) {
			found, missing = plaintext, nil
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, missing
}

// insert writes the first version of a cell under a key that must be free.
func (t *txn) insert(b *bucket, key []byte, h header, plaintext []byte) error {
	if t.bucket(b).Get(key) != nil {
		return fmt.Errorf("%s: the key of a new value is taken: %w", b.name, storage.ErrCorrupt)
	}
	return t.put(b, key, h, plaintext)
}

// put writes the next version of a cell.
func (t *txn) put(b *bucket, key []byte, h header, plaintext []byte) error {
	bucket := t.bucket(b)
	var before header
	if old := bucket.Get(key); old != nil {
		var err error
		if before, _, err = b.parseCell(key, old); err != nil {
			return err
		}
	}
	h.version = before.version + 1
	if b.keyset == personal {
		if err := t.needPeriod(h.period); err != nil {
			return err
		}
	}
	value, err := b.sealCell(t.keys, key, h, plaintext)
	if err != nil {
		return err
	}
	t.count(b, key, before.version, h.version)
	t.wrote = true
	return bucket.Put(key, value)
}

// needPeriod makes the period's key when there is none. Until a commit has
// written the keyring record with it, every transaction that uses it writes
// the record: the one that made it may be rolled back, or fail for want of
// disk, and the key stays in memory.
func (t *txn) needPeriod(n uint32) error {
	c, err := t.keys.Personal(n)
	if err == nil && slices.Contains(t.without, c.Key()) {
		return errors.New("the key of the retention period is being deleted: try again")
	}
	if errors.Is(err, atrest.ErrNoPeriod) {
		err = t.keys.AddPeriod(n)
		t.db.unsaved[n] = true
	}
	t.newPeriod = t.newPeriod || t.db.unsaved[n]
	return err
}

// drop deletes a cell; one that is not there is no error.
func (t *txn) drop(b *bucket, key []byte) error {
	bucket := t.bucket(b)
	value := bucket.Get(key)
	if value == nil {
		return nil
	}
	h, _, err := b.parseCell(key, value)
	if err != nil { // goes all the same; that it was damaged stays to be seen
		h.version = 1
	}
	t.count(b, key, h.version, 0)
	t.wrote = true
	return bucket.Delete(key)
}

func (t *txn) putIndex(b *bucket, key, value []byte) error {
	t.wrote = true
	return t.bucket(b).Put(key, value)
}

func (t *txn) dropIndex(b *bucket, key []byte) error {
	t.wrote = true
	return t.bucket(b).Delete(key)
}

// seal writes what a transaction changed beyond its cells.
func (t *txn) seal() error {
	if err := errors.Join(t.saveChapters(), t.saveState()); err != nil {
		return err
	}
	return t.saveRecord()
}

// join makes a key from its parts.
func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
