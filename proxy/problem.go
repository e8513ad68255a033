package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Kind says what sort of failure an error is. It alone decides the HTTP
// status, the metric outcome and the audit outcome; see kinds.
type Kind uint8

const (
	// Internal is a failure of our own that the caller can do nothing about.
	Internal Kind = iota
	// Invalid is a request that can never succeed as it is.
	Invalid
	// Unauthenticated is a caller who did not show who they are.
	Unauthenticated
	// NotFound is a name that nothing is stored under.
	NotFound
	// MethodNotAllowed is a known path called with another method.
	MethodNotAllowed
	// TooLarge is a body over the limit.
	TooLarge
	// UnsupportedMedia is a body that is not JSON by its own word.
	UnsupportedMedia
	// Untrusted is a counterparty whose identity is not believed.
	Untrusted
	// Refused is an envelope that fails a cryptographic check, or a
	// counterparty's refusal of ours.
	Refused
	// Timeout is an answer that did not come in time.
	Timeout
	// Unavailable is a party that cannot be reached now; try again.
	Unavailable
	// Misanswered is our own backend's answer when it is not the contract's.
	Misanswered
	// Storage is a history that takes no changes now.
	Storage
)

// kinds is the one table from a Kind to what each observer sees.
var kinds = [...]struct {
	status  int
	code    string // when the error names none
	outcome string // metric and audit label
	message string // when the error has no words of its own for the caller
}{
	Internal:         {http.StatusInternalServerError, "INTERNAL-ERROR", "internal", "The enclave failed; its log says why."},
	Invalid:          {http.StatusBadRequest, "BAD-REQUEST", "invalid", "The request cannot be answered as it is."},
	Unauthenticated:  {http.StatusUnauthorized, "UNAUTHENTICATED", "unauthenticated", ""},
	NotFound:         {http.StatusNotFound, "NOT-FOUND", "not_found", ""},
	MethodNotAllowed: {http.StatusMethodNotAllowed, "METHOD-NOT-ALLOWED", "invalid", ""},
	TooLarge:         {http.StatusRequestEntityTooLarge, "PAYLOAD-TOO-LARGE", "too_large", ""},
	UnsupportedMedia: {http.StatusUnsupportedMediaType, "UNSUPPORTED-MEDIA-TYPE", "invalid", ""},
	Untrusted:        {http.StatusForbidden, "COUNTERPARTY-NOT-TRUSTED", "untrusted", "The counterparty's identity is not believed."},
	Refused:          {http.StatusBadGateway, "ENVELOPE-REJECTED", "refused", "The exchange with the counterparty was refused."},
	Timeout:          {http.StatusRequestTimeout, "REQUEST-TIMEOUT", "timeout", "There was no answer in time."},
	Unavailable:      {http.StatusServiceUnavailable, "COUNTERPARTY-UNAVAILABLE", "unavailable", "The counterparty cannot be reached now; try again."},
	Misanswered:      {http.StatusBadGateway, "BACKEND-ERROR", "backend", "The VASP's own backend gave no usable answer."},
	Storage:          {http.StatusServiceUnavailable, "STORAGE-UNAVAILABLE", "storage", "The history takes no changes now; nothing was accepted."},
}

// Status is the HTTP status a caller sees.
func (k Kind) Status() int { return kinds[k].status }

// Outcome is the metric and audit label, from a closed set.
func (k Kind) Outcome() string { return kinds[k].outcome }

// Error is a failed operation. Code and Message go out to the VASP backend
// and so never quote a value from a payload; Err stays inside, for the log.
type Error struct {
	Op      string
	Kind    Kind
	Code    string // contract 6.4; "" takes the kind's
	Message string // "" takes the kind's
	Err     error

	RetryAfter time.Duration // that the other side asks to wait; zero: it does not say
}

// Error is for the log: operation, code and cause, no payload.
func (e *Error) Error() string {
	s := e.Op + ": " + e.code()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) code() string {
	if e.Code != "" {
		return e.Code
	}
	return kinds[e.Kind].code
}

func (e *Error) message() string {
	if e.Message == "" {
		return kinds[e.Kind].message
	}
	return e.Message
}

// fail names an operation's failure; an Error inside keeps its kind and words.
// Whatever ran out of time is a Timeout.
func fail(op string, kind Kind, err error) error {
	var inner *Error
	switch {
	case errors.As(err, &inner):
		return &Error{Op: op, Kind: inner.Kind, Code: inner.Code, Message: inner.Message, Err: err, RetryAfter: inner.RetryAfter}
	case errors.Is(err, context.DeadlineExceeded):
		kind = Timeout
	}
	return &Error{Op: op, Kind: kind, Err: err}
}

// invalid is a bad request with the contract's code and a sentence that names
// the field and the remedy.
func invalid(code, format string, args ...any) error {
	return &Error{Op: "read request", Kind: Invalid, Code: code, Message: fmt.Sprintf(format, args...)}
}

// retryAfter is how long the other side asks to wait, zero when it does not.
func retryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// kindOf is the kind of any error; an error that is not ours is Internal.
func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
