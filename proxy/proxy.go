// Package proxy is the exchange: it takes a verification from the VASP's own
// backend, carries it sealed to the counterparty's enclave and brings the
// answer back; and it does the mirror image for the counterparty's requests.
//
// What must happen on every outbound exchange (outbound.go):
//
//  1. the payload is parsed and checked; nothing is stored when it is bad;
//  2. row, outbox entry and audit entry become durable in one transaction,
//     before anything leaves;
//  3. the counterparty's identity is pinned and its key is signed by it;
//  4. the payload is sealed, bound to this exchange, and signed;
//  5. the answer is authenticated, opened and compared with the question;
//  6. final row, callback entry and audit entry become durable in one
//     transaction;
//  7. only then does the backend hear of it, until it answers 200.
//
// And on every inbound one (inbound.go):
//
//  1. the header is for us, now, on our network;
//  2. the sender's identity is pinned and its signature holds; nothing before
//     this touches the disk;
//  3. a repeat is answered from the history;
//  4. the payload is opened and checked;
//  5. the backend is asked, and what was not asked for is taken away;
//  6. row, receipt and audit entry become durable in one transaction;
//  7. only then is the answer sealed to the sender's reply key and sent.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Relay carries envelopes to a counterparty through the central server, and
// knows its directory. Methods may be called concurrently; errors of central
// are *relay.Error and never decide an outcome.
type Relay interface {
	Deliver(ctx context.Context, recipient identity.VASPID, envelope []byte) (reply []byte, err error)
	Directory(ctx context.Context) (*relay.Directory, error)
	Register(ctx context.Context, r relay.Registration) (*relay.Lease, error)
}

// Backend is the VASP's own API (contract section 3). Methods may be called
// concurrently, keep their own deadlines, and fail with *vasp.Error.
type Backend interface {
	VerifyAccount(ctx context.Context, body []byte) (*vasp.AccountAnswer, error)
	VerifyUser(ctx context.Context, body []byte) (*vasp.UserAnswer, error)
	TransactionStatus(ctx context.Context, body []byte) (*vasp.TransactionAnswer, error)
	Callback(ctx context.Context, body []byte) error
}

