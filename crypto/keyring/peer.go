package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// ErrNotFound says that a cache has no entry.
var ErrNotFound = errors.New("no cached key")

// fetchLimit ends a request that outlived all who wait for it.
const fetchLimit = 15 * time.Second

// Ref names the key we look for.
type Ref struct {
	VASP  identity.VASPID
	Type  identity.KeyType
	Scope [32]byte // what a PerAddress key is limited to, as the caller made it; zero for all others
}

// PeerCache remembers signed key bundles of peers. It is trusted for nothing:
// what it gives is verified each time. Methods may be called concurrently.
type PeerCache interface {
	// PeerKey gives what was put, or ErrNotFound.
	PeerKey(ctx context.Context, ref Ref) (bundle []byte, err error)
	// PutPeerKey keeps a bundle for at most ttl.
	PutPeerKey(ctx context.Context, ref Ref, bundle []byte, ttl time.Duration) error
	// DropPeerKey forgets an entry; an absent one is no error.
	DropPeerKey(ctx context.Context, ref Ref) error
}

// Requester asks the counterparty for a key, through central. The bundle that
// comes back is not believed for having come.
type Requester interface {
	RequestKey(ctx context.Context, ref Ref, nonce [32]byte) (bundle []byte, err error)
}

// Event is something that happens to a lookup, for metrics. The set is closed.
type Event string

const (
	Hit          Event = "hit"
	Miss         Event = "miss"
	CacheFailed  Event = "cache-failed"  // the cache answered with an error; counts as a miss too
	CacheRefused Event = "cache-refused" // the cache gave a key that was not the one looked for; counts as a miss too
	Fetched      Event = "fetched"
	FetchFailed  Event = "fetch-failed"
	FetchRefused Event = "fetch-refused" // the counterparty's or central's answer was not the key looked for
	Adopted      Event = "adopted"
	AdoptRefused Event = "adopt-refused"
)

// Events lists every Event, so that metrics can start at zero.
func Events() []Event {
	return []Event{Hit, Miss, CacheFailed, CacheRefused, Fetched, FetchFailed, FetchRefused, Adopted, AdoptRefused}
}

// PeersConfig says how keys of peers are found.
type PeersConfig struct {
	Cache     PeerCache
	Requester Requester
	TTL       time.Duration // the longest that a cache keeps a bundle
	Now       func() time.Time
	Skew      time.Duration   // by how much a peer's clock may be ahead of ours
	Self      identity.VASPID // whom a bundle's audience must let in
	// Floor lists the suites that we seal to; nil means every suite we know.
	Floor []identity.Suite
	// Observe is told what happens, and must return at once; nil for nobody.
	Observe func(Event)
	// HighestSerial recalls from durable storage what OnSerial was told last
	// for the identity that is pinned for a VASP, or 0 for nothing. It is
	// asked once a VASP; nil for no memory. So a restart does not make us
	// believe an old key again (attack K7).
	HighestSerial func(identity.VASPID) uint64
	// OnSerial is told that an identity has signed a PerVasp bundle of a
	// higher serial than all before, so that it can be stored beside the pin,
	// as long as that is of this identity. Calls come one after the other and
	// must return at once, without calling Peers; nil for nobody.
	OnSerial func(owner *identity.Public, serial uint64)
}

// Peers finds keys of peers. It is safe for concurrent use.
type Peers struct {
	c      PeersConfig
	flight singleflight.Group
	known  *verified

	mu   sync.Mutex
	seen map[identity.VASPID]mark
}

// mark is the highest PerVasp serial seen from an identity.
type mark struct {
	identity identity.Fingerprint
	serial   uint64
}

// PeerKey is a peer's key with the bundle that vouches for it.
type PeerKey struct {
	Public *envelope.PublicKey
	Bundle *identity.Bundle // shared; not to be changed

	encoded []byte
	sum     [32]byte // SHA-256 of encoded
}

// NewPeers makes a Peers with nothing remembered.
func NewPeers(c PeersConfig) *Peers {
	if c.Floor == nil {
		c.Floor = strongest
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	return &Peers{c: c, known: newVerified(), seen: map[identity.VASPID]mark{}}
}

// Key finds the key that ref names, from the cache or by asking, and gives it
// only when the pinned identity signed for it. Concurrent lookups of one ref
// make one request. PerVerification keys are used once: they are never cached,
// and each lookup makes a request of its own.
//
// A bundle that is refused is a RefusedError.
func (p *Peers) Key(ctx context.Context, ref Ref, pinned *identity.Public) (*PeerKey, error) {
	if pinned == nil || pinned.VASP() != ref.VASP {
		return nil, refuse(OtherIdentity)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("find key of vasp %s: %w", ref.VASP, err)
	}
	if k, _ := p.cached(ctx, ref, pinned, p.c.Observe); k != nil {
		return k, nil
	}
	fetch := p.fetchOnce
	if ref.Type == identity.PerVerification {
		fetch = p.fetchAlone
	}
	k, err := fetch(ctx, ref, pinned)
	if err != nil {
		return nil, fmt.Errorf("find key of vasp %s: %w", ref.VASP, err)
	}
	// Each who waited judges for itself: the pins may differ.
	if r := p.judge(k.Bundle, ref, pinned); r != "" {
		return nil, refuse(r)
	}
	return k, nil
}

// cached gives a good cached key, or nil. A bad entry counts as a miss.
func (p *Peers) cached(ctx context.Context, ref Ref, pinned *identity.Public, observe func(Event)) (k *PeerKey, bad bool) {
	if ref.Type == identity.PerVerification {
		observe(Miss)
		return nil, false
	}
	bundle, err := p.c.Cache.PeerKey(ctx, ref)
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			observe(CacheFailed)
		}
		observe(Miss)
		return nil, false
	}
	if k, err = p.accept(bundle, ref, pinned, true); err != nil {
		observe(CacheRefused)
		observe(Miss)
		return nil, true
	}
	observe(Hit)
	return k, false
}

