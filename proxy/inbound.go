package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// ServeMessage answers POST /relay/v1/messages: an envelope from a
// counterparty, relayed by central. The request's own signature was checked
// by the relay verifier in front; here central is trusted with nothing.
func (e *Enclave) ServeMessage(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, envelope.MaxEnvelope))
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			_ = e.metrics.refuse("read envelope", "size", err)
		}
		http.Error(w, "envelope cannot be read or is too large", http.StatusRequestEntityTooLarge)
		return
	}
	asked, err := envelope.Parse(body)
	if err != nil {
		_ = e.metrics.refuse("read envelope", "format", err)
		http.Error(w, "not an envelope", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), inboundTimeout)
	defer cancel()
	reply, err := e.answer(ctx, asked)
	if errors.Is(err, errTooFast) {
		w.Header().Set("Retry-After", relay.FormatRetryAfter(retryAfter(err)))
		http.Error(w, "too many messages of this sender", http.StatusTooManyRequests)
		return
	}
	if err != nil {
		reply, err = e.refusal(asked, err)
	}
	if err != nil {
		e.Logger.Error("sign a refusal", "err", err)
		http.Error(w, "no answer", http.StatusInternalServerError)
		return
	}
	e.introduced(ctx) // or the sender could not tell who answers
	w.Header().Set("Content-Type", relay.MediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
	_, _ = w.Write(reply)
}

// answer authenticates an envelope, and answers what it asks. It is the
// inbound half of every exchange.
func (e *Enclave) answer(ctx context.Context, asked *envelope.Envelope) (reply []byte, err error) {
	const op = "answer the counterparty"
	h := &asked.Header
	defer e.observe("inbound", h.Sender, h.Verification, h.Type, e.Now(), &err)
	if reason := e.checkHeader(h); reason != "" {
		return nil, e.metrics.refuse(op, reason, errors.New("header: "+reason))
	}
	if h.Direction != h.Type.Direction() {
		return nil, e.metrics.refuse(op, "direction", errors.New("header: direction"))
	}
	if h.Type == envelope.KeyRequest && h.KeyType.Valid() && !e.budget.Left(h.Sender, h.KeyType) {
		return nil, e.exhausted(h) // a drain is not worth a look at its signature
	}
	if err := e.mayCome(h); err != nil {
		return nil, err
	}
	a, pinned, err := e.authenticate(ctx, asked)
	if err != nil {
		return nil, err
	}
	if err := e.counted(h); err != nil {
		return nil, err
	}
	if !h.KeyType.Valid() {
		return nil, &Error{Op: op, Kind: Invalid, Code: refusalKeyType}
	}
	switch h.Type {
	case envelope.KeyRequest:
		return e.answerKey(ctx, a)
	case envelope.AccountRequest:
		return e.answerAccount(ctx, a, pinned)
	case envelope.VerificationRequest:
		return e.answerVerification(ctx, a, pinned)
	case envelope.TxReport, envelope.ErrorReport:
		return e.answerReport(ctx, a, pinned)
	case envelope.TxInquiry:
		return e.answerInquiry(ctx, a, pinned)
	default:
		return nil, &Error{Op: op, Kind: Invalid, Code: refusalMessage}
	}
}

// authenticate makes sure of the sender: its identity is the pinned one, or
// one never met that the directory shows, and has signed the envelope. Only
// then is a new identity pinned; nothing before touches the disk.
func (e *Enclave) authenticate(ctx context.Context, asked *envelope.Envelope) (*envelope.Authentic, *identity.Public, error) {
	const op = "authenticate the sender"
	p, isNew, err := e.candidate(ctx, asked.Header.Sender)
	switch kindOf(err) {
	case Invalid:
		return nil, nil, e.metrics.refuse(op, "unknown-sender", err)
	case Untrusted:
		return nil, nil, e.metrics.refuse(op, "pin", err)
	}
	if err != nil {
		return nil, nil, err
	}
	a, err := asked.Authenticate(p.public)
	if otherIdentity(err) && !isNew {
		if now, moved := e.follow(ctx, asked.Header.Sender, p.public); moved {
			p.public = now
			a, err = asked.Authenticate(now)
		}
	}
	if err != nil {
		return nil, nil, e.metrics.stranger(e.metrics.refuse(op, "signature", err))
	}
	if isNew {
		if p, err = e.firstUse(ctx, p); err != nil {
			return nil, nil, err
		}
		if a, err = asked.Authenticate(p.public); err != nil { // somebody was faster, with another one
			return nil, nil, e.metrics.stranger(e.metrics.refuse(op, "signature", err))
		}
	}
	if reason := e.distrust(p.peer.State); reason != "" {
		return nil, nil, e.metrics.refuse(op, "pin", errors.New("not verified yet"))
	}
	return a, p.public, nil
}

