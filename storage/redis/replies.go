package redis

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Bounds of what a server may say to one question. The largest honest answer
// is a large cluster's list of slots.
const (
	maxReply = 1 << 20  // bytes
	maxItems = 1 << 16  // elements of lists, all together
	maxLine  = 1 << 10  // bytes
	maxBulk  = 16 << 10 // bytes; far more than a bundle has, so that most too long values cost no connection
)

// errReply ends a connection whose server says what no honest one says.
var errReply = errors.New("reply out of bounds")

// errTooLong is a value that is longer than any of ours. An honest server says
// it when somebody else wrote the value.
var errTooLong = fmt.Errorf("%w: value too long", errReply)

// replies watches what a server says, in the Redis protocol, for lengths that
// would make its reader allocate without bound, or panic.
type replies struct {
	line        []byte // the current one, without its end, as far as it was read
	skip        int    // bytes of a value that are still to come, with their line end
	size, items int    // since the last question
}

func (r *replies) restart() { r.size, r.items = 0, 0 }

// pass looks at the next bytes.
func (r *replies) pass(b []byte) error {
	if r.size += len(b); r.size > maxReply {
		return errReply
	}
	for len(b) > 0 {
		if r.skip > 0 {
			n := min(r.skip, len(b))
			r.skip, b = r.skip-n, b[n:]
			continue
		}
		part, rest, ended := bytes.Cut(b, []byte{'\n'})
		if len(r.line)+len(part) > maxLine {
			return errReply
		}
		r.line, b = append(r.line, part...), rest
		if !ended {
			return nil
		}
		if err := r.header(bytes.TrimSuffix(r.line, []byte{'\r'})); err != nil {
			return err
		}
		r.line = r.line[:0]
	}
	return nil
}

// header looks at a line, which may announce a value or a list.
func (r *replies) header(line []byte) error {
	if len(line) == 0 {
		return errReply
	}
	switch line[0] {
	case '$', '=', '!':
		n, err := strconv.Atoi(string(line[1:]))
		switch {
		case err != nil || n < -1:
			return errReply
		case n > maxBulk:
			return errTooLong
		case n >= 0:
			r.skip = n + len("\r\n")
		}
	case '*', '~', '>', '%', '|':
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil || n < -1 || n > maxItems-r.items {
			return errReply
		}
		r.items += max(n, 0)
	}
	return nil
}
