package keyring

import (
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Use names one of our keys and what it is used for, as the header of an
// envelope that was sealed to it says.
type Use struct {
	ID    identity.KeyID
	Type  identity.KeyType
	Peer  identity.VASPID // who sealed to it
	Scope [32]byte
	Epoch uint64
}

// UseOf reads the use of our key from the header of an envelope we received.
// The header must be authentic: see envelope.Authentic.
func UseOf(h *envelope.Header) Use {
	return Use{ID: h.Key, Type: h.KeyType, Peer: h.Sender, Scope: h.Scope, Epoch: h.Epoch}
}

// recentSize bounds how many private keys are kept built: 5 KiB each. The
// others are built again when they are used.
const recentSize = 256

// built is a private key that was found for a use, ready to open.
type built struct {
	use     Use
	private *envelope.PrivateKey
}

// builder makes a private key from what is kept of it, or fails with
// ErrUnknownKey when it is another key than the one named.
type builder func() (*envelope.PrivateKey, error)

// PrivateFor finds the private key for a use, or returns ErrUnknownKey. Every
// part of the use must be as the key was made: a key of another type, one
// made for another peer or scope, one that was consumed or forgotten and one
// whose time is over are all unknown (attacks K4, K5).
func (o *Own) PrivateFor(u Use) (*envelope.PrivateKey, error) {
	if u.Type == identity.PerVASP {
		if u.Scope != [32]byte{} || u.Epoch != 0 {
			return nil, ErrUnknownKey
		}
		return o.Private(u.ID)
	}
	build := o.find(u)
	if build == nil {
		return nil, ErrUnknownKey
	}
	if k, ok := o.recent.get(u.ID); ok && k.use == u {
		return k.private, nil
	}
	private, err := build()
	if err != nil {
		return nil, fmt.Errorf("find own key: %w", err)
	}
	return o.keep(u, private)
}

// keep remembers a built key, unless its time ended while it was built.
func (o *Own) keep(u Use, private *envelope.PrivateKey) (*envelope.PrivateKey, error) {
	o.recent.put(u.ID, built{u, private})
	if o.find(u) == nil {
		o.recent.drop(u.ID)
		return nil, ErrUnknownKey
	}
	return private, nil
}

// find looks for what a key of this very use can be built from; nil when
// there is nothing.
func (o *Own) find(u Use) builder {
	now := o.c.Now()
	o.mu.RLock()
	defer o.mu.RUnlock()
	if r, ok := o.replies[u.ID]; ok {
		if r.use != u || !now.Before(r.deleteAfter) {
			return nil
		}
		return func() (*envelope.PrivateKey, error) { return o.unwrap(r.suite, r.stored()) }
	}
	switch u.Type {
	case identity.PerAddress:
		e, ok := o.epochs[u.Epoch]
		if !ok || !now.Before(e.deleteAfter) {
			return nil
		}
		return func() (*envelope.PrivateKey, error) { return e.open(u) }
	case identity.PerVerification:
		return o.singles.find(u, now)
	}
	return nil
}
