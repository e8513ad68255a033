package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// syncTimeout bounds what our backend waits for in a synchronous call, and
// asyncTimeout one attempt of an asynchronous one: the counterparty's backend
// has 5 s for a user verification, the hops get the rest.
const (
	syncTimeout  = 5 * time.Second
	asyncTimeout = 10 * time.Second
)

// Accept takes a user verification from our backend: from the moment it
// returns nil, the verification will reach a final state and its callback,
// whatever dies in between (contract 2.4).
func (e *Enclave) Accept(ctx context.Context, r *verificationRequest) (*storage.Verification, error) {
	const op = "accept verification"
	if err := e.maySend(ivms101.Occasion{}, r.payload); err != nil {
		return nil, err
	}
	if e.outbox.full() {
		return nil, outboxFull(op)
	}
	if err := e.mayVerify(ctx, r.beneficiary); err != nil {
		return nil, err
	}
	reply, err := e.storedReplyKey(r.keyType, r.beneficiary)
	if err != nil {
		return nil, fail(op, Internal, err)
	}
	now := e.Now()
	row := &storage.Verification{
		UUID: uuid.New(), Originating: e.Self, Beneficiary: r.beneficiary, Sent: true, Result: storage.Wait,
		KeyType: r.keyType, Asset: r.asset, RequiredBeneficiaryInfo: r.required, PayloadVersion: r.payload.Version,
		OriginatorAccount: r.payload.Originator.Account(), BeneficiaryAccount: r.payload.Beneficiary.Account(),
		IVMS101: storage.Parts{
			Originator: r.payload.Originator.Raw, OriginatingVASP: r.payload.OriginatingVASP,
			Beneficiary: r.payload.Beneficiary.Raw, BeneficiaryVASP: r.payload.BeneficiaryVASP,
		},
		CreatedAt: now, Deadline: now.Add(e.Timeout),
	}
	if row.IVMS101.OriginatingVASP == nil {
		row.IVMS101.OriginatingVASP = e.VASPIVMS101
	}
	entry := &storage.OutboxEntry{
		Kind: storage.ToPeerVerification, Originating: e.Self, UUID: row.UUID, Counterparty: row.Beneficiary,
		Body: request{reply.Bundle, e.requestText(r)}.encode(), Created: now, Deadline: row.Deadline,
	}
	change := &storage.Change{
		Verification: row,
		Outbox:       []*storage.OutboxEntry{entry},
		Audit:        []storage.AuditEntry{audit.Verification(now, audit.Backend, audit.Accept, row.UUID, r.beneficiary, audit.OK, "")},
	}
	if reply.Bundle != nil {
		change.PutOwnKeys = []keyring.OwnKey{reply}
	}
	if err := e.commit(ctx, change); err != nil {
		e.Own.Forget(reply.ID)
		return nil, fail(op, Storage, err)
	}
	return row, nil
}

// requestText is the payload that travels to the beneficiary, as long as it
// takes: what was accepted is what is delivered.
func (e *Enclave) requestText(r *verificationRequest) []byte {
	ivms := r.payload.IVMS101
	if r.payload.OriginatingVASP == nil && e.VASPIVMS101 != nil {
		ivms = withMember(ivms, "originatingVASP", e.VASPIVMS101)
	}
	return newText().
		object("assetInfo", assetText(r.asset)).
		str("requiredBeneficiaryInfo", r.required).
		str("version", r.payload.Version).
		raw("ivms101", ivms).
		end()
}

// mayVerify says whether a VASP is a live member that we can verify with. One
// that is known not to be trusted is refused here, so that our backend does
// not wait for a timeout.
func (e *Enclave) mayVerify(ctx context.Context, id identity.VASPID) error {
	m, err := e.member(ctx, id)
	if err != nil {
		return err
	}
	if m.VASPStatus != relay.StatusMember {
		return &Error{Op: "find the counterparty", Kind: Invalid, Code: "ALLIANCE-NOT-ACTIVE", Message: "Alliance is not active now"}
	}
	if _, met := e.pins.find(id); met || e.VerifiedOnly {
		if _, err := e.pinned(ctx, id); kindOf(err) == Untrusted {
			return err
		}
	}
	return nil
}

// deliverVerification makes one attempt to have a verification answered and,
// when it is answered, stores the final state.
func (e *Enclave) deliverVerification(ctx context.Context, row *storage.Verification, entry *storage.OutboxEntry) error {
	left := row.Deadline.Sub(e.Now())
	switch {
	case row.Result != storage.Wait:
		return e.abandon(ctx, entry)
	case left <= 0:
		return e.giveUp(ctx, row, entry)
	}
	asked, err := decodeRequest(entry.Body)
	if err != nil {
		return fail("read outbox entry", Internal, err)
	}
	asking, cancel := context.WithTimeout(ctx, asyncTimeout)
	defer cancel()
	payload, err := e.ask(asking, question{
		to: row.Beneficiary, kind: envelope.VerificationRequest, want: envelope.VerificationAnswer, id: row.UUID,
		keyType: row.KeyType, scope: e.scope(row.KeyType, row.Beneficiary, row.Asset.Symbol, row.Asset.Network, row.BeneficiaryAccount),
		payload: asked.payload, replyBundle: asked.replyBundle, life: min(requestLife, left),
	})
	if err != nil {
		return err
	}
	answer, err := e.readAnswer(payload)
	if err != nil {
		return err
	}
	if row.Beneficiary == e.Self { // the inbound side wrote the row meanwhile
		if row, err = e.History.Verification(ctx, entry.Originating, entry.UUID); err != nil {
			return fail("read verification", Storage, err)
		}
		if row.Result != storage.Wait {
			return e.abandon(ctx, entry)
		}
	}
	return e.finish(ctx, row, entry, answer)
}

