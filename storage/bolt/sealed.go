package bolt

import (
	"bytes"
	"fmt"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Sealed gives one row as a thief of the file at path would see it: the value
// as it is stored, read without any key. The file must not be in use; copy a
// file that is. ErrNotFound says that no row has the id.
func Sealed(path string, id uuid.UUID) (value []byte, err error) {
	file, err := openFile(path, true)
	if err != nil {
		return nil, fmt.Errorf("read the file without its key: %w", err)
	}
	defer file.Close()
	err = file.View(func(tx *bbolt.Tx) error {
		key, ref := tx.Bucket([]byte(byUUID.name)).Cursor().Seek(id[:])
		if !bytes.HasPrefix(key, id[:]) || len(ref) < len(rowKey{}) {
			return storage.ErrNotFound
		}
		value = bytes.Clone(tx.Bucket([]byte(verifications.name)).Get(ref[:len(rowKey{})]))
		return nil
	})
	return value, err
}
