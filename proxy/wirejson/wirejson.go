// Package wirejson reads JSON that came from somewhere else: a backend, a
// counterparty, the central server, a file. Every edge reads through it, so
// that no two of them understand the same bytes differently.
//
// It is strict about the text and tolerant about the content. Refused are
// duplicate names, invalid UTF-8, data after the value, the NUL character and
// anything beyond the Limits (attacks P1, P2); names are case-sensitive.
// Members that the reader does not know are ignored unless it asks otherwise,
// since the contract lets the other side grow.
//
// All errors are *Error. They say where and what to change, and never quote
// what was sent (attack L3).
package wirejson

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits bound one JSON text. A field that is zero has its default.
type Limits struct {
	Bytes  int // the whole text; default 1 MiB
	Depth  int // objects and arrays inside each other; default 32
	Tokens int // names, values, brackets and braces; default 10,000
	String int // one string, name or number as written, in bytes; default 64 KiB
}

func (l Limits) orDefault() Limits {
	return Limits{
		Bytes:  or(l.Bytes, 1<<20),
		Depth:  or(l.Depth, 32),
		Tokens: or(l.Tokens, 10_000),
		String: or(l.String, 64<<10),
	}
}

func or(n, standard int) int {
	if n == 0 {
		return standard
	}
	return n
}

// Option changes how Unmarshal reads.
type Option func(*reading)

type reading struct {
	limits        Limits
	refuseUnknown bool
	showNames     bool
}

// WithLimits replaces the default Limits.
func WithLimits(l Limits) Option { return func(r *reading) { r.limits = l } }

// RefuseUnknown refuses members that v has no field for. For texts that decide
// who is trusted, and for files that an operator writes.
func RefuseUnknown() Option { return func(r *reading) { r.refuseUnknown = true } }

// ShowNames lets errors name members that are not in any schema. Only for
// files that the operator wrote: in a message a member's name may be personal
// data.
func ShowNames() Option { return func(r *reading) { r.showNames = true } }

// Check says whether b is one JSON value within the limits. It does not keep
// or change b.
func Check(b []byte, lim Limits) error {
	return check(b, &reading{limits: lim}, known(nil))
}

// Unmarshal checks b and decodes it into v, a non-nil pointer, by the rules of
// github.com/go-json-experiment/json. After an error v may be partly filled.
func Unmarshal(b []byte, v any, opts ...Option) error {
	var r reading
	for _, o := range opts {
		o(&r)
	}
	names := known(v)
	if err := check(b, &r, names); err != nil {
		return err
	}
	// Duplicates were looked for already; looking twice costs as much again.
	err := json.Unmarshal(b, v, json.RejectUnknownMembers(r.refuseUnknown), jsontext.AllowDuplicateNames(true))
	if err != nil {
		return r.semantic(err, names)
	}
	return nil
}

// decoders are reused: a new one costs more than a short text.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// nothing is what an idle decoder reads, so that it does not keep a body.
var nothing = new(bytes.Buffer)

func check(b []byte, r *reading, names vocabulary) error {
	lim := r.limits.orDefault()
	if len(b) > lim.Bytes {
		return &Error{Problem: fmt.Sprintf("longer than %d bytes; send less", lim.Bytes)}
	}
	d := decoders.Get().(*jsontext.Decoder)
	d.Reset(bytes.NewBuffer(b))
	defer func() {
		d.Reset(nothing)
		decoders.Put(d)
	}()
	problem, err := scan(d, lim)
	switch {
	case err != nil:
		return r.syntactic(err, b, names)
	case problem != "":
		return &Error{Pointer: r.pointer(d.StackPointer(), names), Problem: problem}
	}
	return nil
}

// scan reads the one value that d holds and the end after it.
func scan(d *jsontext.Decoder, lim Limits) (problem string, err error) {
	for n := 1; ; n++ {
		if n > lim.Tokens {
			return fmt.Sprintf("more than %d parts; send fewer", lim.Tokens), nil
		}
		if problem, err = next(d, lim); problem != "" || err != nil {
			return problem, err
		}
		if d.StackDepth() == 0 {
			break
		}
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return "more data after the value; send one value", nil
	}
	return "", nil
}

// next reads one token. Scalars are read as raw text, which costs no copy and
// gives their length.
func next(d *jsontext.Decoder, lim Limits) (problem string, err error) {
	switch d.PeekKind() {
	case '{', '[':
		if _, err = d.ReadToken(); err == nil && d.StackDepth() > lim.Depth {
			return fmt.Sprintf("nested deeper than %d; send a flatter value", lim.Depth), nil
		}
		return "", err
	case '}', ']':
		_, err = d.ReadToken()
		return "", err
	}
	raw, err := d.ReadValue()
	switch {
	case err != nil:
		return "", err
	case len(raw) > lim.String+2: // its quotes
		return fmt.Sprintf("text longer than %d bytes; send less", lim.String), nil
	case hasNUL(raw):
		return `the character NUL (\u0000) is in a string; remove it`, nil
	}
	return "", nil
}

// hasNUL says whether a JSON string holds NUL. A bare one is no JSON at all,
// so only the escape counts; \\u0000 is a backslash and five characters.
func hasNUL(raw jsontext.Value) bool {
	if !bytes.Contains(raw, []byte(`\u0000`)) {
		return false
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	return err != nil || bytes.IndexByte(text, 0) >= 0
}
