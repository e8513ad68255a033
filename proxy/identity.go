package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
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

// ownIdentity is who we are now: the signer, and the statements that lead to
// it from the first.
type ownIdentity struct {
	signer *identity.Signer
	chain  []byte
}

func (e *Enclave) signer() *identity.Signer { return e.self.Load().signer }

// RotateIdentity makes a new identity, signed for by the present one, so that
// counterparties follow without an operator. It is durable before it is used.
func (e *Enclave) RotateIdentity(ctx context.Context, kek identity.AEAD, by string) error {
	return e.changeIdentity(ctx, kek, audit.RotateIdentity, by, func(now *ownIdentity, next *identity.Signer) ([]byte, error) {
		return identity.ExtendChain(now.chain, now.signer, next, e.Now())
	})
}

// ReplaceIdentity makes a new identity without continuity, for one that is no
// longer ours alone. Every counterparty holds us until its operator accepts.
func (e *Enclave) ReplaceIdentity(ctx context.Context, kek identity.AEAD, by string) error {
	return e.changeIdentity(ctx, kek, audit.ReplaceIdentity, by, func(_ *ownIdentity, next *identity.Signer) ([]byte, error) {
		return identity.NewChain(next, e.Now())
	})
}

func (e *Enclave) changeIdentity(ctx context.Context, kek identity.AEAD, verb, by string, chain func(*ownIdentity, *identity.Signer) ([]byte, error)) error {
	const op = "change our identity"
	e.pins.deciding.Lock()
	defer e.pins.deciding.Unlock()
	next, err := identity.NewSigner(e.Self)
	if err != nil {
		return fail(op, Internal, err)
	}
	statements, err := chain(e.self.Load(), next)
	if err != nil {
		return fail(op, Internal, err)
	}
	wrapped, err := next.Wrap(kek, identityPlace(e.Self))
	if err != nil {
		return fail(op, Internal, err)
	}
	entry := audit.Identity(e.Now(), verb, next.Public(), audit.OK)
	entry.Actor, entry.Reason = audit.Operator, by
	err = e.History.Apply(ctx, &storage.Change{
		Identity: &storage.OwnIdentity{Wrapped: wrapped, Chain: statements}, Audit: []storage.AuditEntry{entry},
	})
	if err != nil {
		return fail(op, Storage, err)
	}
	if verb == audit.ReplaceIdentity {
		e.replace.Store(true)
	}
	e.rotating.Store(true) // until central has it, it shows the one before
	e.self.Store(&ownIdentity{next, statements})
	e.Logger.Warn("our identity changed", "verb", verb, "fingerprint", next.Public().Fingerprint().String(), "by", by)
	if err := e.Own.Resign(context.WithoutCancel(ctx), next); err != nil {
		return fail(op, Storage, err)
	}
	e.registerSoon()
	return nil
}

// moved looks whether a counterparty changed its identity: central is asked,
// and a change that the pinned identity signed for moves the pin. It gives the
// pin as it is then, and whether it is another one than before.
func (e *Enclave) moved(ctx context.Context, id identity.VASPID, before *identity.Public) (*identity.Public, bool) {
	if id == e.Self || !e.books.mayAsk(e.Now()) {
		return before, false
	}
	if err := e.refreshDirectory(ctx); err != nil {
		return before, false
	}
	p, ok := e.pins.find(id)
	if !ok || e.distrust(p.peer.State) != "" || p.public.Fingerprint() == before.Fingerprint() {
		return before, false
	}
	return p.public, true
}

// otherIdentity tells a refusal because somebody else signed than was pinned.
func otherIdentity(err error) bool {
	var sealed *envelope.RefusedError
	var bundle *keyring.RefusedError
	return errors.As(err, &sealed) && sealed.Reason == envelope.OtherIdentity ||
		errors.As(err, &bundle) && bundle.Reason == keyring.OtherIdentity
}
