package proxy

import (
	"cmp"
	"slices"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// turn is what entries take turns for: one verification at one destination.
type turn struct {
	to destination
	verificationKey
}

func turnOf(e *storage.OutboxEntry) turn {
	return turn{destinationOf(e), verificationKey{e.Originating, e.UUID}}
}

// turns let one entry of each turn go at a time, in the order in which the
// history stored them, whoever is faster in telling of it: while somebody
// stores one, those behind it do not start.
//
// Its methods are called under the outbox's lock.
type turns map[turn]*queued

type queued struct {
	jobs     []*job // by number; the first one is on its way, if one is
	started  bool
	expected int // being stored now
}

func (t turns) of(key turn) *queued {
	q := t[key]
	if q == nil {
		q = new(queued)
		t[key] = q
	}
	return q
}

func (t turns) expect(key turn) { t.of(key).expected++ }

func (t turns) expected(key turn) { t.of(key).expected-- }

func (t turns) push(j *job) {
	q := t.of(turnOf(j.entry))
	from := 0
	if q.started {
		from = 1
	}
	at, _ := slices.BinarySearchFunc(q.jobs[from:], j, func(a, b *job) int { return cmp.Compare(a.entry.Seq, b.entry.Seq) })
	q.jobs = slices.Insert(q.jobs, from+at, j)
}

// next gives the job whose turn it is, once; nil when it is nobody's yet.
func (t turns) next(key turn) *job {
	q := t.of(key)
	switch {
	case q.started || q.expected > 0:
		return nil
	case len(q.jobs) == 0:
		delete(t, key)
		return nil
	}
	q.started = true
	return q.jobs[0]
}

// done ends the turn of the job that next gave.
func (t turns) done(key turn) {
	q := t[key]
	q.jobs, q.started = q.jobs[1:], false
}
