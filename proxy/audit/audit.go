// Package audit says what is written down each time plaintext is touched or a
// key changes: who, what, when and how it ended, never the content.
//
// An entry is part of the transaction that stores what it records
// (storage.Change), so there is no action without its entry and no entry
// without its action (attack G1). Objects are ids; an address, a name or an
// amount never appears (attack L1).
package audit

import (
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Verbs: what was done. The set is closed.
const (
	Accept          = "verification.accept"   // our backend's request was taken and stored
	Finish          = "verification.finish"   // a final result was stored on the originating side
	Open            = "verification.open"     // a counterparty's request was opened and answered
	OpenAccount     = "account.open"          // a counterparty's account check was opened and answered
	CheckAccount    = "account.check"         // our backend checked an account with a counterparty
	ReportError     = "error.report"          // our backend reported that a transfer will never happen
	OpenError       = "error.open"            // a counterparty's error report was opened
	ReportTx        = "tx.report"             // our backend reported a transaction
	OpenTx          = "tx.open"               // a counterparty's transaction report was opened
	Inquire         = "tx.inquire"            // our backend asked a counterparty where a transfer stands
	OpenInquiry     = "tx.inquiry-open"       // a counterparty's inquiry was opened and answered
	Conflict        = "verification.conflict" // a verification id came again with another content
	LateAnswer      = "verification.late"     // an answer came after the final state
	Read            = "verification.read"     // our backend read one row
	List            = "verification.list"     // our backend read a page of rows; the reason is how many
	PinPeer         = "peer.pin"              // a counterparty's identity was believed on first use
	FollowPeer      = "peer.follow"           // a counterparty changed its identity, signed by the old one
	ChangePeer      = "peer.change-pending"   // a counterparty shows an identity without continuity
	VerifyPeer      = "peer.verify"           // an operator compared safety numbers
	AcceptPeer      = "peer.accept"           // an operator took a counterparty off hold
	BlockPeer       = "peer.block"            // an operator refuses a counterparty
	RotateIdentity  = "identity.rotate"       // our own identity signed for its successor
	ReplaceIdentity = "identity.replace"      // our own identity was made anew, without continuity
	NewIdentity     = "identity.new"          // our own identity was made

	RotateKEK       = "keys.rotate-kek"         // the data keys were wrapped under another key; the object is its id
	RotateData      = "keys.rotate-data"        // data keys are being replaced
	RotatedData     = "keys.rotated-data"       // and the old ones were deleted, no value being under them
	ShredPeriod     = "keys.shred"              // the key of a period of which nothing is left was deleted; the object is its first day
	RekeyPeriod     = "keys.rekey"              // rows that a hold keeps get a key of their own, so that the erased ones' can be deleted
	EraseOld        = "history.erase-old"       // rows were erased by age
	Erase           = "history.erase"           // one row was erased; the reason has its code and the SHA-256 of the sealed row
	Hold            = "history.hold"            // a row or a period must not be erased
	Release         = "history.release"         // it may again
	ListHistory     = "history.list"            // an operator looked at rows
	ShowHistory     = "history.show"            // an operator read one row
	ExportHistory   = "history.export"          // an operator began to export rows; the object is the export's id
	ExportedHistory = "history.exported"        // and has them
	Backup          = "history.backup"          // an operator began a backup, which holds this entry
	ExportAudit     = "audit.export"            // an operator exported this log; the export ends with this entry
	SignCheckpoint  = "audit.checkpoint"        // an operator had it signed how far this log goes
	CheckHistory    = "history.check"           // an operator had every value opened and compared with what was written
	AcceptRollback  = "history.accept-rollback" // an operator goes on with a history that is older than its anchor
)

// Actors: on whose word it was done. The set is closed.
const (
	Backend  = "backend"
	Peer     = "peer"
	System   = "system"
	Operator = "operator"
)

// Outcomes beyond the exchange's own.
const OK = "ok"

// Verification is an entry about one verification.
func Verification(at time.Time, actor, verb string, id uuid.UUID, peer identity.VASPID, outcome, reason string) storage.AuditEntry {
	return storage.AuditEntry{Time: at, Actor: actor, Verb: verb, Object: id.String(), Peer: peer, Outcome: outcome, Reason: reason}
}

// Identity is an entry about an identity, ours or a counterparty's; the
// object is its fingerprint.
func Identity(at time.Time, verb string, who *identity.Public, outcome string) storage.AuditEntry {
	return storage.AuditEntry{Time: at, Actor: System, Verb: verb, Object: who.Fingerprint().String(), Peer: who.VASP(), Outcome: outcome}
}
