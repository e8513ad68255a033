package relay

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that no log, error, dump or JSON shows.
type Secret struct {
	// A pointer: fmt prints the fields of a struct inside an unexported field
	// without asking its methods, and then shows an address at most.
	text *string
}

// NewSecret holds a text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal gives the text; empty when there is none.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

const redacted = "[redacted]"

// String is [redacted].
func (s Secret) String() string { return redacted }

// Format prints the same for every verb and flag.
func (s Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, redacted) }

// MarshalText is what JSON and YAML show.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue is what slog shows.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}
