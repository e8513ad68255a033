package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
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
	DecodeChapter  = decodeChapter
	Fold           = fold
)

// How chapters are found.
func ChapterAt(c *bbolt.Cursor, k []byte) (key, value, next []byte, err error) {
	return chapterAt(c, rowKey(k))
}

var SeekBelow = seekBelow

// EncodeChapter leaves what it encodes as it was.
func EncodeChapter(c *chapter) ([]byte, error) {
	clone := *c
	clone.codes = bytes.Clone(c.codes)
	return clone.encode()
}

// Kinds gives a chapter's rows and kinds as text.
func Kinds(c *chapter) (all []string) {
	for i, k := range c.rows {
		all = append(all, fmt.Sprintf("%x %+v", k, c.kind(i)))
	}
	return all
}

// SampleChapter has n rows of n kinds.
func SampleChapter(n int) *chapter {
	c := &chapter{}
	for i := range n {
		c.insert(i, rowKeyOf(1e12+uint64(i*i), uint64(1000-i)), kind{result: storage.Result(i % 7), symbol: short(i)})
	}
	return c
}

// Work is what a list looked at.
type Work struct{ Rows, Entries, Passed, Opened, Unpacked int }

// ListWork lists, and says what it took.
func (db *DB) ListWork(ctx context.Context, f storage.Filter) ([]*storage.Verification, int, Work, error) {
	l, err := db.list(ctx, f)
	if err != nil {
		return nil, 0, Work{}, err
	}
	return l.rows, l.count, Work{l.work.rows, l.work.entries, l.work.passed, l.work.opened, l.work.unpacked}, nil
}

// InsertTogether writes new rows in one commit.
func (db *DB) InsertTogether(ctx context.Context, rows []*storage.Verification) error {
	changes := make([]*rowChange, len(rows))
	for i, v := range rows {
		var err error
		if changes[i], err = db.prepareRow(v); err != nil {
			return err
		}
	}
	err := db.do(ctx, newJob(
		func(*txn) error { return nil },
		func(t *txn) error {
			for _, c := range changes {
				if err := c.write(t); err != nil {
					return err
				}
			}
			return nil
		},
	))
	if err == nil {
		for _, c := range changes {
			c.done()
		}
	}
	return err
}

// NoSync leaves the writing to the operating system.
func (db *DB) NoSync() { db.bolt.NoSync = true }

// DropRow deletes a row, as retention will.
func (db *DB) DropRow(ctx context.Context, v *storage.Verification) error {
	return db.DropTogether(ctx, []*storage.Verification{v})
}

// DropTogether deletes rows in one commit, in their order.
func (db *DB) DropTogether(ctx context.Context, rows []*storage.Verification) error {
	return db.do(ctx, newJob(
		func(*txn) error { return nil },
		func(t *txn) error {
			for _, v := range rows {
				if err := t.dropRow(newRowKey(v.CreatedAt, v.Record)); err != nil {
					return err
				}
			}
			return nil
		},
	))
}

// Chapters says how many there are.
func (db *DB) Chapters() (n int) {
	_ = db.view(func(t *txn) error {
		s, err := t.loadState()
		if err == nil {
			n = int(s.Cells[chapters.name])
		}
		return err
	})
	return n
}

// Downgrade makes the file one of schema version 1, as a program of before
// would have written it.
func (db *DB) Downgrade(ctx context.Context) error {
	return db.do(ctx, newJob(
		func(*txn) error { return nil },
		func(t *txn) error {
			t.wrote = true
			t.chapters = nil
			delete(t.state.Cells, chapters.name)
			t.state.Writes, t.state.Sums = 0, nil
			return errors.Join(t.DeleteBucket([]byte(chapters.name)), t.setSchema(schemaBefore))
		},
	))
}

// UpgradeSome enters so many batches of an upgrade that is under way in a
// file which is not open otherwise, and then closes it.
func UpgradeSome(o Options, batches int) (done bool, err error) {
	o.setDefaults()
	file, err := openFile(o.Path, false)
	if err != nil {
		return false, err
	}
	defer file.Close()
	db := &DB{bolt: file, now: o.Now, log: o.Logger, metrics: newMetrics(o.Path), unsaved: map[uint32]bool{}}
	if err := db.load([]*atrest.KEK{o.KEK}); err != nil {
		return false, err
	}
	for range batches {
		if done, err = db.upgradeSome(); err != nil {
			return false, err
		}
	}
	return done, nil
}

// UpgradeBatch is how many rows one commit of an upgrade enters.
const UpgradeBatch = upgradeBatch

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

// KeyOf says which data key sealed a stored value, as any program that knows
// the format can see; for one that names no key, its period and false.
func KeyOf(bucketName string, key, value []byte) (number uint32, numbered bool, err error) {
	for _, b := range append(cellBuckets(), meta) {
		if b.name == bucketName {
			h, _, err := b.parseCell(key, value)
			return h.number, h.format == cellFormat, err
		}
	}
	return 0, false, errors.New("no such bucket")
}

// RotateAtOnce leaves out the pauses of a rotation; RotateNever makes each as
// long as a test, after one step.
func (db *DB) RotateAtOnce() { db.rotatePause.Store(0) }
func (db *DB) RotateNever()  { db.rotatePause.Store(1 << 50) }

// ReadAround finds one row in a reading that began before meanwhile ran.
func (db *DB) ReadAround(v *storage.Verification, meanwhile func()) error {
	return db.view(func(t *txn) error {
		meanwhile()
		_, _, err := t.listed(newRowKey(v.CreatedAt, v.Record))
		return err
	})
}

const ShredGrace = shredGrace
