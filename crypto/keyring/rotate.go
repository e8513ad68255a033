package keyring

import (
	"context"
	"fmt"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
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

// Resign lets another identity of the same VASP sign what is handed out from
// now on, beginning with a new PerVasp key. Keys that the former identity
// signed for go on opening what was sealed to them.
func (o *Own) Resign(ctx context.Context, s *identity.Signer) error {
	if s.Public().VASP() != o.signer.Load().Public().VASP() {
		return fmt.Errorf("sign with another identity: it is another VASP's")
	}
	o.signer.Store(s)
	o.mu.Lock()
	o.current = identity.KeyID{}
	o.mu.Unlock()
	_, err := o.PerVASP(ctx)
	return err
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

// alone waits until nobody else makes a key that is stored, or ctx ends.
func (o *Own) alone(ctx context.Context) (done func(), err error) {
	select {
	case o.making <- struct{}{}:
		return func() { <-o.making }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// renew makes the next PerVasp key unless somebody just did.
func (o *Own) renew(ctx context.Context) (ownKey, error) {
	done, err := o.alone(ctx)
	if err != nil {
		return ownKey{}, err
	}
	defer done()
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
	encoded, notAfter, err := o.issue(o.c.Now(), PerVASPLife, private.Public(), identity.Bundle{Type: identity.PerVASP})
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
		ID: bundle.KeyID, Type: identity.PerVASP, Bundle: encoded, Wrapped: wrapped,
		NotAfter: notAfter, DeleteAfter: o.deleteAfter(notAfter),
	}
	return ownKey{OwnKey: stored, bundle: bundle, private: private}, nil
}