// refusal signs why there is no answer, in the fewest words: one for every
// cryptographic reason (attack O4).
func (e *Enclave) refusal(asked *envelope.Envelope, why error) ([]byte, error) {
	code := refusalRejected
	var problem *Error
	switch {
	case errors.Is(why, keyring.ErrUnknownKey):
		code = refusalNewKey
	case !errors.As(why, &problem):
	case problem.Code == refusalKeyType || problem.Code == refusalMessage || problem.Code == refusalKeys:
		code = problem.Code
	case problem.Kind == Unavailable, problem.Kind == Timeout, problem.Kind == Storage, problem.Kind == Internal:
		code = refusalBusy
	}
	h := e.replyHeader(envelope.Refusal, &asked.Header, asked.Hash())
	body := envelope.Body{Payload: []byte(code)}
	if _, met := e.pins.find(h.Recipient); met { // a name that anybody may have written is not worth memory
		body.Sequence = e.sequence.next(h.Recipient, h.Created)
	}
	return e.seal(nil, h, body)
}

// replyHeader starts the header of a reply to an envelope.
func (e *Enclave) replyHeader(t envelope.MessageType, asked *envelope.Header, hash [32]byte) envelope.Header {
	h := e.header(t, asked.Type.Direction().Opposite(), asked.Sender, asked.Verification, answerLife)
	h.RecipientIdentity = asked.SenderIdentity
	h.KeyType, h.Scope, h.Epoch = asked.KeyType, asked.Scope, asked.Epoch
	h.InReplyTo = hash
	return h
}

// reply seals an answer to the reply key that came with the question. The key
// is used only when the sender's pinned identity signed it (attack K2).
func (e *Enclave) reply(ctx context.Context, a *envelope.Authentic, t envelope.MessageType, replyBundle, payload []byte, pinned *identity.Public) ([]byte, error) {
	const op = "seal the answer"
	key, err := e.peers.Adopt(ctx, keyring.Ref{VASP: a.Header.Sender, Type: a.Header.KeyType}, replyBundle, pinned)
	if err != nil {
		return nil, e.metrics.stranger(e.metrics.refuse(op, "reply-key", err))
	}
	h := addressTo(e.replyHeader(t, &a.Header, a.Hash()), key.Bundle)
	sealed, err := e.seal(key.Public, h, envelope.Body{Sequence: e.sequence.next(h.Recipient, h.Created), Payload: payload})
	if err != nil {
		return nil, fail(op, Internal, err)
	}
	return sealed, nil
}

// mayReply makes sure before our backend is asked that its answer can be
// sealed: otherwise the question is not worth a customer's data.
func (e *Enclave) mayReply(ctx context.Context, a *envelope.Authentic, body *envelope.Body, pinned *identity.Public) error {
	if _, err := e.peers.Adopt(ctx, keyring.Ref{VASP: a.Header.Sender, Type: a.Header.KeyType}, body.ReplyBundle, pinned); err != nil {
		return e.metrics.stranger(e.metrics.refuse("read the reply key", "reply-key", err))
	}
	return nil
}

// openSealed opens a sealed envelope with our key that its header names. A
// key we no longer have is the sender's to replace, not an offence.
//
// A key that was made for one use ends here, before anything is made of what
// it opens: it opens one message, also of many that arrive at once (K11).
// Nobody needs it again. A restart would lose it as well; a repeat of the very
// envelope is known by its hash, unopened; and when the answer is BUSY, with
// nothing stored, or central loses it, the sender's next attempt asks for a
// new key and is sealed to that, as every attempt is. At worst a message that
// central brings a second time is refused with NEW-KEY-NEEDED.
func (e *Enclave) openSealed(a *envelope.Authentic) (*envelope.Body, error) {
	const op = "open the envelope"
	use := keyring.UseOf(&a.Header)
	private, err := e.Own.PrivateFor(use)
	if err == nil && use.Type == identity.PerVerification && !e.Own.Consume(use) {
		err = keyring.ErrUnknownKey // another message was faster
	}
	if err != nil {
		e.metrics.refused.WithLabelValues("key").Inc()
		return nil, &Error{Op: op, Kind: Refused, Err: err}
	}
	body, err := e.open(a, private)
	if err != nil {
		return nil, e.metrics.refuse(op, "open", err)
	}
	return body, nil
}

