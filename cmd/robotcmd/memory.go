package robotcmd

import (
	"strconv"
	"sync"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// remembered is how many requests and how many callbacks a robot remembers.
const remembered = 1000

// maxKept is the length in bytes from which a remembered body is replaced by
// its size, so that a robot's memory stays small whatever it is sent.
const maxKept = 64 << 10

// request is one request as it came. It is never changed.
type request struct {
	at           time.Time
	method, path string
	header, sent string // the token's header, and its masked value
	right        bool   // whether the token was right
	body         []byte
}

// memory is the last requests, in a ring: to remember one is to write one
// pointer. Methods may be called concurrently.
type memory struct {
	mu   sync.Mutex
	ring []*request
	next int // where the next one goes, and the oldest is
}

func newMemory(n int) *memory { return &memory{ring: make([]*request, n)} }

func (m *memory) add(r *request) {
	if len(r.body) > maxKept {
		short := *r
		short.body = []byte(`"` + strconv.Itoa(len(r.body)) + ` bytes"`)
		r = &short
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ring[m.next] = r
	m.next = (m.next + 1) % len(m.ring)
}

// list is what is remembered, the oldest first.
func (m *memory) list() (all []*request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.ring {
		if r := m.ring[(m.next+i)%len(m.ring)]; r != nil {
			all = append(all, r)
		}
	}
	return all
}

// asRequests is a JSON array of {time, method, path, authorization,
// authorized, body}.
func (m *memory) asRequests() []byte {
	return array(m.list(), func(r *request) []byte {
		var t text
		t.str("time", r.at.UTC().Format("2006-01-02T15:04:05.000Z"))
		t.str("method", r.method)
		t.str("path", r.path)
		if r.sent != "" {
			t.str("authorization", r.header+": "+r.sent)
		}
		t.raw("authorized", strconv.AppendBool(nil, r.right))
		if wirejson.Check(r.body, wirejson.Limits{}) == nil {
			t.raw("body", r.body)
		} else {
			t.str("body", string(r.body)) // as text, since it is no JSON
		}
		return t.end()
	})
}

// asBodies is a JSON array of the bodies, which are JSON.
func (m *memory) asBodies() []byte {
	return array(m.list(), func(r *request) []byte { return r.body })
}

func array[T any](all []T, show func(T) []byte) []byte {
	out := []byte{'['}
	for i, r := range all {
		if i > 0 {
			out = append(out, ",\n"...)
		}
		out = append(out, show(r)...)
	}
	return append(out, "]\n"...)
}
