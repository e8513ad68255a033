package central

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// seat is a member's place: who it is, and what is there. A member whose entry
// in the members file changes gets a new seat with the same place.
type seat struct {
	member *Member
	*place
}

// place is which enclave sits there now, and what goes on with it.
type place struct {
	exchanges atomic.Int64  // in progress with this recipient
	look      chan struct{} // ask for its health at once

	registering sync.Mutex // one registration at a time

	mu      sync.Mutex
	enclave *enclave // nil until one has registered
	until   time.Time
	up      bool
}

// enclave is one that has registered. It does not change.
type enclave struct {
	kept     kept
	chain    []byte // of identities
	endpoint *relay.Endpoint
}

// sitting is the enclave that registered last, and whether its lease runs.
func (s *place) sitting(now time.Time) (e *enclave, alive bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enclave, s.enclave != nil && now.Before(s.until)
}

// health is what the directory says. A registration counts as a sign of life
// until the first poll knows better.
func (s *place) health(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enclave != nil && s.up && now.Before(s.until) {
		return relay.Up
	}
	return relay.Down
}

func (s *place) take(e *enclave) {
	s.mu.Lock()
	s.enclave, s.until, s.up = e, e.kept.LeaseUntil, true
	s.mu.Unlock()
	select {
	case s.look <- struct{}{}:
	default:
	}
}

func (s *place) prolong(e *enclave) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enclave, s.until = e, e.kept.LeaseUntil
}

// saw notes what a poll found, unless another enclave registered meanwhile.
func (s *place) saw(e *enclave, up bool) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enclave == nil || s.enclave.kept.Registration.Instance != e.kept.Registration.Instance {
		return false
	}
	changed = s.up != up
	s.up = up
	return changed
}

// restore puts the enclave back that was registered before a restart.
func (s *Server) restore(seat *seat, k kept) error {
	e, err := s.enclave(seat.member, k)
	if err != nil {
		return err
	}
	seat.take(e)
	return nil
}

// enclave makes what is needed to speak to a registered enclave.
func (s *Server) enclave(m *Member, k kept) (*enclave, error) {
	base, err := relay.ParseEndpoint(k.Registration.PublicEndpoint)
	if err != nil {
		return nil, err
	}
	chain, err := k.Registration.Chain()
	if err != nil {
		return nil, err
	}
	signer, err := relay.NewSigner(m.key(k.AccessKey), relay.CentralToEnclave)
	if err != nil {
		return nil, err
	}
	return &enclave{kept: k, chain: chain, endpoint: &relay.Endpoint{Base: base, Signer: signer, Transport: s.transport}}, nil
}

// key is the pair with an access key, or the first one when that is gone.
func (m *Member) key(access string) relay.Key {
	for _, k := range m.Keys {
		if k.Access == access {
			return k
		}
	}
	return m.Keys[0]
}

// pollTimeout is how long an enclave may take to say that it is up.
const pollTimeout = 3 * time.Second

// watch asks the enclave in a seat for its health, every PollEvery give or
// take a fifth, and at once when it has just sat down, until ctx ends.
func (s *Server) watch(ctx context.Context, seat *seat) {
	for {
		wait := time.NewTimer(jitter(s.config.PollEvery))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-seat.look:
			wait.Stop()
		case <-wait.C:
		}
		if e, alive := seat.sitting(s.config.Now()); alive {
			s.poll(ctx, seat, e)
		}
	}
}

// jitter keeps polls of many members from falling into step.
func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5+1) }

func (s *Server) poll(ctx context.Context, seat *seat, e *enclave) {
	outcome, why := s.ask(ctx, seat.member, e)
	if ctx.Err() != nil {
		return // we stop: that says nothing of the enclave
	}
	s.metrics.polls.WithLabelValues(string(outcome)).Inc()
	if seat.saw(e, outcome == pollUp) {
		attrs := []any{"vasp", seat.member.VASPID, "up", outcome == pollUp, "poll", string(outcome)}
		if why != nil {
			attrs = append(attrs, "err", why)
		}
		s.config.Log.Info("health of an enclave changed", attrs...)
	}
}

// pollOutcome is what a poll found: a metric's label, from a closed set.
type pollOutcome string

const (
	pollUp          pollOutcome = "up"
	pollUnreachable pollOutcome = "unreachable" // no answer
	pollRefused     pollOutcome = "refused"     // an answer, but not that it is up
	pollOther       pollOutcome = "other-instance"
)

// ask polls once: is the enclave that registered there, and up? The error says
// why it is not.
func (s *Server) ask(ctx context.Context, m *Member, e *enclave) (pollOutcome, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	reply, err := e.endpoint.Do(ctx, relay.Call{
		Method: http.MethodGet, Path: relay.HealthPath, Recipient: m.VASPID.String(), MaxReply: relay.MaxHealth,
	})
	if err != nil {
		return pollUnreachable, err
	}
	h, err := readHealth(reply)
	switch {
	case err != nil:
		return pollRefused, err
	case h.Status != relay.Up:
		return pollRefused, errors.New("it says that it is not up")
	case h.Instance != e.kept.Registration.Instance:
		return pollOther, errors.New("another instance answers than the one that registered")
	}
	return pollUp, nil
}

func readHealth(r *relay.Reply) (*relay.Health, error) {
	if r.Status != http.StatusOK {
		return nil, fmt.Errorf("it answers with status %d", r.Status)
	}
	return relay.ParseHealth(r.Body)
}
