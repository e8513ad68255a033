package proxy

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// outbox tries each entry until its delivery succeeds. The entries are
// durable in the history; this is their schedule, and it is made again from
// the history at every start.
//
// Entries of one destination share a lane, so that one slow counterparty does
// not hold up the others. What one lane does when its destination is away is
// the business of lane.go. Entries about one verification go to one
// destination one after the other, in the order in which they were stored.
type outbox struct {
	deliver func(ctx context.Context, entry *storage.OutboxEntry) error
	expired func(*storage.OutboxEntry) bool // what is left of it needs nobody else
	metrics *metrics
	log     *slog.Logger

	mu      sync.Mutex
	phase   phase
	ctx     context.Context        // of the deliveries
	known   uint64                 // entries up to this number were in the history when start read it
	early   []*storage.OutboxEntry // added while start was reading
	lanes   map[destination]*lane
	behind  map[turn][]*job // who waits for the one that is scheduled; nil: nobody
	waiting int             // scheduled and not delivered yet
	working sync.WaitGroup
}

// maxWaiting is how many entries may wait before no more work is accepted:
// a quarter of a kilobyte each in memory, and hours of a busy VASP's work.
const maxWaiting = 200_000

func outboxFull(op string) error {
	return &Error{Op: op, Kind: Unavailable, Code: "OUTBOX-FULL", Message: "Too many deliveries wait; nothing was accepted. Try again later."}
}

// full says that no more work can be accepted.
func (o *outbox) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting >= maxWaiting
}

type phase uint8

const (
	idle phase = iota // nothing is scheduled: start will find it in the history
	reading
	running
	ended // nothing is scheduled: the next start will find it
)

// destination is a counterparty, or our own backend.
type destination struct {
	toBackend bool
	peer      identity.VASPID
}

// turn is what entries take turns for: one verification at one destination.
type turn struct {
	to destination
	verificationKey
}

func turnOf(e *storage.OutboxEntry) turn {
	return turn{destinationOf(e), verificationKey{e.Originating, e.UUID}}
}

func destinationOf(e *storage.OutboxEntry) destination {
	if e.Kind == storage.ToBackend {
		return destination{toBackend: true}
	}
	return destination{peer: e.Counterparty}
}

// String is the metrics' label.
func (d destination) String() string {
	if d.toBackend {
		return "backend"
	}
	return "peer"
}

// job is one entry on its way.
type job struct {
	entry    *storage.OutboxEntry
	attempts int
	lane     *lane
	expired  bool // on this attempt

	urgent, untried int // its places in the lane's queues
}

// start schedules what read finds in the history, and from then on what is
// added, until ctx ends.
func (o *outbox) start(ctx context.Context, read func(context.Context) ([]*storage.OutboxEntry, error)) error {
	o.mu.Lock()
	o.phase, o.ctx = reading, ctx
	o.mu.Unlock()
	waiting, err := read(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.phase = ended
		return err
	}
	o.phase, o.lanes, o.behind = running, make(map[destination]*lane), make(map[turn][]*job)
	for _, entry := range waiting {
		o.schedule(entry)
		o.known = max(o.known, entry.Seq)
	}
	for _, entry := range o.early {
		o.scheduleNew(entry)
	}
	o.early = nil
	return nil
}

// add schedules entries that the history holds already.
func (o *outbox) add(entries ...*storage.OutboxEntry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.phase {
	case reading:
		o.early = append(o.early, entries...)
	case running:
		for _, entry := range entries {
			o.scheduleNew(entry)
		}
	}
}

// scheduleNew leaves out what start has found too, and has delivered perhaps:
// numbers rise with the order in which entries are stored.
func (o *outbox) scheduleNew(entry *storage.OutboxEntry) {
	if entry.Seq > o.known {
		o.schedule(entry)
	}
}

func (o *outbox) schedule(entry *storage.OutboxEntry) {
	to := destinationOf(entry)
	l := o.lanes[to]
	if l == nil {
		l = newLane(to)
		o.lanes[to] = l
	}
	o.metrics.outbox.WithLabelValues(to.String()).Inc()
	o.waiting++
	slim := *entry
	slim.Body = nil // stays in the history until its turn: thousands may wait
	o.enqueue(&job{entry: &slim, lane: l})
	o.pump(l)
}

// enqueue gives a job its turn, behind those about the same verification.
func (o *outbox) enqueue(j *job) {
	turn := turnOf(j.entry)
	if waiting, taken := o.behind[turn]; taken {
		o.behind[turn] = append(waiting, j)
		return
	}
	o.behind[turn] = nil
	j.lane.push(j)
}

