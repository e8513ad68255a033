package bolt

import (
	"context"
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// ownKeyRecord is the JSON object of one of our keys, which lies under its
// key id; its sections are the signed bundle and the wrapped private key.
type ownKeyRecord struct {
	Type        uint8 `json:"type"`
	NotAfter    int64 `json:"notAfter,omitzero"`
	DeleteAfter int64 `json:"deleteAfter,omitzero"`
}

func encodeOwnKey(k *keyring.OwnKey) ([]byte, error) {
	return encodeRecord(&ownKeyRecord{uint8(k.Type), millis(k.NotAfter), millis(k.DeleteAfter)}, k.Bundle, k.Wrapped)
}

func decodeOwnKey(plaintext []byte) (k keyring.OwnKey, err error) {
	var r ownKeyRecord
	sections, err := decodeRecord(plaintext, &r, 2)
	if err != nil {
		return k, err
	}
	return keyring.OwnKey{
		Type: identity.KeyType(r.Type), Bundle: sections[0], Wrapped: sections[1],
		NotAfter: fromMillis(r.NotAfter), DeleteAfter: fromMillis(r.DeleteAfter),
	}, nil
}

func prepareOwnKey(k keyring.OwnKey) (putCell, error) {
	plaintext, err := encodeOwnKey(&k)
	if err != nil {
		return putCell{}, fmt.Errorf("own key: %w", err)
	}
	return putCell{bucket: ownKeys, key: k.ID[:], plaintext: plaintext}, nil
}

// OwnKeys gives all of our keys, in the order of their ids.
func (db *DB) OwnKeys(ctx context.Context) (all []keyring.OwnKey, err error) {
	err = db.read(ctx, "own keys", func(t *txn) error {
		return t.each(ownKeys, func(key []byte, _ header, plaintext []byte) error {
			k, err := decodeOwnKey(plaintext)
			if err != nil {
				return corrupt(err)
			}
			copy(k.ID[:], key)
			all = append(all, k)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// PutOwnKey writes one key, new or changed.
func (db *DB) PutOwnKey(ctx context.Context, k keyring.OwnKey) error {
	return db.Apply(ctx, &storage.Change{PutOwnKeys: []keyring.OwnKey{k}})
}

// DropOwnKeys deletes keys; absent ones are no error.
func (db *DB) DropOwnKeys(ctx context.Context, ids ...identity.KeyID) error {
	return db.Apply(ctx, &storage.Change{DropOwnKeys: ids})
}

// identityRecord is the JSON object of our identity; its sections are the
// wrapped signer and the chain of statements.
type identityRecord struct {
	Replaces bool `json:"replaces,omitzero"`
}

func prepareIdentity(i *storage.OwnIdentity) (putCell, error) {
	plaintext, err := encodeRecord(&identityRecord{i.Replaces}, i.Wrapped, i.Chain)
	return putCell{bucket: ownIdentity, key: selfKey, plaintext: plaintext}, err
}

func decodeIdentity(plaintext []byte) (*storage.OwnIdentity, error) {
	var r identityRecord
	sections, err := decodeRecord(plaintext, &r, 2)
	if err != nil {
		return nil, err
	}
	return &storage.OwnIdentity{Wrapped: sections[0], Chain: sections[1], Replaces: r.Replaces}, nil
}

// Identity gives our own identity.
func (db *DB) Identity(ctx context.Context) (i *storage.OwnIdentity, err error) {
	err = db.read(ctx, "identity", func(t *txn) error {
		plaintext, err := t.only(ownIdentity, selfKey)
		if err != nil {
			return err
		}
		if i, err = decodeIdentity(plaintext); err != nil {
			return corrupt(err)
		}
		return nil
	})
	return i, err
}

// prepareKept keeps a text of others as it is.
func prepareKept(key, text []byte) (putCell, error) {
	return putCell{bucket: directory, key: key, plaintext: append([]byte(nil), text...)}, nil
}

// Shipped gives how far the sinks of the audit log have come.
func (db *DB) Shipped(ctx context.Context) (text []byte, err error) {
	err = db.read(ctx, "audit sinks", func(t *txn) error {
		text, err = t.only(directory, shippedKey)
		return err
	})
	return text, err
}

// Directory gives the last directory.
func (db *DB) Directory(ctx context.Context) (d []byte, err error) {
	err = db.read(ctx, "directory", func(t *txn) error {
		d, err = t.only(directory, lastKey)
		return err
	})
	return d, err
}
