// Package keyring finds or makes our own hybrid keys, and finds those of
// peers.
//
// Our keys are handed out in signed bundles and kept wrapped. A peer's key is
// taken from a cache or asked for, and is used only when its bundle says, with
// the pinned identity's signature, that it is the key that was looked for: a
// poisoned cache costs one lookup and never yields a wrong key (attack K6).
//
// There are three types of keys, and none ever stands in for another:
//
//   - PerVasp: one for everybody, stored wrapped, changed daily (rotate.go);
//   - PerAddress: derived for a requester and a scope from the secret of an
//     epoch, and never stored, so that asking costs us no room and tells
//     nobody whose address it is (address.go);
//   - PerVerification: fresh, for one use, kept in memory only (single.go).
//
// A question that is sealed to a key of the last two types brings a fresh
// reply key of the same type (reply.go).
package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/redact"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

const purposeOwnKey = "vasp-enclave/v1/own-key"

// ErrUnknownKey says that we have no private key of that id for that use: it
// never was ours, its time is over, or it was used up.
var ErrUnknownKey = errors.New("no private key of that id")

// OwnKey is one of our keys as it is stored. Wrapped is the private part,
// encrypted and bound to ID and Type.
//
// A PerAddress entry without a bundle is the secret of an epoch, from which
// PerAddress keys are derived; its ID names the epoch.
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
	// ReplyLife is how long a question may wait for its answer, and so how
	// long its reply key is valid; zero means a day.
	ReplyLife time.Duration
}

// Own holds our own keys. It prints as [redacted] and is safe for concurrent
// use.
type Own struct {
	redact.Secret
	c       OwnConfig
	making  chan struct{} // held by the one who makes a key that is stored
	signer  atomic.Pointer[identity.Signer]
	singles *singles
	recent  *recent[identity.KeyID, built]

	mu      sync.RWMutex
	keys    map[identity.KeyID]ownKey // PerVasp
	current identity.KeyID            // newest PerVasp key that may be handed out
	epochs  map[uint64]*epochSecret
	replies map[identity.KeyID]replyKey
	serial  uint64           // highest serial signed
	ended   []identity.KeyID // no longer here, and perhaps still in the store
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
	if c.ReplyLife == 0 {
		c.ReplyLife = PerVASPLife
	}
	o := &Own{
		c: c, making: make(chan struct{}, 1), recent: newRecent[identity.KeyID, built](recentSize),
		keys: map[identity.KeyID]ownKey{}, epochs: map[uint64]*epochSecret{}, replies: map[identity.KeyID]replyKey{},
	}
	o.signer.Store(c.Signer)
	o.singles = newSingles(o.recent.drop)
	stored, err := c.Store.OwnKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("load own keys: %w", err)
	}
	for _, s := range stored {
		if !c.Now().Before(s.DeleteAfter) {
			o.ended = append(o.ended, s.ID) // whether it still unwraps or not
		} else if err := o.load(s); err != nil {
			return nil, fmt.Errorf("load own key %s: %v", s.ID, err)
		}
	}
	if err := o.dropEnded(ctx); err != nil {
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

// load takes a stored key into use.
func (o *Own) load(s OwnKey) error {
	switch {
	case s.Type == identity.PerAddress && len(s.Bundle) == 0:
		return o.loadEpoch(s)
	case s.Type == identity.PerVASP:
		return o.loadPerVASP(s)
	}
	return o.loadReply(s)
}

// errMixed says that what is stored together was not written together.
var errMixed = errors.New("bundle and private key do not belong together")

// loadBundle parses a stored key's bundle and checks that it is the key's.
func (o *Own) loadBundle(s OwnKey) (*identity.Bundle, error) {
	b, err := identity.ParseBundle(s.Bundle)
	if err != nil {
		return nil, err
	}
	if b.KeyID != s.ID || b.Type != s.Type || b.VASP != o.signer.Load().Public().VASP() {
		return nil, errMixed
	}
	return b, nil
}

func (o *Own) loadPerVASP(s OwnKey) error {
	b, err := o.loadBundle(s)
	if err != nil {
		return err
	}
	private, err := o.unwrap(b.Suite, s)
	if err != nil {
		return err
	}
	o.add(ownKey{OwnKey: s, bundle: b, private: private})
	return nil
}

func (o *Own) unwrap(suite identity.Suite, s OwnKey) (*envelope.PrivateKey, error) {
	private, err := envelope.UnwrapPrivateKey(suite, s.Wrapped, o.c.AEAD, ownPlace(s.ID, s.Type))
	if err != nil {
		return nil, err
	}
	if private.Public().ID() != s.ID {
		return nil, errMixed
	}
	return private, nil
}

func ownPlace(id identity.KeyID, t identity.KeyType) []byte {
	return append(append(tlv.Domain(purposeOwnKey), byte(t)), id[:]...)
}

// add takes a PerVasp key into use. Keys of our present identity and suites
// may be handed out; others only open what still arrives.
func (o *Own) add(k ownKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys[k.ID] = k
	o.serial = max(o.serial, k.bundle.Serial)
	fits := slices.Equal(k.bundle.Suites, o.c.Suites) && // of which its own is the strongest
		k.bundle.Identity.Fingerprint() == o.signer.Load().Public().Fingerprint()
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

// Private finds the private key of the id of a PerVasp key, or returns
// ErrUnknownKey. PrivateFor finds keys of all types.
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
