package keyring

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

const (
	// PerVASPLife is how long a PerVasp key is valid.
	PerVASPLife = 24 * time.Hour
	// PerVASPOverlap is how long before its end the next one is handed out.
	PerVASPOverlap = 6 * time.Hour
)

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
