package proxy

import (
	"maps"
	"slices"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Routes gives the methods of each path that the backend may call, and whether
// it asks for the token.
func (e *Enclave) Routes() (open, closed map[string][]string) {
	a := &api{Enclave: e}
	list := func(paths map[string]methods) map[string][]string {
		all := map[string][]string{}
		for path, m := range paths {
			all[path] = slices.Sorted(maps.Keys(m))
		}
		return all
	}
	return list(a.open()), list(a.closed())
}

// ReadAnswer reads a counterparty's answer to a verification, as an attempt to
// deliver it does.
func (e *Enclave) ReadAnswer(payload []byte) error {
	_, err := e.readAnswer(payload)
	return err
}

// Remembered says for how many counterparties messages are numbered.
func (e *Enclave) Remembered() int {
	e.sequence.mu.Lock()
	defer e.sequence.mu.Unlock()
	return len(e.sequence.last)
}

// MayAsk counts how many of n account checks a counterparty's budget of
// questions lets through now.
func (e *Enclave) MayAsk(peer identity.VASPID, n int) (passed int) {
	for range n {
		if e.budgets.mayAsk(peer) {
			passed++
		}
	}
	return passed
}

// LimitOwed sets how many callbacks of one counterparty's doing may wait.
func (e *Enclave) LimitOwed(n int) {
	e.outbox.mu.Lock()
	defer e.outbox.mu.Unlock()
	e.outbox.maxOwed = n
}

// FillOutbox makes an enclave believe that as many deliveries wait as may, until
// empty is called.
func (e *Enclave) FillOutbox() (empty func()) {
	add := func(n int) {
		e.outbox.mu.Lock()
		defer e.outbox.mu.Unlock()
		e.outbox.waiting += n
	}
	add(maxWaiting)
	return func() { add(-maxWaiting) }
}
