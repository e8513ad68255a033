package bolt

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	queueLength = 1024
	maxBatch    = 256 // changes that share a commit
)

// job is one change in the writer's queue. check only reads: what it refuses
// harms no neighbour. An error of write costs the neighbours a second try.
type job struct {
	check func(*txn) error
	write func(*txn) error
	audit bool // it writes to the audit log only

	claimed atomic.Bool // by the writer, or by a caller who gives up
	done    chan struct{}
	err     error
}

func newJob(check, write func(*txn) error) *job {
	return &job{check: check, write: write, done: make(chan struct{})}
}

func (j *job) finish(err error) {
	j.err = err
	close(j.done)
}

// do queues a job and waits for its end. When ctx ends while the job is
// still queued it is taken back and nothing is written.
func (db *DB) do(ctx context.Context, j *job) error {
	if err := errors.Join(ctx.Err(), db.failure()); err != nil {
		return err
	}
	select {
	case db.queue <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.closing:
		return ErrClosed
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		if j.claimed.CompareAndSwap(false, true) {
			return ctx.Err()
		}
	case <-db.ended:
		if j.claimed.CompareAndSwap(false, true) {
			return ErrClosed
		}
	}
	<-j.done
	return j.err
}

// run is the writer goroutine. There is no timer: what queued up while one
// batch was being committed is the next batch. Values are encoded by the
// callers and sealed here, where keys and versions are known: sealing is an
// eighth of the writer's time.
func (db *DB) run() {
	defer close(db.ended)
	for {
		select {
		case <-db.closing:
			return
		case j := <-db.queue:
			db.commitBatch(db.drain(j))
		}
	}
}

func (db *DB) drain(first *job) []*job {
	batch := claim(nil, first)
	for len(batch) < maxBatch {
		select {
		case j := <-db.queue:
			batch = claim(batch, j)
		default:
			return batch
		}
	}
	return batch
}

func claim(batch []*job, j *job) []*job {
	if !j.claimed.CompareAndSwap(false, true) {
		return batch
	}
	return append(batch, j)
}

func (db *DB) commitBatch(batch []*job) {
	for batch = db.admit(batch); len(batch) > 0; {
		batch = db.tryBatch(batch)
	}
}

// tryBatch runs jobs in one transaction and finishes them, except those it
// returns: they are to be tried again without the one that failed.
func (db *DB) tryBatch(batch []*job) (again []*job) {
	t, err := db.begin()
	if err != nil {
		finishAll(batch, err)
		return nil
	}
	var written []*job
	var failed *job
	err = attempt(func() error {
		written, failed, again = t.runJobs(batch)
		return nil
	})
	switch {
	case err != nil: // panicked
		err = db.fail(err)
		db.rollback(t)
		finishAll(batch, err)
	case failed != nil:
		db.rollback(t)
		return again
	case !t.wrote:
		db.rollback(t)
		finishAll(written, nil)
	default:
		finishAll(written, db.commit(t, len(written)))
	}
	return nil
}

// runJobs runs jobs one after the other. A refused job is finished here, as
// is the one that failed to write; with it come those to try again.
func (t *txn) runJobs(batch []*job) (written []*job, failed *job, again []*job) {
	for i, j := range batch {
		if err := j.check(t); err != nil {
			j.finish(err)
			continue
		}
		if err := j.write(t); err != nil {
			j.finish(err)
			return nil, j, append(written, batch[i+1:]...)
		}
		written = append(written, j)
	}
	return written, nil, nil
}

// finishAll ends those of the jobs that have not ended.
func finishAll(jobs []*job, err error) {
	for _, j := range jobs {
		select {
		case <-j.done:
		default:
			j.finish(err)
		}
	}
}

func (db *DB) begin() (*txn, error) {
	if err := db.failure(); err != nil {
		return nil, err
	}
	tx, err := db.bolt.Begin(true)
	if err != nil {
		return nil, closedError(err)
	}
	t := &txn{Tx: tx, db: db, keys: db.keys, state: db.state.clone(), chapters: db.chapters}
	db.chapters = nil // it may be rolled back with changes in them
	return t, nil
}

// commit makes a transaction durable. After an error that is not a full disk
// nobody knows what is on the disk, and bbolt may show a write that failed
// (attack S7): the store has failed for good.
func (db *DB) commit(t *txn, changes int) error {
	begun := time.Now()
	size := t.Size()
	err := attempt(func() error {
		if err := t.seal(); err != nil {
			return err
		}
		size = t.Size()
		return t.Commit()
	})
	switch {
	case err == nil:
		db.committed(t, changes, size, time.Since(begun))
		return nil
	case noRoom(err):
		return db.readOnly(err)
	}
	err = db.fail(err)
	db.rollback(t)
	return err
}

func (db *DB) committed(t *txn, changes int, size int64, took time.Duration) {
	db.state = t.state
	if len(t.chapters) <= maxOpen {
		db.chapters = t.chapters
	}
	t.savedRecord()
	db.metrics.committed(t, changes, size, took)
	switch {
	case db.full && db.reserve != nil && !db.reserve.held: // it was an audit entry, from what the reserve had
		db.metrics.readOnly.Set(1)
	case db.full:
		db.full = false
		db.log.Info("store takes changes again")
	}
}

// attempt runs what may meet a damaged page.
func attempt(fn func() error) (err error) {
	defer guard(&err)()
	return fn()
}

// rollback undoes a transaction. When that panics too, bbolt keeps its
// writer lock for ever, and Close must not wait for it.
func (db *DB) rollback(t *txn) {
	if t.DB() == nil {
		return // Commit did it
	}
	if err := attempt(t.Rollback); err != nil {
		_ = db.fail(err)
	}
	db.stuck = t.DB() != nil
}
