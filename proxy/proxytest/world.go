// Package proxytest is a world for tests of the exchange: two VASPs, each with
// a real enclave on a real history file, a backend that a test scripts, and a
// central server between them that relays, records, and misbehaves when asked.
//
// Everything but the network is real; the sandbox package has the network.
package proxytest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/memory"
)

// World is two parties and what is between them.
type World struct {
	A, B    *Party
	Central *Central
	t       *testing.T
}

// Party is one VASP.
type Party struct {
	ID      identity.VASPID
	Enclave *proxy.Enclave
	Backend *Backend
	History *bolt.DB
	Metrics *prometheus.Registry
	Log     *Log
	File    string

	world  *World
	kek    *atrest.KEK
	stop   context.CancelFunc
	done   chan error
	tweaks []func(*proxy.Config)
	now    func() time.Time
}

// NewWorld starts two enclaves that know each other through central. Tweaks
// change every enclave's configuration.
func NewWorld(t *testing.T, tweaks ...func(*proxy.Config)) *World {
	t.Helper()
	w := &World{t: t, Central: &Central{parties: map[identity.VASPID]*Party{}, registered: map[identity.VASPID]relay.Registration{}}}
	w.A = w.newParty(15952089931162058999, tweaks)
	w.B = w.newParty(16384656509591635927, tweaks)
	for _, p := range []*Party{w.A, w.B} {
		p.Start()
	}
	w.awaitRegistered()
	return w
}

func (w *World) newParty(id identity.VASPID, tweaks []func(*proxy.Config)) *Party {
	w.t.Helper()
	kek, err := atrest.NewKEK(bytes.Repeat([]byte{byte(id)}, 32))
	if err != nil {
		w.t.Fatal(err)
	}
	p := &Party{
		ID: id, Backend: newBackend(), Log: &Log{}, world: w, kek: kek, tweaks: tweaks, now: time.Now,
		File: filepath.Join(w.t.TempDir(), id.String()+".db"),
	}
	w.Central.parties[id] = p
	w.t.Cleanup(p.Stop)
	return p
}

