package central

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"sync"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// roster is the alliance of this moment. It does not change; the next one
// takes its place.
type roster struct {
	members *Members
	seats   map[identity.VASPID]*seat // of active members
	byKey   map[string]*seat
}

// newRoster seats the active members. Who had a seat before keeps its place;
// the others find what the state file knows of them.
func (s *Server) newRoster(members *Members, before *roster) (*roster, error) {
	r := &roster{members: members, seats: make(map[identity.VASPID]*seat), byKey: make(map[string]*seat)}
	for _, m := range members.active() {
		seat, err := s.newSeat(m, before)
		if err != nil {
			return nil, fmt.Errorf("state of VASP %s: %w", m.VASPID, err)
		}
		r.seats[m.VASPID] = seat
		for _, k := range m.Keys {
			r.byKey[k.Access] = seat
		}
	}
	return r, nil
}

func (s *Server) newSeat(m *Member, before *roster) (*seat, error) {
	if before != nil && before.seats[m.VASPID] != nil {
		return &seat{m, before.seats[m.VASPID].place}, nil
	}
	seat := &seat{m, &place{look: make(chan struct{}, 1)}}
	if kept, ok := s.store.get(m.VASPID); ok {
		return seat, s.restore(seat, kept)
	}
	return seat, nil
}

// SetMembers makes this the alliance from now on; a connection is dropped for
// nobody. A member that is new may connect at once. One that is gone, or no
// longer active, is refused with its next request and its lease ends; its
// identity stays known, should it come back. What is in progress comes to its
// end. After an error nothing changed.
func (s *Server) SetMembers(members *Members) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	before := s.roster.Load()
	next, err := s.newRoster(members, before)
	if err != nil {
		return err
	}
	if err := s.verifier.SetKeys(members.keys()); err != nil {
		return err
	}
	s.allowed.Swap(members.allowed())
	s.listener.SetMaxConns(maxConns(members))
	s.roster.Store(next)
	for id, seat := range before.seats {
		switch after := next.seats[id]; {
		case after == nil:
			s.leave(seat)
		case !reflect.DeepEqual(seat.member.Keys, after.member.Keys):
			s.rekey(after)
		}
	}
	s.watchers.follow(next)
	return nil
}

// leave ends the lease of a member that is gone.
func (s *Server) leave(seat *seat) {
	seat.registering.Lock()
	defer seat.registering.Unlock()
	e, alive := seat.sitting(s.config.Now())
	if !alive {
		return
	}
	gone := *e
	gone.kept.LeaseUntil = s.config.Now()
	seat.prolong(&gone)
	s.store.prolong(seat.member.VASPID, gone.kept)
}

// rekey signs requests to a member's enclave with a key that it has now. It
// says which one it wants with its next registration.
func (s *Server) rekey(seat *seat) {
	seat.registering.Lock()
	defer seat.registering.Unlock()
	before, _ := seat.sitting(s.config.Now())
	if before == nil {
		return
	}
	e, err := s.enclave(seat.member, before.kept)
	if err != nil { // it was taken before, with another key
		s.config.Log.Error("key of a member not taken", "vasp", seat.member.VASPID, "err", err)
		return
	}
	seat.prolong(e)
}

// watchers look after the health of every member that has a seat.
type watchers struct {
	mu      sync.Mutex
	ctx     context.Context // of Run; nil before it
	watch   func(context.Context, *seat)
	stop    map[identity.VASPID]context.CancelFunc
	seats   map[identity.VASPID]*seat
	running sync.WaitGroup
	over    bool
}

func (w *watchers) start(ctx context.Context, watch func(context.Context, *seat)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.watch = ctx, watch
	w.stop, w.seats = make(map[identity.VASPID]context.CancelFunc), make(map[identity.VASPID]*seat)
}

// follow begins with those that have a new seat and ends with those that have
// none any more.
func (w *watchers) follow(r *roster) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || w.over {
		return
	}
	for id := range w.seats {
		if w.seats[id] != r.seats[id] {
			w.stop[id]()
		}
	}
	for id, seat := range r.seats {
		if w.seats[id] != seat {
			ctx, cancel := context.WithCancel(w.ctx)
			w.stop[id] = cancel
			w.running.Go(func() { w.watch(ctx, seat) })
		}
	}
	w.seats = maps.Clone(r.seats)
}

// wait waits for the end of all; the context of start must have ended.
func (w *watchers) wait() {
	w.mu.Lock()
	w.over = true
	for _, stop := range w.stop {
		stop()
	}
	w.mu.Unlock()
	w.running.Wait()
}
