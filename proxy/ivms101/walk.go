package ivms101

import (
	"bytes"
	"iter"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// part is one member of an object or element of an array: its name or index,
// its value, and where the two stand in the text around them.
type part struct {
	name       string
	value      []byte // part of the text, not a copy
	start, end int    // of name and value together
}

// members gives the members of an object in their order, and nothing for any
// other value. The text has passed wirejson.Check, so reading it cannot fail.
func members(raw []byte) iter.Seq[part] {
	return func(yield func(part) bool) {
		if kind(raw) != '{' {
			return
		}
		d := open(raw)
		for d.PeekKind() == '"' {
			quoted, _ := d.ReadValue()
			end := int(d.InputOffset())
			name, start := unquote(quoted), end-len(quoted)
			value, err := d.ReadValue()
			if err != nil || !yield(part{name, value, start, int(d.InputOffset())}) {
				return
			}
		}
	}
}

// elements gives the elements of an array in their order, and nothing for any
// other value.
func elements(raw []byte) iter.Seq[part] {
	return func(yield func(part) bool) {
		if kind(raw) != '[' {
			return
		}
		d := open(raw)
		for i := 0; d.PeekKind() != ']'; i++ {
			value, err := d.ReadValue()
			end := int(d.InputOffset())
			if err != nil || !yield(part{strconv.Itoa(i), value, end - len(value), end}) {
				return
			}
		}
	}
}

// open reads raw up to the start of its first part. A decoder over a
// bytes.Buffer gives parts of the buffer and copies nothing.
func open(raw []byte) *jsontext.Decoder {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true))
	d.ReadToken()
	return d
}

func kind(raw []byte) jsontext.Kind { return jsontext.Value(raw).Kind() }

func unquote(quoted []byte) string {
	text, _ := jsontext.AppendUnquote(nil, quoted)
	return string(text)
}
