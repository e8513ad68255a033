package wirejson

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Error says why a JSON text was refused. It may be logged and sent back:
// it holds nothing of the text but the names of members that the contract or
// the reader's own type knows.
type Error struct {
	// Pointer is the JSON Pointer (RFC 6901) of the place, "" for the whole
	// text. A name in no schema is "?", and only printable ASCII occurs.
	Pointer string
	// Problem says what is wrong and what to send instead.
	Problem string
}

func (e *Error) Error() string {
	if e.Pointer == "" {
		return "json: " + e.Problem
	}
	return "json at " + e.Pointer + ": " + e.Problem
}

func (r *reading) syntactic(err error, b []byte, names vocabulary) error {
	var s *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.EOF):
		return &Error{Problem: "empty; send one value"}
	case !errors.As(err, &s):
		return &Error{Problem: "not JSON"}
	}
	e := &Error{Pointer: r.pointer(s.JSONPointer, names)}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		e.Problem = "the same member twice; send it once"
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Problem = "ends too early; send the whole value"
	case !utf8.Valid(b):
		e.Problem = "not UTF-8; encode text as UTF-8"
	default:
		e.Problem = fmt.Sprintf("not JSON at byte %d", s.ByteOffset)
	}
	return e
}

func (r *reading) semantic(err error, names vocabulary) error {
	var s *json.SemanticError
	if !errors.As(err, &s) {
		return &Error{Problem: "not readable"}
	}
	e := &Error{Pointer: r.pointer(s.JSONPointer, names)}
	got, want := spoken(s.JSONKind), wanted(s.GoType)
	switch {
	case errors.Is(err, json.ErrUnknownName):
		e.Problem = "unknown member; remove it"
	case want == "" || got == want:
		// The cause may quote the value, so it stays here.
		e.Problem = "not a valid value"
	default:
		e.Problem = "got " + got + ", want " + want
	}
	return e
}

// spoken names a kind of JSON value.
func spoken(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '[':
		return "an array"
	case '{':
		return "an object"
	}
	return "something else"
}

var (
	text = reflect.TypeFor[encoding.TextUnmarshaler]()
	own  = reflect.TypeFor[json.Unmarshaler]()
)

// wanted names the kind of JSON value that decodes into t, "" when t decides
// that itself.
func wanted(t reflect.Type) string {
	switch {
	case t == nil:
		return ""
	case reflect.PointerTo(t).Implements(text):
		return "a string"
	case reflect.PointerTo(t).Implements(own):
		return ""
	}
	switch t.Kind() {
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		return "a number"
	}
	return ""
}

// maxName is how much of a shown name an error holds.
const maxName = 64

// pointer makes p fit to be shown: array indexes and known names stay, other
// names become "?", or printable ASCII when the operator wrote them.
func (r *reading) pointer(p jsontext.Pointer, names vocabulary) string {
	var shown strings.Builder
	for name := range p.Tokens() {
		shown.WriteByte('/')
		switch {
		case names.has(name) || isIndex(name):
			shown.WriteString(name)
		case r.showNames:
			shown.WriteString(printable(name))
		default:
			shown.WriteByte('?')
		}
	}
	return shown.String()
}

// isIndex says whether name can be an array's index. Five digits are enough
// for any within the limits, and too few for an account number.
func isIndex(name string) bool {
	return len(name) <= 5 && strings.Trim(name, "0123456789") == ""
}

func printable(name string) string {
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || c == '/' {
			return '?'
		}
		return c
	}, name)
	return name[:min(len(name), maxName)]
}

// Shown makes the pointer p, that was made from a foreign text, fit for an
// Error or a log: array indexes and the contract's names stay, and any other
// name is "?".
func Shown(p jsontext.Pointer) string { return new(reading).pointer(p, vocabulary{}) }