// abandon ends the delivery of a verification that our backend has ended
// meanwhile, and with it the key for its answer.
func (e *Enclave) abandon(ctx context.Context, entry *storage.OutboxEntry) error {
	keys := replyKeysOf(entry)
	if err := e.History.Apply(ctx, &storage.Change{DropOutbox: []uint64{entry.Seq}, DropOwnKeys: keys}); err != nil {
		return fail("abandon a verification", Storage, err)
	}
	e.Own.Forget(keys...)
	return nil
}

// answer is a counterparty's answer to a verification, read and checked.
type answer struct {
	result          storage.Result
	reason, message string
	beneficiary     ivms101.Party
	beneficiaryVASP []byte
}

func (e *Enclave) readAnswer(payload []byte) (*answer, error) {
	const op = "read the answer"
	p, err := decode[answerPayload](payload)
	if err != nil {
		return nil, e.metrics.refuse(op, "answer", err)
	}
	result, err := storage.ParseResult(p.Result)
	if err != nil || (result != storage.Verified && result != storage.Denied && result != storage.Error) {
		return nil, e.metrics.refuse(op, "answer", errors.New("the answer's result is none of VERIFIED, DENIED, ERROR"))
	}
	parts, err := ivms101.ParsePayload(payload)
	if err != nil {
		return nil, e.metrics.refuse(op, "answer", err)
	}
	return &answer{result, reasonOf(result, p.Reason), clip(p.Message, maxMessage), parts.Beneficiary, parts.BeneficiaryVASP}, nil
}

// finish stores the final state of a verification together with the callback
// that tells of it. An answer that came after the deadline is written down as
// having come, and changes nothing else.
func (e *Enclave) finish(ctx context.Context, row *storage.Verification, entry *storage.OutboxEntry, a *answer) error {
	if e.expired(entry) {
		late := audit.Verification(e.Now(), audit.Peer, audit.LateAnswer, row.UUID, row.Beneficiary, a.result.String(), auditReason(a.reason))
		if err := e.giveUp(ctx, row, entry, late); err != nil {
			return err
		}
		e.metrics.late.Inc()
		return nil
	}
	row.Result, row.Reason, row.Message, row.VerifiedAt = a.result, a.reason, a.message, e.Now()
	if a.result == storage.Verified && tells(a.beneficiary.Raw) {
		row.IVMS101.Beneficiary = a.beneficiary.Raw
	}
	row.IVMS101.BeneficiaryVASP = a.beneficiaryVASP
	if row.IVMS101.BeneficiaryVASP == nil {
		row.IVMS101.BeneficiaryVASP, row.BeneficiaryVASPSource = e.directoryWord(row.Beneficiary)
	}
	if a.result == storage.Verified && !sameAccount(row.BeneficiaryAccount, a.beneficiary.Accounts) {
		row.Result, row.Reason = storage.Error, accountNotMatched
		row.Message = "Beneficiary account is not matched with requested account."
	}
	return e.conclude(ctx, row, &storage.Change{DropOutbox: []uint64{entry.Seq}, DropOwnKeys: replyKeysOf(entry)}, audit.Peer)
}

// sameAccount compares the account that was asked for with what came back; an
// answer without accounts says nothing against it (contract 3.2).
func sameAccount(asked string, answered []string) bool {
	return len(answered) == 0 || ivms101.SameAccount(asked, answered[0])
}

// giveUp ends a verification that nobody answered in time, and tells the
// counterparty, so that both histories agree.
func (e *Enclave) giveUp(ctx context.Context, row *storage.Verification, entry *storage.OutboxEntry, also ...storage.AuditEntry) error {
	row.Result, row.Reason, row.Message = storage.Error, requestTimeout, "Request timeout."
	report := e.report(storage.ToPeerError, row, errorText(errorPayload{row.Result.String(), row.Reason, row.Message}), lateReportLife)
	return e.conclude(ctx, row, &storage.Change{
		DropOutbox: []uint64{entry.Seq}, DropOwnKeys: replyKeysOf(entry), Outbox: []*storage.OutboxEntry{report}, Audit: also,
	}, audit.System)
}

// conclude writes a final row, its callback and its audit entry in one
// transaction with the rest of the change, and only then lets what it queues
// leave.
func (e *Enclave) conclude(ctx context.Context, row *storage.Verification, change *storage.Change, actor string) error {
	change.Verification = row
	change.Audit = append(change.Audit, audit.Verification(e.Now(), actor, audit.Finish, row.UUID, row.Beneficiary, row.Result.String(), auditReason(row.Reason)))
	change.Outbox = append(change.Outbox, e.resultEntry(row)...)
	if err := e.commit(ctx, change); err != nil {
		return fail("store the final state", Storage, err)
	}
	e.Own.Forget(change.DropOwnKeys...)
	e.metrics.results.WithLabelValues("sent", row.Result.String()).Inc()
	return nil
}

// directoryWord is what central says about a VASP that sent no IVMS101 part
// of its own: a fallback, and marked as one.
func (e *Enclave) directoryWord(id identity.VASPID) (part []byte, source string) {
	m, ok := e.books.find(id)
	name := m.LegalName
	if name == "" {
		name = m.VASPName
	}
	if !ok || name == "" {
		return nil, ""
	}
	identifier := newText().str("legalPersonName", name).str("legalPersonNameIdentifierType", "LEGL").end()
	names := append(append([]byte{'['}, identifier...), ']')
	person := newText().object("name", newText().raw("nameIdentifier", names))
	if m.CountryCode != "" {
		person.str("countryOfRegistration", m.CountryCode)
	}
	return newText().object("legalPerson", person).end(), storage.SourceDirectory
}
