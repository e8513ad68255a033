package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

// self looks for keys of VASP 7.
const self identity.VASPID = 9

// world is an enclave's lookups through a cache. The counterparty always
// answers, with one key for every scope; poison has another.
type world struct {
	*opened
	peers        *keyring.Peers
	owner        *identity.Signer
	good, poison *envelope.PublicKey
	requests     atomic.Int64

	mu     sync.Mutex
	events map[keyring.Event]int
}

func signer(t testing.TB, vasp identity.VASPID) *identity.Signer {
	t.Helper()
	s, err := identity.NewSigner(vasp)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publicKey(t testing.TB) *envelope.PublicKey {
	t.Helper()
	k, err := envelope.GenerateKey(identity.SuiteX25519)
	if err != nil {
		t.Fatal(err)
	}
	return k.Public()
}

func newWorld(t testing.TB, url string, change ...func(*redis.Config)) *world {
	t.Helper()
	w := &world{
		opened: open(t, url, change...), owner: signer(t, 7), good: publicKey(t), poison: publicKey(t),
		events: map[keyring.Event]int{},
	}
	w.peers = keyring.NewPeers(keyring.PeersConfig{
		Cache: w.Cache, Requester: w, TTL: 30 * time.Minute, Now: w.Now, Skew: time.Minute, Self: self,
		Observe: func(e keyring.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events[e]++
		},
	})
	return w
}

// RequestKey is the counterparty's answer.
func (w *world) RequestKey(_ context.Context, ref keyring.Ref, nonce [32]byte) ([]byte, error) {
	w.requests.Add(1)
	b := w.bundle(ref, w.good)
	b.Nonce = nonce
	return w.owner.SignBundle(b)
}

// bundle is a good one, but for its key perhaps.
func (w *world) bundle(ref keyring.Ref, key *envelope.PublicKey) identity.Bundle {
	return identity.Bundle{
		Suite: identity.SuiteX25519, PublicKey: key.Bytes(), Type: ref.Type, Scope: ref.Scope, Audience: self,
		Serial: uint64(w.Now().UnixMilli()), NotBefore: w.Now(), NotAfter: w.Now().Add(24 * time.Hour),
		Suites: []identity.Suite{identity.SuiteX25519},
	}
}

// lookup finds the one good key, or fails the test.
func (w *world) lookup(t testing.TB, ref keyring.Ref) {
	k, err := w.peers.Key(ctx, ref, w.owner.Public())
	if err != nil {
		t.Errorf("lookup failed: %v", err)
	} else if k.Public.ID() != w.good.ID() {
		t.Error("lookup gave a key that its owner did not offer")
	}
}

// storm is workers that look up without end, among so many refs that most
// lookups go to Redis.
type storm struct {
	*world
	done chan struct{} // one for each lookup; nobody looks up while none is taken
}

// workers is how many lookups are under way at once.
const workers = 8

// callsPerLookup is the most that a lookup calls Redis: twice to read, once to
// delete, once to write, and a redirect or two never show.
const callsPerLookup = 4

func begin(t *testing.T, w *world) *storm {
	t.Helper()
	s := &storm{world: w, done: make(chan struct{})}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				w.lookup(t, address(rand.IntN(200)))
				select {
				case s.done <- struct{}{}:
				case <-stop:
					return
				}
			}
		})
	}
	t.Cleanup(func() { close(stop); all.Wait() })
	return s
}

// lookups lets so many go on.
func (s *storm) lookups(count int) {
	for range count {
		<-s.done
	}
}

// trouble runs lookups while Redis does not answer, and fails the test when
// more of them waited for it than were under way when the trouble began.
func (s *storm) trouble(t *testing.T, begin func()) {
	t.Helper()
	before := s.calls(t)
	begin()
	s.lookups(1000)
	const trials = 3
	for range trials {
		s.advance(coolMost)
		s.lookups(200)
	}
	const most = workers*callsPerLookup + workers + trials
	if calls := s.calls(t) - before; calls > most {
		t.Errorf("%d calls of a Redis that does not answer in %d lookups, want at most %d", calls, 1000+200*trials, most)
	}
}

// recovery waits until Redis is used again.
func (s *storm) recovery(t *testing.T) {
	t.Helper()
	before := s.counted(t, "redis", "hit")
	for range 1000 {
		s.advance(coolMost)
		s.lookups(50)
		if s.counted(t, "redis", "hit") > before+50 {
			return
		}
	}
	t.Errorf("Redis is not used again:\n%s", s.log)
}

// summary is for who reads the test's output.
func (s *storm) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%d requests, events %v", s.requests.Load(), s.events)
}
