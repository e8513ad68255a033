// Package proxytest is a world for tests of the exchange: two VASPs, each with
// a real enclave on a real history file, a backend that a test scripts, and a
// central server between them that relays, records, and misbehaves when asked.
//
// Everything but the network is real; the sandbox package has the network.
package proxytest

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi/openapitest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/memory"
)

// The two VASPs of a world. The ids do not fit a signed number.
const (
	IDOfA identity.VASPID = 15952089931162058999
	IDOfB identity.VASPID = 16384656509591635927
)

// Network is what the parties' envelopes are bound to.
const Network = "test"

// World is two parties and what is between them.
type World struct {
	A, B    *Party
	Central *Central

	t   testing.TB
	now func() time.Time
}

// Party is one VASP.
type Party struct {
	ID      identity.VASPID
	Enclave *proxy.Enclave
	Backend *Backend
	History *bolt.DB
	Metrics *prometheus.Registry // of the present run of the enclave
	Log     *Log                 // of all runs
	File    string               // the history

	// Signer and Own are the enclave's own, for tests in which the party
	// itself is hostile.
	Signer *identity.Signer
	Own    *keyring.Own

	world  *World
	kek    *atrest.KEK
	cache  *memory.PeerKeys
	stop   context.CancelFunc
	done   chan error
	tweaks []func(*proxy.Config)
}

// NewWorld starts two enclaves that know each other through central. Tweaks
// change every enclave's configuration.
func NewWorld(t testing.TB, tweaks ...func(*proxy.Config)) *World {
	t.Helper()
	return NewWorldAt(t, time.Now, tweaks...)
}

// NewWorldAt is NewWorld with a clock for everything in both parties.
func NewWorldAt(t testing.TB, now func() time.Time, tweaks ...func(*proxy.Config)) *World {
	t.Helper()
	w := &World{t: t, now: now, Central: newCentral(t)}
	w.A = w.newParty(IDOfA, tweaks)
	w.B = w.newParty(IDOfB, tweaks)
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
		ID: id, Backend: newBackend(w.t), Log: &Log{}, world: w, kek: kek, tweaks: tweaks,
		File: filepath.Join(w.t.TempDir(), id.String()+".db"),
	}
	w.t.Cleanup(p.Stop)
	return p
}

// Tweak changes the party's configuration from its next Start on.
func (p *Party) Tweak(tweaks ...func(*proxy.Config)) { p.tweaks = append(p.tweaks, tweaks...) }