// fetchAlone asks for a key that nobody else gets.
func (p *Peers) fetchAlone(ctx context.Context, ref Ref, pinned *identity.Public) (*PeerKey, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	return p.fetch(ctx, ref, pinned)
}

// fetchOnce joins the request for ref that is under way, or starts one. The
// request outlives the caller that began it, for others may wait for it.
func (p *Peers) fetchOnce(ctx context.Context, ref Ref, pinned *identity.Public) (*PeerKey, error) {
	done := p.flight.DoChan(flightName(ref, pinned), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchLimit)
		defer cancel()
		// One who missed just before the last request ended finds its result.
		k, bad := p.cached(ctx, ref, pinned, func(Event) {})
		if k != nil {
			return k, nil
		}
		if bad { // dropped here, where no other request can just have put a good one
			_ = p.c.Cache.DropPeerKey(ctx, ref)
		}
		return p.fetch(ctx, ref, pinned)
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*PeerKey), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func flightName(ref Ref, pinned *identity.Public) string {
	return fmt.Sprintf("%d/%d/%x/%x", ref.VASP, ref.Type, ref.Scope, pinned.Fingerprint())
}

// fetch asks, checks and caches.
func (p *Peers) fetch(ctx context.Context, ref Ref, pinned *identity.Public) (*PeerKey, error) {
	var nonce [32]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	bundle, err := p.c.Requester.RequestKey(ctx, ref, nonce)
	if err != nil {
		p.c.Observe(FetchFailed)
		return nil, fmt.Errorf("request it: %w", err)
	}
	k, err := p.accept(bundle, ref, pinned, true)
	if err == nil && !echoes(k.Bundle, nonce) {
		err = refuse(OtherNonce)
	}
	if err != nil {
		p.c.Observe(FetchRefused)
		return nil, err
	}
	p.c.Observe(Fetched)
	p.cache(ctx, ref, k)
	return k, nil
}

// echoes says whether a bundle answers our request (attack K7). A PerVasp
// bundle is made for everybody and may echo nobody.
func echoes(b *identity.Bundle, nonce [32]byte) bool {
	return b.Nonce == nonce || b.Type == identity.PerVASP && b.Nonce == [32]byte{}
}

// cache keeps a bundle no longer than it is valid. A cache that fails costs
// the next caller a lookup.
func (p *Peers) cache(ctx context.Context, ref Ref, k *PeerKey) {
	ttl := min(p.c.TTL, k.Bundle.NotAfter.Sub(p.c.Now())-p.c.Skew)
	if ref.Type == identity.PerVerification || ttl <= 0 {
		return
	}
	if err := p.c.Cache.PutPeerKey(ctx, ref, k.encoded, ttl); err != nil {
		p.c.Observe(CacheFailed)
	}
}

// Drop forgets the cached key of ref, so that the next lookup asks for it.
func (p *Peers) Drop(ctx context.Context, ref Ref) error { return p.c.Cache.DropPeerKey(ctx, ref) }

// Adopt verifies a bundle that came inside an envelope, under the envelope's
// signature, and gives its key (attack K2). ref names the type of the request
// and has no scope, for reply keys have none. A PerVasp bundle that is new is
// cached too. An older serial than the highest seen is accepted here, for the
// envelope may have waited for delivery.
func (p *Peers) Adopt(ctx context.Context, ref Ref, bundle []byte, pinned *identity.Public) (*PeerKey, error) {
	if pinned == nil || pinned.VASP() != ref.VASP {
		return nil, refuse(OtherIdentity)
	}
	isNew := !p.known.has(bundle)
	k, err := p.accept(bundle, ref, pinned, false)
	if err != nil {
		p.c.Observe(AdoptRefused)
		return nil, err
	}
	p.c.Observe(Adopted)
	if isNew && ref.Type == identity.PerVASP && p.newest(k.Bundle) {
		p.cache(ctx, ref, k)
	}
	return k, nil
}