// notAsked says that our backend certainly did not get the question, so that
// asking again is safe.
func notAsked(err error) bool {
	var v *vasp.Error
	return errors.As(err, &v) && v.Problem == vasp.Unreachable
}

// answerVerification answers a user verification: once per originating VASP
// and id, however often it is asked (attack K4).
func (e *Enclave) answerVerification(ctx context.Context, a *envelope.Authentic, pinned *identity.Public) ([]byte, error) {
	const op = "answer a verification"
	defer e.Own.Consume(keyring.UseOf(&a.Header)) // also when it is not even opened
	key := verificationKey{a.Header.Sender, a.Header.Verification}
	unlock, err := e.inflight.lock(ctx, key.id)
	if err != nil {
		return nil, fail(op, Unavailable, err)
	}
	defer unlock()
	seen, err := e.History.Receipt(ctx, key.originating, key.id)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, fail(op, Storage, err)
	}
	if seen != nil && seen.EnvelopeHash == a.Hash() {
		return e.repeat(ctx, a, seen.ReplyBundle, pinned)
	}
	body, err := e.openSealed(a)
	if err != nil {
		return nil, err
	}
	switch {
	case seen != nil && seen.PayloadMAC == withdrawn:
		return nil, e.metrics.refuse(op, "withdrawn", errors.New("the sender has reported it as failed before it came"))
	case seen != nil && seen.PayloadMAC == e.History.PlaintextMAC(body.Payload):
		return e.repeat(ctx, a, body.ReplyBundle, pinned)
	case seen != nil:
		return nil, e.conflict(ctx, key)
	}
	if known, err := e.received(ctx, key); err != nil || known {
		if known { // so long ago that nobody remembers what it said
			err = e.conflict(ctx, key)
		}
		return nil, err
	}
	if err := e.mayReply(ctx, a, body, pinned); err != nil {
		return nil, err
	}
	answered, err := e.verifyUser(ctx, key, a, body)
	if err != nil {
		return nil, err
	}
	return e.reply(ctx, a, envelope.VerificationAnswer, body.ReplyBundle, answered, pinned)
}

// withdrawn stands in a receipt for a payload that must not come any more.
var withdrawn [32]byte

// received says whether the history has a verification's id already: as one
// that came in, or as another VASP's. Callbacks name a verification by its id
// alone, so who chooses the id of another's, ours above all, could speak to our
// backend about that one (attack K3). A transfer to ourselves is there from
// the outbound side.
func (e *Enclave) received(ctx context.Context, key verificationKey) (bool, error) {
	rows, err := e.History.Lookup(ctx, key.id)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return false, fail("read verification", Storage, err)
	}
	for _, row := range rows {
		switch {
		case row.Originating != key.originating || row.Received:
			return true, nil
		case row.Result != storage.Wait:
			return false, e.metrics.refuse("read verification", "withdrawn", errors.New("we have given up this transfer to ourselves"))
		}
	}
	return false, nil
}

// repeat answers a request that was answered before, from the history.
func (e *Enclave) repeat(ctx context.Context, a *envelope.Authentic, replyBundle []byte, pinned *identity.Public) ([]byte, error) {
	const op = "read the stored answer"
	row, err := e.History.Verification(ctx, a.Header.Sender, a.Header.Verification)
	switch {
	case errors.Is(err, storage.ErrNotFound): // our backend is not asked a second time, and what it said is gone
		return nil, e.metrics.refuse(op, "erased", errors.New("the verification was erased"))
	case err != nil:
		return nil, fail(op, Storage, err)
	}
	return e.reply(ctx, a, envelope.VerificationAnswer, replyBundle, row.Answer, pinned)
}

// conflict refuses an id that comes again with another content: a fault of
// the sender's or an attack, and worth an alarm.
func (e *Enclave) conflict(ctx context.Context, key verificationKey) error {
	const op = "compare with the first request"
	e.metrics.conflicts.Inc()
	e.Logger.Error("a verification id came again with another content", "vasp", key.originating, "verification", key.id)
	entry := audit.Verification(e.Now(), audit.Peer, audit.Conflict, key.id, key.originating, "refused", "")
	if err := e.record(ctx, entry); err != nil {
		return fail(op, Storage, err)
	}
	return e.metrics.refuse(op, "conflict", errors.New("another content under the same id"))
}

