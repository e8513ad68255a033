package edge_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// Attack N6: what HTTP/2 lets a client do at little cost is bounded. During
// each flood and after it an honest client is answered, and neither memory nor
// goroutines stay behind.
func TestHTTP2Floods(t *testing.T) {
	many := 10_000
	if os.Getenv("TORTURE") != "" {
		many = 1_000_000
	}
	for name, flood := range map[string]func(c *h2Client){
		"rapid reset": func(c *h2Client) { // CVE-2023-44487
			for i := range many {
				id := uint32(2*i + 1)
				if c.headers(id, true) != nil || c.f.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					return
				}
			}
		},
		"resets that the server is made to send": func(c *h2Client) { // "MadeYouReset", CVE-2025-8671
			for i := range many {
				id := uint32(2*i + 1)
				if c.headers(id, false) != nil || c.f.WriteWindowUpdate(id, 0) != nil {
					return
				}
			}
		},
		"streams beyond the limit": func(c *h2Client) {
			for i := range many {
				if c.headers(uint32(2*i+1), false) != nil {
					return
				}
			}
		},
		"CONTINUATION": func(c *h2Client) { // VU#421644
			block := c.block("x-filler", strings.Repeat("x", 4000))
			if c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(":method", "GET")}) != nil {
				return
			}
			for range many {
				if c.f.WriteContinuation(1, false, block) != nil {
					return
				}
			}
		},
		"empty CONTINUATION": func(c *h2Client) {
			if c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(":method", "GET")}) != nil {
				return
			}
			for range many {
				if c.f.WriteContinuation(1, false, nil) != nil {
					return
				}
			}
		},
		"HPACK bomb": func(c *h2Client) { // one long entry of the table, named again and again
			c.block("x-bomb", strings.Repeat("x", 3000))
			bomb := bytes.Repeat(c.block("x-bomb", strings.Repeat("x", 3000)), 10_000)
			for i := range many / 1000 {
				id := uint32(2*i + 1)
				if c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: bomb}) != nil {
					return
				}
			}
		},
		"SETTINGS": func(c *h2Client) {
			for range many {
				if c.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535}) != nil {
					return
				}
			}
		},
		"PING": func(c *h2Client) {
			for range many {
				if c.f.WritePing(false, [8]byte{}) != nil {
					return
				}
			}
		},
		"PRIORITY": func(c *h2Client) {
			for i := range many {
				if c.f.WritePriority(uint32(2*i+1), http2.PriorityParam{StreamDep: 0, Weight: 1}) != nil {
					return
				}
			}
		},
		"empty DATA": func(c *h2Client) {
			if c.headers(1, false) != nil {
				return
			}
			for range many {
				if c.f.WriteData(1, false, nil) != nil {
					return
				}
			}
		},
		"window of nothing": func(c *h2Client) { // answers that nobody lets go
			if c.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) != nil {
				return
			}
			for i := range many {
				if c.headers(uint32(2*i+1), true) != nil {
					return
				}
			}
		},
		"window that jumps": func(c *h2Client) {
			for i := range many {
				if c.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i%2) * 1 << 20}) != nil {
					return
				}
			}
		},
		"window past its end": func(c *h2Client) {
			for range many {
				if c.f.WriteWindowUpdate(0, 1<<31-1) != nil {
					return
				}
			}
		},
		"tiny frames of a body": func(c *h2Client) {
			if c.headersOf(1, "POST", "content-length", fmt.Sprint(many)) != nil {
				return
			}
			for range many {
				if c.f.WriteData(1, false, []byte{0}) != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, edge.Config{})
			honest := w.client(server, "h2")
			if got, err := w.get(honest); got != 200 || err != nil {
				t.Fatalf("before: %d, %v", got, err)
			}
			goroutines, memory := runtime.NumGoroutine(), allocated()
			c := w.h2(member)
			flooded := make(chan struct{})
			go func() { defer close(flooded); flood(c) }()
			for done := false; !done; {
				select {
				case <-flooded:
					done = true
				default:
				}
				if got, err := w.get(honest); got != 200 || err != nil {
					t.Fatalf("meanwhile: %d, %v", got, err)
				}
				if n := runtime.NumGoroutine() - goroutines; n > 5*100+50 { // four times the streams may wait
					t.Fatalf("%d goroutines more", n)
				}
				if grown := allocated() - memory; grown > 64<<20 {
					t.Fatalf("%d MiB more", grown>>20)
				}
			}
			c.conn.Close()
			w.eventually("nothing stays behind", func() bool {
				runtime.Gosched()
				return w.metric("enclave_open_connections") == 1 && w.metric("enclave_requests_in_flight") == 0 && runtime.NumGoroutine() <= goroutines+5
			})
			if got, err := w.get(honest); got != 200 || err != nil {
				t.Errorf("afterwards: %d, %v", got, err)
			}
		})
	}
}

