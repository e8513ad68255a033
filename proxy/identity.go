package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
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
	signer   *identity.Signer
	chain    []byte
	parsed   *identity.Chain
	replaces atomic.Bool   // central has yet to take it in place of another one that it knows
	known    chan struct{} // closed when central has it
}

func newOwnIdentity(signer *identity.Signer, chain []byte, replaces bool) *ownIdentity {
	us := &ownIdentity{signer: signer, chain: chain, known: make(chan struct{})}
	us.parsed, _ = identity.ParseChain(chain) // ours, and checked when it was read or made
	us.replaces.Store(replaces)
	return us
}

func (o *ownIdentity) isKnown() bool {
	select {
	case <-o.known:
		return true
	default:
		return false
	}
}

// loadSelf begins as Config's identity. That it replaces another one is
// remembered over a restart until central has taken it.
func (e *Enclave) loadSelf(ctx context.Context) error {
	stored, err := e.History.Identity(ctx)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		stored = new(storage.OwnIdentity)
	case err != nil:
		return err
	}
	us := newOwnIdentity(e.Signer, e.Chain, e.Config.ReplaceIdentity || stored.Replaces && bytes.Equal(stored.Chain, e.Chain))
	if !us.replaces.Load() {
		close(us.known) // or central says otherwise when we register
	}
	e.self.Store(us)
	return nil
}

// taken notes that central has an identity of ours. That it was to replace
// another one is then done, and not to be done again. Only who registers calls
// it.
func (e *Enclave) taken(ctx context.Context, us *ownIdentity) {
	if us.replaces.Load() {
		if err := e.forgetReplacing(ctx, us); err != nil {
			e.Logger.Warn("central has taken our new identity; the history could not note it and will", "err", err)
		} else {
			us.replaces.Store(false)
		}
	}
	if !us.isKnown() {
		close(us.known)
	}
}

// forgetReplacing leaves alone an identity that came after: it has a wish of
// its own.
func (e *Enclave) forgetReplacing(ctx context.Context, us *ownIdentity) error {
	e.pins.deciding.Lock()
	defer e.pins.deciding.Unlock()
	stored, err := e.History.Identity(ctx)
	if err != nil {
		return err
	}
	if !stored.Replaces || !bytes.Equal(stored.Chain, us.chain) {
		return nil
	}
	stored.Replaces = false
	return e.History.Apply(ctx, &storage.Change{Identity: stored})
}

// steady runs an exchange under one identity of ours, which central has: what
// failed while our identity changed is done again under the next one.
func (e *Enclave) steady(ctx context.Context, exchange func() error) error {
	for {
		us := e.introduced(ctx)
		err := exchange()
		if err == nil || e.self.Load() == us || ctx.Err() != nil {
			return err
		}
	}
}

// introduction is how long introduced waits. Then things go on: central is
// away, or somebody must mend.
const introduction = 2 * time.Second

// introduced waits until central has our present identity: who hears from it
// before cannot know it.
func (e *Enclave) introduced(ctx context.Context) *ownIdentity {
	us := e.self.Load()
	if us.isKnown() {
		return us
	}
	select {
	case <-us.known:
	case <-time.After(introduction):
	case <-ctx.Done():
	}
	return us
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
	before := e.self.Load()
	statements, err := chain(before, next)
	if err != nil {
		return fail(op, Internal, err)
	}
	wrapped, err := next.Wrap(kek, identityPlace(e.Self))
	if err != nil {
		return fail(op, Internal, err)
	}
	entry := audit.Identity(e.Now(), verb, next.Public(), audit.OK)
	entry.Actor, entry.Reason = audit.Operator, by
	us := newOwnIdentity(next, statements, verb == audit.ReplaceIdentity || before.replaces.Load())
	err = e.History.Apply(ctx, &storage.Change{
		Identity: &storage.OwnIdentity{Wrapped: wrapped, Chain: statements, Replaces: us.replaces.Load()}, Audit: []storage.AuditEntry{entry},
	})
	if err != nil {
		return fail(op, Storage, err)
	}
	e.Logger.Warn("our identity changed", "verb", verb, "fingerprint", next.Public().Fingerprint().String(), "by", by)
	e.self.Store(us)
	err = e.Own.Resign(context.WithoutCancel(ctx), next)
	e.RegisterSoon()
	if err != nil {
		return fail(op, Storage, err)
	}
	return nil
}

// wasOurs tells an identity that the present one follows from.
func (e *Enclave) wasOurs(f identity.Fingerprint) bool {
	chain := e.self.Load().parsed
	return chain != nil && chain.Contains(f)
}

// follow looks whether a counterparty changed its identity: central is asked,
// and a change that the pinned identity signed for moves the pin. It gives the
// pin as it is then, and whether it is another one than before. Of many who
// call at once, one asks central and the others wait for what it hears.
func (e *Enclave) follow(ctx context.Context, id identity.VASPID, before *identity.Public) (now *identity.Public, moved bool) {
	const looks = 2 // the first may be at an answer that central gave too early
	for look := 0; id != e.Self; look++ {
		p, ok := e.pins.find(id)
		switch {
		case !ok || e.distrust(p.peer.State) != "":
			return before, false
		case p.public.Fingerprint() != before.Fingerprint():
			return p.public, true
		case look == looks || e.askDirectory(ctx) != nil:
			return before, false
		}
	}
	return before, false
}

// otherIdentity tells a refusal because somebody else signed than was pinned.
func otherIdentity(err error) bool {
	var sealed *envelope.RefusedError
	var bundle *keyring.RefusedError
	return errors.As(err, &sealed) && sealed.Reason == envelope.OtherIdentity ||
		errors.As(err, &bundle) && bundle.Reason == keyring.OtherIdentity
}
