package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// onceLimit is how many account checks and inquiries of one counterparty are
// remembered: what its budgets let it make while an honest envelope of them
// lives, which is a few seconds and twice the clocks' difference.
func onceLimit(skew time.Duration) int {
	return accountsAtOnce + inquiriesAtOnce + (accountsPerSecond+inquiriesPerSecond)*int((2*syncTimeout+2*skew)/time.Second)
}

// acceptOnce refuses an account check or an inquiry that came before: its sender seals a new
// envelope for each try, so one that comes twice was replayed, and would ask
// our backend and use up its sender's budget (attack K4). The memory of this
// run knows those under way and those that got no answer, too; the receipts
// know what was answered before a restart.
func (e *Enclave) acceptOnce(ctx context.Context, a *envelope.Authentic) error {
	const op = "accept a question"
	r := e.onceReceipt(a)
	if reason := e.once.add(r.Originating, r.EnvelopeHash, r.Expires, e.Now()); reason != "" {
		return e.metrics.refuse(op, reason, errors.New("answered before, or too many at once"))
	}
	switch _, err := e.History.Receipt(ctx, r.Originating, r.UUID); {
	case err == nil:
		return e.metrics.refuse(op, "replay", errors.New("answered before the last restart"))
	case !errors.Is(err, storage.ErrNotFound):
		return fail(op, Storage, err)
	}
	return nil
}

// onceReceipt remembers that an account check or an inquiry was answered, as long as its
// envelope lives and no longer. It is written with the audit entry, so it
// costs no write of its own. Its name is made of the envelope's hash with our
// key: it stands beside the receipts of verifications, whose ids their senders
// choose, and nobody can choose one that meets it.
func (e *Enclave) onceReceipt(a *envelope.Authentic) *storage.Receipt {
	hash := a.Hash()
	name := e.History.MAC("answered-once", hash[:])
	return &storage.Receipt{
		Originating: a.Header.Sender, UUID: uuid.UUID(name[:16]), EnvelopeHash: hash, Expires: a.Header.Expires.Add(e.Skew),
	}
}

// once remembers which of these envelopes came in this run, as long
// as they live. Only authentic envelopes get in, and each counterparty has its
// own room.
type once struct {
	limit int

	mu sync.Mutex
	of map[identity.VASPID]map[[32]byte]time.Time // until when
}

// add remembers an envelope until it ends, or says why it must be refused.
func (o *once) add(from identity.VASPID, hash [32]byte, until, now time.Time) (reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.of = make(map[identity.VASPID]map[[32]byte]time.Time)
	}
	seen := o.of[from]
	if seen == nil {
		seen = make(map[[32]byte]time.Time)
		o.of[from] = seen
	}
	if _, again := seen[hash]; again {
		return "replay"
	}
	if len(seen) >= o.limit {
		forget(seen, now)
	}
	if len(seen) >= o.limit { // rather refuse than forget
		return "flood"
	}
	seen[hash] = until
	return ""
}

func forget(seen map[[32]byte]time.Time, now time.Time) {
	for hash, until := range seen {
		if until.Before(now) {
			delete(seen, hash)
		}
	}
}
