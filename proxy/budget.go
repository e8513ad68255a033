package proxy

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// budget is what each counterparty may do in a while. It is kept for
// counterparties with a pin only, so there are no more of them than members.
// It may be asked concurrently.
type budget struct {
	perSecond rate.Limit
	atOnce    int
	now       func() time.Time

	mu sync.Mutex
	of map[identity.VASPID]*rate.Limiter
}

func newBudget(perSecond rate.Limit, atOnce int, now func() time.Time) *budget {
	return &budget{perSecond: perSecond, atOnce: atOnce, now: now, of: make(map[identity.VASPID]*rate.Limiter)}
}

func (b *budget) find(peer identity.VASPID) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	found, ok := b.of[peer]
	if !ok {
		found = rate.NewLimiter(b.perSecond, b.atOnce)
		b.of[peer] = found
	}
	return found
}

// take takes one from a counterparty's budget, if there is one left.
func (b *budget) take(peer identity.VASPID) bool { return b.find(peer).AllowN(b.now(), 1) }

// spent says whether a counterparty's budget is known to be used up. It
// remembers nobody: who asks may not be who it says it is.
func (b *budget) spent(peer identity.VASPID) bool {
	b.mu.Lock()
	found, ok := b.of[peer]
	b.mu.Unlock()
	return ok && found.TokensAt(b.now()) < 1
}

// wait is how long it takes until there is one again.
func (b *budget) wait(peer identity.VASPID) time.Duration {
	missing := 1 - b.find(peer).TokensAt(b.now())
	return time.Duration(max(0, missing) / float64(b.perSecond) * float64(time.Second))
}

// left says whether there is one left.
func (b *budget) left(peer identity.VASPID) bool { return b.find(peer).TokensAt(b.now()) >= 1 }

// Inquiries tell nothing that the asker may not know, and reports are the
// counterparty's right; their budgets spare our backend and our disk (attack
// G4). Of verifications that nobody knows there is nothing to say: an honest
// counterparty reports those alone that never arrived here.
const (
	inquiriesPerSecond = 20
	inquiriesAtOnce    = 200
	reportsPerSecond   = 300
	reportsAtOnce      = 3000
	unknownPerSecond   = 5
	unknownAtOnce      = 1000

	// A flood must not become one of the log.
	alarmsPerSecond = 0.1
	alarmsAtOnce    = 10
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

// budgets are those of everything but keys, which keyring has.
type budgets struct {
	messages                    *budget // of every type, see tooFast
	questions, strangers        *budget // account checks, and those that find nobody
	inquiries, reports, unknown *budget
	alarms                      *budget // lines in the log about budgets
}

func newBudgets(messagesPerSecond int, now func() time.Time) budgets {
	if messagesPerSecond == 0 {
		messagesPerSecond = DefaultMessagesPerSecond
	}
	return budgets{
		messages:  newBudget(rate.Limit(messagesPerSecond), messagesPerSecond*messagesForSeconds, now),
		questions: newBudget(accountsPerSecond, accountsAtOnce, now),
		strangers: newBudget(rate.Limit(strangersPerHour)/3600, strangersAtOnce, now),
		inquiries: newBudget(inquiriesPerSecond, inquiriesAtOnce, now),
		reports:   newBudget(reportsPerSecond, reportsAtOnce, now),
		unknown:   newBudget(unknownPerSecond, unknownAtOnce, now),
		alarms:    newBudget(alarmsPerSecond, alarmsAtOnce, now),
	}
}

// mayAsk says whether a counterparty may ask about one more account, and
// counts the question if so.
func (b *budgets) mayAsk(peer identity.VASPID) bool {
	return b.strangers.left(peer) && b.questions.take(peer)
}

// mayHear says whether a counterparty may hear what our backend said of an
// account. Only the answer that nobody has it is counted, so that many honest
// questions at once pass, however slow our backend is. But once that budget is
// used up nothing is told of the questions still under way either, be the
// account a customer's or not: so asking many at once yields not one answer
// more than the budget, and the refusal itself tells nothing.
func (b *budgets) mayHear(peer identity.VASPID, stranger bool) bool {
	if stranger {
		return b.strangers.take(peer)
	}
	return b.strangers.left(peer)
}

// DefaultMessagesPerSecond is how many messages a counterparty may send in a
// second, of whatever type, in the long run; for a while it may send five times
// as many (attack N5). A storm of 500 verifications in a second, each with its
// key, and the reports of their transactions pass.
const (
	DefaultMessagesPerSecond = 2000
	messagesForSeconds       = 5
)

// errTooFast is a message that came too soon after the others.
var errTooFast = fmt.Errorf("%w of messages", errOverBudget)

// mayCome says of a message whose sender is not sure yet whether it is worth a
// look. A flood under another's name uses up nothing of that one's budget.
func (e *Enclave) mayCome(h *envelope.Header) error {
	if e.budgets.messages.spent(h.Sender) {
		return e.tooFast(h)
	}
	return nil
}

// counted counts an authentic message.
func (e *Enclave) counted(h *envelope.Header) error {
	if !e.budgets.messages.take(h.Sender) {
		return e.tooFast(h)
	}
	return nil
}

// tooFast refuses a message before anything is made of it, and says when to
// send it again. It costs no signature, unlike other refusals.
func (e *Enclave) tooFast(h *envelope.Header) error {
	e.metrics.tooFast.Inc()
	e.alarm(h.Sender, "a counterparty sends messages faster than VEGA_PEER_MESSAGES_PER_SECOND allows", "message", h.Type.String())
	return &Error{Op: "count messages", Kind: Unavailable, Err: errTooFast, RetryAfter: e.budgets.messages.wait(h.Sender)}
}

// errOverBudget is what a counterparty does too often; of that the metrics
// count each, and the log tells now and then.
var errOverBudget = errors.New("over the counterparty's budget")

// overBudget refuses what a counterparty does too often, and raises the alarm.
func (e *Enclave) overBudget(asked *envelope.Header) error {
	e.metrics.overBudget.WithLabelValues(asked.Type.String()).Inc()
	e.alarm(asked.Sender, "a counterparty sends more than its budget allows", "message", asked.Type.String())
	return &Error{Op: "judge by the budget", Kind: Unavailable, Err: errOverBudget}
}

// alarm leaves a line about a counterparty that is over a budget, unless there
// were enough of them just now.
func (e *Enclave) alarm(from identity.VASPID, what string, more ...any) {
	if e.budgets.alarms.take(from) {
		e.Logger.Warn(what, append([]any{"vasp", from}, more...)...)
	}
}
