// Package keyring finds or makes our own hybrid keys, and finds those of
// peers.
//
// Our keys are handed out in signed bundles and kept wrapped. A peer's key is
// taken from a cache or asked for, and is used only when its bundle says, with
// the pinned identity's signature, that it is the key that was looked for: a
// poisoned cache costs one lookup and never yields a wrong key (attack K6).
package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/redact"
)

const purposeOwnKey = "vasp-enclave/v1/own-key"

// ErrUnknownKey says that we have no private key of that id: it never was
// ours, or its time is over.
var ErrUnknownKey = errors.New("no private key of that id")

// OwnKey is one of our keys as it is stored. Wrapped is the private part,
// encrypted and bound to ID and Type.
type OwnKey struct {
	ID          identity.KeyID
	Type        identity.KeyType
	Bundle      []byte // the signed bundle that peers get
	Wrapped     []byte
	NotAfter    time.Time // after which peers must not seal to it
	DeleteAfter time.Time // after which nothing sealed to it can still arrive
}

// OwnKeys is where our keys are stored. Methods may be called concurrently.
type OwnKeys interface {
	// OwnKeys gives all stored keys in any order.
	OwnKeys(ctx context.Context) ([]OwnKey, error)
	// PutOwnKey stores a key durably.
	PutOwnKey(ctx context.Context, k OwnKey) error
	// DropOwnKeys deletes keys; absent ones are no error.
	DropOwnKeys(ctx context.Context, ids ...identity.KeyID) error
}

// OwnConfig says how our own keys are made and kept.
type OwnConfig struct {
	Signer *identity.Signer
	Store  OwnKeys
	AEAD   identity.AEAD // wraps private keys
	Suite  identity.Suite
	// Suites are all that we can open; nil means Suite alone. Suite must be
	// the strongest of them, for peers refuse a key of a weaker suite than
	// its owner supports (attack K5).
	Suites []identity.Suite
	Now    func() time.Time
	// MaxEnvelopeLife and Skew say how long after a key's end something
	// sealed to it may still arrive.
	MaxEnvelopeLife time.Duration
	Skew            time.Duration
}

// Own holds our own keys. It prints as [redacted] and is safe for concurrent
// use.
type Own struct {
	redact.Secret
	c      OwnConfig
	making chan struct{} // held by the one who makes a key

	mu      sync.RWMutex
	keys    map[identity.KeyID]ownKey
	current identity.KeyID // newest PerVasp key that may be handed out
	serial  uint64         // highest serial signed
}

type ownKey struct {
	OwnKey
	bundle  *identity.Bundle
	private *envelope.PrivateKey
}

// OpenOwn loads our keys, unwraps them and drops those past DeleteAfter. A
// stored key that does not unwrap is an error.
func OpenOwn(ctx context.Context, c OwnConfig) (*Own, error) {
	c.Suites = announced(c)
	for _, s := range c.Suites {
		if s.PublicKeySize() == 0 || stronger(s, c.Suite) {
			return nil, fmt.Errorf("own keys: suite %s cannot be announced beside keys of suite %s", s, c.Suite)
		}
	}
	o := &Own{c: c, making: make(chan struct{}, 1), keys: map[identity.KeyID]ownKey{}}
	stored, err := c.Store.OwnKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("load own keys: %w", err)
	}
	for _, s := range stored {
		if !c.Now().Before(s.DeleteAfter) {
			continue // dropped below, whether it still unwraps or not
		}
		k, err := o.load(s)
		if err != nil {
			return nil, fmt.Errorf("load own key %s: %v", s.ID, err)
		}
		o.add(k)
	}
	if err := o.dropEnded(ctx, stored); err != nil {
		return nil, err
	}
	return o, nil
}

// announced is the rising list of suites for bundles.
func announced(c OwnConfig) []identity.Suite {
	suites := append([]identity.Suite{c.Suite}, c.Suites...)
	slices.Sort(suites)
	return slices.Compact(suites)
}

// load checks that the stored parts belong together.
func (o *Own) load(s OwnKey) (ownKey, error) {
	b, err := identity.ParseBundle(s.Bundle)
	if err != nil {
		return ownKey{}, err
	}
	private, err := envelope.UnwrapPrivateKey(b.Suite, s.Wrapped, o.c.AEAD, ownPlace(s.ID, s.Type))
	if err != nil {
		return ownKey{}, err
	}
	if b.KeyID != s.ID || private.Public().ID() != s.ID || b.Type != s.Type || b.VASP != o.c.Signer.Public().VASP() {
		return ownKey{}, errors.New("bundle and private key do not belong together")
	}
	return ownKey{OwnKey: s, bundle: b, private: private}, nil
}

// add takes a key into use. PerVasp keys of our present identity and suites
// may be handed out; others only open what still arrives.
func (o *Own) add(k ownKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys[k.ID] = k
	o.serial = max(o.serial, k.bundle.Serial)
	fits := k.Type == identity.PerVASP && slices.Equal(k.bundle.Suites, o.c.Suites) && // of which its own is the strongest
		k.bundle.Identity.Fingerprint() == o.c.Signer.Public().Fingerprint()
	if fits && k.bundle.Serial >= o.keys[o.current].serial() {
		o.current = k.ID
	}
}

func (k ownKey) serial() uint64 {
	if k.bundle == nil {
		return 0
	}
	return k.bundle.Serial
}

// Private finds the private key of an id, or returns ErrUnknownKey.
func (o *Own) Private(id identity.KeyID) (*envelope.PrivateKey, error) {
	now := o.c.Now()
	o.mu.RLock()
	defer o.mu.RUnlock()
	k, ok := o.keys[id]
	if !ok || !now.Before(k.DeleteAfter) {
		return nil, ErrUnknownKey
	}
	return k.private, nil
}

// dropEnded deletes the keys past DeleteAfter, from memory first.
func (o *Own) dropEnded(ctx context.Context, candidates []OwnKey) error {
	now := o.c.Now()
	var ended []identity.KeyID
	o.mu.Lock()
	for _, k := range candidates {
		if !now.Before(k.DeleteAfter) {
			delete(o.keys, k.ID)
			ended = append(ended, k.ID)
		}
	}
	o.mu.Unlock()
	if len(ended) == 0 {
		return nil
	}
	if err := o.c.Store.DropOwnKeys(ctx, ended...); err != nil {
		return fmt.Errorf("delete own keys: %w", err)
	}
	return nil
}
