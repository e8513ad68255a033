package keyring

import "errors"

// ErrRefused is what every refusal of a peer's bundle is (errors.Is). Which
// one it was is a RefusedError.
var ErrRefused = errors.New("key bundle refused")

// Reason says why a bundle was refused. The set is closed, so that it may be
// a metric label.
type Reason string

const (
	BadBundle     Reason = "bad-bundle" // not canonical, or its signature is wrong
	OtherVASP     Reason = "other-vasp"
	OtherIdentity Reason = "other-identity" // signed by another identity than the pinned one
	Expired       Reason = "expired"
	NotYetValid   Reason = "not-yet-valid"
	OtherType     Reason = "other-type"
	OtherScope    Reason = "other-scope"
	OtherAudience Reason = "other-audience"
	BelowFloor    Reason = "below-floor" // a suite that we do not seal to
	Downgraded    Reason = "downgraded"  // its owner supports a stronger suite that we accept
	OtherNonce    Reason = "other-nonce" // does not echo our request
	OldSerial     Reason = "old-serial"  // older than one already seen
)

// String gives the label.
func (r Reason) String() string { return string(r) }

// RefusedError is a refusal with its reason.
type RefusedError struct{ Reason Reason }

// Error names the reason.
func (e *RefusedError) Error() string { return "key bundle refused: " + string(e.Reason) }

// Is makes every refusal an ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

func refuse(r Reason) error { return &RefusedError{Reason: r} }
