package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// directory is the last list of VASPs that central gave. It is kept on disk,
// so that central's absence does not stop the enclave from accepting work.
type directory struct {
	mu       sync.RWMutex
	reach    reach
	misnamed atomic.Bool // said so already
	members  map[identity.VASPID]relay.Member
	list     []relay.Member
	fetched  time.Time
	again    *rate.Limiter  // who asks for want of an entry
	stored   []relay.Member // the list on disk
}

// How old the kept directory may be: freshness for a reader who wants the
// health of its peers, and how often a stranger's message may make us ask.
const (
	directoryFresh = time.Second
	directoryAgain = 500 * time.Millisecond
	// directoryBurst is how often within that time: a counterparty that
	// changes its identity is looked for twice, also just after a stranger.
	directoryBurst = 4
	// directoryLimit ends a request that outlived all who wait for it.
	directoryLimit = 5 * time.Second
)

// reach follows what central says of us. It is used by one refresh at a time.
type reach struct {
	last  reached
	since time.Time // when central first said, of this absence, that we are down
}

// reached is what there is to tell the operator, once for each change.
type reached int

const (
	nothing reached = iota
	found
	lost
)

// firstLook is what central gets to look for an enclave that it has not reached
// yet, before its word that we are down is one to act upon.
const firstLook = 15 * time.Second

// heard says what to tell of central's word at now: an enclave that central
// reached is lost at once, one that it never reached after firstLook.
func (r *reach) heard(up bool, now time.Time) reached {
	if !up && r.since.IsZero() {
		r.since = now
	}
	was := r.last
	switch {
	case up:
		*r = reach{last: found}
		if was == nothing { // a registration counts as up until central has looked
			return nothing
		}
	case was == found, now.Sub(r.since) >= firstLook:
		r.last = lost
	}
	if r.last == was {
		return nothing
	}
	return r.last
}

func (d *directory) replace(list []relay.Member, at time.Time) {
	members := make(map[identity.VASPID]relay.Member, len(list))
	for _, m := range list {
		members[m.VASPID] = m
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.members, d.list, d.fetched = members, list, at
}

func (d *directory) find(id identity.VASPID) (relay.Member, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m, ok := d.members[id]
	return m, ok
}

func (d *directory) snapshot() (list []relay.Member, fetched time.Time) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.list, d.fetched
}

// settle waits until central may be asked again, unless ctx ends before.
func (d *directory) settle(ctx context.Context) bool {
	select {
	case <-time.After(directoryAgain):
		return true
	case <-ctx.Done():
		return false
	}
}

// mayAsk says whether central has not been asked too often just now, and notes
// that it will be.
func (d *directory) mayAsk(now time.Time) bool {
	return d.again.AllowN(now, 1)
}

func (e *Enclave) loadDirectory(ctx context.Context) error {
	kept, err := e.History.Directory(ctx)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var d relay.Directory
	if err := json.Unmarshal(kept, &d); err != nil {
		return fmt.Errorf("kept directory: %w", err)
	}
	e.books.replace(d.VASPs, time.Time{})
	e.books.stored = d.VASPs
	return nil
}

// refreshDirectory fetches the directory. Concurrent callers share one
// request, and each waits for it no longer than its own context lasts.
func (e *Enclave) refreshDirectory(ctx context.Context) error {
	for {
		fetched, err := e.sharedFetch(ctx, func() bool { return true })
		if fetched || err != nil {
			return err
		}
	}
}

// askDirectory refreshes the directory for somebody who misses an entry, or
// shares a request under way; but in the long run it does not ask more often
// than every directoryAgain.
func (e *Enclave) askDirectory(ctx context.Context) error {
	_, err := e.sharedFetch(ctx, func() bool { return e.books.mayAsk(e.Now()) })
	return err
}