// Config is what an Enclave is made of. All fields are needed unless they say
// what absence means.
type Config struct {
	Self    identity.VASPID
	Network string // alliance and environment; bound into every envelope
	Signer  *identity.Signer
	Chain   []byte // our identity statements, for the directory

	History storage.History
	Own     *keyring.Own
	Cache   keyring.PeerCache
	Relay   Relay
	Backend Backend
	// Validator judges payloads beyond their form; nil: ivms101.Lenient.
	Validator Validator

	PublicEndpoint string // https URL that central uses to reach us
	Version        string
	// ReplaceIdentity lets central take our identity in place of another one
	// that it knows for us, once: ours was lost for good.
	ReplaceIdentity bool
	Suites          []identity.Suite // what we can open, best first
	Floor           []identity.Suite // what we seal to; nil: every suite we know
	VASPIVMS101     []byte           // our own legal person as JSON text; nil: none
	Callbacks       bool             // false: the backend polls
	VerifiedOnly    bool             // VEGA_PEER_TRUST=verified: first use is not enough
	KeyTTL          time.Duration    // how long a peer key is kept (VEGA_PUBLIC_KEY_TTL)
	Timeout         time.Duration    // an unanswered verification becomes REQUEST-TIMEOUT
	Skew            time.Duration    // how far clocks may differ

	// MessagesPerSecond is how many messages one counterparty may send in a
	// second before it is asked to wait (VEGA_PEER_MESSAGES_PER_SECOND). Zero
	// takes DefaultMessagesPerSecond.
	MessagesPerSecond int
	// Custody is the store behind History, for the operator's commands about
	// keys and history; nil: there are none, and nothing is erased.
	Custody Custody
	// OpenKEK reads another key-encryption key for RotateKEK: from a source of
	// keys, with the text that the setting of the key would have.
	OpenKEK func(ctx context.Context, source, value string) (*atrest.KEK, error)
	// Retention is how long rows are kept (VEGA_VERIFICATION_RETENTION_DAYS);
	// zero: for ever.
	Retention time.Duration

	// LabelPeers counts exchanges by counterparty, too (VEGA_METRICS_VASP_LABELS).
	LabelPeers bool

	Now     func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Enclave is one VASP's side of every exchange. Its methods may be called
// concurrently.
type Enclave struct {
	Config
	self     atomic.Pointer[ownIdentity] // Config's, until it is rotated
	peers    *keyring.Peers
	pins     pins
	books    directory
	outbox   *outbox
	metrics  *metrics
	instance uuid.UUID
	sequence sequence
	inflight keyedLock
	once     once
	flight   singleflight.Group
	budget   *keyring.Budget
	budgets  budgets
	serials  chan serial
	wanted   chan struct{}  // a registration before the heartbeat is due
	aloud    rate.Sometimes // about callers without the token
}

// New makes an Enclave. It does not talk to anybody yet: see Run.
func New(ctx context.Context, c Config) (*Enclave, error) {
	if c.Validator == nil {
		c.Validator = ivms101.Lenient{}
	}
	e := &Enclave{Config: c, metrics: newMetrics(c.Metrics), instance: uuid.New(), aloud: rate.Sometimes{First: 3, Interval: 10 * time.Second}, wanted: make(chan struct{}, 1), serials: make(chan serial, 256), budget: keyring.NewBudget(nil, c.Now), budgets: newBudgets(c.MessagesPerSecond, c.Now), once: once{limit: onceLimit(c.Skew)}}
	e.books.again = rate.NewLimiter(rate.Every(directoryAgain), directoryBurst)
	e.peers = keyring.NewPeers(keyring.PeersConfig{
		Cache: c.Cache, Requester: e, TTL: c.KeyTTL, Now: c.Now, Skew: c.Skew, Self: c.Self, Floor: c.Floor,
		HighestSerial: e.pins.serial, OnSerial: e.keepSerial,
		Observe: func(event keyring.Event) { e.metrics.peerKeys.WithLabelValues(string(event)).Inc() },
	})
	e.outbox = &outbox{
		deliver: e.deliver, expired: e.expired, metrics: e.metrics, log: c.Logger,
		self: c.Self, turns: turns{}, maxOwed: maxOwed, owed: map[identity.VASPID]int{}, all: map[uint64]*storage.OutboxEntry{},
	}
	if err := e.loadSelf(ctx); err != nil {
		return nil, fmt.Errorf("load our identity: %w", err)
	}
	if err := e.loadDirectory(ctx); err != nil {
		return nil, fmt.Errorf("load the kept directory: %w", err)
	}
	if err := e.loadPins(ctx); err != nil {
		return nil, fmt.Errorf("load pinned identities: %w", err)
	}
	c.Metrics.MustRegister(newStanding(e))
	if c.LabelPeers {
		e.metrics.labelPeers(c.Metrics)
	}
	return e, nil
}

// Run registers with central and keeps the lease, keeps the directory fresh,
// and delivers what waits in the outbox, until ctx ends. It returns an error
// only for what an operator must mend: central knows another identity for
// this VASP, or another enclave of it is alive.
func (e *Enclave) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	switch err := e.outbox.start(ctx, e.History.Outbox); {
	case ctx.Err() != nil: // told to stop before it began
		e.outbox.wait()
		return nil
	case err != nil:
		return fmt.Errorf("read the outbox: %w", err)
	}
	var background sync.WaitGroup
	background.Go(func() { e.sweep(ctx) })
	background.Go(func() { e.writeSerials(ctx) })
	background.Go(func() { e.retain(ctx) })
	err := e.keepRegistered(ctx)
	cancel(err)
	e.outbox.wait()
	background.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// sweepEvery is how long what is over may lie about: long enough to cost
// nothing, and short enough that the receipts of account checks, which live
// for a minute, do not pile up.
const sweepEvery = 10 * time.Minute

// sweep forgets, now and then, what no envelope can need any more: our old
// keys, and the receipts of requests whose repeats would be refused anyway.
func (e *Enclave) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for ctx.Err() == nil { // at start, too: some are restarted more often
		if err := e.Own.Sweep(ctx); err != nil {
			e.Logger.Warn("sweep own keys", "err", err)
		}
		if err := e.sweepReceipts(ctx); err != nil {
			e.Logger.Warn("sweep receipts", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (e *Enclave) sweepReceipts(ctx context.Context) error {
	engine, ok := e.History.(interface {
		Sweep(ctx context.Context) (removed int, err error)
	})
	if !ok { // it forgets by itself, or never
		return nil
	}
	_, err := engine.Sweep(ctx)
	return err
}

// Envelope lifetimes. An envelope is sealed anew for each attempt, so its
// life is short whatever the verification's deadline is.
const (
	// MaxEnvelopeLife bounds what we accept and, with the clock skew, how
	// long a private key outlives its bundle.
	MaxEnvelopeLife = 15 * time.Minute
	requestLife     = 10 * time.Minute
	answerLife      = 5 * time.Minute
	// receiptLife is how long a repeat is known for what it is; afterwards
	// the row alone refuses it.
	receiptLife = 24 * time.Hour
)

// header starts the header of an outgoing message.
func (e *Enclave) header(t envelope.MessageType, d envelope.Direction, to identity.VASPID, id [16]byte, life time.Duration) envelope.Header {
	now := e.Now()
	return envelope.Header{
		Type: t, Direction: d, Network: e.Network, Verification: id,
		Sender: e.Self, Recipient: to, Created: now, Expires: now.Add(life),
	}
}

// addressTo names the key that a sealed message is for.
func addressTo(h envelope.Header, b *identity.Bundle) envelope.Header {
	h.RecipientIdentity = b.Identity.Fingerprint()
	h.Serial, h.KeyType, h.Scope, h.Epoch = b.Serial, b.Type, b.Scope, b.Epoch
	return h
}

// checkHeader is what every incoming header must say before its signature is
// worth a look. The reason is for the metric only (attack O4).
func (e *Enclave) checkHeader(h *envelope.Header) (reason string) {
	now := e.Now()
	switch {
	case h.Recipient != e.Self:
		return "recipient"
	case h.Network != e.Network:
		return "network"
	case h.Created.After(now.Add(e.Skew)):
		return "future"
	case h.Expires.Add(e.Skew).Before(now):
		return "expired"
	case h.Expires.Before(h.Created) || h.Expires.Sub(h.Created) > MaxEnvelopeLife:
		return "lifetime"
	case h.RecipientIdentity.IsZero() || h.RecipientIdentity == e.signer().Public().Fingerprint():
		return ""
	case e.wasOurs(h.RecipientIdentity):
		return "former-identity" // the sender has yet to follow our rotation
	}
	return "recipient-identity" // somebody shows peers another identity for us (K12)
}

// sequence numbers messages per peer, strictly rising, also across restarts
// as long as the clock does not go back (attack K13).
type sequence struct {
	mu   sync.Mutex
	last map[identity.VASPID]uint64
}

func (s *sequence) next(peer identity.VASPID, now time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = make(map[identity.VASPID]uint64)
	}
	s.last[peer] = max(s.last[peer]+1, uint64(now.UnixMicro()))
	return s.last[peer]
}

// keyedLock makes concurrent work on one verification's id wait for the first.
type keyedLock struct {
	mu   sync.Mutex
	held map[uuid.UUID]chan struct{}
}

type verificationKey struct {
	originating identity.VASPID
	id          uuid.UUID
}

// lock waits until the key is free, or ctx ends.
func (l *keyedLock) lock(ctx context.Context, key uuid.UUID) (unlock func(), err error) {
	for {
		l.mu.Lock()
		busy, taken := l.held[key]
		if !taken {
			if l.held == nil {
				l.held = make(map[uuid.UUID]chan struct{})
			}
			done := make(chan struct{})
			l.held[key] = done
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, key)
				l.mu.Unlock()
				close(done)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
