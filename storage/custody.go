package storage

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

var (
	// ErrHeld says that a legal hold keeps a row from being erased.
	ErrHeld = errors.New("under legal hold")
	// ErrUnderWay says that a row waits for its result and cannot be erased.
	ErrUnderWay = errors.New("still under way")
	// ErrRotating says that data keys are being replaced already.
	ErrRotating = errors.New("data keys are being replaced")
)

// KeyStatus is what can be told of the keys of a store.
type KeyStatus struct {
	KEK      string    // id of the key that the record of data keys is wrapped under
	KEKSince time.Time // when it was wrapped; zero when an older program did it
	Keys     []DataKey
	Rotation *Rotation // nil: none is under way
}

// DataKey is one key of the record.
type DataKey struct {
	ID      uint32
	Purpose string    // private, personal, index or wrap
	From    time.Time // of a personal key: the period that it is for,
	To      time.Time // [From, To)
	Created time.Time // zero: before keys had numbers
	Current bool      // new values are sealed under it
	Erased  uint64    // rows that were sealed under it and are erased: copies elsewhere open while it is there
}

// Rotation is a replacement of data keys under way.
type Rotation struct {
	Keys     []uint32 // that are replaced
	Since    time.Time
	Moved    uint64 // values that were sealed anew
	Checking bool   // all are moved; every value is looked at once more before the old keys are deleted
	Problem  string // why it does not go on; empty: it does
}

// DataScope says which data keys to replace.
type DataScope struct {
	All    bool      // the private key and those of every period
	Period time.Time // not zero: only the key of the period that this time is in
	// Neither: the private key, and the periods that values are still added to.
}

// Hold keeps a row, or all rows of a retention period, from being erased.
type Hold struct {
	UUID        uuid.UUID // with Originating the row; zero: a period
	Originating identity.VASPID
	From, To    time.Time // the period, [From, To)
	Reason      string
	By          string
	Since       time.Time
}

// Swept is what a sweep of old rows did.
type Swept struct {
	Erased  int
	Held    int // old rows that a hold keeps
	Waiting int // old rows that wait for their result
	Damaged int // old rows that do not open and are left
}
