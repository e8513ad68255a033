package storage

import "fmt"

// Result is how a verification stands (contract 6.1). The number is what is
// stored; never renumber.
type Result uint8

const (
	Wait          Result = 1 // no answer yet
	Verified      Result = 2
	Denied        Result = 3 // a valid request, refused; Reason says why
	Unknown       Result = 4
	Error         Result = 5 // any other failure
	Pending       Result = 6
	TransferError Result = 7
)

var resultNames = [...]string{"", "WAIT", "VERIFIED", "DENIED", "UNKNOWN", "ERROR", "PENDING", "TRANSFER_ERROR"}

// String gives the contract's spelling.
func (r Result) String() string {
	if r == 0 || int(r) >= len(resultNames) {
		return fmt.Sprintf("Result(%d)", uint8(r))
	}
	return resultNames[r]
}

// ParseResult reads the contract's spelling.
func ParseResult(s string) (Result, error) {
	for i, name := range resultNames {
		if i > 0 && name == s {
			return Result(i), nil
		}
	}
	return 0, fmt.Errorf("result is none of WAIT, VERIFIED, DENIED, UNKNOWN, ERROR, PENDING, TRANSFER_ERROR")
}

var peerStates = [...]string{"", "tofu", "verified", "change_pending", "blocked"}

// String gives the state as operators know it.
func (s PeerState) String() string {
	if s == 0 || int(s) >= len(peerStates) {
		return fmt.Sprintf("PeerState(%d)", uint8(s))
	}
	return peerStates[s]
}
