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
// come back no faster than it takes them. A destination that says how long it
// wants to be left alone is left alone for so long.
//
// The most urgent delivery goes first, until some fail: then the least often
// tried does, so that the few that never arrive do not hold up the rest.
//
// Its methods are called under the outbox's lock.
type lane struct {
	to       destination
	urgent   queue // the same jobs twice
	untried  queue
	underway int
	width    int // how many may be under way
	holds    int // in a row
	held     bool
}

const (
	laneWidth   = 256
	longestHold = 5 * time.Second
)

func newLane(to destination) *lane {
	return &lane{
		to: to, width: laneWidth,
		urgent:  queue{before: sooner, place: func(j *job) *int { return &j.urgent }},
		untried: queue{before: lessTried, place: func(j *job) *int { return &j.untried }},
	}
}

func (l *lane) push(j *job) {
	heap.Push(&l.urgent, j)
	heap.Push(&l.untried, j)
}

// next takes a job off the lane, or gives nil when none may go now. Jobs that
// have expired ask nobody: they go first, and only the lane's full width
// bounds them.
func (l *lane) next(expired func(*storage.OutboxEntry) bool) *job {
	if l.urgent.Len() == 0 || l.held || l.underway >= laneWidth {
		return nil
	}
	j := l.urgent.jobs[0]
	switch j.expired = expired(j.entry); {
	case j.expired:
	case l.underway >= l.width:
		return nil
	case l.width < laneWidth:
		j = l.untried.jobs[0]
		j.expired = false
	}
	heap.Remove(&l.urgent, j.urgent)
	heap.Remove(&l.untried, j.untried)
	l.underway++
	return j
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
	case retryAfter(err) > 0 && !l.held:
		l.width, l.held = max(1, l.width/2), true
		return retryAfter(err)
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

// sooner is the order of what must end first, and of the rest the oldest.
func sooner(a, b *job) bool {
	x, y := a.entry, b.entry
	if !x.Deadline.Equal(y.Deadline) {
		return y.Deadline.IsZero() || !x.Deadline.IsZero() && x.Deadline.Before(y.Deadline)
	}
	return x.Seq < y.Seq
}

// lessTried is the order of what was least often tried.
func lessTried(a, b *job) bool {
	if a.attempts != b.attempts {
		return a.attempts < b.attempts
	}
	return sooner(a, b)
}

// queue is a heap of jobs that know their place in it.
type queue struct {
	jobs   []*job
	before func(a, b *job) bool
	place  func(*job) *int
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (q *queue) Len() int { return len(q.jobs) }

// Less is the queue's order.
func (q *queue) Less(i, k int) bool { return q.before(q.jobs[i], q.jobs[k]) }

// Swap keeps the places.
func (q *queue) Swap(i, k int) {
	q.jobs[i], q.jobs[k] = q.jobs[k], q.jobs[i]
	*q.place(q.jobs[i]), *q.place(q.jobs[k]) = i, k
}

// Push adds at the end.
func (q *queue) Push(j any) {
	*q.place(j.(*job)) = len(q.jobs)
	q.jobs = append(q.jobs, j.(*job))
}

// Pop takes from the end.
func (q *queue) Pop() any {
	last := len(q.jobs) - 1
	j := q.jobs[last]
	q.jobs[last] = nil
	q.jobs = q.jobs[:last]
	return j
}
