package proxytest

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// Central relays between the parties of a world.
type Central struct {
	t testing.TB

	mu         sync.Mutex
	enclaves   map[identity.VASPID]*served
	registered map[identity.VASPID]relay.Registration
	relayed    [][]byte
	attempts   int
	renewals   map[identity.VASPID]int

	tamper      Hand
	tamperReply Hand
	identities  map[identity.VASPID][]byte // instead of the registered ones
	edit        func(*relay.Directory)
	down        bool
	hang        bool          // requests for the directory
	over        chan struct{} // closed when the test ends
	complete    chan struct{} // closed when both parties have registered once
}

// served is an enclave and the messages it is at work on.
type served struct {
	enclave *proxy.Enclave
	work    sync.WaitGroup
}

func newCentral(t testing.TB) *Central {
	c := &Central{
		t: t, enclaves: map[identity.VASPID]*served{}, registered: map[identity.VASPID]relay.Registration{},
		identities: map[identity.VASPID][]byte{}, renewals: map[identity.VASPID]int{},
		over: make(chan struct{}), complete: make(chan struct{}),
	}
	t.Cleanup(func() { close(c.over) })
	return c
}

// Hand is what a hostile central does with a message or a reply on its way;
// an error is central's own.
type Hand func(from, to identity.VASPID, message []byte) ([]byte, error)

// ErrDown is what an enclave hears while central is down.
var ErrDown = errors.New("central is down")

// Tamper puts a hand into the messages on the way to the recipient; nil takes
// it out.
func (c *Central) Tamper(h Hand) { c.set(func() { c.tamper = h }) }

// TamperReply does the same to the replies.
func (c *Central) TamperReply(h Hand) { c.set(func() { c.tamperReply = h }) }

// ShowIdentity lets the directory show another chain for a VASP.
func (c *Central) ShowIdentity(id identity.VASPID, chain []byte) {
	c.set(func() { c.identities[id] = chain })
}

// EditDirectory changes every directory that is given out.
func (c *Central) EditDirectory(edit func(*relay.Directory)) { c.set(func() { c.edit = edit }) }

// Down takes central away, or brings it back.
func (c *Central) Down(down bool) { c.set(func() { c.down = down }) }

// HangDirectory lets requests for the directory get no answer, as when a
// connection dies unseen, until they are given up. Turned off, new ones are
// answered.
func (c *Central) HangDirectory(hang bool) { c.set(func() { c.hang = hang }) }

func (c *Central) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// Relayed is every message and reply as the enclaves gave them to central.
func (c *Central) Relayed() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([][]byte(nil), c.relayed...)
}

// Attempts counts what enclaves asked of central, registrations left out,
// also while it was down.
func (c *Central) Attempts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attempts
}

// Registered counts the members that registered an enclave.
func (c *Central) Registered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.registered)
}

// Registrations counts those of one VASP, heartbeats included.
func (c *Central) Registrations(id identity.VASPID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renewals[id]
}

// Registration is the last one of a VASP.
func (c *Central) Registration(id identity.VASPID) relay.Registration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.registered[id]
}

// Forget takes a VASP's registration away.
func (c *Central) Forget(id identity.VASPID) { c.set(func() { delete(c.registered, id) }) }

func (c *Central) serve(id identity.VASPID, e *proxy.Enclave) {
	c.set(func() { c.enclaves[id] = &served{enclave: e} })
}

// cut ends the way to an enclave and waits for what it is at work on.
func (c *Central) cut(id identity.VASPID) {
	c.mu.Lock()
	s := c.enclaves[id]
	delete(c.enclaves, id)
	c.mu.Unlock()
	if s != nil {
		s.work.Wait()
	}
}

// Send puts a message before a party's enclave, as central may at any time.
// The status is HTTP's.
func (c *Central) Send(to identity.VASPID, message []byte) (status int, reply []byte) {
	return c.SendWithin(context.Background(), to, message)
}

// SendWithin is Send that hangs up when ctx ends.
func (c *Central) SendWithin(ctx context.Context, to identity.VASPID, message []byte) (status int, reply []byte) {
	status, reply, _ = c.send(ctx, to, message)
	return status, reply
}

