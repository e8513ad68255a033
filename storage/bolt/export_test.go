package bolt

import (
	"context"
	"runtime"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// The decoders of stored records, for fuzzing.
var (
	DecodeRow      = decodeRow
	EncodeRow      = encodeRow
	DecodeOutbox   = decodeOutbox
	EncodeOutbox   = encodeOutbox
	DecodeReceipt  = decodeReceipt
	EncodeReceipt  = encodeReceipt
	DecodePeer     = decodePeer
	EncodePeer     = encodePeer
	DecodeOwnKey   = decodeOwnKey
	EncodeOwnKey   = encodeOwnKey
	DecodeAudit    = decodeAudit
	EncodeAudit    = encodeAudit
	DecodeState    = decodeState
	DecodeIdentity = decodeIdentity
)

// ParseCells runs a stored value through every bucket's header parser.
func ParseCells(key, value []byte) (accepted int) {
	for _, b := range allBuckets {
		if _, _, err := b.parseCell(key, value); err == nil {
			accepted++
		}
	}
	return accepted
}

// Hold stops the writer until release is called; held is closed when it has
// stopped.
func (db *DB) Hold() (held <-chan struct{}, release func()) {
	stopped, free := make(chan struct{}), make(chan struct{})
	j := newJob(func(*txn) error { close(stopped); <-free; return nil }, func(*txn) error { return nil })
	db.queue <- j
	return stopped, func() { close(free); <-j.done }
}

// Together applies changes in one batch, in their order.
func (db *DB) Together(ctx context.Context, changes ...*storage.Change) []error {
	held, release := db.Hold()
	<-held
	errs := make([]error, len(changes))
	ended := make(chan struct{})
	for i, c := range changes {
		go func() { errs[i] = db.Apply(ctx, c); ended <- struct{}{} }()
		for len(db.queue) <= i {
			runtime.Gosched()
		}
	}
	release()
	for range changes {
		<-ended
	}
	return errs
}

// ApplyBehindAFailure queues a change so that it is of the batch after one
// in which the writer panics.
func (db *DB) ApplyBehindAFailure(ctx context.Context, c *storage.Change) error {
	held, release := db.Hold()
	<-held
	nothing := func(*txn) error { return nil }
	db.queue <- newJob(nothing, func(*txn) error { panic("as on a damaged page") })
	for range maxBatch - 1 {
		db.queue <- newJob(nothing, nothing)
	}
	ended := make(chan error)
	go func() { ended <- db.Apply(ctx, c) }()
	for len(db.queue) <= maxBatch {
		runtime.Gosched()
	}
	release()
	return <-ended
}

// Queued says how many changes wait.
func (db *DB) Queued() int { return len(db.queue) }

// Size is how many bytes of the file are or were in use.
func (db *DB) Size() (size int64) {
	_ = db.view(func(t *txn) error { size = t.Size(); return nil })
	return size
}
