package edge_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// honest is a request as central makes it; its answer shows that the handler
// was reached with just this request.
const honest = "POST /honest HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 5\r\n\r\nhello"

// refusals are requests that central never makes, each with the exact status
// that it gets.
var refusals = []struct{ name, request, want string }{
	{"chunked", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "411"},
	{"chunked, then a request", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + honest, "411"},
	{"Chunked, in other letters", "POST / HTTP/1.1\r\nHost: vasp.example\r\ntransfer-ENCODING: CHUNKED\r\n\r\n0\r\n\r\n", "411"},
	{"endless chunks", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 1024), "411"},
	{"gzip as transfer coding", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
	{"identity", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding: identity\r\n\r\n", "501"},
	{"chunked twice", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501"},
	{"chunked, chunked", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "501"},
	{"TE.CL", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + honest, "400"},
	{"CL.TE", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + honest, "400"},
	{"blank before the colon", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + honest, "400"},
	{"tab before chunked", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + honest, "400"},
	{"vertical tab before chunked", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", "400"},
	{"chunks of HTTP/1.0", "POST / HTTP/1.0\r\nHost: vasp.example\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + honest, "400"},
	{"two lengths", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
	{"two equal lengths", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400"},
	{"a list of lengths", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 5, 5\r\n\r\nhello", "400"},
	{"a length with a sign", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: +5\r\n\r\nhello", "400"},
	{"a negative length", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: -5\r\n\r\nhello", "400"},
	{"a length in hex", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 0x5\r\n\r\nhello", "400"},
	{"a length of many zeros", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: " + strings.Repeat("0", 300) + "5\r\n\r\nhello", "400"},
	{"a length past 2^63", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 9223372036854775808\r\n\r\nhello", "400"},
	{"an empty length", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length:\r\n\r\nhello", "400"},
	{"obs-fold", "POST / HTTP/1.1\r\nHost: vasp.example\r\nX-One: a\r\n b\r\nContent-Length: 0\r\n\r\n", "400"},
	{"obs-fold with a length in it", "POST / HTTP/1.1\r\nHost: vasp.example\r\nX-One: a\r\n\tContent-Length: 5\r\n\r\nhello", "400"},
	{"lines without CR", "POST / HTTP/1.1\nHost: vasp.example\nContent-Length: 0\n\n", "400"},
	{"one line without CR", "POST / HTTP/1.1\r\nHost: vasp.example\r\nX-One: a\nContent-Length: 5\r\n\r\nhello", "400"},
	{"CR in a line", "POST / HTTP/1.1\r\nHost: vasp.example\r\nX-One: a\rContent-Length: 5\r\n\r\n", "400"},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: vasp.example\r\nX-One: a\x00b\r\n\r\n", "400"},
	{"DEL in a value", "GET / HTTP/1.1\r\nHost: vasp.example\r\nX-One: a\x7fb\r\n\r\n", "400"},
	{"NUL in a name", "GET / HTTP/1.1\r\nHost: vasp.example\r\nX\x00One: a\r\n\r\n", "400"},
	{"no colon", "GET / HTTP/1.1\r\nHost: vasp.example\r\nX-One\r\n\r\n", "400"},
	{"a name with an underscore", "GET / HTTP/1.1\r\nHost: vasp.example\r\nContent_Length: 5\r\n\r\n", "400"},
	{"a blank line first", "\r\nGET / HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "400"},
	{"HTTP/0.9", "GET /\r\n", "400"},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: vasp.example\r\n\r\n", "505"},
	{"HTTP/2.0 in the request line", "GET / HTTP/2.0\r\nHost: vasp.example\r\n\r\n", "505"},
	{"h2 on HTTP/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "405"},
	{"absolute form", "GET https://other.example/ HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "400"},
	{"absolute form of ourselves", "GET https://vasp.example/ HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "400"},
	{"two slashes", "GET //vasp.example/ HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "400"},
	{"authority form", "GET vasp.example:443 HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "400"},
	{"CONNECT", "CONNECT other.example:443 HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "405"},
	{"TRACE", "TRACE / HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "405"},
	{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "405"},
	{"GET *", "GET * HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "400"},
	{"DELETE", "DELETE / HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "405"},
	{"a method nobody knows", "VEGA / HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "405"},
	{"a method in small letters", "get / HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "405"},
	{"h2c", "GET / HTTP/1.1\r\nHost: vasp.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", "400"},
	{"h2c without Connection", "GET / HTTP/1.1\r\nHost: vasp.example\r\nUpgrade: h2c\r\n\r\n", "400"},
	{"websocket", "GET / HTTP/1.1\r\nHost: vasp.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", "400"},
	{"Connection: X-Api-Key", "GET / HTTP/1.1\r\nHost: vasp.example\r\nConnection: X-Api-Key\r\nX-Api-Key: a\r\n\r\n", "400"},
	{"Connection: close, Signature", "GET / HTTP/1.1\r\nHost: vasp.example\r\nConnection: close, Signature\r\n\r\n", "400"},
	{"Proxy-Connection", "GET / HTTP/1.1\r\nHost: vasp.example\r\nProxy-Connection: keep-alive\r\n\r\n", "400"},
	{"TE: gzip", "GET / HTTP/1.1\r\nHost: vasp.example\r\nTE: gzip\r\n\r\n", "400"},
	{"Trailer", "POST / HTTP/1.1\r\nHost: vasp.example\r\nTrailer: X-One\r\nContent-Length: 5\r\n\r\nhello", "400"},
	{"content coding", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", "415"},
	{"an expectation", "POST / HTTP/1.1\r\nHost: vasp.example\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", "417"},
	{"GET with a body", "GET / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 5\r\n\r\nhello", "400"},
	{"GET with a request as body", "GET / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: " + strconv.Itoa(len(honest)) + "\r\n\r\n" + honest, "400"},
	{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
	{"two hosts", "GET / HTTP/1.1\r\nHost: vasp.example\r\nHost: vasp.example\r\n\r\n", "400"},
	{"another host", "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", "421"},
	{"a host in ours", "GET / HTTP/1.1\r\nHost: vasp.example.evil.example\r\n\r\n", "421"},
	{"an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "421"},
	{"no host of HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "421"},
	{"a host with a user", "GET / HTTP/1.1\r\nHost: a@vasp.example\r\n\r\n", "400"},
	{"a long header", "GET / HTTP/1.1\r\nHost: vasp.example\r\nX-One: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", "431"},
	{"many headers", "GET / HTTP/1.1\r\nHost: vasp.example\r\n" + strings.Repeat("X-One: x\r\n", 4<<10) + "\r\n", "431"},
	{"a long target", "GET /" + strings.Repeat("x", 32<<10) + " HTTP/1.1\r\nHost: vasp.example\r\n\r\n", "431"},
	{"a long body", "POST / HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 4000000\r\n\r\n" + strings.Repeat("x", 4000000), "413"},
	{"a long body, announced", "POST / HTTP/1.1\r\nHost: vasp.example\r\nExpect: 100-continue\r\nContent-Length: 4000000\r\n\r\n", "413"},
}

// What central never sends is answered with a refusal, and the connection is
// closed: what follows on it, an honest request even, is never taken for
// anything (attack N6).
func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t, edge.Config{Hosts: []string{"vasp.example"}})
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			before := w.requests.Load()
			status, rest := w.converse(c.request + honest)
			if status != c.want {
				t.Errorf("answered %q, want %s", status, c.want)
			}
			if rest != "" {
				t.Errorf("after the refusal came %q, want the connection closed", rest)
			}
			if n := w.requests.Load() - before; n != 0 {
				t.Errorf("the handler saw %d requests of it", n)
			}
		})
	}
	if status, _ := w.converse(strings.Replace(honest, "\r\n", "\r\nConnection: close\r\n", 1)); status != "200" {
		t.Errorf("an honest request after all that: %q", status)
	}
}

// The same, when every byte arrives by itself: no refusal depends on what one
// read happens to bring.
func TestRequestsAreRefusedByteForByte(t *testing.T) {
	w := newWorld(t, edge.Config{Hosts: []string{"vasp.example"}})
	for _, c := range refusals {
		if len(c.request) > 1000 {
			continue
		}
		conn := w.mustTLS(member)
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		go func() {
			for _, b := range []byte(c.request) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return // it has answered already
				}
			}
		}()
		if status, _ := answer(conn); status != c.want {
			t.Errorf("%s: answered %q, want %s", c.name, status, c.want)
		}
		conn.Close()
	}
	if n := w.requests.Load(); n != 0 {
		t.Errorf("the handler saw %d requests", n)
	}
}

// What central does send, or might, is served, and many on one connection.
func TestRequestsThatAreServed(t *testing.T) {
	w := newWorld(t, edge.Config{Hosts: []string{"vasp.example", "::1"}})
	w.handler = func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%s %s %s", r.Method, r.URL.Path, body)
	}
	conn := w.mustTLS(member)
	in := bufio.NewReader(conn)
	for name, request := range map[string]string{
		"post":             honest,
		"host with a port": "GET /honest HTTP/1.1\r\nHost: vasp.example:8443\r\n\r\n",
		"host in capitals": "GET /honest HTTP/1.1\r\nHost: VASP.Example\r\n\r\n",
		"IPv6 host":        "GET /honest HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n",
		"keep-alive":       "GET /honest HTTP/1.1\r\nHost: vasp.example\r\nConnection: Keep-Alive\r\n\r\n",
		"TE: trailers":     "GET /honest HTTP/1.1\r\nHost: vasp.example\r\nTE: trailers\r\n\r\n",
		"length 0":         "POST /honest HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 0\r\n\r\n",
		"no body":          "POST /honest HTTP/1.1\r\nHost: vasp.example\r\n\r\n",
		"a request inside": "PUT /honest HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: " + strconv.Itoa(len(refusals[0].request)) + "\r\n\r\n" + refusals[0].request,
		"a long body":      "POST /honest HTTP/1.1\r\nHost: vasp.example\r\nContent-Length: 262144\r\n\r\n" + strings.Repeat("\n", 262144),
	} {
		before := w.requests.Load()
		if _, err := io.WriteString(conn, request+honest); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if body := read(t, r); r.StatusCode != 200 || !strings.Contains(body, " /honest") {
				t.Errorf("%s: %d %.40q", name, r.StatusCode, body)
			}
		}
		if n := w.requests.Load() - before; n != 2 {
			t.Errorf("%s: the handler saw %d requests, want 2", name, n)
		}
	}
}

// A request that comes right behind an honest one and is refused does not
// touch that one's answer.
func TestARefusalBehindAnHonestRequest(t *testing.T) {
	w := newWorld(t, edge.Config{})
	for _, c := range refusals {
		if c.want == "421" {
			continue
		}
		conn := w.mustTLS(member)
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		go func() { _, _ = io.WriteString(conn, honest+c.request) }()
		in := bufio.NewReader(conn)
		r, err := http.ReadResponse(in, nil)
		if err != nil || r.StatusCode != 200 {
			t.Errorf("%s: the honest request before it: %v", c.name, err)
			continue
		}
		read(t, r)
		// net/http answers nothing when not even four bytes can be read.
		early := c.name == "a blank line first" || c.name == "lines without CR"
		if status, _ := answer(in); status != c.want && !(early && status == "") {
			t.Errorf("%s: answered %q, want %s", c.name, status, c.want)
		}
		conn.Close()
	}
}

// Over HTTP/2 the same rules hold, and a refusal ends its stream only.
func TestRequestsThatAreRefusedOnHTTP2(t *testing.T) {
	w := newWorld(t, edge.Config{Hosts: []string{"vasp.example"}})
	client := w.client(member, "h2")
	for name, c := range map[string]struct {
		want int
		do   func(*http.Request)
	}{
		"no length":        {411, func(r *http.Request) { r.ContentLength = -1 }},
		"too long":         {413, func(r *http.Request) { lengthen(r, 4<<20) }},
		"another host":     {421, func(r *http.Request) { r.Host = "other.example" }},
		"TRACE":            {405, func(r *http.Request) { r.Method = "TRACE" }},
		"GET with a body":  {400, func(r *http.Request) { r.Method = "GET" }},
		"content coding":   {415, func(r *http.Request) { r.Header.Set("Content-Encoding", "br") }},
		"an expectation":   {417, func(r *http.Request) { r.Header.Set("Expect", "200-ok") }},
		"an underscore":    {400, func(r *http.Request) { r.Header["content_length"] = []string{"5"} }},
		"trailers to come": {400, func(r *http.Request) { r.Trailer = http.Header{"X-One": nil} }},
	} {
		q, _ := http.NewRequest("POST", "https://"+w.addr+"/", bytes.NewReader([]byte("hello")))
		q.Host = "vasp.example"
		c.do(q)
		r, err := client.Do(q)
		if err != nil {
			t.Errorf("%s: %v, want %d", name, err, c.want)
			continue
		}
		if read(t, r); r.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", name, r.StatusCode, c.want)
		}
		q, _ = http.NewRequest("GET", "https://"+w.addr+"/", nil)
		q.Host = "vasp.example:443"
		if r, err := client.Do(q); err != nil || read(t, r) == "" || r.StatusCode != 200 {
			t.Errorf("an honest request after %s: %v", name, err)
		}
	}
}

func lengthen(r *http.Request, n int) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, n))), int64(n)
}

// converse sends bytes and reads one answer, and what comes after it.
func (w *world) converse(request string) (status, rest string) {
	conn := w.mustTLS(member)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	go func() { _, _ = io.WriteString(conn, request) }() // it may be answered before it is read
	in := bufio.NewReader(conn)
	status, err := answer(in)
	if err != nil {
		return err.Error(), ""
	}
	after, _ := io.ReadAll(in)
	return status, string(after)
}

// answer reads one answer to its end, and gives its status.
func answer(in io.Reader) (string, error) {
	buffered, ok := in.(*bufio.Reader)
	if !ok {
		buffered = bufio.NewReader(in)
	}
	r, err := http.ReadResponse(buffered, nil)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return "", err
	}
	return strconv.Itoa(r.StatusCode), nil
}
