package keyring

import (
	"container/list"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

const (
	// PerVerificationLife is how long the bundle of a PerVerification key is
	// valid.
	PerVerificationLife = 15 * time.Minute
	// MaxSingles and MaxSinglesPerPeer bound the PerVerification keys that
	// were handed out and neither consumed nor past their end (attack K9).
	MaxSingles        = 20_000
	MaxSinglesPerPeer = 1_000
)

// ErrExhausted says that a peer, or all peers together, have as many
// PerVerification keys as there may be. Another type is never given instead.
var ErrExhausted = errors.New("too many PerVerification keys are outstanding")

// PerVerification gives the signed bundle of a fresh key for one use by the
// requester, valid for 15 minutes and bound to its nonce. The key is in memory
// only: after a restart, what was sealed to it does not open, and its sender
// asks for a new one.
func (o *Own) PerVerification(requester identity.VASPID, nonce [32]byte) (bundle []byte, err error) {
	if requester == 0 {
		return nil, errors.New("make single-use key: no requester")
	}
	now := o.c.Now()
	if !o.singles.room(requester, now) { // before any work is done for it
		return nil, ErrExhausted
	}
	var s single
	_, _ = rand.Read(s.seed[:]) // never fails (crypto/rand)
	private, err := envelope.DeriveKey(o.c.Suite, s.seed[:])
	if err != nil {
		return nil, fmt.Errorf("make single-use key: %v", err)
	}
	bundle, notAfter, err := o.issue(now, PerVerificationLife, private.Public(), identity.Bundle{
		Type: identity.PerVerification, Audience: requester, Nonce: nonce,
	})
	if err != nil {
		return nil, fmt.Errorf("make single-use key: %v", err)
	}
	s.use = Use{ID: private.Public().ID(), Type: identity.PerVerification, Peer: requester}
	s.suite, s.deleteAfter = o.c.Suite, o.deleteAfter(notAfter)
	if !o.singles.put(&s) {
		return nil, ErrExhausted
	}
	o.recent.put(s.use.ID, built{s.use, private})
	return bundle, nil
}

// Consume makes the PerVerification key of a use unusable for ever and says
// whether it was usable. Of many who consume one key at once, one is told
// true. A key of another type, or one that was made for another peer, it
// leaves alone.
func (o *Own) Consume(u Use) bool { return o.singles.take(u) }

// single is what is kept of a single-use key: its seed, for twenty thousand
// built keys would be 100 MiB.
type single struct {
	use         Use
	suite       identity.Suite
	seed        [envelope.SeedSize]byte
	deleteAfter time.Time
}

// singles are the outstanding single-use keys.
type singles struct {
	mu      sync.Mutex
	byID    map[identity.KeyID]*list.Element
	order   *list.List // of *single, oldest in front
	perPeer map[identity.VASPID]int
	forget  func(identity.KeyID) // told of every key that goes
}

func newSingles(forget func(identity.KeyID)) *singles {
	return &singles{
		byID: map[identity.KeyID]*list.Element{}, order: list.New(), perPeer: map[identity.VASPID]int{}, forget: forget,
	}
}

// room says whether a peer may have one more.
func (s *singles) room(peer identity.VASPID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropEnded(now)
	return s.hasRoom(peer)
}

func (s *singles) hasRoom(peer identity.VASPID) bool {
	return s.order.Len() < MaxSingles && s.perPeer[peer] < MaxSinglesPerPeer
}

// put keeps a key, or says that others took the room meanwhile.
func (s *singles) put(k *single) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hasRoom(k.use.Peer) {
		return false
	}
	s.byID[k.use.ID] = s.order.PushBack(k)
	s.perPeer[k.use.Peer]++
	return true
}

func (s *singles) find(u Use, now time.Time) builder {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byID[u.ID]
	if !ok {
		return nil
	}
	k := e.Value.(*single)
	if k.use != u || !now.Before(k.deleteAfter) {
		return nil
	}
	suite, seed := k.suite, k.seed
	return func() (*envelope.PrivateKey, error) {
		defer clear(seed[:])
		return envelope.DeriveKey(suite, seed[:])
	}
}

func (s *singles) take(u Use) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byID[u.ID]
	if !ok || e.Value.(*single).use != u {
		return false
	}
	s.remove(e)
	return true
}

func (s *singles) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropEnded(now)
}

// dropEnded looks from the oldest on until one is not over: all live equally
// long.
func (s *singles) dropEnded(now time.Time) {
	for e := s.order.Front(); e != nil && !now.Before(e.Value.(*single).deleteAfter); e = s.order.Front() {
		s.remove(e)
	}
}

func (s *singles) remove(e *list.Element) {
	k := s.order.Remove(e).(*single)
	clear(k.seed[:])
	delete(s.byID, k.use.ID)
	s.forget(k.use.ID)
	if s.perPeer[k.use.Peer]--; s.perPeer[k.use.Peer] == 0 {
		delete(s.perPeer, k.use.Peer)
	}
}
