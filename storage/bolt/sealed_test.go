package bolt_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

func TestSealedGivesWhatLiesInTheFile(t *testing.T) {
	path, want := sampleFile(t)
	for _, v := range want.Rows {
		value, err := bolt.Sealed(path, v.UUID)
		if err != nil || len(value) < 500 || !bytes.Contains(readFile(t, path), value[:500]) {
			t.Errorf("Sealed = %d bytes, %v, which are not in the file", len(value), err)
		}
		if bytes.Contains(value, []byte(v.OriginatorAccount)) {
			t.Errorf("Sealed gives %q in clear", v.OriginatorAccount)
		}
	}
	if _, err := bolt.Sealed(path, uuid.New()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Sealed of an unknown row: %v, want ErrNotFound", err)
	}
}
