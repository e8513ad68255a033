package settings

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a Secret prints as.
const Redacted = "[redacted]"

// Secret is a text that no log, error, dump or JSON shows. The zero Secret is
// unset.
type Secret struct {
	// A pointer: fmt prints the fields of a struct inside an unexported field
	// without asking its methods, and then shows an address at most.
	value    *string
	fromFile bool
}

// NewSecret holds a text that came from somewhere else than the environment.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{value: &text}
}

// Reveal gives the text itself; empty when unset. Each call is a place to look
// at in a review.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsSet tells whether there is a secret.
func (s Secret) IsSet() bool { return s.value != nil }

// FromFile tells whether the secret was read from a file and so never stood in
// the process's environment.
func (s Secret) FromFile() bool { return s.fromFile }

// String is [redacted], or empty when unset.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return Redacted
}

// Format prints the same for every verb and flag.
func (s Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, s.String()) }

// MarshalText is what JSON, YAML and the like show.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is what slog shows.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// SettingType names the type in help texts.
func (Secret) SettingType() string { return "secret" }