// Start opens the party's history and runs its enclave; again after Stop, it
// is the same VASP after a restart.
func (p *Party) Start() {
	t := p.world.t
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p.Metrics = prometheus.NewRegistry()
	logger := slog.New(slog.NewJSONHandler(p.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	db, err := bolt.Open(bolt.Options{Path: p.File, KEK: p.kek, Now: p.now, Metrics: p.Metrics, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	signer, chain, err := proxy.OpenIdentity(ctx, db, db.Keys().PrivateAEAD(), p.ID, p.now())
	if err != nil {
		t.Fatal(err)
	}
	own, err := keyring.OpenOwn(ctx, keyring.OwnConfig{
		Signer: signer, Store: db, AEAD: db.Keys().PrivateAEAD(), Suite: identity.SuiteXWing, Now: p.now,
		MaxEnvelopeLife: proxy.MaxEnvelopeLife, Skew: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	config := proxy.Config{
		Self: p.ID, Network: "test", Signer: signer, Chain: chain, History: db, Own: own, Cache: memory.New(1000, p.now),
		Relay: &line{p.world.Central, p.ID}, Backend: p.Backend, PublicEndpoint: "https://" + p.ID.String() + ".example", Version: "test",
		Suites: []identity.Suite{identity.SuiteXWing}, VASPIVMS101: []byte(`{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":"Co ` + p.ID.String() + `","legalPersonNameIdentifierType":"LEGL"}]}}}`),
		Callbacks: true, KeyTTL: 30 * time.Minute, Timeout: 10 * time.Minute, Skew: time.Minute, Now: p.now, Logger: logger, Metrics: p.Metrics,
	}
	for _, tweak := range p.tweaks {
		tweak(&config)
	}
	enclave, err := proxy.New(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	p.world.Central.setEnclave(p, enclave)
	p.History, p.stop, p.done = db, stop, make(chan error, 1)
	go func() { p.done <- enclave.Run(ctx) }()
}

// Stop ends the enclave and closes its history.
func (p *Party) Stop() {
	if p.stop == nil {
		return
	}
	p.stop()
	if err := <-p.done; err != nil {
		p.world.t.Errorf("enclave of %s ended with %v", p.ID, err)
	}
	p.stop = nil
	p.world.Central.setEnclave(p, nil)
	if err := p.History.Close(); err != nil {
		p.world.t.Errorf("close the history of %s: %v", p.ID, err)
	}
}

// awaitRegistered waits until central knows both; every enclave registers by
// itself.
func (w *World) awaitRegistered() {
	w.t.Helper()
	w.Await("both enclaves registered", func() bool { return w.Central.Registered() == 2 })
}

// Await waits until a condition holds.
func (w *World) Await(what string, holds func() bool) {
	w.t.Helper()
	for range 3000 {
		if holds() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatalf("never: %s", what)
}

// Log keeps what an enclave logged.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// String is everything logged so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Central relays between the parties of a world.
type Central struct {
	mu         sync.Mutex
	parties    map[identity.VASPID]*Party
	enclaves   map[identity.VASPID]*proxy.Enclave
	registered map[identity.VASPID]relay.Registration
	relayed    [][]byte

	// Tamper, when set, sees every message before it is delivered and may
	// change it; an error is central's own. Reply does the same on the way back.
	tamper func(from, to identity.VASPID, message []byte) ([]byte, error)
	reply  func(from, to identity.VASPID, message []byte) ([]byte, error)
	// identities replaces what the directory says of a VASP's identity.
	identities map[identity.VASPID][]byte
	down       bool
}

// ErrDown is what an enclave hears while central is down.
var ErrDown = errors.New("central is down")

// Tamper puts a hand into the messages on the way to the recipient; nil takes
// it out.
func (c *Central) Tamper(f func(from, to identity.VASPID, message []byte) ([]byte, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tamper = f
}

// TamperReply does the same to the replies.
func (c *Central) TamperReply(f func(from, to identity.VASPID, message []byte) ([]byte, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reply = f
}

// ShowIdentity lets the directory show another chain for a VASP.
func (c *Central) ShowIdentity(id identity.VASPID, chain []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.identities == nil {
		c.identities = map[identity.VASPID][]byte{}
	}
	c.identities[id] = chain
}

// Down takes central away, or brings it back.
func (c *Central) Down(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// Relayed is every message and reply that went through.
func (c *Central) Relayed() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([][]byte(nil), c.relayed...)
}

// Registered counts the members that registered an enclave.
func (c *Central) Registered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.registered)
}

func (c *Central) setEnclave(p *Party, e *proxy.Enclave) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.enclaves == nil {
		c.enclaves = map[identity.VASPID]*proxy.Enclave{}
	}
	if e != nil {
		p.Enclave = e
	}
	c.enclaves[p.ID] = e
}

// Send puts a message before a party's enclave, as central may at any time.
// The status is HTTP's.
func (c *Central) Send(to identity.VASPID, message []byte) (status int, reply []byte) {
	c.mu.Lock()
	enclave := c.enclaves[to]
	c.mu.Unlock()
	if enclave == nil {
		return 502, nil
	}
	return post(enclave, message)
}

// line is one enclave's connection to central.
type line struct {
	central *Central
	self    identity.VASPID
}

var _ proxy.Relay = (*line)(nil)

func (l *line) Deliver(_ context.Context, to identity.VASPID, message []byte) ([]byte, error) {
	c := l.central
	c.mu.Lock()
	tamper, tamperReply, down := c.tamper, c.reply, c.down
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
	status, reply := c.Send(to, message)
	if status != 200 {
		return nil, &relay.Error{Code: "RECIPIENT-UNREACHABLE", Status: 502, Retryable: true}
	}
	c.mu.Lock()
	c.relayed = append(c.relayed, message, reply)
	c.mu.Unlock()
	if tamperReply != nil {
		return tamperReply(to, l.self, reply)
	}
	return reply, nil
}

func (l *line) Directory(context.Context) (*relay.Directory, error) {
	c := l.central
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, ErrDown
	}
	d := new(relay.Directory)
	for _, id := range []identity.VASPID{15952089931162058999, 16384656509591635927} {
		m := relay.Member{
			Health: "UP", VASPID: id, VASPName: "V" + id.String(), LegalName: "Legal " + id.String(), IsAlliance: true,
			Protocol: "VERIFYVASP", LicensedStatus: "Regulated", VASPStatus: "VERIFIED-MEMBER",
			CreatedAt: "2026-01-02T03:04:05.000Z", UpdatedAt: "2026-01-02T03:04:05.000Z",
		}
		if r, ok := c.registered[id]; ok {
			m.Identity = r.Identity
		}
		if chain, ok := c.identities[id]; ok {
			m.Identity = base64.StdEncoding.EncodeToString(chain)
		}
		d.VASPs = append(d.VASPs, m)
	}
	return d, nil
}

func (l *line) Register(_ context.Context, r relay.Registration) (*relay.Lease, error) {
	c := l.central
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, ErrDown
	}
	c.registered[l.self] = r
	return &relay.Lease{LeaseMs: 90000, HeartbeatMs: 30000, VASPID: l.self}, nil
}

// Backend is a VASP's backend as a test scripts it.
type Backend struct {
	mu        sync.Mutex
	account   func(body []byte) (*vasp.AccountAnswer, error)
	user      func(body []byte) (*vasp.UserAnswer, error)
	callback  func(body []byte) error
	asked     [][]byte
	callbacks [][]byte
}

func newBackend() *Backend {
	b := &Backend{}
	b.OnAccount(func([]byte) (*vasp.AccountAnswer, error) {
		return &vasp.AccountAnswer{Result: "VERIFIED", VerifiedAt: "2026-01-02T03:04:05.000Z"}, nil
	})
	b.OnUser(func([]byte) (*vasp.UserAnswer, error) { return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK"}, nil })
	b.OnCallback(func([]byte) error { return nil })
	return b
}

// OnAccount, OnUser and OnCallback script the answers.
func (b *Backend) OnAccount(f func(body []byte) (*vasp.AccountAnswer, error)) {
	b.set(func() { b.account = f })
}

// OnUser scripts the answer to a user verification.
func (b *Backend) OnUser(f func(body []byte) (*vasp.UserAnswer, error)) { b.set(func() { b.user = f }) }

// OnCallback scripts the answer to a callback.
func (b *Backend) OnCallback(f func(body []byte) error) { b.set(func() { b.callback = f }) }

func (b *Backend) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// Asked is every question so far, Callbacks every callback that was answered
// well or not.
func (b *Backend) Asked() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([][]byte(nil), b.asked...)
}

// Callbacks is every callback so far.
func (b *Backend) Callbacks() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([][]byte(nil), b.callbacks...)
}

func (b *Backend) VerifyAccount(_ context.Context, body []byte) (*vasp.AccountAnswer, error) {
	b.mu.Lock()
	b.asked = append(b.asked, bytes.Clone(body))
	answer := b.account
	b.mu.Unlock()
	return answer(body)
}

func (b *Backend) VerifyUser(_ context.Context, body []byte) (*vasp.UserAnswer, error) {
	b.mu.Lock()
	b.asked = append(b.asked, bytes.Clone(body))
	answer := b.user
	b.mu.Unlock()
	return answer(body)
}

func (b *Backend) Callback(_ context.Context, body []byte) error {
	b.mu.Lock()
	b.callbacks = append(b.callbacks, bytes.Clone(body))
	answer := b.callback
	b.mu.Unlock()
	return answer(body)
}

// Forge makes an envelope by the given hands; tests of attacks use it.
func Forge(s *identity.Signer, to *envelope.PublicKey, h envelope.Header, b envelope.Body) ([]byte, error) {
	return envelope.Seal(s, to, h, b)
}

// NewID is a fresh verification id.
func NewID() uuid.UUID { return uuid.New() }