// send also gives how long the enclave asks to wait.
func (c *Central) send(ctx context.Context, to identity.VASPID, message []byte) (status int, reply []byte, wait time.Duration) {
	c.mu.Lock()
	s := c.enclaves[to]
	if s == nil {
		c.mu.Unlock()
		return 502, nil, 0
	}
	s.work.Add(1)
	c.mu.Unlock()
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		defer s.work.Done()
		done <- post(ctx, s.enclave, message)
	}()
	select {
	case a := <-done:
		seconds, _ := strconv.Atoi(a.Header().Get("Retry-After"))
		return a.Code, a.Body.Bytes(), time.Duration(seconds) * time.Second
	case <-ctx.Done():
		return 499, nil, 0
	}
}

// line is one enclave's connection to central.
type line struct {
	central *Central
	self    identity.VASPID
}

var _ proxy.Relay = (*line)(nil)

func (l *line) Deliver(ctx context.Context, to identity.VASPID, message []byte) ([]byte, error) {
	c := l.central
	c.mu.Lock()
	tamper, tamperReply, down := c.tamper, c.tamperReply, c.down
	c.attempts++
	if !down {
		c.relayed = append(c.relayed, message)
	}
	c.mu.Unlock()
	if down {
		return nil, ErrDown
	}
	if tamper != nil {
		var err error
		if message, err = tamper(l.self, to, message); err != nil {
			return nil, err
		}
	}
	status, reply, wait := c.send(ctx, to, message)
	switch {
	case ctx.Err() != nil:
		return nil, &relay.TransportError{Op: "deliver", Err: ctx.Err()}
	case status == 429:
		return nil, &relay.Error{Code: relay.CodeBusy, Status: 429, Retryable: true, RetryAfter: wait}
	case status != 200:
		return nil, &relay.Error{Code: relay.CodeUnreachable, Status: 502, Retryable: true}
	}
	c.set(func() { c.relayed = append(c.relayed, reply) })
	if tamperReply != nil {
		return tamperReply(to, l.self, reply)
	}
	return reply, nil
}

func (l *line) Directory(ctx context.Context) (*relay.Directory, error) {
	c := l.central
	select { // so that the first directory of each knows the other, every time
	case <-c.complete:
	case <-ctx.Done():
	case <-c.over:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	if c.hang {
		c.mu.Unlock()
		select {
		case <-c.over:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
	switch {
	case ctx.Err() != nil:
		return nil, &relay.TransportError{Op: "directory", Err: ctx.Err()}
	case c.down:
		return nil, ErrDown
	}
	d := &relay.Directory{VASPs: []relay.Member{c.member(IDOfA), c.member(IDOfB)}}
	if c.edit != nil {
		c.edit(d)
	}
	return d, nil
}

// member is called under the lock.
func (c *Central) member(id identity.VASPID) relay.Member {
	m := relay.Member{
		Health: relay.Up, VASPID: id, VASPName: "V" + id.String(), LegalName: "Legal " + id.String(), IsAlliance: true,
		Protocol: relay.Protocol, LicensedStatus: "Regulated", VASPStatus: relay.StatusMember,
		CreatedAt: "2026-01-02T03:04:05.000Z", UpdatedAt: "2026-01-02T03:04:05.000Z",
	}
	if r, ok := c.registered[id]; ok {
		m.Identity = r.Identity
	}
	if chain, ok := c.identities[id]; ok {
		m.Identity = base64.StdEncoding.EncodeToString(chain)
	}
	return m
}

func (l *line) Register(_ context.Context, r relay.Registration) (*relay.Lease, error) {
	c := l.central
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, ErrDown
	}
	if c.registered[l.self] = r; len(c.registered) == 2 && len(c.renewals) == 1 {
		close(c.complete)
	}
	c.renewals[l.self]++
	return &relay.Lease{LeaseMs: 90000, HeartbeatMs: 30000, VASPID: l.self}, nil
}
