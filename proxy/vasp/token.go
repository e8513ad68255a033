package vasp

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// Token is the secret that shows a VASP's backend that its own enclave calls.
// It prints as [redacted] in every form. The zero Token is none.
type Token struct {
	// A pointer: fmt shows unexported fields without asking for a method, and
	// of this one it can show the address only.
	secret *string
}

// NewToken holds secret; the empty string is no token.
func NewToken(secret string) Token {
	if secret == "" {
		return Token{}
	}
	return Token{&secret}
}

const redacted = "[redacted]"

// Format prints [redacted] for every verb and flag.
func (Token) Format(w fmt.State, _ rune) { io.WriteString(w, redacted) }

// String is [redacted].
func (Token) String() string { return redacted }

// MarshalText is [redacted], and so is what JSON and YAML show.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue is [redacted].
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// authorization is the header that carries the token (contract 3.0), nothing
// without one. The value is behind a pointer for the Token's own reason.
func authorization(name string, t Token) (header string, value *string, err error) {
	switch {
	case !isHeaderName(name):
		return "", nil, errors.New("authorization header name: must be letters, digits and hyphens")
	case reserved[http.CanonicalHeaderKey(name)]:
		return "", nil, fmt.Errorf("authorization header name: %s has another use", http.CanonicalHeaderKey(name))
	case t.secret == nil:
		return "", nil, nil
	case strings.ContainsFunc(*t.secret, func(r rune) bool { return r < ' ' || r > '~' }):
		return "", nil, errors.New("authorization token: has a character that no header can hold; is there a line end in it?")
	case name != "":
		return http.CanonicalHeaderKey(name), t.secret, nil
	}
	bearer := "Bearer " + *t.secret
	return "Authorization", &bearer, nil
}

// reserved are headers that the request needs for itself.
var reserved = map[string]bool{
	"Host": true, "Content-Type": true, "Content-Length": true, "Content-Encoding": true, "Accept": true, "Accept-Encoding": true,
	"Connection": true, "Transfer-Encoding": true, "Te": true, "Trailer": true, "Upgrade": true, "Expect": true, "User-Agent": true,
}

func isHeaderName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}
