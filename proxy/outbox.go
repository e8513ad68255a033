package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
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
// destination one after the other, in the order in which they were stored; see
// turns.go.
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
	turns   turns
	self    identity.VASPID
	waiting int // scheduled and not delivered yet, but for
	maxOwed int
	owed    map[identity.VASPID]int         // what counterparties' reports have us tell our backend, by counterparty
	all     map[uint64]*storage.OutboxEntry // that wait, by number
	working sync.WaitGroup
}

// maxWaiting is how many entries may wait before no more work is accepted of
// our backend: a quarter of a kilobyte each in memory, and hours of a busy
// VASP's work. maxOwed is how many callbacks the reports of one counterparty
// may have waiting before no more are accepted of it (attack G4).
const (
	maxWaiting = 200_000
	maxOwed    = 10_000
)

func outboxFull(op string) error {
	return &Error{Op: op, Kind: Unavailable, Code: "OUTBOX-FULL", Message: "Too many deliveries wait; nothing was accepted. Try again later."}
}

// full says that no more work can be accepted of our backend.
func (o *outbox) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting >= maxWaiting
}

// crowded says that no more reports can be accepted of a counterparty.
func (o *outbox) crowded(peer identity.VASPID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owed[peer] >= o.maxOwed
}

// count counts an entry that begins or ends to wait.
func (o *outbox) count(e *storage.OutboxEntry, n int) {
	o.metrics.outbox.WithLabelValues(destinationOf(e).String()).Add(float64(n))
	if n > 0 {
		o.all[e.Seq] = e
	} else {
		delete(o.all, e.Seq)
	}
	if e.Kind != storage.ToBackend || e.Originating == o.self {
		o.waiting += n
		return
	}
	if o.owed[e.Originating] += n; o.owed[e.Originating] == 0 {
		delete(o.owed, e.Originating)
	}
}

// oldest is since when the delivery that waits longest does, by the metrics'
// label of its destination; zero when none waits.
func (o *outbox) oldest() map[string]time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	since := map[string]time.Time{destination{}.String(): {}, destination{toBackend: true}.String(): {}}
	for _, e := range o.all {
		d := destinationOf(e).String()
		if t := since[d]; t.IsZero() || e.Created.Before(t) {
			since[d] = e.Created
		}
	}
	return since
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
	o.phase, o.lanes = running, make(map[destination]*lane)
	for _, entry := range waiting {
		o.schedule(entry)
		o.known = max(o.known, entry.Seq)
	}
	slices.SortFunc(o.early, func(a, b *storage.OutboxEntry) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, entry := range o.early {
		o.scheduleNew(entry)
	}
	o.early = nil
	return nil
}

// expect says that entries are about to be stored. Whoever stores them says
// when they are, or are not.
func (o *outbox) expect(entries []*storage.OutboxEntry) (stored func(bool)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, entry := range entries {
		o.turns.expect(turnOf(entry))
	}
	return func(are bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, entry := range entries {
			o.turns.expected(turnOf(entry))
			if are {
				o.take(entry)
			}
			o.advance(turnOf(entry))
		}
	}
}

// take schedules an entry that the history holds already.
func (o *outbox) take(entry *storage.OutboxEntry) {
	switch o.phase {
	case reading:
		o.early = append(o.early, entry)
	case running:
		o.scheduleNew(entry)
	}
}

// first is the number of a verification's question that waits to be delivered.
func (o *outbox) first(row *storage.Verification) (seq uint64, found bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.turns[turn{destination{peer: row.Beneficiary}, verificationKey{row.Originating, row.UUID}}]
	if q == nil || len(q.jobs) == 0 || q.jobs[0].entry.Kind != storage.ToPeerVerification {
		return 0, false
	}
	return q.jobs[0].entry.Seq, true
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
	o.count(entry, 1)
	slim := *entry
	slim.Body = nil // stays in the history until its turn: thousands may wait
	o.turns.push(&job{entry: &slim, lane: l})
	o.advance(turnOf(entry))
}

// advance lets the job go whose turn it is, if it is somebody's.
func (o *outbox) advance(key turn) {
	if j := o.turns.next(key); j != nil {
		j.lane.push(j)
		o.pump(j.lane)
	}
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
		o.count(j.entry, -1)
		o.turns.done(turnOf(j.entry))
		o.advance(turnOf(j.entry))
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

// commit stores a change, and lets go what it queues in the order of storage.
func (e *Enclave) commit(ctx context.Context, c *storage.Change) error {
	stored := e.outbox.expect(c.Outbox)
	err := e.History.Apply(ctx, c)
	stored(err == nil)
	return err
}

// deliver makes one attempt for one entry, again when somebody else changed
// its row meanwhile.
func (e *Enclave) deliver(ctx context.Context, scheduled *storage.OutboxEntry) error {
	err := e.attempt(ctx, scheduled)
	if errors.Is(err, storage.ErrConflict) {
		err = e.attempt(ctx, scheduled)
	}
	return err
}

// attempt delivers an entry by its kind. An entry whose row is gone has
// nothing to deliver any more.
func (e *Enclave) attempt(ctx context.Context, scheduled *storage.OutboxEntry) error {
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