// verifyUser asks our backend, and stores row, receipt and audit entry before
// anybody hears the answer. It returns the answer's text.
func (e *Enclave) verifyUser(ctx context.Context, key verificationKey, a *envelope.Authentic, body *envelope.Body) ([]byte, error) {
	const op = "verify user"
	// Once the backend is asked, its answer counts, even when the sender or
	// central has gone away meanwhile: the sender will ask again, and the
	// backend must not be asked twice. The backend's own deadline holds.
	ctx = context.WithoutCancel(ctx)
	now := e.Now()
	row := &storage.Verification{
		UUID: key.id, Originating: key.originating, Beneficiary: e.Self, Received: true,
		KeyType: a.Header.KeyType, CreatedAt: now,
	}
	if err := e.consult(ctx, row, body.Payload); err != nil {
		return nil, err
	}
	row.VerifiedAt = e.Now()
	change := &storage.Change{
		Verification: row,
		Receipt: &storage.Receipt{
			Originating: key.originating, UUID: key.id, EnvelopeHash: a.Hash(),
			PayloadMAC: e.History.PlaintextMAC(body.Payload), ReplyBundle: body.ReplyBundle, Expires: now.Add(receiptLife),
		},
		Audit: []storage.AuditEntry{audit.Verification(row.VerifiedAt, audit.Peer, audit.Open, key.id, key.originating, row.Result.String(), auditReason(row.Reason))},
	}
	if err := e.store(ctx, change); err != nil {
		return nil, fail(op, Storage, err)
	}
	e.metrics.results.WithLabelValues("received", row.Result.String()).Inc()
	return row.Answer, nil
}

