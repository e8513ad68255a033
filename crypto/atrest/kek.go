// Package atrest encrypts a value for its place in the store, under data
// keysets that are wrapped by the key-encryption key (KEK).
//
// A sealed value opens only in the bucket, record and version it was sealed
// for, in the database it was made in (attack S2). One setting, the KEK,
// protects everything; changing it rewraps one record. Personal data has one
// key per retention period, so that a period is erased by deleting its key.
// The bytes are described in crypto/FORMAT.md.
package atrest

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/streamingaead"
	"github.com/tink-crypto/tink-go/v2/streamingaead/aesgcmhkdf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/rawkey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/redact"
)

// KEKSize is the length of a key-encryption key in bytes.
const KEKSize = 32

// Purposes keep what is derived and authenticated apart; see crypto/FORMAT.md.
const (
	purposeKEKID   = "vasp-enclave/v1/kek-id"
	purposeWrap    = "vasp-enclave/v1/kek-wrap"
	purposeBackup  = "vasp-enclave/v1/kek-backup"
	purposeKeyset  = "vasp-enclave/v1/data-keyset"
	purposeRecord  = "vasp-enclave/v1/data-keyset-record"
	purposeValue   = "vasp-enclave/v1/value"
	purposePrivate = "vasp-enclave/v1/private-key"
	purposeIndex   = "vasp-enclave/v1/index"
	purposeMAC     = "vasp-enclave/v1/mac"
)

const formatV1 = 0x01

const kekIDSize = 8

type secret = redact.Secret

// KEK is the key-encryption key: it wraps data keysets, and whole backups of
// what is sealed under them. It prints as [redacted] and is safe for concurrent
// use.
type KEK struct {
	secret
	id     [kekIDSize]byte
	wrap   tink.AEAD
	backup tink.StreamingAEAD
}

// NewKEK takes exactly 32 random bytes. It keeps only what it derives from
// them; the caller may clear key.
func NewKEK(key []byte) (*KEK, error) {
	if len(key) != KEKSize {
		return nil, fmt.Errorf("key-encryption key has %d bytes, want %d", len(key), KEKSize)
	}
	id, err := hkdf.Key(sha256.New, key, nil, purposeKEKID, kekIDSize)
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: %v", err)
	}
	wrapping, err := hkdf.Key(sha256.New, key, nil, purposeWrap, KEKSize)
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: %v", err)
	}
	wrap, err := importAEAD(wrapping)
	clear(wrapping)
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: %v", err)
	}
	backup, err := backupStream(key)
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: %v", err)
	}
	return &KEK{id: [kekIDSize]byte(id), wrap: wrap, backup: backup}, nil
}

// ID names the key without telling anything about it: 16 hex digits. The
// same key has the same id everywhere.
func (k *KEK) ID() string { return hex.EncodeToString(k.id[:]) }

// backupStream makes what encrypts backups of a key derived for that alone.
// Each stream has a random salt, and so a key of its own.
func backupStream(key []byte) (tink.StreamingAEAD, error) {
	raw, err := hkdf.Key(sha256.New, key, nil, purposeBackup, KEKSize)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	parameters, err := aesgcmhkdf.NewParameters(aesgcmhkdf.ParametersOpts{
		KeySizeInBytes: KEKSize, DerivedKeySizeInBytes: KEKSize, HKDFHashType: aesgcmhkdf.SHA256, SegmentSizeInBytes: backupSegment,
	})
	if err != nil {
		return nil, err
	}
	k, err := aesgcmhkdf.NewKey(parameters, rawkey.Secret(raw))
	if err != nil {
		return nil, errors.New("key does not fit AES-256-GCM-HKDF")
	}
	h, err := onekey.Of(k)
	if err != nil {
		return nil, err
	}
	return streamingaead.New(h)
}

// importAEAD takes raw key bytes: the KEK comes from outside, as the
// operator's setting, so it cannot be a Tink keyset.
func importAEAD(raw []byte) (tink.AEAD, error) {
	parameters := valueParameters()
	k, err := xaesgcm.NewKey(rawkey.Secret(raw), 0, parameters)
	if err != nil {
		return nil, errors.New("key does not fit XAES-256-GCM")
	}
	h, err := onekey.Of(k)
	if err != nil {
		return nil, err
	}
	return aead.New(h)
}

// valueParameters: XAES-256-GCM (C2SP) with its full 24-byte nonce and no
// prefix. Nonces are random and safe at any number of values.
func valueParameters() *xaesgcm.Parameters {
	p, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	if err != nil {
		panic("atrest: " + err.Error()) // the arguments are constants
	}
	return p
}
