// Package bolt keeps an enclave's history in one bbolt file.
//
// Every value is sealed as a whole and bound to its bucket, key and version;
// lookups go through keyed hashes, so the file by itself shows ids, times and
// states only (attacks S1, S2, S9). One writer goroutine commits whatever has
// queued up, with two syncs for all of it. The bytes are described in
// storage/FORMAT.md.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// ErrClosed is the answer of a store after Close.
var ErrClosed = errors.New("store is closed")

// ErrNetworkFilesystem says that the path is on another machine.
var ErrNetworkFilesystem = errors.New("a history on a network filesystem may have two writers and lose what was acknowledged")

// DefaultPeriod is the length of a retention period in a new file.
const DefaultPeriod = 30 * 24 * time.Hour

// Options say how to open a history file. Path and KEK are required.
type Options struct {
	Path string
	KEK  *atrest.KEK
	// Others are keys that the file may be wrapped under instead, during a
	// change of the KEK.
	Others []*atrest.KEK
	// Period is how long a retention period lasts in a new file; an existing
	// file keeps the one it was made with. Default: DefaultPeriod.
	Period time.Duration
	// Reserve is how much room, in bytes, a file beside the history keeps for
	// the audit log on a full disk. 0: none.
	Reserve int64
	// UnsafeNetwork allows a path on a network filesystem.
	UnsafeNetwork bool
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Metrics takes the enclave_store_... metrics until Close. May be nil.
	Metrics prometheus.Registerer
	// Logger may be nil.
	Logger *slog.Logger
	// Tell hears how far a check of the whole file has come, see CheckTelling;
	// nil: nobody does. CheckFile, Compact and Restore make one.
	Tell func(done, all uint64)

	// OnFail is called once, in a goroutine of its own, when a write or sync
	// failed and the store refuses everything from then on: the program must
	// stop. May be nil.
	OnFail func(error)
}