// store writes an inbound row. In a transfer to ourselves the row is there
// already, from the outbound side, and gets its second role.
func (e *Enclave) store(ctx context.Context, c *storage.Change) error {
	for {
		row := c.Verification
		if row.Originating == e.Self {
			ours, err := e.History.Verification(ctx, row.Originating, row.UUID)
			if err != nil {
				return err
			}
			ours.Received, ours.Answer = true, row.Answer
			c.Verification = ours
		}
		err := e.History.Apply(ctx, c)
		if row.Originating != e.Self || !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
}

// consult fills in the row what the counterparty sent and what our backend
// says of it. An error means that the backend was not asked.
func (e *Enclave) consult(ctx context.Context, row *storage.Verification, payload []byte) error {
	p, parts, err := readRequest(payload)
	if err != nil {
		e.Logger.Warn("a counterparty's verification is not well formed", "vasp", row.Originating, "verification", row.UUID, "err", err)
		e.settle(row, &vasp.UserAnswer{Result: "ERROR", Message: notWellFormed}, nil)
		return nil
	}
	row.Asset, row.RequiredBeneficiaryInfo, row.PayloadVersion = p.Asset, p.RequiredBeneficiaryInfo, p.Version
	row.OriginatorAccount, row.BeneficiaryAccount = parts.Originator.Account(), parts.Beneficiary.Account()
	row.IVMS101 = storage.Parts{
		Originator: parts.Originator.Raw, OriginatingVASP: parts.OriginatingVASP,
		Beneficiary: parts.Beneficiary.Raw, BeneficiaryVASP: e.VASPIVMS101,
	}
	if row.IVMS101.OriginatingVASP == nil {
		row.IVMS101.OriginatingVASP, row.OriginatingVASPSource = e.directoryWord(row.Originating)
	}
	if row.OriginatingVASPSource != "" {
		p.IVMS101 = withMember(p.IVMS101, "originatingVASP", row.IVMS101.OriginatingVASP)
	}
	if message := e.objection(row.Originating, ivms101.Occasion{Inbound: true}, parts); message != "" {
		e.settle(row, &vasp.UserAnswer{Result: "ERROR", Message: message}, nil)
		return nil
	}
	said, err := e.Backend.VerifyUser(ctx, verifyUserBody(row.UUID, row.Originating, p))
	if err != nil {
		if notAsked(err) {
			return &Error{Op: "ask our backend", Kind: Unavailable, Err: err}
		}
		e.Logger.Warn("our backend gave no answer to a verification", "verification", row.UUID, "err", err)
		said = withoutAnswer(err)
	}
	e.settle(row, said, p)
	return nil
}

func readRequest(payload []byte) (*requestPayload, *ivms101.Payload, error) {
	p, err := decode[requestPayload](payload)
	if err != nil {
		return nil, nil, err
	}
	parts, err := ivms101.ParsePayload(payload)
	switch {
	case err != nil:
	case parts.Originator.Raw == nil:
		err = errors.New("there is no originator")
	case parts.Beneficiary.Account() == "":
		err = errNoAccount
	}
	return p, parts, err
}

// withoutAnswer is what a counterparty hears when our backend was asked and
// gave no usable answer (contract 3.0: an overrun is REQUEST-TIMEOUT).
func withoutAnswer(err error) *vasp.UserAnswer {
	var v *vasp.Error
	if errors.As(err, &v) && v.Problem == vasp.Timeout {
		return &vasp.UserAnswer{Result: "ERROR", Reason: requestTimeout, Message: "Request timeout."}
	}
	return &vasp.UserAnswer{Result: "ERROR", Message: noUsableAnswer}
}

// Sentences for a counterparty that gets no answer of our backend's.
const (
	noUsableAnswer = "The beneficiary VASP's backend gave no usable answer."
	notWellFormed  = "The request is not well formed."
)

// settle writes our backend's answer into the row, less what was not asked
// for, and the text that the counterparty gets. An answer that it could not
// read is none.
func (e *Enclave) settle(row *storage.Verification, said *vasp.UserAnswer, p *requestPayload) {
	e.write(row, said, p)
	if _, err := ivms101.ParsePayload(row.Answer); err == nil && len(row.Answer) <= envelope.MaxBody {
		return
	}
	e.Logger.Warn("our backend's answer is too large for an envelope; it is not passed on", "verification", row.UUID)
	e.write(row, &vasp.UserAnswer{Result: "ERROR", Message: noUsableAnswer}, p)
}

func (e *Enclave) write(row *storage.Verification, said *vasp.UserAnswer, p *requestPayload) {
	result, err := storage.ParseResult(said.Result)
	if err != nil || result != storage.Verified && result != storage.Denied {
		result = storage.Error
	}
	row.Result, row.Reason, row.Message = result, reasonOf(result, said.Reason), clip(said.Message, maxMessage)
	var shared []byte
	if said.Beneficiary != nil && p != nil {
		shared = e.strip(row, said.Beneficiary, p.RequiredBeneficiaryInfo)
	}
	if result == storage.Verified && tells(shared) {
		row.IVMS101.Beneficiary = shared
	}
	var ivms []byte
	if shared != nil || e.VASPIVMS101 != nil {
		ivms = newText().raw("beneficiary", shared).raw("beneficiaryVASP", e.VASPIVMS101).end()
	}
	version := row.PayloadVersion
	if said.Version != "" {
		version = said.Version
	}
	row.Answer = newText().
		str("result", result.String()).str("reason", row.Reason).str("message", row.Message).
		str("version", version).str("verifiedAt", timestamp(e.Now())).raw("ivms101", ivms).
		end()
}

// tells says whether a beneficiary object holds anything: an empty one must
// not take the place of what was asked about.
func tells(beneficiary []byte) bool {
	p, err := ivms101.ParseParty(beneficiary)
	return err == nil && (len(p.Accounts) > 0 || p.Natural+p.Legal > 0)
}

// strip takes away what was not asked for: a backend that says too much does
// not make us leak (contract 3.2). What cannot be stripped is not sent at all.
func (e *Enclave) strip(row *storage.Verification, beneficiary []byte, required string) []byte {
	codes, err := ivms101.ParseRequired(required)
	if err == nil {
		var removed []string
		beneficiary, removed, err = ivms101.Strip(beneficiary, codes)
		if len(removed) > 0 {
			e.Logger.Warn("our backend returned more than was asked for; it was taken away", "verification", row.UUID, "fields", removed)
		}
	}
	if err != nil {
		e.Logger.Warn("our backend's answer cannot be read; its beneficiary is not passed on", "verification", row.UUID, "err", err)
		return nil
	}
	return beneficiary
}

// inboundTimeout bounds the work on one relayed message: our backend's 5 s
// and the rest of the way.
const inboundTimeout = 8 * time.Second
