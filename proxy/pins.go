package proxy

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// pins are the identities of our counterparties as we believe them: on first
// use on central's word (tofu), afterwards on nobody's but their own. They
// are durable; the map is their copy in memory.
type pins struct {
	deciding sync.Mutex // held while a pin is read, judged and written again
	mu       sync.RWMutex
	byVASP   map[identity.VASPID]pin
}

type pin struct {
	peer   storage.Peer
	public *identity.Public
}

func (p *pins) find(id identity.VASPID) (pin, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	found, ok := p.byVASP[id]
	return found, ok
}

func (p *pins) all() []pin {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Collect(maps.Values(p.byVASP))
}

func (p *pins) set(id identity.VASPID, to pin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byVASP[id] = to
}

func (e *Enclave) loadPins(ctx context.Context) error {
	stored, err := e.History.Peers(ctx)
	if err != nil {
		return err
	}
	e.pins.byVASP = make(map[identity.VASPID]pin, len(stored))
	for _, peer := range stored {
		public, err := identity.ParsePublic(peer.VASP, peer.Identity)
		if err != nil {
			return fmt.Errorf("pinned identity of VASP %s: %w", peer.VASP, err)
		}
		e.pins.byVASP[peer.VASP] = pin{*peer, public}
	}
	return nil
}

// pinned is the identity we believe a counterparty to have. A counterparty
// never met is believed on first use; one that is on hold, blocked or not yet
// verified where policy demands it is Untrusted, and nothing is sent to it or
// accepted from it (attacks K1, K3).
func (e *Enclave) pinned(ctx context.Context, id identity.VASPID) (*identity.Public, error) {
	p, isNew, err := e.candidate(ctx, id)
	if kindOf(err) == Unavailable && e.books.settle(ctx) { // it may have registered a moment ago
		p, isNew, err = e.candidate(ctx, id)
	}
	if err == nil && isNew {
		p, err = e.firstUse(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	if reason := e.distrust(p.peer.State); reason != "" {
		return nil, untrusted(reason)
	}
	return p.public, nil
}

func untrusted(reason string) error {
	return &Error{Op: "find the counterparty's identity", Kind: Untrusted, Message: reason}
}

// candidate is the pin of a counterparty, which is Untrusted when it must not
// be used, or the pin that its first use would make.
func (e *Enclave) candidate(ctx context.Context, id identity.VASPID) (p pin, isNew bool, err error) {
	if id == e.Self {
		return pin{storage.Peer{VASP: id, State: storage.PeerVerified}, e.signer().Public()}, false, nil
	}
	if p, ok := e.pins.find(id); ok {
		if reason := e.distrust(p.peer.State); reason != "" {
			return pin{}, false, untrusted(reason)
		}
		return p, false, nil
	}
	chain, err := e.identityOf(ctx, id)
	if err != nil {
		return pin{}, false, fail("find the counterparty's identity", Unavailable, err)
	}
	public := chain.Current()
	return pin{storage.Peer{VASP: id, State: storage.PeerTOFU, Identity: public.Bytes(), Since: e.Now()}, public}, true, nil
}

func (e *Enclave) distrust(s storage.PeerState) string {
	switch {
	case s == storage.PeerVerified, s == storage.PeerTOFU && !e.VerifiedOnly:
		return ""
	case s == storage.PeerTOFU:
		return "The counterparty's identity is not verified yet, and VEGA_PEER_TRUST=verified demands it; compare safety numbers with its operator."
	case s == storage.PeerChangePending:
		return "The counterparty shows another identity than the pinned one; nothing is exchanged until an operator accepts the change."
	default:
		return "The counterparty is blocked by an operator."
	}
}

// firstUse pins an identity never met, durably, before it is used. The pin
// that it gives is another's when somebody was faster.
func (e *Enclave) firstUse(ctx context.Context, p pin) (pin, error) {
	id := p.peer.VASP
	found, err, _ := e.flight.Do("pin "+id.String(), func() (any, error) {
		if p, ok := e.pins.find(id); ok {
			return p, nil
		}
		if err := e.savePin(context.WithoutCancel(ctx), p, audit.PinPeer); err != nil {
			return nil, err
		}
		e.Logger.Warn("identity believed on first use, on central's word; compare safety numbers to verify it",
			"vasp", id, "fingerprint", p.public.Fingerprint())
		return p, nil
	})
	if err != nil {
		return pin{}, err
	}
	return found.(pin), nil
}

func (e *Enclave) savePin(ctx context.Context, p pin, verb string) error {
	return e.storePin(ctx, p, audit.Identity(e.Now(), verb, p.public, audit.OK))
}

// storePin makes a pin durable with its audit entry before it counts.
func (e *Enclave) storePin(ctx context.Context, p pin, entry storage.AuditEntry) error {
	if err := e.History.Apply(ctx, &storage.Change{Peer: &p.peer, Audit: []storage.AuditEntry{entry}}); err != nil {
		return fail("pin an identity", Storage, err)
	}
	e.pins.set(p.peer.VASP, p)
	e.metrics.pins.WithLabelValues(entry.Verb).Inc()
	return nil
}

// calmDown notes that a counterparty on hold shows its pinned identity again:
// the other one waits for nobody any more, and accepting the counterparty
// keeps the pinned identity. The hold stays, for something was wrong.
func (e *Enclave) calmDown(ctx context.Context, p pin) error {
	if p.peer.Pending == nil {
		return nil
	}
	p.peer.Pending = nil
	e.Logger.Warn("a counterparty on hold shows its pinned identity again; an operator may take it off hold", "vasp", p.peer.VASP, "state", p.peer.State)
	return e.savePin(ctx, p, audit.ChangePeer)
}

// compare looks at the identity that the directory shows for a pinned
// counterparty. Continuity, a chain of statements in which the pinned
// identity signs its successor, moves the pin. Anything else puts the
// counterparty on hold until an operator decides: it may be an attack (K1). One
// that is blocked stays so, whoever signed, and its operator may compare what
// it shows.
func (e *Enclave) compare(ctx context.Context, id identity.VASPID, chain *identity.Chain) error {
	e.pins.deciding.Lock()
	defer e.pins.deciding.Unlock()
	p, ok := e.pins.find(id)
	shown := chain.Current()
	if !ok {
		return nil
	}
	if bytes.Equal(shown.Bytes(), p.peer.Identity) {
		return e.calmDown(ctx, p)
	}
	held := p.peer.State == storage.PeerChangePending || p.peer.State == storage.PeerBlocked
	if !held && chain.Contains(p.public.Fingerprint()) {
		p.peer.Identity, p.peer.Serial, p.peer.Since, p.public = shown.Bytes(), 0, e.Now(), shown
		e.Logger.Warn("a counterparty changed its identity, signed by the old one", "vasp", id, "fingerprint", shown.Fingerprint())
		return e.savePin(ctx, p, audit.FollowPeer)
	}
	if held && bytes.Equal(shown.Bytes(), p.peer.Pending) {
		return nil
	}
	p.peer.Pending = shown.Bytes()
	if p.peer.State == storage.PeerBlocked {
		e.Logger.Warn("a blocked counterparty shows another identity", "vasp", id, "pinned", p.public.Fingerprint(), "shown", shown.Fingerprint())
		return e.savePin(ctx, p, audit.ChangePeer)
	}
	p.peer.State = storage.PeerChangePending
	e.Logger.Error("a counterparty shows another identity without continuity; nothing is exchanged with it until an operator accepts the change",
		"vasp", id, "pinned", p.public.Fingerprint(), "shown", shown.Fingerprint())
	return e.savePin(ctx, p, audit.ChangePeer)
}
