// Package redact keeps secrets out of logs, errors and dumps.
package redact

import (
	"fmt"
	"io"
	"log/slog"
)

// Text is what a secret prints as.
const Text = "[redacted]"

// Secret is embedded by a type that holds a secret. The type then prints as
// Text under every fmt verb, in JSON and in slog.
type Secret struct{}

// Format implements fmt.Formatter for every verb, %#v and %d included.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, Text) }

// MarshalText implements encoding.TextMarshaler, which JSON uses too.
func (Secret) MarshalText() ([]byte, error) { return []byte(Text), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(Text) }
