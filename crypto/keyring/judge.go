package keyring

import (
	"errors"
	"slices"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// accept parses a bundle, or recalls it, and judges it for this lookup. What
// is refused is not remembered.
func (p *Peers) accept(bundle []byte, ref Ref, pinned *identity.Public, inOrder bool) (*PeerKey, error) {
	k, err := p.known.parse(bundle)
	if err != nil {
		return nil, refuse(BadBundle)
	}
	if r := p.judge(k.Bundle, ref, pinned); r != "" {
		return nil, refuse(r)
	}
	if ref.Type == identity.PerVASP && !p.advance(k.Bundle) && inOrder {
		return nil, refuse(OldSerial)
	}
	if ref.Type != identity.PerVerification { // used once, so never asked for again
		p.known.remember(k)
	}
	return k, nil
}

// judge says why a bundle is not the one looked for, or nothing.
func (p *Peers) judge(b *identity.Bundle, ref Ref, pinned *identity.Public) Reason {
	switch err := b.ValidAt(p.c.Now(), p.c.Skew); {
	case b.VASP != ref.VASP:
		return OtherVASP
	case b.Identity.Fingerprint() != pinned.Fingerprint():
		return OtherIdentity
	case errors.Is(err, identity.ErrExpired):
		return Expired
	case err != nil:
		return NotYetValid
	case b.Type != ref.Type:
		return OtherType
	case b.Scope != ref.Scope:
		return OtherScope
	case b.Audience != p.c.Self && (b.Audience != 0 || b.Type != identity.PerVASP):
		return OtherAudience // only PerVasp keys are made for everybody
	case !slices.Contains(p.c.Floor, b.Suite):
		return BelowFloor
	case slices.ContainsFunc(b.Suites, func(s identity.Suite) bool {
		return slices.Contains(p.c.Floor, s) && stronger(s, b.Suite)
	}):
		return Downgraded
	}
	return ""
}

// advance raises the highest serial seen from an identity, or says that this
// one is lower: an old key that is shown again (attack K7). A new identity
// starts anew; serials of keys for one use arrive in any order.
func (p *Peers) advance(b *identity.Bundle) bool {
	stored := p.storedMark(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := mark{identity: b.Identity.Fingerprint(), serial: b.Serial}
	last, known := p.seen[b.VASP]
	if !known {
		last = stored
	}
	if last.identity == now.identity && now.serial < last.serial {
		return false
	}
	p.seen[b.VASP] = now
	if last != now && p.c.OnSerial != nil {
		p.c.OnSerial(b.Identity, now.serial)
	}
	return true
}

// storedMark is what was seen before the last restart from the identity that
// is pinned, which is the bundle's.
func (p *Peers) storedMark(b *identity.Bundle) mark {
	p.mu.Lock()
	_, known := p.seen[b.VASP]
	p.mu.Unlock()
	if known || p.c.HighestSerial == nil {
		return mark{}
	}
	return mark{identity: b.Identity.Fingerprint(), serial: p.c.HighestSerial(b.VASP)}
}

func (p *Peers) newest(b *identity.Bundle) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[b.VASP] == mark{identity: b.Identity.Fingerprint(), serial: b.Serial}
}
