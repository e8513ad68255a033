package keyring

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Sweep makes the next PerVasp key when it is due and deletes the private
// keys whose time is over (attack K11), of every type. Call it every hour or
// so.
func (o *Own) Sweep(ctx context.Context) error {
	var renewal error
	if _, fresh := o.newest(); !fresh {
		_, renewal = o.renew(ctx)
	}
	now := o.c.Now()
	o.singles.sweep(now)
	o.forgetEnded(now)
	return cmp.Or(renewal, o.dropEnded(ctx))
}

// forgetEnded takes the keys past DeleteAfter out of memory.
func (o *Own) forgetEnded(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	over := func(id identity.KeyID, deleteAfter time.Time) bool {
		if now.Before(deleteAfter) {
			return false
		}
		o.ended = append(o.ended, id)
		o.recent.drop(id)
		return true
	}
	maps.DeleteFunc(o.keys, func(id identity.KeyID, k ownKey) bool { return over(id, k.DeleteAfter) })
	maps.DeleteFunc(o.epochs, func(_ uint64, e *epochSecret) bool { return over(e.id, e.deleteAfter) })
	maps.DeleteFunc(o.replies, func(id identity.KeyID, r replyKey) bool { return over(id, r.deleteAfter) })
	o.recent.keepOnly(func(k built) bool { // of the derived keys, those whose epoch is not over
		_, held := o.epochs[k.use.Epoch]
		return held || k.use.Scope == [32]byte{}
	})
}

// dropEnded deletes from the store what is no longer in memory. What the
// store did not delete is tried again the next time.
func (o *Own) dropEnded(ctx context.Context) error {
	o.mu.Lock()
	ended := o.ended
	o.ended = nil
	o.mu.Unlock()
	if len(ended) == 0 {
		return nil
	}
	if err := o.c.Store.DropOwnKeys(ctx, ended...); err != nil {
		o.mu.Lock()
		o.ended = append(o.ended, ended...)
		o.mu.Unlock()
		return fmt.Errorf("delete own keys: %w", err)
	}
	return nil
}