func (o *Options) setDefaults() {
	if o.Period == 0 {
		o.Period = DefaultPeriod
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// DB is an open history file. Its methods may be called concurrently.
type DB struct {
	bolt    *bbolt.DB
	keys    *atrest.Keys
	now     func() time.Time
	log     *slog.Logger
	onFail  func(error)
	metrics *metrics

	queue   chan *job
	closing chan struct{} // closed by Close
	ended   chan struct{} // closed when the writer has ended
	close   func() error
	failed  atomic.Pointer[error]

	tallies tallies // of chapters that lists have read

	rotate      chan struct{}          // wakes the rotation of data keys
	rotatePause atomic.Int64           // nanoseconds; tests change it
	tended      chan struct{}          // closed when the rotation has ended
	stalled     atomic.Pointer[string] // why it does not go on
	checking    *rotationRecord        // its own

	// The writer's own.
	kek        *atrest.KEK             // that the keyring record is wrapped under
	state      *state                  // as committed
	unnumbered bool                    // the file's keys had no numbers when it was opened
	outdated   bool                    // the file was of an older schema when it was opened
	chapters   map[rowKey]*openChapter // those written last, as committed
	unsaved    map[uint32]bool         // periods with a key that no commit has kept
	reserve    *reserve                // nil: none
	full       bool                    // the last commit found no room
	stuck      bool                    // bbolt keeps its writer lock
}

var _ storage.History = (*DB)(nil)

// Open opens the history file at o.Path and makes it when there is none.
//
// A file that is cut short, damaged at its head, of an unknown schema or
// wrapped under another KEK (atrest.ErrWrongKEK) is refused before anything
// is written to it, as is one that another process has open.
func Open(o Options) (*DB, error) {
	o.setDefaults()
	db, err := open(&o)
	if err != nil {
		return nil, fmt.Errorf("open history %q: %w", o.Path, err)
	}
	return db, nil
}

func open(o *Options) (*DB, error) {
	if o.KEK == nil {
		return nil, errors.New("no key-encryption key given")
	}
	if !o.UnsafeNetwork {
		if err := CheckFilesystem(filepath.Dir(o.Path)); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(o.Path); errors.Is(err, fs.ErrNotExist) {
		if err := create(o); err != nil {
			return nil, fmt.Errorf("create: %w", err)
		}
	}
	if err := examine(o.Path); err != nil {
		return nil, err
	}
	file, err := openFile(o.Path, false) // writes nothing to a file that is good
	if err != nil {
		return nil, err
	}
	db, err := newDB(o, file)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	if o.Reserve > 0 {
		db.reserve = &reserve{path: o.Path + ".reserve", size: o.Reserve}
		if err := db.reserve.hold(); err != nil {
			_ = db.readOnly(err)
		}
	}
	go db.run()
	go db.tend()
	db.wake()
	return db, nil
}

func newDB(o *Options, file *bbolt.DB) (*DB, error) {
	db := &DB{
		bolt: file, now: o.Now, log: o.Logger, onFail: o.OnFail,
		metrics: newMetrics(o.Path),
		queue:   make(chan *job, queueLength),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
		unsaved: map[uint32]bool{},
		rotate:  make(chan struct{}, 1), tended: make(chan struct{}),
	}
	db.rotatePause.Store(int64(rotatePause))
	db.close = sync.OnceValue(db.shut)
	if err := db.load(append([]*atrest.KEK{o.KEK}, o.Others...)); err != nil {
		return nil, err
	}
	if db.unnumbered {
		if err := db.renewRecord(); err != nil {
			return nil, err
		}
	}
	if db.outdated {
		if err := db.upgrade(); err != nil {
			return nil, err
		}
	}
	db.metrics.keys = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "enclave_data_key_oldest_timestamp_seconds",
		Help: "When the oldest data key was made under which new values are sealed; 0 for one of before keys had numbers.",
	}, db.oldestKey)
	if err := db.metrics.register(o.Metrics); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return db, nil
}

// load reads the keys and the state, and the end of the audit log.
func (db *DB) load(keks []*atrest.KEK) error {
	return db.view(func(t *txn) (err error) {
		if db.keys, db.kek, err = readKeys(t.Tx, keks); err != nil {
			return err
		}
		t.keys, db.unnumbered = db.keys, outdatedRecord(t.Tx)
		if db.state, err = t.loadState(); err != nil {
			return err
		}
		db.metrics.size.Set(float64(t.Size()))
		db.metrics.holds(db.state)
		db.outdated = t.schema() != strconv.Itoa(schemaVersion)
		_, err = t.chain(max(db.state.AuditSeq, 1), 1)
		return err
	})
}

// Close ends the writer and closes the file. Changes that are still queued
// get ErrClosed and are not written; those that have begun are finished.
func (db *DB) Close() error { return db.close() }

func (db *DB) shut() error {
	close(db.closing)
	<-db.ended
	<-db.tended
	db.metrics.unregister()
	if db.stuck {
		return nil // the program is stopping; closing would wait for ever
	}
	return db.bolt.Close()
}

// Keys are the data keysets of this file, for wrapping our own private keys.
func (db *DB) Keys() *atrest.Keys { return db.keys }

// MAC implements storage.History.
func (db *DB) MAC(purpose string, value []byte) [32]byte { return db.keys.MAC("name/"+purpose, value) }

// PlaintextMAC is a keyed MAC of a payload, for comparing repeats.
func (db *DB) PlaintextMAC(payload []byte) [32]byte { return db.keys.MAC("payload", payload) }

// read is view with the caller's context and the name of what is read.
func (db *DB) read(ctx context.Context, op string, fn func(*txn) error) error {
	err := ctx.Err()
	if err == nil {
		err = db.view(fn)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func closedError(err error) error {
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

const (
	pageSize    = 4096
	lockTimeout = time.Second
	growBy      = 4 << 20 // bytes by which the file is extended, unwritten
)

// mapSize is address space, not memory: with room to spare, a reader never
// makes the writer wait for a new mapping. A 32-bit program has none to spare.
const mapSize = (1 << 30) * (strconv.IntSize / 64)

// openFile opens what examine has found good. Never with NoFreelistSync: the
// next start would have to read the whole file.
func openFile(path string, readOnly bool) (db *bbolt.DB, err error) {
	defer guard(&err)()
	o := &bbolt.Options{
		Timeout: lockTimeout, ReadOnly: readOnly, PageSize: pageSize,
		FreelistType: bbolt.FreelistMapType, NoStatistics: true,
	}
	if !readOnly {
		o.InitialMmapSize = mapSize
	}
	var file *os.File
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		file = f
		return f, err
	}
	db, err = bbolt.Open(path, 0o600, o)
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, errors.New("another enclave has it open")
	}
	if err != nil {
		return nil, err
	}
	if err := stillNamed(file, path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	db.AllocSize = growBy
	return db, nil
}

// stillNamed refuses a file that was replaced, by Compact, while its lock was
// waited for: what is written to it would be gone.
func stillNamed(file *os.File, path string) error {
	has, err := file.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(path)
	if err == nil && !os.SameFile(has, now) {
		err = errors.New("the file was replaced while it was being opened: start again")
	}
	return err
}
