package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Codes of central's own errors. None of them says anything of a verification:
// that is between its two VASPs.
const (
	CodeUnauthenticated  = "UNAUTHENTICATED"       // 401: not signed, or not rightly
	CodeForbidden        = "FORBIDDEN"             // 403: signed, but not from this member's addresses
	CodeUnknownVASP      = "UNKNOWN-VASP"          // 404: no such member, or none that is connected to the sender
	CodeInstanceConflict = "INSTANCE-CONFLICT"     // 409: another enclave of this member is alive
	CodeIdentityConflict = "IDENTITY-CONFLICT"     // 409: the identity does not follow from the one known
	CodeNotRegistered    = "NOT-REGISTERED"        // 412: the sender has no lease; register, then repeat
	CodeTooLarge         = "TOO-LARGE"             // 413, also of the listener in front
	CodeBusy             = "BUSY"                  // 429: too many exchanges with this recipient
	CodeUnreachable      = "RECIPIENT-UNREACHABLE" // 502: no connection, or no reply of an enclave
	CodeDown             = "RECIPIENT-DOWN"        // 503: the recipient has no lease
	CodeTimeout          = "RECIPIENT-TIMEOUT"     // 504: no reply in time

	CodeInternal = "INTERNAL-ERROR" // 500: central's own failure

	// CodeUnknown stands for an answer that is not in central's form: from
	// something in front of it, perhaps.
	CodeUnknown = "UNKNOWN"

	invalidPrefix = "INVALID-" // 400: INVALID- and the name of the field

	// CodeInvalidEndpoint: the endpoint is not in the form of one, or at an
	// address that central does not call.
	CodeInvalidEndpoint = invalidPrefix + "PUBLIC-ENDPOINT"
)

// Error is central's answer when it is not the one asked for. It is about the
// way, never about the verification.
type Error struct {
	Code   string // one of the codes above
	Status int    // HTTP
	// Retryable tells whether the same request may succeed later without an
	// operator's doing.
	Retryable bool
	// RetryAfter is how long the answer asks to wait before the next request of
	// its kind; zero when it does not say.
	RetryAfter time.Duration
}

// Error names status and code. Central's own sentence is left out: nobody but
// central knows what is in it.
func (e *Error) Error() string { return fmt.Sprintf("central answered %d %s", e.Status, e.Code) }

func newError(status int, body []byte, wait time.Duration) *Error {
	var problem struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(body, &problem) != nil || !isCode(problem.Code) {
		problem.Code = CodeUnknown
	}
	return &Error{Code: problem.Code, Status: status, Retryable: isRetryable(problem.Code), RetryAfter: wait}
}

// isCode tells whether text has the form of a code, so that it may be logged.
func isCode(text string) bool {
	return text != "" && len(text) <= 64 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

func isRetryable(code string) bool {
	switch code {
	case CodeUnauthenticated, CodeForbidden, CodeIdentityConflict, CodeInstanceConflict:
		return false
	}
	return !strings.HasPrefix(code, invalidPrefix)
}

// TransportError is a request that got no answer, or one that is not of this
// wire. Central may or may not have acted on it.
type TransportError struct {
	Op  string // deliver, fetch directory, register
	Err error
}

// Error says what was attempted and why it failed.
func (e *TransportError) Error() string { return e.Op + " through central: " + e.Err.Error() }

// Unwrap gives the cause, for context errors above all.
func (e *TransportError) Unwrap() error { return e.Err }

// Retryable tells whether an error of a Client may pass by itself: central's
// own unless it says otherwise, and every failure of the way.
func Retryable(err error) bool {
	var refused *Error
	if errors.As(err, &refused) {
		return refused.Retryable
	}
	var failed *TransportError
	return errors.As(err, &failed)
}

// longestRetryAfter is the longest wait that is believed: nobody in between
// may put off what has a deadline for long.
const longestRetryAfter = 30 * time.Second

// parseRetryAfter reads a Retry-After in seconds, at most 30 of them. Dates
// are not of this wire; they, and what is no number, ask for no wait.
func parseRetryAfter(header string) time.Duration {
	seconds, err := strconv.ParseUint(header, 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, longestRetryAfter)
}

// FormatRetryAfter writes a wait as whole seconds, at least one.
func FormatRetryAfter(wait time.Duration) string {
	return strconv.Itoa(max(1, int((wait+time.Second-1)/time.Second)))
}

// WriteError answers with {"code","message"}.
func WriteError(w http.ResponseWriter, status int, code, message string) {
	body, _ := json.Marshal(map[string]string{"code": code, "message": message}) // of two strings: cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
