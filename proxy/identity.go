package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// OpenIdentity loads our identity from the history, or makes it at the first
// start and stores it, wrapped, before anybody sees it.
func OpenIdentity(ctx context.Context, h storage.History, kek identity.AEAD, self identity.VASPID, now time.Time) (*identity.Signer, []byte, error) {
	stored, err := h.Identity(ctx)
	if errors.Is(err, storage.ErrNotFound) {
		return newIdentity(ctx, h, kek, self, now)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("load our identity: %w", err)
	}
	chain, err := identity.ParseChain(stored.Chain)
	if err != nil {
		return nil, nil, fmt.Errorf("load our identity: %w", err)
	}
	if owner := chain.Current().VASP(); owner != self {
		return nil, nil, fmt.Errorf("the history belongs to VASP %s and VEGA_VASP_ID says %s: this is another VASP's database file", owner, self)
	}
	signer, err := identity.UnwrapSigner(self, stored.Wrapped, kek, identityPlace(self))
	if err != nil {
		return nil, nil, fmt.Errorf("load our identity: %w", err)
	}
	return signer, stored.Chain, nil
}

func newIdentity(ctx context.Context, h storage.History, kek identity.AEAD, self identity.VASPID, now time.Time) (*identity.Signer, []byte, error) {
	signer, err := identity.NewSigner(self)
	if err != nil {
		return nil, nil, fmt.Errorf("make our identity: %w", err)
	}
	chain, err := identity.NewChain(signer, now)
	if err != nil {
		return nil, nil, fmt.Errorf("make our identity: %w", err)
	}
	wrapped, err := signer.Wrap(kek, identityPlace(self))
	if err != nil {
		return nil, nil, fmt.Errorf("wrap our identity: %w", err)
	}
	err = h.Apply(ctx, &storage.Change{
		Identity: &storage.OwnIdentity{Wrapped: wrapped, Chain: chain},
		Audit:    []storage.AuditEntry{audit.Identity(now, audit.NewIdentity, signer.Public(), audit.OK)},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("store our identity: %w", err)
	}
	return signer, chain, nil
}

// identityPlace is the associated data under which our signer is wrapped.
func identityPlace(self identity.VASPID) []byte {
	return []byte("vasp-enclave/v1/own-identity/" + self.String())
}
