package proxy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// What an operator may see and decide about counterparties' identities. Every
// decision is durable and audited before it takes effect, and takes effect at
// once (attacks K1, G4).

// PeerView is one counterparty's pin as an operator sees it.
type PeerView struct {
	VASP        identity.VASPID `json:"vaspId"`
	Name        string          `json:"vaspName,omitempty"` // central's word
	State       string          `json:"state"`
	Since       time.Time       `json:"since"`
	Fingerprint string          `json:"fingerprint"` // of the pinned identity, in digits
	// SafetyNumber is the same on both sides when both have pinned the right
	// identity: two operators read it to each other.
	SafetyNumber string `json:"safetyNumber"`
	// Pending and PendingSafetyNumber are of the identity that is shown
	// instead, when the state is change_pending.
	Pending             string `json:"pendingFingerprint,omitempty"`
	PendingSafetyNumber string `json:"pendingSafetyNumber,omitempty"`
	// Acceptable is the fingerprint that AcceptPeer must be told, in digits;
	// empty when nothing waits to be accepted.
	Acceptable string `json:"acceptableFingerprint,omitempty"`
}

// PeerViews are all pins, by VASP id.
func (e *Enclave) PeerViews() []PeerView {
	all := e.pins.all()
	slices.SortFunc(all, func(a, b pin) int { return cmp.Compare(a.peer.VASP, b.peer.VASP) })
	views := make([]PeerView, len(all))
	for i, p := range all {
		views[i] = e.view(p)
	}
	return views
}

// PeerView is one pin. A counterparty never met is met now, on central's
// word, so that two operators can compare before the first exchange.
func (e *Enclave) PeerView(ctx context.Context, id identity.VASPID) (*PeerView, error) {
	p, err := e.met(ctx, id)
	if err != nil {
		return nil, err
	}
	v := e.view(p)
	return &v, nil
}

func (e *Enclave) met(ctx context.Context, id identity.VASPID) (pin, error) {
	if id == e.Self {
		return pin{}, &Error{Op: "find a counterparty", Kind: Invalid, Code: "INVALID-VASP", Message: "This is our own VASP id."}
	}
	if p, ok := e.pins.find(id); ok {
		return p, nil
	}
	p, _, err := e.candidate(ctx, id)
	if err != nil {
		return pin{}, err
	}
	return e.firstUse(ctx, p)
}

func (e *Enclave) view(p pin) PeerView {
	m, _ := e.books.find(p.peer.VASP)
	us := e.signer().Public()
	v := PeerView{
		VASP: p.peer.VASP, Name: m.VASPName, State: p.peer.State.String(), Since: p.peer.Since,
		Fingerprint: identity.FingerprintDigits(p.public), SafetyNumber: identity.SafetyNumber(us, p.public),
	}
	if pending := p.pending(); pending != nil {
		v.Pending, v.PendingSafetyNumber = identity.FingerprintDigits(pending), identity.SafetyNumber(us, pending)
	}
	if acceptable := p.acceptable(); acceptable != nil {
		v.Acceptable = identity.FingerprintDigits(acceptable)
	}
	return v
}

// VerifyPeer makes a counterparty verified: its operator has read out the
// safety number, and the digits say which identity is the right one. For a
// counterparty on hold that is the pinned identity or the one it shows now.
func (e *Enclave) VerifyPeer(ctx context.Context, id identity.VASPID, digits, by string) (*PeerView, error) {
	return e.decide(ctx, id, audit.VerifyPeer, by, func(p *pin) error {
		switch {
		case e.isSafetyNumber(digits, p.public):
		case p.pending() != nil && e.isSafetyNumber(digits, p.pending()):
			p.public = p.pending()
			p.peer.Identity, p.peer.Serial = p.peer.Pending, 0
		default:
			return refuseDecision("the digits are not the safety number of this counterparty: compare again; when they differ on the two sides, one of you has not seen the other's new identity yet (peers show, in half a minute), or somebody is between you")
		}
		p.peer.State, p.peer.Pending = storage.PeerVerified, nil
		return nil
	})
}

