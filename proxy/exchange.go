package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// question is one sealed request to a counterparty.
type question struct {
	to      identity.VASPID
	kind    envelope.MessageType
	want    envelope.MessageType // of the answer
	id      uuid.UUID
	keyType identity.KeyType
	scope   [32]byte // of a PerAddress key, see scope
	payload []byte
	life    time.Duration

	// replyBundle is the stored reply key's; nil asks for the answer to come
	// to a key of this call's own, or to our PerVasp key.
	replyBundle []byte
}

// errNewKey is the recipient's word that our envelope was sealed to a key it
// has no more: drop the cached key, seal again once.
var errNewKey = errors.New("the recipient asks for its new key to be used")

// ask seals a question to the counterparty, sends it through central, and
// opens the answer. It is the outbound half of every exchange.
func (e *Enclave) ask(ctx context.Context, q question) (answer []byte, err error) {
	defer e.observe("outbound", q.to, q.id, q.kind, e.Now(), &err)
	err = e.steady(ctx, func() (err error) {
		answer, err = e.askPinned(ctx, q)
		return err
	})
	return answer, err
}

// askPinned asks the identity that is pinned, or follows it, or asks for a
// newer key; each once.
func (e *Enclave) askPinned(ctx context.Context, q question) (answer []byte, err error) {
	pinned, err := e.pinned(ctx, q.to)
	if err != nil {
		return nil, err
	}
	answer, err = e.askOnce(ctx, q, pinned)
	if otherIdentity(err) {
		if now, moved := e.follow(ctx, q.to, pinned); moved {
			pinned = now
			answer, err = e.askOnce(ctx, q, pinned)
		}
	}
	if errors.Is(err, errNewKey) {
		if err := e.peers.Drop(ctx, q.ref()); err != nil {
			return nil, fail("drop a cached key", Internal, err)
		}
		answer, err = e.askOnce(ctx, q, pinned)
	}
	return answer, e.metrics.stranger(err)
}

func (q question) ref() keyring.Ref { return keyring.Ref{VASP: q.to, Type: q.keyType, Scope: q.scope} }

// scope names an address to the counterparty without telling it to central:
// 32 bytes that only we can make, the same for the same address at the same
// counterparty (attack K14). Keys of other types have none.
func (e *Enclave) scope(t identity.KeyType, peer identity.VASPID, symbol, network, address string) (scope [32]byte) {
	if t != identity.PerAddress {
		return scope
	}
	b := newText().str("vasp", peer.String()).str("symbol", strings.ToUpper(symbol)).
		str("network", strings.ToUpper(network)).str("address", norm.NFC.String(address)).
		str("epoch", strconv.FormatInt(e.Now().Unix()/int64(keyring.EpochLength.Seconds()), 10)).end()
	return e.History.MAC("scope", b)
}

// replyKey is the bundle of the key that the answer is to be sealed to, of
// the question's own type and signed by our present identity; forget ends a
// key that was made for this call.
func (e *Enclave) replyKey(ctx context.Context, q question) (bundle []byte, forget func(), err error) {
	forget = func() {}
	switch {
	case q.replyBundle != nil:
		bundle, err = e.Own.Reissue(q.replyBundle)
		return bundle, forget, err
	case q.keyType == identity.PerVASP:
		bundle, err = e.Own.PerVASP(ctx)
		return bundle, forget, err
	}
	k, err := e.Own.NewReplyKey(q.keyType, q.to)
	if err != nil {
		return nil, forget, err
	}
	return k.Bundle, func() { e.Own.Forget(k.ID) }, nil
}

func (e *Enclave) askOnce(ctx context.Context, q question, pinned *identity.Public) ([]byte, error) {
	const op = "ask the counterparty"
	key, err := e.peers.Key(ctx, q.ref(), pinned)
	switch {
	case errors.Is(err, keyring.ErrRefused):
		return nil, e.metrics.refuse(op, "key-bundle", err)
	case err != nil:
		return nil, fail(op, Unavailable, err)
	}
	replyBundle, forget, err := e.replyKey(ctx, q)
	if err != nil {
		return nil, fail(op, Storage, err)
	}
	defer forget()
	h := addressTo(e.header(q.kind, q.kind.Direction(), q.to, q.id, q.life), key.Bundle)
	sealed, err := e.seal(key.Public, h, envelope.Body{
		Sequence: e.sequence.next(q.to, h.Created), ReplyBundle: replyBundle, Payload: q.payload,
	})
	if err != nil {
		return nil, fail(op, Internal, err)
	}
	reply, err := e.deliverEnvelope(ctx, q.to, sealed)
	if err != nil {
		return nil, err
	}
	authentic, err := e.authenticateReply(reply, sealed, q, pinned)
	if err != nil {
		return nil, err
	}
	private, err := e.Own.PrivateFor(keyring.UseOf(&authentic.Header))
	if err != nil {
		return nil, e.metrics.refuse(op, "key", err)
	}
	body, err := e.open(authentic, private)
	if err != nil {
		return nil, e.metrics.refuse(op, "open", err)
	}
	return body.Payload, nil
}

// seal is envelope.Seal as us, timed; to nil it only signs.
func (e *Enclave) seal(to *envelope.PublicKey, h envelope.Header, body envelope.Body) ([]byte, error) {
	defer e.metrics.sealing(e.Now, "seal")()
	return envelope.Seal(e.signer(), to, h, body)
}

// open is Authentic.Open, timed.
func (e *Enclave) open(a *envelope.Authentic, private *envelope.PrivateKey) (*envelope.Body, error) {
	defer e.metrics.sealing(e.Now, "open")()
	return a.Open(private)
}