// sharedFetch fetches the directory if it may, or joins who is about it: then
// what that one may decides.
func (e *Enclave) sharedFetch(ctx context.Context, may func() bool) (fetched bool, err error) {
	done := e.flight.DoChan("directory", func() (any, error) {
		if !may() {
			return false, nil
		}
		return true, e.fetchDirectory(context.WithoutCancel(ctx))
	})
	select {
	case r := <-done:
		return r.Val.(bool), r.Err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// fetchDirectory asks central, compares every pinned identity with what it
// shows, and keeps it on disk.
func (e *Enclave) fetchDirectory(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, directoryLimit)
	defer cancel()
	us := e.self.Load()
	shown := us.isKnown() // what central has when it is asked, it shows
	fresh, err := e.Relay.Directory(ctx)
	if err != nil {
		return err
	}
	e.lookAtOurselves(fresh, us, shown)
	if err := e.compareAll(ctx, fresh.VASPs); err != nil {
		return err
	}
	return e.keepDirectory(ctx, fresh)
}

func (e *Enclave) compareAll(ctx context.Context, members []relay.Member) error {
	for _, m := range members {
		if _, ok := e.pins.find(m.VASPID); !ok {
			continue
		}
		chain, err := parseChain(m)
		if err != nil {
			continue // no identity now is no word against the pinned one
		}
		if err := e.compare(ctx, m.VASPID, chain); err != nil {
			return err
		}
	}
	return nil
}

// keepDirectory writes the directory only when more than its health and times
// of registration changed: it is fetched often and rarely changes. Only one
// refresh runs at a time.
func (e *Enclave) keepDirectory(ctx context.Context, fresh *relay.Directory) error {
	now := e.Now()
	e.books.replace(fresh.VASPs, now)
	e.metrics.directory.Set(float64(now.UnixMilli()) / 1000)
	if sameMembers(e.books.stored, fresh.VASPs) {
		return nil
	}
	b, err := json.Marshal(fresh)
	if err != nil {
		return err
	}
	if err := e.History.Apply(ctx, &storage.Change{Directory: b}); err != nil {
		return fail("keep the directory", Storage, err)
	}
	e.books.stored = fresh.VASPs
	return nil
}

// lookAtOurselves reads what central tells the others of us: whether it can
// reach us, and who we are to them. Another identity than the one of ours that
// must be shown means that somebody stands between us and our counterparties
// (attack K12).
func (e *Enclave) lookAtOurselves(fresh *relay.Directory, ours *ownIdentity, shown bool) {
	i := slices.IndexFunc(fresh.VASPs, func(m relay.Member) bool { return m.VASPID == e.Self })
	if i < 0 {
		return
	}
	us := fresh.VASPs[i]
	up := us.Health == relay.Up
	switch e.books.reach.heard(up, e.Now()) {
	case found:
		e.Logger.Info("central says that this enclave is up", "endpoint", e.PublicEndpoint)
	case lost:
		e.Logger.Warn("central cannot reach this enclave: does its certificate fit the endpoint, does central trust who issued it, does VEGA_CENTRAL_ALLOWLIST have central's address, and has central the client certificate that VEGA_CENTRAL_CLIENT_CA_FILE or VEGA_CENTRAL_CLIENT_KEY_PINS asks for, if set?", "endpoint", e.PublicEndpoint)
	}
	e.metrics.reached.Set(map[bool]float64{true: 1}[up])
	chain, err := base64.StdEncoding.DecodeString(us.Identity)
	changed := ours.replaces.Load() || e.self.Load() != ours
	if err == nil && bytes.Equal(ours.chain, chain) || !shown || changed {
		e.metrics.misnamed.Set(0)
		return
	}
	e.metrics.misnamed.Set(1)
	if e.books.misnamed.CompareAndSwap(false, true) {
		e.Logger.Error("central shows others another identity for this VASP than ours: tell your counterparties, and compare safety numbers")
	}
}

func sameMembers(a, b []relay.Member) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		x.Health, y.Health = "", ""
		x.UpdatedAt, y.UpdatedAt = "", ""
		p, _ := json.Marshal(x)
		q, _ := json.Marshal(y)
		if string(p) != string(q) {
			return false
		}
	}
	return true
}

// members is the directory as central gave it, asked for again when it is not
// fresh; central's absence leaves the kept one.
func (e *Enclave) members(ctx context.Context) []relay.Member {
	list, fetched := e.books.snapshot()
	if e.Now().Sub(fetched) < directoryFresh {
		return list
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := e.refreshDirectory(ctx); err != nil {
		e.Logger.Warn("central gave no directory; the kept one serves", "err", err)
	}
	list, _ = e.books.snapshot()
	return list
}

// member finds one VASP, asking central when it is not in the kept directory, or
// had registered no enclave when that was fetched.
func (e *Enclave) member(ctx context.Context, id identity.VASPID) (relay.Member, error) {
	const op = "find the counterparty"
	m, ok := e.books.find(id)
	if !ok || m.VASPStatus != relay.StatusMember {
		if err := e.askDirectory(ctx); err != nil {
			e.Logger.Warn("central gave no directory; the kept one serves", "err", err)
		}
		m, ok = e.books.find(id)
	}
	if !ok {
		if list, _ := e.books.snapshot(); list == nil {
			return m, &Error{Op: op, Kind: Unavailable, Code: "DIRECTORY-UNAVAILABLE",
				Message: "The list of VASPs was never fetched: central is out of reach; try again."}
		}
		return m, &Error{Op: op, Kind: Invalid, Code: "ALLIANCE-NOT-FOUND", Message: "Alliance is not found in given vendor"}
	}
	return m, nil
}

// identityOf is the chain of identity statements that central shows for a
// VASP; a stranger's may be newer than the kept directory.
func (e *Enclave) identityOf(ctx context.Context, id identity.VASPID) (*identity.Chain, error) {
	m, err := e.member(ctx, id)
	if err != nil {
		return nil, err
	}
	if m.Identity == "" {
		if err := e.askDirectory(ctx); err != nil {
			return nil, err
		}
		m, _ = e.books.find(id)
	}
	if m.Identity == "" {
		return nil, &Error{Op: "find the counterparty's identity", Kind: Unavailable,
			Message: "The counterparty has not registered an enclave yet."}
	}
	return parseChain(m)
}

func parseChain(m relay.Member) (*identity.Chain, error) {
	b, err := base64.StdEncoding.DecodeString(m.Identity)
	if err != nil {
		return nil, fmt.Errorf("identity of VASP %s is not base64", m.VASPID)
	}
	chain, err := identity.ParseChain(b)
	if err != nil {
		return nil, fmt.Errorf("identity of VASP %s: %w", m.VASPID, err)
	}
	if chain.Current().VASP() != m.VASPID {
		return nil, fmt.Errorf("identity of VASP %s speaks of another VASP", m.VASPID)
	}
	return chain, nil
}
