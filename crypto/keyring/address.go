package keyring

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

const (
	purposeEpochID     = "vasp-enclave/v1/epoch-id"
	purposeEpochSecret = "vasp-enclave/v1/epoch-secret"
	purposeAddressKey  = "vasp-enclave/v1/address-key"
)

const (
	// EpochLength is how long the secret of one epoch makes PerAddress keys.
	// Epoch n holds the times from n to n+1 times 30 days after 1970.
	EpochLength = 30 * 24 * time.Hour
	// PerAddressLife is how long the bundle of a PerAddress key is valid.
	PerAddressLife = 24 * time.Hour
)

// ErrNoScope says that a PerAddress key was asked for without a scope, or for
// nobody.
var ErrNoScope = errors.New("a PerAddress key needs a requester and a scope")

// PerAddress gives a signed bundle of the key that is derived for a requester
// and a scope, valid for 24 hours and bound to the requester's nonce.
//
// Nothing is stored but one secret an epoch, so requests exhaust nothing
// (attack K9), and every scope gets a key, so that a key says nothing about
// who owns an address (attack O5). Within an epoch equal scopes have equal
// keys; who has the epoch's secret has them all.
func (o *Own) PerAddress(ctx context.Context, requester identity.VASPID, scope, nonce [32]byte) (bundle []byte, err error) {
	if requester == 0 || scope == [32]byte{} {
		return nil, ErrNoScope
	}
	now := o.c.Now() // of the epoch and of the bundle, however long the store takes
	e, err := o.epoch(ctx, epochOf(now))
	if err != nil {
		return nil, err
	}
	private, err := e.derive(o.c.Suite, requester, scope)
	if err != nil {
		return nil, fmt.Errorf("derive own key: %v", err)
	}
	bundle, _, err = o.issue(now, PerAddressLife, private.Public(), identity.Bundle{
		Type: identity.PerAddress, Scope: scope, Epoch: e.number, Audience: requester, Nonce: nonce,
	})
	return bundle, err
}

func epochOf(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0) / EpochLength.Milliseconds()) }

func epochEnd(n uint64) time.Time {
	return time.UnixMilli(int64(n+1) * EpochLength.Milliseconds()).UTC()
}

// epochSecret derives the PerAddress keys of one epoch.
type epochSecret struct {
	number      uint64
	id          identity.KeyID // of its entry in the store
	deleteAfter time.Time
	prf         *prf.Set
}

// epoch gives the secret of an epoch. The first caller makes and stores it
// while the others wait.
func (o *Own) epoch(ctx context.Context, n uint64) (*epochSecret, error) {
	if e := o.heldEpoch(n); e != nil {
		return e, nil
	}
	done, err := o.alone(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if e := o.heldEpoch(n); e != nil {
		return e, nil
	}
	e, stored, err := o.makeEpoch(n)
	if err != nil {
		return nil, fmt.Errorf("make epoch secret: %v", err)
	}
	// Stored before a key of it is handed out, as in renew.
	if err := o.c.Store.PutOwnKey(ctx, stored); err != nil {
		return nil, fmt.Errorf("store epoch secret: %w", err)
	}
	o.addEpoch(e)
	return e, nil
}

func (o *Own) heldEpoch(n uint64) *epochSecret {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.epochs[n]
}

func (o *Own) addEpoch(e *epochSecret) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.epochs[e.number] = e
}

func (o *Own) makeEpoch(n uint64) (*epochSecret, OwnKey, error) {
	h, err := onekey.New(epochParameters())
	if err != nil {
		return nil, OwnKey{}, err
	}
	wrapped, err := onekey.Wrap(h, o.c.AEAD, epochPlace(n))
	if err != nil {
		return nil, OwnKey{}, err
	}
	e, err := o.newEpoch(n, h)
	if err != nil {
		return nil, OwnKey{}, err
	}
	return e, OwnKey{
		ID: e.id, Type: identity.PerAddress, Wrapped: wrapped, NotAfter: epochEnd(n), DeleteAfter: e.deleteAfter,
	}, nil
}

// loadEpoch reads the epoch's number from its end; ID and associated data
// must be that epoch's.
func (o *Own) loadEpoch(s OwnKey) error {
	n := epochOf(s.NotAfter) - 1
	if s.ID != epochID(n) || !s.NotAfter.Equal(epochEnd(n)) {
		return errors.New("stored epoch secret is not the one its id names")
	}
	h, err := onekey.Unwrap(s.Wrapped, o.c.AEAD, epochPlace(n), epochParameters())
	if err != nil {
		return err
	}
	e, err := o.newEpoch(n, h)
	if err != nil {
		return err
	}
	e.deleteAfter = s.DeleteAfter
	o.addEpoch(e)
	return nil
}

// newEpoch is the secret with its PRF built once. A bundle that was signed in
// the epoch's last moment lives on for PerAddressLife.
func (o *Own) newEpoch(n uint64, h *keyset.Handle) (*epochSecret, error) {
	set, err := prf.NewPRFSet(h)
	if err != nil {
		return nil, err
	}
	return &epochSecret{number: n, id: epochID(n), deleteAfter: o.deleteAfter(epochEnd(n).Add(PerAddressLife)), prf: set}, nil
}

// epochParameters: HMAC-SHA256 as a pseudo-random function.
func epochParameters() *hmacprf.Parameters {
	p, err := hmacprf.NewParameters(32, hmacprf.SHA256)
	if err != nil {
		panic("keyring: " + err.Error()) // the arguments are constants
	}
	return p
}

func epochID(n uint64) identity.KeyID {
	return tlv.Hash(purposeEpochID, binary.BigEndian.AppendUint64(nil, n))
}

func epochPlace(n uint64) []byte {
	return binary.BigEndian.AppendUint64(tlv.Domain(purposeEpochSecret), n)
}

// derive makes the key of a requester and a scope.
func (e *epochSecret) derive(suite identity.Suite, requester identity.VASPID, scope [32]byte) (*envelope.PrivateKey, error) {
	in := append(tlv.Domain(purposeAddressKey), byte(suite))
	in = binary.BigEndian.AppendUint64(in, uint64(requester))
	seed, err := e.prf.ComputePrimaryPRF(append(in, scope[:]...), envelope.SeedSize)
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	return envelope.DeriveKey(suite, seed)
}

// open derives the key that was handed out for a use. Our suite may have
// changed since, so both are tried.
func (e *epochSecret) open(u Use) (*envelope.PrivateKey, error) {
	for _, suite := range strongest {
		private, err := e.derive(suite, u.Peer, u.Scope)
		if err != nil {
			return nil, err
		}
		if private.Public().ID() == u.ID {
			return private, nil
		}
	}
	return nil, ErrUnknownKey
}
