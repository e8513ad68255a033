// Package keyring finds or makes our own hybrid keys, and finds those of
// peers.
//
// Our keys are handed out in signed bundles and kept wrapped. A peer's key is
// taken from a cache or asked for, and is used only when its bundle says, with
// the pinned identity's signature, that it is the key that was looked for: a
// poisoned cache costs one lookup and never yields a wrong key (attack K6).
package keyring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/redact"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

const (
	// PerVASPLife is how long a PerVasp key is valid.
	PerVASPLife = 24 * time.Hour
	// PerVASPOverlap is how long before its end the next one is handed out.
	PerVASPOverlap = 6 * time.Hour
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

// PerVASP gives the signed bundle of our current PerVasp key. A key is valid
// for 24 hours; when fewer than 6 are left the next one is made, by one
// caller, while the others wait. When that fails, the current one is given as
// long as it is valid, and Sweep tells the error. The caller must not change
// the bytes.
func (o *Own) PerVASP(ctx context.Context) (bundle []byte, err error) {
	if k, fresh := o.newest(); fresh {
		return k.Bundle, nil
	}
	k, err := o.renew(ctx)
	if err == nil {
		return k.Bundle, nil
	}
	if old, _ := o.newest(); old.usable(o.c.Now(), o.c.Skew) {
		return old.Bundle, nil
	}
	return nil, err
}

// newest gives the current key and whether it will do for a while.
func (o *Own) newest() (k ownKey, fresh bool) {
	now := o.c.Now()
	o.mu.RLock()
	defer o.mu.RUnlock()
	k = o.keys[o.current]
	return k, k.usable(now, o.c.Skew) && !now.Add(PerVASPOverlap).After(k.NotAfter)
}

func (k ownKey) usable(now time.Time, skew time.Duration) bool {
	return k.bundle != nil && k.bundle.ValidAt(now, skew) == nil
}

// renew makes the next PerVasp key unless somebody just did.
func (o *Own) renew(ctx context.Context) (ownKey, error) {
	select {
	case o.making <- struct{}{}:
		defer func() { <-o.making }()
	case <-ctx.Done():
		return ownKey{}, ctx.Err()
	}
	if k, fresh := o.newest(); fresh {
		return k, nil
	}
	k, err := o.make()
	if err != nil {
		return ownKey{}, fmt.Errorf("make own key: %v", err)
	}
	// Stored before it is handed out: what is sealed to it must open after a
	// crash.
	if err := o.c.Store.PutOwnKey(ctx, k.OwnKey); err != nil {
		return ownKey{}, fmt.Errorf("store own key: %w", err)
	}
	o.add(k)
	return k, nil
}

func (o *Own) make() (ownKey, error) {
	private, err := envelope.GenerateKey(o.c.Suite)
	if err != nil {
		return ownKey{}, err
	}
	now := tlv.Round(o.c.Now())
	o.mu.RLock()
	serial := identity.NextSerial(o.serial, now)
	o.mu.RUnlock()
	encoded, err := o.c.Signer.SignBundle(identity.Bundle{
		Suite: o.c.Suite, PublicKey: private.Public().Bytes(), Type: identity.PerVASP,
		Serial: serial, NotBefore: now, NotAfter: now.Add(PerVASPLife), Suites: o.c.Suites,
	})
	if err != nil {
		return ownKey{}, err
	}
	bundle, err := identity.ParseBundle(encoded)
	if err != nil {
		return ownKey{}, err
	}
	wrapped, err := private.Wrap(o.c.AEAD, ownPlace(bundle.KeyID, identity.PerVASP))
	if err != nil {
		return ownKey{}, err
	}
	stored := OwnKey{
		ID: bundle.KeyID, Type: identity.PerVASP, Bundle: encoded, Wrapped: wrapped, NotAfter: bundle.NotAfter,
		DeleteAfter: bundle.NotAfter.Add(o.c.MaxEnvelopeLife + o.c.Skew),
	}
	return ownKey{OwnKey: stored, bundle: bundle, private: private}, nil
}

func ownPlace(id identity.KeyID, t identity.KeyType) []byte {
	return append(append(tlv.Domain(purposeOwnKey), byte(t)), id[:]...)
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

// Sweep makes the next key when it is due and deletes the private keys whose
// time is over (attack K11). Call it every hour or so.
func (o *Own) Sweep(ctx context.Context) error {
	var renewal error
	if _, fresh := o.newest(); !fresh {
		_, renewal = o.renew(ctx)
	}
	o.mu.RLock()
	held := make([]OwnKey, 0, len(o.keys))
	for _, k := range o.keys {
		held = append(held, k.OwnKey)
	}
	o.mu.RUnlock()
	return cmp.Or(renewal, o.dropEnded(ctx, held))
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