// AcceptPeer takes a counterparty off hold, or unblocks it, without a safety
// number: the identity that it shows is believed as on first use. The digits
// are that identity's fingerprint, PeerView's Acceptable: whoever looked and
// decided did so on this one, and not on another that is shown since (K1).
func (e *Enclave) AcceptPeer(ctx context.Context, id identity.VASPID, digits, by string) (*PeerView, error) {
	return e.decide(ctx, id, audit.AcceptPeer, by, func(p *pin) error {
		shown := p.acceptable()
		switch {
		case shown == nil:
			return refuseDecision("nothing waits to be accepted: the counterparty shows the pinned identity")
		case onlyDigits(digits) != onlyDigits(identity.FingerprintDigits(shown)):
			return refuseDecision("the digits are not the fingerprint of the identity that would be accepted now: look again with peers show; when it is another one than you saw before, ask the counterparty's operator first")
		}
		if p.peer.Pending != nil {
			p.public, p.peer.Identity, p.peer.Serial = shown, p.peer.Pending, 0
		}
		p.peer.State, p.peer.Pending = storage.PeerTOFU, nil
		return nil
	})
}

// acceptable is the identity that accepting the counterparty would let count,
// nil when nothing waits to be accepted.
func (p *pin) acceptable() *identity.Public {
	switch {
	case p.peer.State != storage.PeerChangePending && p.peer.State != storage.PeerBlocked:
		return nil
	case p.peer.Pending != nil:
		return p.pending()
	}
	return p.public
}

// pending is the identity that is shown instead of the pinned one, nil when
// there is none.
func (p *pin) pending() *identity.Public {
	if p.peer.Pending == nil {
		return nil
	}
	public, err := identity.ParsePublic(p.peer.VASP, p.peer.Pending)
	if err != nil {
		return nil
	}
	return public
}

func (e *Enclave) isSafetyNumber(digits string, of *identity.Public) bool {
	return onlyDigits(digits) == onlyDigits(identity.SafetyNumber(e.signer().Public(), of))
}

// BlockPeer stops every exchange with a counterparty at once.
func (e *Enclave) BlockPeer(ctx context.Context, id identity.VASPID, by string) (*PeerView, error) {
	return e.decide(ctx, id, audit.BlockPeer, by, func(p *pin) error {
		// Unblocked, it is the pinned one again, and not what was shown instead.
		p.peer.State, p.peer.Pending = storage.PeerBlocked, nil
		return nil
	})
}

// decide changes one pin as an operator says, with its audit entry.
func (e *Enclave) decide(ctx context.Context, id identity.VASPID, verb, by string, change func(*pin) error) (*PeerView, error) {
	if _, err := e.met(ctx, id); err != nil {
		return nil, err
	}
	e.pins.deciding.Lock()
	defer e.pins.deciding.Unlock()
	p, ok := e.pins.find(id)
	if !ok {
		return nil, fail("decide on a counterparty", Internal, errors.New("the pin is gone"))
	}
	if err := change(&p); err != nil {
		return nil, err
	}
	p.peer.Since = e.Now()
	entry := audit.Identity(e.Now(), verb, p.public, audit.OK)
	entry.Actor, entry.Reason = audit.Operator, by
	if err := e.storePin(ctx, p, entry); err != nil {
		return nil, err
	}
	e.Logger.Warn("an operator decided on a counterparty's identity", "verb", verb, "vasp", id, "state", p.peer.State.String(), "by", by)
	v := e.view(p)
	return &v, nil
}

func refuseDecision(sentence string) error {
	return &Error{Op: "decide on a counterparty", Kind: Invalid, Code: "REFUSED", Message: sentence}
}

func onlyDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

// PeerEvent is one change of a counterparty's identity, from the audit log.
type PeerEvent struct {
	Time     time.Time `json:"time"`
	Verb     string    `json:"verb"`
	By       string    `json:"by"`
	Identity string    `json:"fingerprint"` // in hex, of the identity that counts afterwards
}

// Auditor reads the audit log, oldest first; limit bounds one reading.
type Auditor interface {
	Audit(ctx context.Context, from uint64, limit int) ([]storage.AuditEntry, error)
}

// PeerHistory is every change of one counterparty's identity, oldest first.
func (e *Enclave) PeerHistory(ctx context.Context, log Auditor, id identity.VASPID) ([]PeerEvent, error) {
	const page = 10_000
	events := []PeerEvent{}
	for from := uint64(1); ; from += page {
		entries, err := log.Audit(ctx, from, page)
		if err != nil {
			return nil, fail("read the audit log", Storage, err)
		}
		for _, entry := range entries {
			if entry.Peer == id && strings.HasPrefix(entry.Verb, "peer.") {
				events = append(events, PeerEvent{entry.Time, entry.Verb, entry.Actor + " " + entry.Reason, entry.Object})
			}
		}
		if len(entries) < page {
			return events, nil
		}
	}
}
