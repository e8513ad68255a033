package bolt

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// A chapter lies under the first row key that belongs to it, and reaches to
// the key of the next one. The first chapter of a file is under the zero key
// and is never dropped, so that every row key belongs to one.

// openChapter is a chapter that the writer has open: it is sealed again when
// the transaction ends, and stays open for the next one.
type openChapter struct {
	key rowKey
	*chapter
	changed bool
}

// maxOpen is how many the writer keeps open: new rows and their answers mostly
// go to the last one or two.
const maxOpen = 4

// chapterAt finds the chapter that a row key belongs to, and the key of the
// next one, nil for the last.
func chapterAt(c *bbolt.Cursor, k rowKey) (key, value, next []byte, err error) {
	key, value = c.Seek(k[:])
	switch {
	case key == nil:
		key, value = c.Last()
	case bytes.Equal(key, k[:]):
		next, _ = c.Next()
	default:
		next = key
		key, value = c.Prev()
	}
	if len(key) != len(k) || next != nil && len(next) != len(k) {
		return nil, nil, nil, fmt.Errorf("%s: a chapter is missing: %w", chapters.name, storage.ErrCorrupt)
	}
	return key, value, next, nil
}

func (t *txn) openChapter(key, value []byte) (*chapter, error) {
	_, plaintext, err := chapters.openCell(t.keys, key, value)
	if err != nil {
		return nil, err
	}
	c, err := decodeChapter(plaintext)
	if err != nil {
		return nil, corrupt(err)
	}
	return c, nil
}

// chapterOf opens for writing the chapter that a row key belongs to.
func (t *txn) chapterOf(k rowKey) (*openChapter, error) {
	key, value, _, err := chapterAt(t.bucket(chapters).Cursor(), k)
	if err != nil {
		return nil, err
	}
	if c := t.chapters[rowKey(key)]; c != nil {
		return c, nil
	}
	c, err := t.openChapter(key, value)
	if err != nil {
		return nil, err
	}
	return t.keepChapter(rowKey(key), c), nil
}

func (t *txn) keepChapter(key rowKey, c *chapter) *openChapter {
	if t.chapters == nil {
		t.chapters = map[rowKey]*openChapter{}
	}
	open := &openChapter{key: key, chapter: c}
	t.chapters[key] = open
	return open
}

// enlist enters a new row into its chapter, and begins another one when that
// is full. Rows mostly come in the order of time, so a full chapter is left
// as it is and the next begins with the new row.
func (t *txn) enlist(k rowKey, of kind) error {
	c, err := t.chapterOf(k)
	if err != nil {
		return err
	}
	i, found := c.find(k)
	if found {
		return fmt.Errorf("%s: a new row is in its chapter: %w", chapters.name, storage.ErrCorrupt)
	}
	if len(c.rows) < chapterRows {
		c.insert(i, k, of)
		c.changed = true
		return nil
	}
	if err := t.splitChapter(c, max(i, chapterRows/2), k); err != nil {
		return err
	}
	return t.enlist(k, of)
}

// splitChapter makes a chapter of the rows from the i-th on; when a new row
// comes first in it, it is named after that.
func (t *txn) splitChapter(c *openChapter, i int, newRow rowKey) error {
	key := newRow
	if at, _ := c.find(newRow); at != i {
		key = c.rows[i]
	}
	right := t.keepChapter(key, c.split(i))
	c.changed = true
	return t.saveChapter(right) // at once: a cursor has to find it
}

// relist enters what kind a row has become.
func (t *txn) relist(k rowKey, of kind) error {
	c, i, err := t.listing(k)
	if err != nil || c.kind(i) == of {
		return err
	}
	c.setKind(i, of)
	c.changed = true
	return nil
}

// delist takes a row out of its chapter. A chapter that has no rows when the
// transaction ends is dropped; not before, since a cursor does not find its way
// back over a page that was emptied in its own transaction.
func (t *txn) delist(k rowKey) error {
	c, i, err := t.listing(k)
	if err != nil {
		return err
	}
	c.remove(i)
	c.changed = true
	return nil
}

// listing finds a row that must be in its chapter.
func (t *txn) listing(k rowKey) (*openChapter, int, error) {
	c, err := t.chapterOf(k)
	if err != nil {
		return nil, 0, err
	}
	i, found := c.find(k)
	if !found {
		return nil, 0, errUnlisted
	}
	return c, i, nil
}

var errUnlisted = fmt.Errorf("%s: a row is not in its chapter: %w", chapters.name, storage.ErrCorrupt)

func (t *txn) dropChapter(c *openChapter) error {
	h, _, err := chapters.parseCell(c.key[:], t.bucket(chapters).Get(c.key[:]))
	if err != nil {
		return err
	}
	delete(t.chapters, c.key)
	t.state.Writes -= h.version
	return t.drop(chapters, c.key[:])
}

func (t *txn) saveChapter(c *openChapter) error {
	plaintext, err := c.encode()
	if err != nil {
		return err
	}
	c.changed = false
	t.state.Writes++
	return t.put(chapters, c.key[:], header{}, plaintext)
}

func (t *txn) saveChapters() error {
	for _, c := range t.chapters {
		save := t.saveChapter
		switch {
		case !c.changed:
			continue
		case len(c.rows) == 0 && c.key != (rowKey{}):
			save = t.dropChapter
		}
		if err := save(c); err != nil {
			return err
		}
	}
	return nil
}

// chapterReader tells the kinds of rows that are asked for one after the
// other, and reads a chapter again only for a row of another one.
type chapterReader struct {
	t         *txn
	work      *work
	tally     *tally
	rows      []rowKey
	key, next []byte
}

func (r *chapterReader) kind(k rowKey) (kind, error) {
	if r.tally == nil || bytes.Compare(k[:], r.key) < 0 || r.next != nil && bytes.Compare(k[:], r.next) >= 0 {
		if err := r.turn(k); err != nil {
			return kind{}, err
		}
	}
	i, found := findRow(r.rows, k)
	if !found {
		return kind{}, errUnlisted
	}
	return r.tally.kind(i), nil
}

func (r *chapterReader) turn(k rowKey) (err error) {
	var value []byte
	if r.key, value, r.next, err = chapterAt(r.t.bucket(chapters).Cursor(), k); err != nil {
		return err
	}
	if r.tally, err = r.t.tally(rowKey(r.key), value, r.work); err != nil {
		return err
	}
	r.rows, err = r.tally.unpack(r.rows[:0], r.work)
	return err
}