// A header list that is too long is answered 431, and its connection serves
// on. One field that is too long by itself, and a list that goes on and on, end
// the connection.
func TestALongHeaderListOnHTTP2(t *testing.T) {
	w := newWorld(t, edge.Config{})
	c := w.h2(member)
	var fields []string
	for range 200 {
		fields = append(fields, "x-one", strings.Repeat("x", 100))
	}
	if err := c.headersOf(1, "GET", fields...); err != nil {
		t.Fatal(err)
	}
	if got := c.status(1); got != "431" {
		t.Errorf("a long header list: %s", got)
	}
	if err := c.headers(3, true); err != nil {
		t.Fatal(err)
	}
	if got := c.status(3); got != "200" {
		t.Errorf("an honest request after it: %s", got)
	}
}

// A body longer or shorter than it was said to be never reaches the handler
// whole.
func TestABodyOfAnotherLengthOnHTTP2(t *testing.T) {
	w := newWorld(t, edge.Config{})
	read := make(chan error, 1)
	w.handler = body(read)
	for name, data := range map[string]string{"longer": "hello, world", "shorter": "hel"} {
		c := w.h2(member)
		if err := c.headersOf(1, "POST", "content-length", "5"); err != nil {
			t.Fatal(err)
		}
		if err := c.f.WriteData(1, true, []byte(data)); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err == nil {
			t.Errorf("%s: the handler read a whole body", name)
		}
		c.conn.Close()
	}
}

// h2Client writes frames as it likes, and reads what comes in a goroutine.
type h2Client struct {
	t        testing.TB
	conn     net.Conn
	f        *http2.Framer
	text     bytes.Buffer
	enc      *hpack.Encoder
	statuses chan [2]string
}

func (w *world) h2(from string) *h2Client {
	w.t.Helper()
	conn, err := w.tlsDial(from, &tls.Config{NextProtos: []string{"h2"}})
	if err != nil {
		w.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	c := &h2Client{t: w.t, conn: conn, f: http2.NewFramer(conn, conn), statuses: make(chan [2]string, 16)}
	c.enc = hpack.NewEncoder(&c.text)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		w.t.Fatal(err)
	}
	if err := c.f.WriteSettings(); err != nil {
		w.t.Fatal(err)
	}
	go c.read()
	return c
}

// read drains what the server says; statuses that nobody waits for are lost.
func (c *h2Client) read() {
	reader := http2.NewFramer(nil, c.conn)
	reader.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := reader.ReadFrame()
		var stream http2.StreamError
		if errors.As(err, &stream) {
			continue
		}
		if err != nil {
			return
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok {
			select {
			case c.statuses <- [2]string{fmt.Sprint(h.StreamID), h.PseudoValue("status")}:
			default:
			}
		}
	}
}

func (c *h2Client) status(stream int) string {
	for {
		select {
		case s := <-c.statuses:
			if s[0] == fmt.Sprint(stream) {
				return s[1]
			}
		case <-time.After(30 * time.Second):
			return "none"
		}
	}
}

// block encodes fields.
func (c *h2Client) block(fields ...string) []byte {
	c.text.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.text.Bytes())
}

func (c *h2Client) headers(stream uint32, end bool) error {
	return c.f.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, EndHeaders: true, EndStream: end,
		BlockFragment: c.block(":method", "GET", ":scheme", "https", ":authority", "vasp.example", ":path", "/"),
	})
}

// headersOf begins a request with more fields, in as many frames as it takes.
func (c *h2Client) headersOf(stream uint32, method string, more ...string) error {
	block := c.block(append([]string{":method", method, ":scheme", "https", ":authority", "vasp.example", ":path", "/"}, more...)...)
	first := block[:min(len(block), 16<<10)]
	block = block[len(first):]
	err := c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: len(block) == 0, EndStream: method == "GET", BlockFragment: first})
	for err == nil && len(block) > 0 {
		part := block[:min(len(block), 16<<10)]
		block = block[len(part):]
		err = c.f.WriteContinuation(stream, len(block) == 0, part)
	}
	return err
}

func allocated() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// body is a handler that tells how reading ended.
func body(read chan<- error) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		read <- err
	}
}