// pass gives the turn of a job that is done to the next.
func (o *outbox) pass(done *job) {
	turn := turnOf(done.entry)
	waiting := o.behind[turn]
	if len(waiting) == 0 {
		delete(o.behind, turn)
		return
	}
	o.behind[turn] = waiting[1:]
	done.lane.push(waiting[0])
}

// wait returns when nothing is under way any more. The context given to start
// has ended. What was not delivered is in the history still.
func (o *outbox) wait() {
	o.mu.Lock()
	o.phase = ended
	o.mu.Unlock()
	o.working.Wait()
}

// pump starts as many deliveries of a lane as it lets through.
func (o *outbox) pump(l *lane) {
	for o.phase == running && o.ctx.Err() == nil {
		j := l.next(o.expired)
		if j == nil {
			return
		}
		o.working.Go(func() { o.attempt(j) })
	}
}

func (o *outbox) attempt(j *job) {
	err := o.deliver(o.ctx, j.entry)
	o.metrics.attempts.WithLabelValues(j.lane.to.String(), outcome(err)).Inc()
	o.mu.Lock()
	defer o.mu.Unlock()
	if hold := j.lane.settle(j, err); hold > 0 {
		time.AfterFunc(hold, func() { o.release(j.lane) })
	}
	if err == nil {
		o.waiting--
		o.metrics.outbox.WithLabelValues(j.lane.to.String()).Dec()
		o.pass(j)
	} else {
		o.again(j, err)
	}
	o.pump(j.lane)
}

// again puts a job back in its lane after a while.
func (o *outbox) again(j *job, err error) {
	j.attempts++
	level := slog.LevelDebug // an exchange with a counterparty has left its line
	if j.lane.to.toBackend || kindOf(err) == Storage {
		level = slog.LevelWarn
	}
	o.log.Log(o.ctx, level, "delivery failed; it is tried again", "destination", j.lane.to.String(),
		"verification", j.entry.UUID, "attempts", j.attempts, "err", err)
	time.AfterFunc(pause(j.attempts, longest(j.entry.Kind)), func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		j.lane.push(j)
		o.pump(j.lane)
	})
}

// release lets a held lane try again.
func (o *outbox) release(l *lane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.held = false
	o.pump(l)
}

// longest is the longest pause between two attempts for one entry. A
// verification's is short, for somebody waits, and it never lasts longer than
// its deadline; the others may take their time.
func longest(k storage.OutboxKind) time.Duration {
	if k == storage.ToPeerVerification {
		return longestHold
	}
	return time.Minute
}

// pause before the next attempt: doubling, with jitter so that many waiters
// do not knock together.
func pause(attempts int, longest time.Duration) time.Duration {
	d := min(100*time.Millisecond<<min(attempts-1, 12), longest)
	return d/2 + rand.N(d/2+1)
}

// deliver makes one attempt for one entry, by its kind. An entry whose row is
// gone has nothing to deliver any more.
func (e *Enclave) deliver(ctx context.Context, scheduled *storage.OutboxEntry) error {
	entry, err := e.History.OutboxEntry(ctx, scheduled.Seq)
	if errors.Is(err, storage.ErrNotFound) {
		return nil // delivered, and its end was stored though nobody heard of it
	}
	if err != nil {
		return fail("read outbox entry", Storage, err)
	}
	row, err := e.History.Verification(ctx, entry.Originating, entry.UUID)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		e.Logger.Warn("the verification is gone from the history; what was to be delivered of it is dropped", "verification", entry.UUID)
		return e.drop(ctx, entry)
	case err != nil:
		return fail("read verification", Storage, err)
	}
	switch entry.Kind {
	case storage.ToPeerVerification:
		return e.deliverVerification(ctx, row, entry)
	case storage.ToPeerTx, storage.ToPeerError:
		return e.deliverReport(ctx, row, entry)
	case storage.ToBackend:
		return e.deliverCallback(ctx, row, entry)
	default:
		// Written by a newer version; kept for it.
		return &Error{Op: "deliver", Kind: Internal, Message: "unknown outbox kind"}
	}
}

// drop ends an entry.
func (e *Enclave) drop(ctx context.Context, entry *storage.OutboxEntry) error {
	if err := e.History.Apply(ctx, &storage.Change{DropOutbox: []uint64{entry.Seq}}); err != nil {
		return fail("drop a delivered entry", Storage, err)
	}
	return nil
}

// expired says that only giving up is left for an entry.
func (e *Enclave) expired(entry *storage.OutboxEntry) bool {
	return !entry.Deadline.IsZero() && !e.Now().Before(entry.Deadline)
}
