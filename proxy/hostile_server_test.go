package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// hostile is a VASP's backend on a real socket that is right as long as it is
// whole, and wrong in one way in the APIs that are broken.
type hostile struct {
	t   *testing.T
	way *way
	tls *tls.Config // nil: plain; of the right authority

	mu      sync.Mutex
	address string
	serving net.Listener
	conns   map[net.Conn]bool
	broken  map[string]bool
	wrong   map[string]int      // requests that were answered wrongly, by API
	taken   map[string][]string // types of callbacks answered rightly, by verification
	all     sync.WaitGroup
}

// newHostile starts a backend; it ends with the test.
func newHostile(t *testing.T, w *way) *hostile {
	t.Helper()
	h := &hostile{t: t, way: w, address: "127.0.0.1:0", conns: map[net.Conn]bool{}, broken: map[string]bool{}, wrong: map[string]int{}, taken: map[string][]string{}}
	if w.strangeTLS {
		s := httptest.NewUnstartedServer(nil)
		s.StartTLS() // for its certificate
		h.tls = &tls.Config{Certificates: s.TLS.Certificates}
		s.Close()
	}
	h.listen()
	t.Cleanup(func() {
		h.hangUp()
		h.all.Wait()
	})
	return h
}

// client is how the party's enclave calls this backend.
func (h *hostile) client(c *proxy.Config) {
	h.t.Helper()
	url := "http://" + h.address
	cfg := vasp.Config{Token: vasp.NewToken("hostile"), Metrics: c.Metrics}
	if h.tls != nil {
		url = "https://" + h.address
		authority, err := x509.ParseCertificate(h.tls.Certificates[0].Certificate[0])
		if err != nil {
			h.t.Fatal(err)
		}
		cfg.Roots = x509.NewCertPool()
		cfg.Roots.AddCert(authority)
	}
	cfg.Account, cfg.Verification, cfg.Transaction, cfg.Callback = url+"/account", url+"/user", url+"/transaction", url+"/callback"
	client, err := vasp.New(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(client.Close)
	c.Backend = client
}

func (h *hostile) listen() {
	listener, err := net.Listen("tcp", h.address)
	for range 100 { // the port was ours, and is again in a moment
		if err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
		listener, err = net.Listen("tcp", h.address)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving, h.address = listener, listener.Addr().String()
	h.all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns[c] = true
			h.mu.Unlock()
			h.all.Go(func() {
				h.serve(c)
				_ = c.Close()
				h.mu.Lock()
				delete(h.conns, c)
				h.mu.Unlock()
			})
		}
	})
}

// hangUp closes the port and every connection.
func (h *hostile) hangUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.serving.Close()
	for c := range h.conns {
		_ = c.Close()
	}
}

// breaks makes some APIs wrong; a backend that is away is away for all.
func (h *hostile) breaks(apis ...string) {
	h.mu.Lock()
	for _, api := range apis {
		h.broken[api] = true
	}
	h.mu.Unlock()
	if h.way.refuses || h.way.strangeTLS {
		h.hangUp()
	}
	if h.way.strangeTLS {
		h.listen()
	}
}

// mends makes everything right again.
func (h *hostile) mends() {
	h.mu.Lock()
	clear(h.broken)
	h.mu.Unlock()
	if h.way.refuses {
		h.listen()
	}
}

func (h *hostile) wronged(api string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wrong[api]
}

// has says whether a callback was taken.
func (h *hostile) has(kind, id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.taken[id] {
		if t == kind {
			return true
		}
	}
	return false
}

func (h *hostile) serve(c net.Conn) {
	if h.tls != nil {
		config := h.tls
		h.mu.Lock()
		if len(h.broken) > 0 {
			config = strangeTLS()
		}
		h.mu.Unlock()
		c = tls.Server(c, config)
	}
	r := bufio.NewReader(c)
	for {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		if !h.answer(c, strings.TrimPrefix(request.URL.Path, "/"), body) {
			return
		}
	}
}

// answer answers one request, and says whether the connection lives on.
func (h *hostile) answer(c net.Conn, api string, body []byte) bool {
	var asked struct {
		CallbackType     string
		VerificationUUID string
		Data             struct{ VerificationUUID string }
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		h.t.Errorf("%s was asked %q", api, body)
	}
	good := map[string]string{
		"account":     `{"accountVerificationResult":"VERIFIED","verifiedAt":"2026-01-02T03:04:05.000Z"}`,
		"user":        `{"result":"VERIFIED","reason":"OK","message":"","version":"1.0","ivms101":{"beneficiary":` + said + `}}`,
		"transaction": `{"verificationUuid":"` + asked.VerificationUUID + `","transactionStatus":"CONFIRMED","txHash":"8a54"}`,
		"callback":    `{"result":true}`,
	}[api]
	h.mu.Lock()
	broken := h.broken[api]
	if broken {
		h.wrong[api]++
	}
	if api == "callback" && (!broken || h.way.want.takes) {
		h.taken[asked.Data.VerificationUUID] = append(h.taken[asked.Data.VerificationUUID], asked.CallbackType)
	}
	h.mu.Unlock()
	if !broken {
		_, err := io.WriteString(c, whole(good))
		return err == nil
	}
	switch {
	case h.way.raw != nil:
		h.way.raw(c, api, good)
		return false
	default:
		_, err := io.WriteString(c, whole(h.way.body(good)))
		return err == nil
	}
}

// whole is an answer as it should be, with whatever body.
func whole(body string) string { return answerWith("200 OK", "application/json", body) }

func answerWith(status, mediaType, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", status, mediaType, len(body), body)
}
