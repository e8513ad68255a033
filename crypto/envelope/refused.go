package envelope

import "errors"

// ErrRefused is what every refusal of a foreign envelope is (errors.Is). Which
// one it was is a RefusedError. A peer must be told no more than that it was
// refused: the difference is an oracle.
var ErrRefused = errors.New("envelope refused")

// Reason says why an envelope was refused. The set is closed, so that it may
// be a metric label.
type Reason string

const (
	Malformed     Reason = "malformed"      // not the one canonical encoding
	OtherSender   Reason = "other-sender"   // sent in another VASP's name
	OtherIdentity Reason = "other-identity" // made with another identity than the pinned one
	BadSignature  Reason = "bad-signature"
	OtherKey      Reason = "other-key" // sealed to another key than the one given
	Undecryptable Reason = "undecryptable"
	BadBody       Reason = "bad-body"       // opened to something that is no body
	BadCommitment Reason = "bad-commitment" // header commits to another payload
	BadReplyKey   Reason = "bad-reply-key"  // header names another reply bundle
)

// String gives the label.
func (r Reason) String() string { return string(r) }

// RefusedError is a refusal with its reason.
type RefusedError struct {
	Reason Reason
	detail string
}

// Error names the reason and, for malformed input, the field; never content.
func (e *RefusedError) Error() string {
	if e.detail == "" {
		return "envelope refused: " + string(e.Reason)
	}
	return "envelope refused: " + string(e.Reason) + ": " + e.detail
}

// Is makes every refusal an ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

func refuse(r Reason) error { return &RefusedError{Reason: r} }

func malformed(err error) error { return &RefusedError{Reason: Malformed, detail: err.Error()} }
