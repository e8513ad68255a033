package envelope

import (
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// MessageType says what an envelope carries. The number travels; never
// renumber.
type MessageType uint8

const (
	// KeyRequest and KeyAnswer hand out keys; they and Refusal come before
	// there is a key to seal to, so they are signed and not sealed.
	KeyRequest MessageType = 1
	KeyAnswer  MessageType = 2

	AccountRequest      MessageType = 3
	AccountAnswer       MessageType = 4
	VerificationRequest MessageType = 5
	VerificationAnswer  MessageType = 6
	TxReport            MessageType = 7
	TxReportAnswer      MessageType = 8
	ErrorReport         MessageType = 9
	ErrorReportAnswer   MessageType = 10
	TxInquiry           MessageType = 11
	TxInquiryAnswer     MessageType = 12

	// Refusal answers any request with a code that names no person.
	Refusal MessageType = 13
)

var messageNames = [...]string{
	KeyRequest: "key-request", KeyAnswer: "key-answer",
	AccountRequest: "account-request", AccountAnswer: "account-answer",
	VerificationRequest: "verification-request", VerificationAnswer: "verification-answer",
	TxReport: "tx-report", TxReportAnswer: "tx-report-answer",
	ErrorReport: "error-report", ErrorReportAnswer: "error-report-answer",
	TxInquiry: "tx-inquiry", TxInquiryAnswer: "tx-inquiry-answer",
	Refusal: "refusal",
}

// Valid says whether the type is one of those above.
func (m MessageType) Valid() bool { return m >= KeyRequest && m <= Refusal }

// String gives a name for logs and metric labels; the set is closed.
func (m MessageType) String() string {
	if !m.Valid() {
		return "unknown"
	}
	return messageNames[m]
}

// Sealed says whether messages of the type must be sealed. All others must
// not be: which it is never depends on the sender's word (attack K5).
func (m MessageType) Sealed() bool {
	return m.Valid() && m != KeyRequest && m != KeyAnswer && m != Refusal
}

// Direction is the way that a request of this type goes, and its answer goes
// the opposite one: to the beneficiary, but for an inquiry, which the
// beneficiary makes. A request for a key counts as going to the beneficiary,
// whoever asks.
func (m MessageType) Direction() Direction {
	if m == TxInquiry {
		return ToOriginator
	}
	return ToBeneficiary
}

// Direction says which way this message goes. The number travels.
type Direction uint8

const (
	// ToBeneficiary goes from the originating VASP to the beneficiary VASP.
	ToBeneficiary Direction = 1
	// ToOriginator goes back.
	ToOriginator Direction = 2
)

// Opposite is the other direction.
func (d Direction) Opposite() Direction {
	if d == ToBeneficiary {
		return ToOriginator
	}
	return ToBeneficiary
}

// String gives a name for logs.
func (d Direction) String() string {
	switch d {
	case ToBeneficiary:
		return "to-beneficiary"
	case ToOriginator:
		return "to-originator"
	}
	return fmt.Sprintf("Direction(%d)", uint8(d))
}

// seals says whether a suite is one of those that seal.
func seals(s identity.Suite) bool { return s.PublicKeySize() > 0 }
