package bolt

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage/files"
)

// schemaVersion is of the buckets and keys as a whole; cells have their own.
const (
	schemaPrefix  = "vasp-enclave/history/"
	schemaVersion = 3

	// A file of version 1, which had no chapters, is brought up to date when it
	// is opened. While its chapters are written it is of no version, so that a
	// program of before refuses it too. One of version 2 had no sums.
	schemaBefore   = "1"
	schemaUpgraded = "1to2"
	schemaUnsummed = "2"
)

// create builds a new file beside its place, syncs it and only then gives it
// its name: a crash leaves no file or a whole one (attack S7). When another
// process was faster its file is kept.
func create(o *Options) error {
	dir := filepath.Dir(o.Path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(o.Path)+".*.new") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(f.Close(), build(f.Name(), o), files.Sync(f.Name())); err != nil {
		return err
	}
	// A link and not a rename, which would replace a file.
	if err := os.Link(f.Name(), o.Path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return files.Sync(dir)
}

// build makes all buckets, the data keysets and the state, in one commit.
func build(path string, o *Options) error {
	var instance [16]byte
	_, _ = rand.Read(instance[:]) // never fails
	keys, err := atrest.NewKeys(instance, o.Period)
	if err != nil {
		return err
	}
	record, err := keys.WrapRecord(o.KEK)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockTimeout, PageSize: pageSize, FreelistType: bbolt.FreelistMapType,
	})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error { return populate(&txn{Tx: tx, keys: keys}, record, o.Now()) })
	return errors.Join(err, db.Close())
}

func populate(t *txn, record []byte, now time.Time) error {
	for _, b := range allBuckets {
		if _, err := t.CreateBucket([]byte(b.name)); err != nil {
			return err
		}
	}
	if err := errors.Join(t.setSchema(strconv.Itoa(schemaVersion)), t.bucket(meta).Put(keyringKey, record)); err != nil {
		return err
	}
	t.state = &state{Cells: map[string]uint64{}, Sums: map[string]sum{}, KEKSince: now.UnixMilli()}
	return errors.Join(t.firstChapter(), t.saveState())
}

// readKeys checks that the file is a history of our schema and opens its
// keyring record: nothing can be read, and nothing may be written, without.
func readKeys(tx *bbolt.Tx, keks []*atrest.KEK) (*atrest.Keys, *atrest.KEK, error) {
	b := tx.Bucket([]byte(meta.name))
	if b == nil {
		return nil, nil, errors.New("the file is not a history: it has no schema record")
	}
	schema, err := checkSchema(string(b.Get(schemaKey)))
	if err != nil {
		return nil, nil, err
	}
	for _, want := range allBuckets {
		if want == chapters && schema == schemaBefore || want == holds && outdatedRecord(tx) {
			continue
		}
		if tx.Bucket([]byte(want.name)) == nil {
			return nil, nil, fmt.Errorf("the file is damaged: bucket %s is missing", want.name)
		}
	}
	record := b.Get(keyringKey)
	kek := choose(record, keks)
	keys, err := atrest.OpenRecord(kek, record)
	return keys, kek, err
}

// checkSchema gives the version of a file that this program can work with.
func checkSchema(schema string) (version string, err error) {
	version, ok := strings.CutPrefix(schema, schemaPrefix)
	if !ok {
		return "", errors.New("the file is not a history: it has no schema record")
	}
	switch version {
	case strconv.Itoa(schemaVersion), schemaUnsummed, schemaUpgraded, schemaBefore:
		return version, nil
	}
	return "", fmt.Errorf("the file has schema version %.20q and this program knows version %d: use the version of the program that wrote it", version, schemaVersion)
}

func (t *txn) setSchema(version string) error {
	return t.bucket(meta).Put(schemaKey, []byte(schemaPrefix+version))
}

// firstChapter makes the chapter that every file has.
func (t *txn) firstChapter() error {
	return t.saveChapter(&openChapter{chapter: &chapter{}})
}
