package edge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"strconv"
)

// framed is a TLS connection of HTTP/1.1 on which requests are refused that
// two readers could cut differently (attack N6). net/http mends some of them
// silently and nobody behind it can see them: two equal lengths, a header that
// goes on in a second line, lines that end without CR, and a chunked body of
// HTTP/1.0. The requests themselves are read by net/http, never by this.
//
// Reading fails where such a request begins to show, upon which net/http
// answers 400 to that request and closes the connection; what came before is
// answered as usual.
type framed struct {
	*tls.Conn
	seen  scanner
	wrong error
}

var errFraming = errors.New("edge: a request whose length is ambiguous")

// Read implements net.Conn. net/http never reads twice at once.
func (f *framed) Read(p []byte) (int, error) {
	if f.wrong != nil {
		return 0, f.wrong
	}
	n, err := f.Conn.Read(p)
	if good := f.seen.scan(p[:n]); good < n {
		f.wrong = errFraming
		if good == 0 {
			return 0, f.wrong
		}
		return good, nil
	}
	return n, err
}

// scanner follows the requests of one connection. It knows header blocks and
// the bodies that a length announces; of a body that comes in chunks it does
// not look for the end, because the guard closes the connection.
type scanner struct {
	state  state
	line   []byte // of the header, as far as it came; at most maxLine bytes of it
	fields int    // lines of this header block, the request line included
	old    bool   // not HTTP/1.1
	length int64  // of the body, what is left of it; -1: none told
	chunks bool
}

type state uint8

const (
	inHeader state = iota
	inBody
	inChunks // to the end of the connection
)

// maxLine is how much of a line is kept: more than any name and length need.
// Request lines are kept by their end, where the version is.
const maxLine = 256

// maxDigits is how many digits a length may have: 2^63 has as many, and no line
// with more of them was kept whole.
const maxDigits = 19

// scan takes what was read next, and tells how many bytes of it are good.
func (s *scanner) scan(p []byte) (good int) {
	for i := 0; i < len(p); {
		switch s.state {
		case inChunks:
			return len(p)
		case inBody:
			n := min(s.length, int64(len(p)-i))
			i += int(n)
			if s.length -= n; s.length == 0 {
				*s = scanner{line: s.line[:0]}
			}
		default:
			end := bytes.IndexByte(p[i:], '\n')
			if end < 0 {
				s.keep(p[i:])
				return len(p)
			}
			s.keep(p[i : i+end+1])
			if !s.endLine() {
				return i
			}
			i += end + 1
		}
	}
	return len(p)
}

// keep remembers the part of a line that matters: the beginning of a field,
// the end of a request line, and always the last two bytes.
func (s *scanner) keep(part []byte) {
	s.line = append(s.line, part...)
	if over := len(s.line) - maxLine; over > 0 {
		if s.fields == 0 {
			s.line = s.line[:copy(s.line, s.line[over:])]
		} else {
			last := [2]byte(s.line[len(s.line)-2:])
			s.line = append(s.line[:maxLine-2], last[:]...)
		}
	}
}

// endLine judges a line that has ended, and says whether it may pass.
func (s *scanner) endLine() bool {
	line, ok := bytes.CutSuffix(s.line, []byte("\r\n"))
	if !ok || bytes.IndexByte(line, '\r') >= 0 {
		return false
	}
	defer func() { s.line = s.line[:0] }()
	s.fields++
	switch {
	case s.fields == 1:
		s.old, s.length = !bytes.HasSuffix(line, []byte(" HTTP/1.1")), -1
		return len(line) > 0
	case len(line) == 0:
		return s.endHeader()
	case line[0] == ' ' || line[0] == '\t': // obs-fold of RFC 9112, section 5.2
		return false
	}
	name, value, _ := bytes.Cut(line, []byte{':'})
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		return s.tellLength(bytes.Trim(value, " \t"))
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		s.chunks = true
	}
	return true
}

// tellLength takes one length of digits only.
func (s *scanner) tellLength(value []byte) bool {
	n, err := strconv.ParseUint(string(value), 10, 63)
	if err != nil || len(value) > maxDigits || s.length >= 0 {
		return false
	}
	s.length = int64(n)
	return true
}

func (s *scanner) endHeader() bool {
	switch {
	case s.chunks:
		s.state = inChunks
		return !s.old && s.length < 0
	case s.length > 0:
		s.state = inBody
	default:
		*s = scanner{line: s.line}
	}
	return true
}
