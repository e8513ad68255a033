// Package storage is what an enclave remembers, and the interface through
// which it remembers; no engine lives here.
//
// An engine (see the bolt package) promises four things for every method:
// what Apply returned nil for survives a crash of the process or the machine;
// a Change is written whole or not at all; personal data, keys and account
// numbers reach the disk sealed and bound to their place; and a value that
// does not authenticate is ErrCorrupt, never a wrong value.
package storage

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

var (
	// ErrNotFound says that nothing is stored under the given name.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that a row changed since it was read, or that a row
	// said to be new is there already. Read again and decide again.
	ErrConflict = errors.New("changed since it was read")
	// ErrCorrupt says that a stored value does not authenticate for its
	// place: it was damaged, moved or put back.
	ErrCorrupt = errors.New("stored value does not authenticate")
	// ErrReadOnly says that the store takes no more changes: the disk is
	// full. Reads go on; writes work again when there is room.
	ErrReadOnly = errors.New("store is read-only")
	// ErrFailed says that a write or fsync failed and the state on disk is
	// unknown: the program must stop.
	ErrFailed = errors.New("store failed")
)

// Verification is one transfer's Travel Rule exchange as this VASP knows it:
// one row of the history (contract sections 2.5 and 5).
//
// A VASP that is both sides of a transfer has one row with Sent and Received
// both set. Zero times stand for null. An engine keeps times to the millisecond
// and gives them back in UTC; CreatedAt is required and never changes. Text
// that is not UTF-8 is refused, byte slices come back as they were.
type Verification struct {
	// Record is the row's local number, rising with time, given by the store
	// when the row is first written. Version counts the row's writes; the
	// store raises it. Both are zero in a row that was never stored.
	Record  uint64
	Version uint64

	UUID        uuid.UUID
	Originating identity.VASPID
	Beneficiary identity.VASPID
	Sent        bool // we are the originating VASP
	Received    bool // we are the beneficiary VASP

	Result  Result
	Reason  string
	Message string

	KeyType                 identity.KeyType
	Asset                   Asset
	RequiredBeneficiaryInfo string
	PayloadVersion          string

	TxHash string // "" until reported
	VOut   string // "" when none

	OriginatorAccount  string // the first one
	BeneficiaryAccount string // the first one

	IVMS101 Parts
	// OriginatingVASPSource and BeneficiaryVASPSource say whose word the VASP
	// parts are: "" the VASP's own, SourceDirectory the central server's.
	OriginatingVASPSource string
	BeneficiaryVASPSource string

	// Answer is the beneficiary's answer as sealed payload text, kept on the
	// receiving side so that a repeated request gets the same answer.
	Answer []byte

	CreatedAt  time.Time
	VerifiedAt time.Time
	OrderedAt  time.Time // when the transaction was reported
	Deadline   time.Time // when an unanswered request becomes REQUEST-TIMEOUT
}

// Parts are the four parts of an IVMS101 payload, each as the JSON text it
// came as; nil when absent.
type Parts struct {
	Originator      []byte
	OriginatingVASP []byte
	Beneficiary     []byte
	BeneficiaryVASP []byte
}

// SourceDirectory marks a VASP part that came from central's directory
// because the counterparty sent none of its own.
const SourceDirectory = "directory"

// Asset is what is transferred, as the originator wrote it (contract 2.4).
// Amount and TradePrice stay the strings they were.
type Asset struct {
	Symbol           string `json:"symbol"`
	Network          string `json:"network,omitempty"`
	Amount           string `json:"amount"`
	ExceedsThreshold bool   `json:"isExceedingThreshold"`
	TradeCurrency    string `json:"tradeCurrency"`
	TradePrice       string `json:"tradePrice"`
	TradeISODatetime string `json:"tradeISODatetime"`
}

// Receipt remembers an inbound verification request, so that a repeat is
// known before it is opened (EnvelopeHash) and after (PayloadMAC), and is
// answered again to ReplyBundle (attack K4). Of an account check, which is
// never answered again, it has the hash alone.
type Receipt struct {
	Originating  identity.VASPID // the sender
	UUID         uuid.UUID       // the verification's, or a name that the sender cannot choose
	EnvelopeHash [32]byte
	PayloadMAC   [32]byte
	ReplyBundle  []byte
	Expires      time.Time // after which the envelope itself is refused
}

// OutboxKind says where an outbox entry goes.
type OutboxKind uint8

const (
	// ToPeerVerification is a user verification for the beneficiary VASP.
	ToPeerVerification OutboxKind = 1
	// ToPeerError is an error report for the beneficiary VASP.
	ToPeerError OutboxKind = 2
	// ToPeerTx is a transaction report for the beneficiary VASP.
	ToPeerTx OutboxKind = 3
	// ToBackend is a callback for our own VASP backend.
	ToBackend OutboxKind = 4
)

// OutboxEntry is something that must be delivered, however long it takes or
// until Deadline. It is written in the transaction that makes it true and
// deleted in the transaction that records its delivery.
type OutboxEntry struct {
	Seq         uint64 // given by the store, rising with time
	Kind        OutboxKind
	Originating identity.VASPID // with UUID, the row it belongs to
	UUID        uuid.UUID
	// Counterparty is where a ToPeer entry goes; zero for ToBackend.
	Counterparty identity.VASPID
	Body         []byte    // what to deliver where the row does not say it
	Created      time.Time // required
	Deadline     time.Time // zero: never give up
}