// Start opens the party's history and runs its enclave; again after Stop, it
// is the same VASP after a restart.
func (p *Party) Start() {
	t := p.world.t
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	now := p.world.now
	p.Metrics = prometheus.NewRegistry()
	logger := slog.New(slog.NewJSONHandler(p.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	db, err := bolt.Open(bolt.Options{Path: p.File, KEK: p.kek, Now: now, Metrics: p.Metrics, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	signer, chain, err := proxy.OpenIdentity(ctx, db, db.Keys().PrivateAEAD(), p.ID, now())
	if err != nil {
		t.Fatal(err)
	}
	own, err := keyring.OpenOwn(ctx, keyring.OwnConfig{
		Signer: signer, Store: db, AEAD: db.Keys().PrivateAEAD(), Suite: identity.SuiteXWing, Now: now,
		MaxEnvelopeLife: proxy.MaxEnvelopeLife, Skew: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.cache = memory.New(1000, now)
	config := proxy.Config{
		Self: p.ID, Network: Network, Signer: signer, Chain: chain, History: db, Own: own, Cache: p.cache,
		Relay: &line{p.world.Central, p.ID}, Backend: p.Backend, PublicEndpoint: "https://" + p.ID.String() + ".example", Version: "test",
		Suites: []identity.Suite{identity.SuiteXWing}, VASPIVMS101: []byte(LegalPerson(p.ID)),
		Callbacks: true, KeyTTL: 30 * time.Minute, Timeout: 10 * time.Minute, Skew: time.Minute, Now: now, Logger: logger, Metrics: p.Metrics,
	}
	for _, tweak := range p.tweaks {
		tweak(&config)
	}
	enclave, err := proxy.New(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	p.Enclave, p.Signer, p.Own = enclave, signer, own
	p.world.Central.serve(p.ID, enclave)
	p.History, p.stop, p.done = db, stop, make(chan error, 1)
	go func() { p.done <- enclave.Run(ctx) }()
}

// ForgetKey lets the party ask for another's PerVasp key the next time.
func (p *Party) ForgetKey(of *Party) {
	if err := p.cache.DropPeerKey(context.Background(), keyring.Ref{VASP: of.ID, Type: identity.PerVASP}); err != nil {
		p.world.t.Fatal(err)
	}
}

// LegalPerson is a party's own IVMS101 part.
func LegalPerson(id identity.VASPID) string {
	return `{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":"Co ` + id.String() + `","legalPersonNameIdentifierType":"LEGL"}]}}}`
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
	p.world.Central.cut(p.ID)
	if err := p.History.Close(); err != nil {
		p.world.t.Errorf("close the history of %s: %v", p.ID, err)
	}
	_ = p.cache.Close()
}

// Post puts a message before the party's enclave, and gives the whole answer.
func (p *Party) Post(message []byte) *httptest.ResponseRecorder {
	return post(context.Background(), p.Enclave, message)
}

// Call is a request of the party's backend to its enclave. An answer that is
// not in the API's document fails the test, and so does a request that
// succeeds and is not.
func (p *Party) Call(method, path string, body []byte) (status int, answer []byte) {
	w := p.Serve("", httptest.NewRequest(method, path, bytes.NewReader(body)), body)
	return w.Code, w.Body.Bytes()
}

// Serve is Call for a request with headers, to an enclave that asks for a
// token; body is the request's, once more.
func (p *Party) Serve(token string, r *http.Request, body []byte) *httptest.ResponseRecorder {
	t := p.world.t                                 // not t.Helper: a world may be a fuzz target's
	method, target := r.Method, r.URL.RequestURI() // before the router changes them
	w := httptest.NewRecorder()
	p.Enclave.API(token).ServeHTTP(w, r)
	if err := openapitest.Enclave().Answer(method, target, w.Code, w.Header(), w.Body.Bytes()); err != nil {
		t.Errorf("an answer is not in the document: %v", err)
	}
	if w.Code == http.StatusOK {
		if err := openapitest.Enclave().Request(method, target, body); err != nil {
			t.Errorf("a request succeeds and is not in the document: %v", err)
		}
	}
	return w
}

// awaitRegistered waits until central knows both and both know it; every
// enclave registers by itself.
func (w *World) awaitRegistered() {
	w.t.Helper()
	const fetched = "enclave_directory_fetched_timestamp_seconds"
	w.Await("both enclaves registered, and have the directory", func() bool {
		return w.Central.Registered() == 2 && w.A.Metric(fetched) > 0 && w.B.Metric(fetched) > 0
	})
}

// Await waits until a condition holds.
func (w *World) Await(what string, holds func() bool) {
	w.t.Helper()
	w.AwaitWithin(15*time.Second, what, holds)
}

// AwaitWithin is Await for what takes longer, in a bubble whose time is free.
func (w *World) AwaitWithin(d time.Duration, what string, holds func() bool) {
	w.t.Helper()
	const step = 5 * time.Millisecond
	for range d / step {
		if holds() {
			return
		}
		time.Sleep(step)
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

// post puts a message before an enclave as its public listener would.
func post(ctx context.Context, e *proxy.Enclave, message []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	e.ServeMessage(w, httptest.NewRequestWithContext(ctx, http.MethodPost, relay.MessagesPath, bytes.NewReader(message)))
	return w
}
