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
// answers that nobody has the address.
//
// The budget of questions also bounds how many are under way: 1,000, and 100
// more for each second that our backend takes, which has one.
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

// mayAsk says whether a counterparty may ask about one more account, and
// counts the question if so.
func (b *accountBudgets) mayAsk(peer identity.VASPID) bool {
	f, now := b.find(peer), b.now()
	return f.strangers.TokensAt(now) >= 1 && f.questions.AllowN(now, 1)
}

// mayHear says whether a counterparty may hear what our backend said of an
// account. Only the answer that nobody has it is counted, so that many honest
// questions at once pass, however slow our backend is. But once that budget is
// used up nothing is told of the questions still under way either, be the
// account a customer's or not: so asking many at once yields not one answer
// more than the budget, and the refusal itself tells nothing.
func (b *accountBudgets) mayHear(peer identity.VASPID, stranger bool) bool {
	f, now := b.find(peer), b.now()
	if stranger {
		return f.strangers.AllowN(now, 1)
	}
	return f.strangers.TokensAt(now) >= 1
}