// PeerState says how far a counterparty's identity is believed.
type PeerState uint8

const (
	// PeerTOFU: believed on first use, on central's word.
	PeerTOFU PeerState = 1
	// PeerVerified: two operators compared safety numbers.
	PeerVerified PeerState = 2
	// PeerChangePending: another identity was shown without continuity;
	// nothing is sent or accepted until an operator decides.
	PeerChangePending PeerState = 3
	// PeerBlocked: an operator refuses this counterparty.
	PeerBlocked PeerState = 4
)

// Peer is a counterparty's pinned identity (attacks K1, K7, A9).
type Peer struct {
	VASP     identity.VASPID
	State    PeerState
	Identity []byte // identity.Public bytes that are pinned
	Pending  []byte // the one that was shown instead, when State is PeerChangePending
	Serial   uint64 // highest key bundle serial seen
	Since    time.Time
}

// OwnIdentity is our identity: the signer as Tink wrapped it, and the public
// chain of statements that leads to it.
type OwnIdentity struct {
	Wrapped []byte
	Chain   []byte
	// Replaces says that central has yet to take this identity in place of
	// another one that it knows for us.
	Replaces bool
}

// AuditEntry says that plaintext was touched or a key changed: who, what,
// when and how it ended, never the content (attack L1). Seq, Prev and Hash
// are given by the store: Prev is the Hash of the entry before.
type AuditEntry struct {
	Seq     uint64
	Prev    [32]byte
	Hash    [32]byte
	Time    time.Time
	Actor   string // "backend", "peer", "system", "operator"
	Verb    string // closed set, see proxy/audit
	Object  string // verification id, key id or VASP id; never an address or a name
	Peer    identity.VASPID
	Outcome string
	Reason  string
}

// Change is what one transaction writes, all of it or nothing.
type Change struct {
	// Verification is inserted when its Version is zero, else it replaces the
	// stored row of the same Record when that still has the same Version. On
	// success Record and Version in it are brought up to date.
	Verification *Verification
	Receipt      *Receipt
	Peer         *Peer
	Identity     *OwnIdentity
	Directory    []byte // the last directory central gave, as JSON
	Shipped      []byte // how far the sinks of the audit log have come, as JSON

	PutOwnKeys  []keyring.OwnKey
	DropOwnKeys []identity.KeyID

	Outbox     []*OutboxEntry // Seq is filled in on success
	DropOutbox []uint64       // by Seq; absent ones are no error

	Audit []AuditEntry
}

// Filter selects rows of the history; zero fields select everything
// (contract 2.5). Results come newest first.
type Filter struct {
	From, To           time.Time // CreatedAt in [From, To)
	Symbol, Network    string    // compared without case
	TxHash             string
	Result             Result // 0: any
	Sent, Received     bool   // rows in which it is set; both false: any
	Opposite           identity.VASPID
	OriginatorAccount  string
	BeneficiaryAccount string
	Offset, Limit      int // Limit 0: no limit
}

// History is the enclave's memory. Methods may be called concurrently. A
// context bounds only the wait for a free writer: a change that has begun is
// finished.
type History interface {
	// Apply writes one change durably. Errors: ErrConflict, ErrReadOnly,
	// the context's, or about the change itself, all of which mean that
	// nothing was written; and ErrFailed, which means that nobody knows.
	Apply(ctx context.Context, c *Change) error
	// Verification finds one row by its originating VASP and UUID.
	Verification(ctx context.Context, originating identity.VASPID, id uuid.UUID) (*Verification, error)
	// Lookup finds every row of a UUID, ours (Sent) first: ids are chosen by
	// the originating VASP, so two VASPs may choose the same. ErrNotFound when
	// there is none.
	Lookup(ctx context.Context, id uuid.UUID) ([]*Verification, error)
	// List gives one page, newest first, and how many rows match in all.
	List(ctx context.Context, f Filter) (rows []*Verification, count int, err error)
	// Receipt finds what is remembered of an inbound request; an expired one
	// may still be found.
	Receipt(ctx context.Context, originating identity.VASPID, id uuid.UUID) (*Receipt, error)
	// Outbox gives all undelivered entries, oldest first.
	Outbox(ctx context.Context) ([]*OutboxEntry, error)
	// OutboxEntry gives one by its number; ErrNotFound once it is dropped.
	OutboxEntry(ctx context.Context, seq uint64) (*OutboxEntry, error)
	// Peer gives the pin of one counterparty; Peers all of them.
	Peer(ctx context.Context, id identity.VASPID) (*Peer, error)
	Peers(ctx context.Context) ([]*Peer, error)
	// Identity gives our own identity; Directory the last directory; Shipped how
	// far the sinks of the audit log have come.
	Identity(ctx context.Context) (*OwnIdentity, error)
	Directory(ctx context.Context) ([]byte, error)
	Shipped(ctx context.Context) ([]byte, error)
	// PlaintextMAC is a keyed MAC of a payload, for comparing repeats.
	PlaintextMAC(payload []byte) [32]byte
	// MAC is a keyed MAC of a value for one purpose, for names that nobody
	// without our key can make or guess.
	MAC(purpose string, value []byte) [32]byte

	keyring.OwnKeys
}
