package proxy

import (
	"slices"
	"time"
	"unicode/utf8"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Bounds of the texts that come with a result, in characters (contract 5).
// Whoever sends more loses the rest of it, and not the result.
const (
	maxReason  = 256
	maxMessage = 1024
)

// reasonOf is the reason that goes with a result. A counterparty's may be
// missing; the contract's readers expect one.
func reasonOf(r storage.Result, given string) string {
	switch {
	case given != "":
		return clip(given, maxReason)
	case r == storage.Verified:
		return "OK"
	default:
		return "UNDEFINED-ERROR"
	}
}

// clip cuts s off after n characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// auditReason is a reason as the audit log may hold it: a code of contract
// 6.2, or "other". A reason is whatever a counterparty or a backend wrote, and
// the audit log outlives the personal data (attack L1).
func auditReason(reason string) string {
	if reason == "" || slices.Contains(reasons, reason) {
		return reason
	}
	return "other"
}

var reasons = []string{
	"OK", "UNKNOWN-SYMBOL", "UNKNOWN-NETWORK", "UNKNOWN-ADDRESS", "MISMATCHED-NAME", "LACK-OF-INFORMATION",
	"UNAVAILABLE-INFORMATION", "BLACKLISTED", "UNVERIFIED-KYC", "NOT-ALLOWED", "UNDEFINED-ERROR",
	accountNotMatched, requestTimeout, "USER-CANCELED",
}

// complete makes what a backend or a counterparty says of an account fit for
// the contract (2.3): a DENIED has a reason, and verifiedAt is a time.
func (a *accountAnswer) complete(now time.Time) *accountAnswer {
	if a.Result == "DENIED" {
		a.Reason = reasonOf(storage.Denied, a.Reason)
	}
	a.Reason, a.Message = clip(a.Reason, maxReason), clip(a.Message, maxMessage)
	if at, ok := parseTime(a.VerifiedAt); ok {
		now = at
	}
	a.VerifiedAt = timestamp(now)
	return a
}

// accountNotMatched is the reason of a verification whose answer names another
// account than was asked about (contract 6.2).
const accountNotMatched = "BENEFICIARY-ACCOUNT-NOT-MATCHED"

// requestTimeout is the reason of a verification that nobody answered in time
// (contract 6.2).
const requestTimeout = "REQUEST-TIMEOUT"
