package bolt_test

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// What finding a chapter relies on in bbolt: to seek past the end gives nil
// and leaves Last to be asked, Prev and Next go over the bounds of pages, and
// pages of deleted keys are gone after the transaction; in it, Prev ends at them.
func TestCursorsStandWhereChaptersAreLookedFor(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "cursor.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const keys = 1000 // every second number from 0 on, on some fifty pages
	at := func(n int) []byte { return append(binary.BigEndian.AppendUint64(nil, uint64(n)), make([]byte, 8)...) }
	number := func(key []byte) int {
		if key == nil {
			return -1
		}
		return int(binary.BigEndian.Uint64(key))
	}
	var there []int
	look := func(when string, b *bbolt.Bucket) {
		t.Helper()
		if key, _ := b.Cursor().Seek(at(2 * keys)); key != nil {
			t.Errorf("%s: past the end is %d, want nil", when, number(key))
		}
		for n := range 2*keys + 2 {
			i, found := slices.BinarySearch(there, n) // the first that is not below n
			below, of, next := -1, -1, -1
			if i > 0 {
				below, of = there[i-1], there[i-1]
			}
			if found {
				of, i = n, i+1
			}
			if i < len(there) {
				next = there[i]
			}
			if got, _ := bolt.SeekBelow(b.Cursor(), at(n)); number(got) != below {
				t.Fatalf("%s: below %d is %d, want %d", when, n, number(got), below)
			}
			gotOf, _, gotNext, err := bolt.ChapterAt(b.Cursor(), at(n))
			if err != nil || number(gotOf) != of || number(gotNext) != next {
				t.Fatalf("%s: of %d are %d and %d, %v, want %d and %d", when, n, number(gotOf), number(gotNext), err, of, next)
			}
		}
	}
	fill := func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for n := range keys {
			there = append(there, 2*n)
			err = errors.Join(err, b.Put(at(2*n), make([]byte, 200)))
		}
		look("before the commit", b)
		return err
	}
	drop := func(tx *bbolt.Tx) (err error) {
		b := tx.Bucket([]byte("b"))
		look("after the commit", b)
		there = slices.DeleteFunc(there, func(n int) bool {
			gone := n > keys/2 && n < keys || n > 2*keys-300 // pages in the middle and at the end
			if gone {
				err = errors.Join(err, b.Delete(at(n)))
			}
			return gone
		})
		return err
	}
	dropped := func(tx *bbolt.Tx) error {
		look("with keys deleted", tx.Bucket([]byte("b")))
		return nil
	}
	if err := errors.Join(db.Update(fill), db.Update(drop), db.View(dropped)); err != nil {
		t.Fatal(err)
	}
}
