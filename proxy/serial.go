package proxy

import (
	"context"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// serial is the highest number of a key bundle that an identity has signed. It
// is kept beside the pin, so that a restart does not make us believe an older
// key again (attack K7).
type serial struct {
	owner *identity.Public
	n     uint64
}

// serial is the highest number stored for a counterparty's pinned identity.
func (p *pins) serial(id identity.VASPID) uint64 {
	found, _ := p.find(id)
	return found.peer.Serial
}

// keepSerial notes a number to be stored. A full queue drops it: the next
// bundle brings a higher one.
func (e *Enclave) keepSerial(owner *identity.Public, n uint64) {
	select {
	case e.serials <- serial{owner, n}:
	default:
	}
}

func (e *Enclave) writeSerials(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-e.serials:
			if err := e.writeSerial(ctx, s); err != nil {
				e.Logger.Warn("the serial of a counterparty's key was not stored", "vasp", s.owner.VASP(), "err", err)
			}
		}
	}
}

func (e *Enclave) writeSerial(ctx context.Context, s serial) error {
	e.pins.deciding.Lock()
	defer e.pins.deciding.Unlock()
	p, ok := e.pins.find(s.owner.VASP())
	if !ok || p.public.Fingerprint() != s.owner.Fingerprint() || p.peer.Serial >= s.n {
		return nil
	}
	p.peer.Serial = s.n
	if err := e.History.Apply(ctx, &storage.Change{Peer: &p.peer}); err != nil {
		return err
	}
	e.pins.set(s.owner.VASP(), p)
	return nil
}
