package robotcmd

import (
	"slices"
	"strconv"
	"sync"
	"time"
)

// role is on which side of a transfer the robot is. One that is on both, as in
// a transfer to itself, has two transfers of one id.
type role string

const (
	sends    role = "SEND"    // the originator is its customer
	receives role = "RECEIVE" // the beneficiary is
)

type transferKey struct {
	role role
	uuid string
}

// The states of a transaction (contract 6.3).
const (
	pending     = "PENDING"
	processing  = "PROCESSING"
	waitConfirm = "WAIT-CONFIRM"
	confirmed   = "CONFIRMED"
	canceled    = "CANCELED"
)

var states = []string{pending, processing, waitConfirm, confirmed, canceled}

// final says whether nothing comes after a state.
func final(state string) bool { return state == confirmed || state == canceled }

// broadcast says whether a state needs a transaction's hash.
func broadcast(state string) bool {
	return state == processing || state == waitConfirm || state == confirmed
}

// transfer is what a robot knows of one verification and the coins behind it.
// It holds no person.
type transfer struct {
	transferKey
	counterparty            string // VASP id, "" when unknown
	symbol, network, amount string
	from, to                string // accounts
	result, reason          string // "" until it is known
	status, txHash, vout    string
	paid                    bool // the coins moved on our chain
	reported                bool // the hash was told to the other side, or by it

	due       time.Time // of our next inquiry, zero for none
	inquiries int       // made by ourselves
}

func (t *transfer) text() []byte {
	var x text
	x.str("verificationUuid", t.uuid)
	x.str("actionType", string(t.role))
	for _, m := range []struct{ name, value string }{
		{"counterpartyVaspId", t.counterparty}, {"symbol", t.symbol}, {"network", t.network}, {"amount", t.amount},
		{"originatorAccountNumber", t.from}, {"beneficiaryAccountNumber", t.to}, {"result", t.result}, {"reason", t.reason},
	} {
		if m.value != "" {
			x.str(m.name, m.value)
		}
	}
	x.str("transactionStatus", t.status)
	t.hash(&x)
	x.boolean("reported", t.reported)
	x.raw("inquiries", strconv.AppendInt(nil, int64(t.inquiries), 10))
	return x.end()
}

// hash writes the transaction's hash and output, where there are any.
func (t *transfer) hash(x *text) {
	if t.txHash != "" {
		x.str("txHash", t.txHash)
	}
	if t.vout != "" {
		x.str("vout", t.vout)
	}
}

// maxTransfers bounds the transfers that are remembered; the oldest go first.
const maxTransfers = 10_000

// transfers are the transfers a robot knows. Methods may be called
// concurrently.
type transfers struct {
	mu    sync.Mutex
	known map[transferKey]*transfer
	order []transferKey // the oldest first
}

func newTransfers() *transfers { return &transfers{known: map[transferKey]*transfer{}} }

// get is a copy of what is known; false when nothing is.
func (all *transfers) get(key transferKey) (transfer, bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	t := all.known[key]
	if t == nil {
		return transfer{}, false
	}
	return *t, true
}

// update changes a transfer, which is made when there is none, and gives a
// copy of what it became. What change does is done for all that look, at once.
func (all *transfers) update(key transferKey, change func(*transfer)) transfer {
	all.mu.Lock()
	defer all.mu.Unlock()
	t := all.known[key]
	if t == nil {
		t = &transfer{transferKey: key, status: pending}
		all.known[key], all.order = t, append(all.order, key)
		if len(all.order) > maxTransfers {
			delete(all.known, all.order[0])
			all.order = all.order[1:]
		}
	}
	change(t)
	return *t
}

// list is a copy of all of them, the oldest first.
func (all *transfers) list() []transfer {
	all.mu.Lock()
	defer all.mu.Unlock()
	list := make([]transfer, 0, len(all.order))
	for _, key := range all.order {
		list = append(list, *all.known[key])
	}
	return list
}

// inquiriesMade is how often a robot asks by itself: after each tenth minute
// of an hour, as the documented one does (contract 9.9).
const inquiriesMade = 6

// due takes out the transfers to us that were verified at least `after` ago
// and of which nobody reported a transaction, and makes them wait again.
func (all *transfers) due(now time.Time, after time.Duration) (keys []transferKey) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, key := range all.order {
		t := all.known[key]
		if t.due.IsZero() || now.Before(t.due) {
			continue
		}
		if t.inquiries == inquiriesMade || t.reported || final(t.status) {
			t.due = time.Time{}
			continue
		}
		t.inquiries++
		t.due = t.due.Add(after)
		keys = append(keys, key)
	}
	return keys
}

// settle sets what is known of a transaction. A final state is not left.
func (t *transfer) settle(status, txHash, vout string) {
	if txHash != "" {
		t.txHash, t.vout = txHash, vout
	}
	if slices.Contains(states, status) && !final(t.status) {
		t.status = status
	}
}
