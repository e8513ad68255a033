package proxy

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Account checks tell whether an address is a customer's. A counterparty that
// asks about more addresses than its transfers explain is collecting them
// (attack O1): each has a budget of questions, and a much smaller one of
// questions whose answer is that nobody has the address.
const (
	accountsPerSecond = 100
	accountsAtOnce    = 1000
	strangersPerHour  = 360
	strangersAtOnce   = 100
)

// accountBudgets are kept for counterparties with a pin only, so there are no
// more of them than members.
type accountBudgets struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[identity.VASPID]*accountBudget
}

// Inquiries are about transfers that the asker knows, so they tell nothing it
// may not know; the budget spares our backend.
const (
	inquiriesPerSecond = 20
	inquiriesAtOnce    = 200
)

// inquiryBudgets are kept as the accounts' are.
type inquiryBudgets struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[identity.VASPID]*rate.Limiter
}

func (b *inquiryBudgets) allow(peer identity.VASPID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = make(map[identity.VASPID]*rate.Limiter)
	}
	if b.of[peer] == nil {
		b.of[peer] = rate.NewLimiter(inquiriesPerSecond, inquiriesAtOnce)
	}
	return b.of[peer].AllowN(b.now(), 1)
}

type accountBudget struct{ questions, strangers *rate.Limiter }

func (b *accountBudgets) find(peer identity.VASPID) *accountBudget {
	b.mu.Lock()
	defer b.mu.Unlock()
	found, ok := b.of[peer]
	if !ok {
		found = &accountBudget{
			rate.NewLimiter(accountsPerSecond, accountsAtOnce),
			rate.NewLimiter(rate.Limit(strangersPerHour)/3600, strangersAtOnce),
		}
		b.of[peer] = found
	}
	return found
}

// allow says whether a counterparty may ask about one more account. Until the
// answer is there the account counts as one that nobody has, so that many
// questions at once do not pass together; customer gives that back.
func (b *accountBudgets) allow(peer identity.VASPID) (customer func(), ok bool) {
	f, now := b.find(peer), b.now()
	if !f.questions.AllowN(now, 1) {
		return nil, false
	}
	taken := f.strangers.ReserveN(now, 1)
	if taken.DelayFrom(now) > 0 {
		taken.CancelAt(now)
		return nil, false
	}
	return func() { taken.CancelAt(now) }, true
}
