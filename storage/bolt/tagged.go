package bolt

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// taggedRows are the entries of one tag, walked from the newest to the oldest.
type taggedRows struct {
	bucket *bucket
	tag    tag

	cursor *bbolt.Cursor
	entry  []byte // where the cursor stands; nil: at the end
	read   int    // entries
}

// stand reads a row key off the entry that the cursor came to.
func (w *taggedRows) stand(entry []byte) (k rowKey, ok bool, err error) {
	w.entry = entry
	if !bytes.HasPrefix(entry, w.tag[:]) {
		return k, false, nil
	}
	w.read++
	if copy(k[:], entry[len(w.tag):]) != len(entry)-len(w.tag) || len(entry) != len(w.tag)+len(k) {
		return k, false, fmt.Errorf("%s: key of %d bytes: %w", w.bucket.name, len(entry), storage.ErrCorrupt)
	}
	return k, true, nil
}

// atMost goes to the last row whose key is at most k.
func (w *taggedRows) atMost(k rowKey) (rowKey, bool, error) {
	want := w.tag.entry(k)
	if bytes.Equal(w.entry, want) {
		return k, true, nil
	}
	found, _ := w.cursor.Seek(want)
	switch {
	case found == nil:
		found, _ = w.cursor.Last()
	case !bytes.Equal(found, want):
		found, _ = w.cursor.Prev()
	}
	return w.stand(found)
}

// older goes to the row before the one it stands on.
func (w *taggedRows) older() (rowKey, bool, error) {
	entry, _ := w.cursor.Prev()
	return w.stand(entry)
}

// eachTagged visits the rows that have all of the tags and keys of at most
// upper, newest first, until visit says no. Every index leaps over what
// another one does not have, so the tag with the fewest rows sets the pace.
func eachTagged(t *txn, tags []taggedRows, upper rowKey, read *int, visit func(rowKey) (bool, error)) (err error) {
	for i := range tags {
		tags[i].cursor = t.bucket(tags[i].bucket).Cursor()
		defer func() { *read += tags[i].read }()
	}
	k, ok, err := tags[0].atMost(upper)
	for ok && err == nil {
		if k, ok, err = agree(tags, k); !ok || err != nil {
			return err
		}
		if ok, err = visit(k); !ok || err != nil {
			return err
		}
		k, ok, err = tags[0].older()
	}
	return err
}

// agree goes to the last row of at most k that all tags have.
func agree(tags []taggedRows, k rowKey) (rowKey, bool, error) {
	for agreed, i := 0, 0; agreed < len(tags); i++ {
		found, ok, err := tags[i%len(tags)].atMost(k)
		if !ok || err != nil {
			return k, false, err
		}
		if agreed++; found != k {
			k, agreed = found, 1
		}
	}
	return k, true, nil
}
