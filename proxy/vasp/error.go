package vasp

import "strconv"

// Error says which API failed and how, and nothing more: no URL, no token, no
// part of what was sent or answered (attacks V1 and L3).
type Error struct {
	API     string // "account", "user", "transaction" or "callback"
	Problem Problem
	Code    int // the HTTP status when Problem is Status or Redirect, else 0
}

func (e *Error) Error() string {
	s := "vasp " + e.API + " api: " + problems[e.Problem].text
	if e.Code != 0 {
		s += " " + strconv.Itoa(e.Code)
	}
	return s
}

// Problem is the way in which a call failed.
type Problem uint8

// The closed set of problems. Only Unreachable and NotConfigured are certain
// that the backend was not asked; after any other it may have acted on the
// request.
const (
	// Unreachable: no connection could be made, in time or at all, TLS
	// included.
	Unreachable Problem = iota + 1
	// Timeout: asked, and no whole answer before the deadline.
	Timeout
	// Broken: the connection ended, or the call was given up, after it may
	// have carried the request; or what came back was not HTTP.
	Broken
	// Redirect: answered with a redirect, which is never followed.
	Redirect
	// Status: answered with another HTTP status than 200.
	Status
	// TooLarge: the answer has more than 1 MiB.
	TooLarge
	// NotJSON: the answer is no JSON that wirejson accepts, or says that it
	// is something else.
	NotJSON
	// Invalid: the answer is JSON and not what the contract asks for.
	Invalid
	// NotConfigured: the API has no URL.
	NotConfigured
)

var problems = [...]struct{ label, text string }{
	0:             {"unknown", "failed"},
	Unreachable:   {"unreachable", "cannot be reached"},
	Timeout:       {"timeout", "did not answer in time"},
	Broken:        {"broken", "connection lost after asking"},
	Redirect:      {"redirect", "answered with a redirect, which is not followed; status"},
	Status:        {"status", "answered with status"},
	TooLarge:      {"too-large", "answered with more than 1 MiB"},
	NotJSON:       {"not-json", "answered with something else than JSON"},
	Invalid:       {"invalid", "answered with JSON that is not what the contract asks for"},
	NotConfigured: {"not-configured", "is not configured"},
}

// String is the problem's label in metrics.
func (p Problem) String() string {
	if int(p) >= len(problems) {
		p = 0
	}
	return problems[p].label
}
