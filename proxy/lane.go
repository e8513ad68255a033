package proxy

import (
	"container/heap"
	"time"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// lane is the way to one destination. How many deliveries may be under way on
// it follows what becomes of them: each that arrives lets one more out, each
// that finds the way closed halves their number, and when there is but one,
// the lane is held for a while that doubles. So a destination that is away is
// knocked at by one delivery every few seconds, however many wait, and they
// come back no faster than it takes them.
//
// Its methods are called under the outbox's lock.
type lane struct {
	to       destination
	waiting  byDeadline
	underway int
	width    int // how many may be under way
	holds    int // in a row
	held     bool
}

const (
	laneWidth   = 256
	longestHold = 5 * time.Second
)

func newLane(to destination) *lane { return &lane{to: to, width: laneWidth} }

func (l *lane) push(j *job) { heap.Push(&l.waiting, j) }

// next takes the most urgent job off the lane, or gives nil when none may go
// now. Jobs that have expired ask nobody, and so only the lane's full width
// bounds them.
func (l *lane) next(expired func(*storage.OutboxEntry) bool) *job {
	if len(l.waiting) == 0 || l.held || l.underway >= laneWidth {
		return nil
	}
	first := l.waiting[0]
	first.expired = expired(first.entry)
	if !first.expired && l.underway >= l.width {
		return nil
	}
	l.underway++
	return heap.Pop(&l.waiting).(*job)
}

// settle learns from the end of a delivery. When the lane is to be held it
// says for how long; the caller then ends the hold.
func (l *lane) settle(j *job, err error) (hold time.Duration) {
	l.underway--
	switch {
	case j.expired:
	case err == nil:
		l.width, l.holds = min(l.width+1, laneWidth), 0
	case !closed(err):
	case l.width > 1:
		l.width /= 2
	case !l.held:
		l.held = true
		l.holds++
		return pause(l.holds, longestHold)
	}
	return 0
}

// closed says of an error that the next delivery on the lane would most
// likely meet it too.
func closed(err error) bool {
	switch kindOf(err) {
	case Unavailable, Timeout, Storage:
		return true
	}
	return false
}

// byDeadline is a heap: what must end first, first, and of the rest the
// oldest; to our own backend, the least often tried.
type byDeadline []*job

func (q byDeadline) Len() int { return len(q) }

func (q byDeadline) Less(i, k int) bool {
	// What the backend has refused before comes after what it has not seen.
	if q[i].lane.to.toBackend && q[i].attempts != q[k].attempts {
		return q[i].attempts < q[k].attempts
	}
	a, b := q[i].entry, q[k].entry
	if !a.Deadline.Equal(b.Deadline) {
		return b.Deadline.IsZero() || !a.Deadline.IsZero() && a.Deadline.Before(b.Deadline)
	}
	return a.Seq < b.Seq
}

func (q byDeadline) Swap(i, k int) { q[i], q[k] = q[k], q[i] }

// Push implements heap.Interface.
func (q *byDeadline) Push(j any) { *q = append(*q, j.(*job)) }

// Pop implements heap.Interface.
func (q *byDeadline) Pop() any {
	last := len(*q) - 1
	j := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return j
}
