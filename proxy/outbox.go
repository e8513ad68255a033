package proxy

import (
	"context"
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
// Entries of one destination share a lane with a bound on what is under way,
// so that one slow counterparty does not hold up the others.
type outbox struct {
	deliver func(ctx context.Context, entry *storage.OutboxEntry) error
	metrics *metrics

	mu      sync.Mutex
	ctx     context.Context // nil until run, done after it
	lanes   map[lane]*queue
	early   []*job // added before run
	working sync.WaitGroup
}

// lane is a destination: a counterparty, or our own backend.
type lane struct {
	toBackend bool
	peer      identity.VASPID
}

type queue struct {
	underway int
	waiting  []*job
}

type job struct {
	entry    *storage.OutboxEntry
	attempts int
	lane     lane
}

const laneWidth = 256

func newOutbox(deliver func(context.Context, *storage.OutboxEntry) error, m *metrics) *outbox {
	return &outbox{deliver: deliver, metrics: m, lanes: make(map[lane]*queue)}
}

// add schedules entries that the history holds already.
func (o *outbox) add(entries ...*storage.OutboxEntry) {
	for _, entry := range entries {
		j := &job{entry: entry, lane: laneOf(entry)}
		o.metrics.outbox.WithLabelValues(j.lane.label()).Inc()
		o.schedule(j)
	}
}

func laneOf(e *storage.OutboxEntry) lane {
	if e.Kind == storage.ToBackend {
		return lane{toBackend: true}
	}
	return lane{peer: e.Counterparty}
}

func (l lane) label() string {
	if l.toBackend {
		return "backend"
	}
	return "peer"
}

// run delivers until ctx ends, and returns when nothing is under way. What
// was not delivered is in the history still.
func (o *outbox) run(ctx context.Context) {
	o.mu.Lock()
	o.ctx = ctx
	early := o.early
	o.early = nil
	o.mu.Unlock()
	for _, j := range early {
		o.schedule(j)
	}
	<-ctx.Done()
	o.working.Wait()
}

func (o *outbox) schedule(j *job) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ctx == nil {
		o.early = append(o.early, j)
		return
	}
	if o.ctx.Err() != nil {
		return
	}
	q := o.lanes[j.lane]
	if q == nil {
		q = new(queue)
		o.lanes[j.lane] = q
	}
	if q.underway >= laneWidth {
		q.waiting = append(q.waiting, j)
		return
	}
	q.underway++
	o.working.Go(func() { o.work(q, j) })
}

// work delivers one job after another from a lane until none waits.
func (o *outbox) work(q *queue, j *job) {
	for j != nil {
		o.attempt(j)
		j = o.next(q)
	}
}

func (o *outbox) next(q *queue) *job {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(q.waiting) == 0 || o.ctx.Err() != nil {
		q.underway--
		return nil
	}
	j := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	return j
}

func (o *outbox) attempt(j *job) {
	err := o.deliver(o.ctx, j.entry)
	o.metrics.attempts.WithLabelValues(j.lane.label(), outcome(err)).Inc()
	if err == nil {
		o.metrics.outbox.WithLabelValues(j.lane.label()).Dec()
		return
	}
	j.attempts++
	time.AfterFunc(pause(j), func() { o.schedule(j) })
}

// pause before the next attempt: doubling, with jitter so that many waiters
// do not knock together, and never past the moment when giving up is due by
// more than the longest pause.
func pause(j *job) time.Duration {
	longest := 5 * time.Second
	if j.lane.toBackend {
		longest = time.Minute
	}
	d := min(100*time.Millisecond<<min(j.attempts-1, 12), longest)
	return d/2 + rand.N(d/2+1)
}

// deliver makes one attempt for one entry, by its kind.
func (e *Enclave) deliver(ctx context.Context, entry *storage.OutboxEntry) error {
	switch entry.Kind {
	case storage.ToPeerVerification:
		return e.deliverVerification(ctx, entry)
	case storage.ToPeerError:
		return e.deliverError(ctx, entry)
	case storage.ToBackend:
		return e.deliverCallback(ctx, entry)
	default:
		// Written by a newer version; kept for it.
		return &Error{Op: "deliver", Kind: Internal, Message: "unknown outbox kind"}
	}
}