// deliverEnvelope hands one envelope to central; what central says of itself
// is never final.
func (e *Enclave) deliverEnvelope(ctx context.Context, to identity.VASPID, sealed []byte) ([]byte, error) {
	const op = "deliver through central"
	reply, err := e.Relay.Deliver(ctx, to, sealed)
	if err == nil {
		return reply, nil
	}
	var refused *relay.Error
	var wait time.Duration
	if errors.As(err, &refused) {
		wait = refused.RetryAfter
	}
	switch {
	case refused != nil && refused.Code == relay.CodeNotRegistered:
		e.RegisterSoon()
	case errors.Is(err, context.DeadlineExceeded), refused != nil && refused.Code == relay.CodeTimeout:
		return nil, &Error{Op: op, Kind: Timeout, Message: "The counterparty did not answer in time.", Err: err}
	}
	return nil, &Error{Op: op, Kind: Unavailable, Message: "The counterparty cannot be reached through central now; try again.", Err: err, RetryAfter: wait}
}

// authenticateReply checks that a reply is the recipient's own word on
// exactly the envelope we sent (attacks K3, K4).
func (e *Enclave) authenticateReply(reply, sealed []byte, q question, pinned *identity.Public) (*envelope.Authentic, error) {
	const op = "authenticate the answer"
	parsed, err := envelope.Parse(reply)
	if err != nil {
		return nil, e.metrics.refuse(op, "format", err)
	}
	h := &parsed.Header
	reason := e.checkHeader(h)
	switch {
	case reason != "":
	case h.Sender != q.to:
		reason = "sender"
	case h.InReplyTo != envelope.Hash(sealed):
		reason = "in-reply-to"
	case h.Verification != [16]byte(q.id):
		reason = "verification"
	case h.Direction != q.kind.Direction().Opposite():
		reason = "direction"
	case h.Type != q.want && h.Type != envelope.Refusal:
		reason = "type"
	}
	if reason != "" {
		return nil, e.metrics.refuse(op, reason, fmt.Errorf("answer header: %s", reason))
	}
	authentic, err := parsed.Authenticate(pinned)
	if err != nil {
		return nil, e.metrics.refuse(op, "signature", err)
	}
	if h.Type == envelope.Refusal {
		return nil, e.readRefusal(authentic)
	}
	return authentic, nil
}

// Refusal codes: what a recipient signs when it gives no answer. They say
// nothing about a person or a key.
const (
	refusalNewKey   = "NEW-KEY-NEEDED"       // drop the cached key, seal again once
	refusalKeys     = "KEYS-EXHAUSTED"       // too many keys were asked for; try again later
	refusalBusy     = "BUSY"                 // try again later; nothing was done
	refusalRejected = "ENVELOPE-REJECTED"    // any cryptographic or header reason
	refusalKeyType  = "INVALID-KEY-TYPE"     // the asked key type is not served
	refusalMessage  = "UNKNOWN-MESSAGE-TYPE" // this enclave does not know the message
)

func (e *Enclave) readRefusal(a *envelope.Authentic) error {
	const op = "read the refusal"
	body, err := a.Clear()
	if err != nil {
		return e.metrics.refuse(op, "open", err)
	}
	switch code := string(body.Payload); code {
	case refusalNewKey:
		return &Error{Op: op, Kind: Unavailable, Err: errNewKey}
	case refusalKeyType:
		return &Error{Op: op, Kind: Invalid, Code: "INVALID-KEY-TYPE", Message: "`keyType` is invalid value."}
	case refusalKeys:
		return &Error{Op: op, Kind: Unavailable, Message: "The counterparty gives out no more keys of this type for a while; try again."}
	case refusalBusy:
		return &Error{Op: op, Kind: Unavailable, Message: "The counterparty is busy; try again."}
	default:
		return &Error{Op: op, Kind: Refused, Err: errors.New("the counterparty refused the envelope")}
	}
}

// record writes an audit entry about what changes nothing else in the history.
func (e *Enclave) record(ctx context.Context, entry storage.AuditEntry) error {
	return e.History.Apply(ctx, &storage.Change{Audit: []storage.AuditEntry{entry}})
}

// countPeer counts by counterparty, where that is asked for. Whom we have not
// pinned is nobody yet: an envelope may name any sender.
func (e *Enclave) countPeer(direction string, peer identity.VASPID, err error) {
	if e.metrics.byPeer == nil {
		return
	}
	name := "unknown"
	if _, known := e.pins.find(peer); known {
		name = peer.String()
	}
	e.metrics.byPeer.WithLabelValues(name, direction, outcome(err)).Inc()
}

// observe counts one exchange, times it and leaves its one log line. The
// verification's id is the same in the logs of both parties; an inbound line
// names whom the envelope claims to be of.
func (e *Enclave) observe(direction string, peer identity.VASPID, id uuid.UUID, kind envelope.MessageType, start time.Time, err *error) {
	took := e.Now().Sub(start)
	e.countPeer(direction, peer, *err)
	e.metrics.exchanges.WithLabelValues(direction, kind.String(), outcome(*err)).Inc()
	e.metrics.seconds.WithLabelValues(direction, kind.String()).Observe(took.Seconds())
	level, text := slog.LevelDebug, "exchange done"
	if *err != nil {
		text = "exchange failed"
		if !errors.Is(*err, errOverBudget) && !errors.Is(*err, keyring.ErrExhausted) { // whoever floods us would flood the log
			level = slog.LevelWarn
		}
	}
	if !e.Logger.Enabled(context.Background(), level) {
		return
	}
	attrs := []any{"direction", direction, "message", kind.String(), "vasp", peer.String(), "outcome", outcome(*err), "took", took}
	if id != uuid.Nil {
		attrs = append(attrs, "verification", id.String())
	}
	if *err != nil {
		attrs = append(attrs, "err", *err)
	}
	e.Logger.Log(context.Background(), level, text, attrs...)
}
