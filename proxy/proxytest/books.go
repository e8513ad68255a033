package proxytest

import (
	"context"
	"encoding/base64"
	"slices"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// BookAttack is one thing that a hostile central server shows in its
// directory: an entry of a VASP that is not as that VASP has registered it.
type BookAttack struct {
	Name string // one of its kind, also among Attacks
	ID   string // in docs/threat-model.md
	Does string // in a sentence

	// Before is what has happened before both parties look again; it gives
	// the identity that central, or a thief, has a hand in.
	Before func(w *World, of *Party) *identity.Signer
	// Show changes the directory that both parties get.
	Show func(d *relay.Directory, of *Party, mine *identity.Signer)

	Holds    bool // whoever has pinned the VASP exchanges nothing with it until an operator decides
	Misnamed bool // the VASP notices that it is shown as somebody else
	Hides    bool // nobody can begin an exchange with the VASP while it lasts
}

// Refresh lets a party fetch the directory now.
func (p *Party) Refresh() { p.Call("GET", "/v1/vasps", nil) }

// BookAttacks is the catalogue of what a hostile central server does to its
// directory.
func BookAttacks() []BookAttack {
	mallory := func(w *World, of *Party) *identity.Signer { return w.Mallory(of.ID) }
	change := func(edit func(m *relay.Member)) func(*relay.Directory, *Party, *identity.Signer) {
		return func(d *relay.Directory, of *Party, _ *identity.Signer) {
			for i := range d.VASPs {
				if d.VASPs[i].VASPID == of.ID {
					edit(&d.VASPs[i])
				}
			}
		}
	}
	shows := func(chain func(of *Party, mine *identity.Signer) string) func(*relay.Directory, *Party, *identity.Signer) {
		return func(d *relay.Directory, of *Party, mine *identity.Signer) {
			change(func(m *relay.Member) { m.Identity = chain(of, mine) })(d, of, mine)
		}
	}
	own := func(of *Party, mine *identity.Signer) string { return encodedChain(of.world, mine) }
	return []BookAttack{
		{Name: "directory: swap identity", ID: "K1", Does: "shows an identity of its own", Before: mallory, Show: shows(own), Holds: true, Misnamed: true},
		{Name: "directory: swap identity beside the real one", ID: "K1", Does: "shows the VASP twice, once with an identity of its own", Before: mallory, Holds: true,
			Show: func(d *relay.Directory, of *Party, mine *identity.Signer) {
				twin := d.VASPs[slices.IndexFunc(d.VASPs, func(m relay.Member) bool { return m.VASPID == of.ID })]
				twin.Identity = own(of, mine)
				d.VASPs = append(d.VASPs, twin)
			}},
		{Name: "directory: roll back", ID: "K7", Does: "shows the identity from before the last change, whose key it has", Holds: true, Misnamed: true, Show: shows(own),
			Before: func(w *World, of *Party) *identity.Signer {
				old := of.Signer
				if err := of.Enclave.RotateIdentity(context.Background(), of.History.Keys().PrivateAEAD(), "test"); err != nil {
					w.t.Fatal(err)
				}
				viewer := w.other(of)
				w.Await("the change is followed", func() bool {
					viewer.Refresh()
					return viewer.Metric("enclave_peer_pin_events_total", "peer.follow") > 0
				})
				return old
			}},
		{Name: "directory: forge a successor", ID: "K1", Does: "adds an identity of its own to the VASP's chain, which that has not signed for", Before: mallory, Misnamed: true,
			Show: shows(func(of *Party, mine *identity.Signer) string {
				chain, err := base64.StdEncoding.DecodeString(encodedChain(of.world, mine))
				if err != nil {
					of.world.t.Fatal(err)
				}
				real := of.chain()
				chain[2] = 2 // the second statement
				return base64.StdEncoding.EncodeToString(append(real, chain[1:]...))
			})},
		{Name: "directory: identity of another VASP", ID: "K1", Does: "shows another VASP's identity", Before: mallory, Misnamed: true,
			Show: shows(func(of *Party, _ *identity.Signer) string { return encodedChain(of.world, of.world.Mallory(777)) })},
		{Name: "directory: broken identity", ID: "K1", Does: "shows something that is no identity", Before: mallory, Misnamed: true,
			Show: shows(func(*Party, *identity.Signer) string { return "AQID" })},
		{Name: "directory: no identity", ID: "K1", Does: "shows the VASP as one that never had an enclave", Before: mallory, Misnamed: true,
			Show: shows(func(*Party, *identity.Signer) string { return "" })},
		{Name: "directory: leave out", ID: "K13", Does: "does not show the VASP", Before: mallory, Hides: true,
			Show: func(d *relay.Directory, of *Party, _ *identity.Signer) {
				d.VASPs = slices.DeleteFunc(slices.Clone(d.VASPs), func(m relay.Member) bool { return m.VASPID == of.ID })
			}},
		{Name: "directory: expel", ID: "K13", Does: "says that the VASP is no member any more", Before: mallory, Hides: true,
			Show: change(func(m *relay.Member) { m.VASPStatus = "LEFT" })},
		{Name: "directory: say that it is down", ID: "K13", Does: "says that the VASP's enclave is away", Before: mallory,
			Show: change(func(m *relay.Member) { m.Health = "DOWN" })},
	}
}

func (w *World) other(than *Party) *Party {
	if than == w.A {
		return w.B
	}
	return w.A
}

// Other is the party that a party is not.
func (p *Party) Other() *Party { return p.world.other(p) }

// chain are the statements that the party has registered.
func (p *Party) chain() []byte {
	own, err := p.History.Identity(context.Background())
	if err != nil {
		p.world.t.Fatal(err)
	}
	return own.Chain
}

func encodedChain(w *World, s *identity.Signer) string {
	chain, err := identity.NewChain(s, w.now())
	if err != nil {
		w.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(chain)
}
