// Package memory caches the public keys of other VASPs in this process.
package memory

import (
	"bytes"
	"context"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

// PeerKeys is a keyring.PeerCache that forgets: entries whose time is up,
// all of them when the program ends, and the least used ones when there are
// too many, so that a counterparty cannot fill the memory. Its methods may
// be called concurrently.
type PeerKeys struct {
	entries *otter.Cache[keyring.Ref, entry]
}

var _ keyring.PeerCache = (*PeerKeys)(nil)

type entry struct {
	bundle []byte
	ttl    time.Duration
}

// New makes a cache of at most capacity entries (at least one). now is the
// clock that entries age by; nil is the system's, which setting the date does
// not touch.
func New(capacity int, now func() time.Time) *PeerKeys {
	o := &otter.Options[keyring.Ref, entry]{
		MaximumSize:      max(capacity, 1),
		ExpiryCalculator: otter.ExpiryWritingFunc(ttlOf),
		// Evict before Put returns, not some time later. Safe because no
		// code of ours runs inside the cache but ttlOf.
		Executor: func(task func()) { task() },
	}
	if now != nil {
		o.Clock = clock(now)
	}
	return &PeerKeys{otter.Must(o)} // Must: the options are constant but for the size
}

func ttlOf(e otter.Entry[keyring.Ref, entry]) time.Duration { return e.Value.ttl }

// clock never ticks: entries that expired are then removed when they are
// looked up, or when their place is needed.
type clock func() time.Time

func (c clock) NowNano() int64 { return c().UnixNano() }

func (clock) Tick(time.Duration) <-chan time.Time { return nil }

// PeerKey gives a copy of what was put, or keyring.ErrNotFound.
func (c *PeerKeys) PeerKey(_ context.Context, ref keyring.Ref) ([]byte, error) {
	e, ok := c.entries.GetIfPresent(ref)
	if !ok {
		return nil, keyring.ErrNotFound
	}
	return bytes.Clone(e.bundle), nil
}

// PutPeerKey keeps a copy of a bundle for at most ttl; not at all when ttl
// is not positive.
func (c *PeerKeys) PutPeerKey(ctx context.Context, ref keyring.Ref, bundle []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return c.DropPeerKey(ctx, ref)
	}
	c.entries.Set(ref, entry{bytes.Clone(bundle), ttl})
	return nil
}

// DropPeerKey forgets an entry; an absent one is no error.
func (c *PeerKeys) DropPeerKey(_ context.Context, ref keyring.Ref) error {
	c.entries.Invalidate(ref)
	return nil
}

// Len says about how many entries there are, expired ones included.
func (c *PeerKeys) Len() int { return c.entries.EstimatedSize() }

// Close ends the cache's cleaning goroutine. The cache stays usable.
func (c *PeerKeys) Close() error {
	c.entries.StopAllGoroutines()
	return nil
}
