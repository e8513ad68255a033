package relay_test

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

var update = flag.Bool("update", false, "rewrite testdata")

var (
	key  = relay.Key{Access: "alpha-1", Secret: relay.NewSecret("alpha's secret key, the first")}
	key2 = relay.Key{Access: "alpha-2", Secret: relay.NewSecret("alpha's secret key, the second")}
)

// checker is a Verifier with what it let through and what it counted.
type checker struct {
	t        *testing.T
	handler  http.Handler
	registry *prometheus.Registry
	now      time.Time
	got      []*relay.Verified
}

func newChecker(t *testing.T, change func(*relay.VerifierConfig)) *checker {
	t.Helper()
	c := &checker{t: t, registry: prometheus.NewRegistry(), now: time.Now()}
	config := relay.VerifierConfig{
		Direction: relay.EnclaveToCentral, Keys: []relay.Key{key, key2}, Namespace: "central", Metrics: c.registry,
		Now: func() time.Time { return c.now },
	}
	if change != nil {
		change(&config)
	}
	v, err := relay.NewVerifier(config)
	if err != nil {
		t.Fatal(err)
	}
	c.handler = v.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verified, ok := relay.From(r.Context())
		again, err := io.ReadAll(r.Body)
		if !ok || err != nil || !bytes.Equal(again, verified.Body) {
			t.Errorf("handler: From = %v, %v; body read again %q, %v", verified, ok, again, err)
		}
		c.got = append(c.got, verified)
	}))
	return c
}

func (c *checker) send(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w
}

// refusals are the reasons counted, each with its number, as "reason:n".
func (c *checker) refusals() string {
	families, err := c.registry.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	var counted []string
	for _, m := range families[0].GetMetric() {
		if n := m.GetCounter().GetValue(); n > 0 {
			counted = append(counted, fmt.Sprintf("%s:%v", m.GetLabel()[0].GetValue(), n))
		}
	}
	return strings.Join(counted, " ")
}

// message is a request as a forger would write it: every part by hand, so that
// these tests do not believe the library that the package uses.
type message struct {
	method, path, recipient string
	body                    []byte
	created                 int64
	nonce, keyID, tag       string
	secret                  string
	direction               string // of the MAC key
	components              string // of Signature-Input
	params                  string // the whole parameter text, when not the usual
	digest                  string // when not of body
}

func newMessage(at time.Time) message {
	return message{
		method: "POST", path: relay.MessagesPath, recipient: "17104899575711305197", body: []byte("an envelope"), created: at.Unix(),
		nonce: base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)), keyID: key.Access, tag: "enclave-to-central",
		secret: key.Secret.Reveal(), direction: "enclave-to-central",
		components: `("@method" "@path" "content-digest" "relay-recipient")`,
	}
}

func (m message) contentDigest() string {
	if m.digest != "" {
		return m.digest
	}
	sum := sha256.Sum256(m.body)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func (m message) parameters() string {
	if m.params != "" {
		return m.params
	}
	return fmt.Sprintf(`;created=%d;nonce="%s";keyid="%s";tag="%s"`, m.created, m.nonce, m.keyID, m.tag)
}

// base is the signature base of RFC 9421 section 2.5.
func (m message) base() string {
	values := map[string]string{
		`"@method"`: m.method, `"@path"`: m.path, `"content-digest"`: m.contentDigest(), `"relay-recipient"`: m.recipient,
	}
	var b strings.Builder
	for _, component := range strings.Fields(strings.Trim(m.components, "()")) {
		fmt.Fprintf(&b, "%s: %s\n", component, values[component])
	}
	return b.String() + `"@signature-params": ` + m.components + m.parameters()
}

func (m message) mac(t testing.TB) string {
	key, err := hkdf.Key(sha256.New, []byte(m.secret), nil, "vasp-enclave/v1/relay/"+m.direction, 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(m.base()))
	return "relay=:" + base64.StdEncoding.EncodeToString(mac.Sum(nil)) + ":"
}

func (m message) request(t testing.TB) *http.Request {
	r := httptest.NewRequest(m.method, "https://central.example", bytes.NewReader(m.body))
	r.URL.Path = m.path
	r.Header = http.Header{
		"Relay-Recipient": {m.recipient}, "Content-Digest": {m.contentDigest()},
		"Signature-Input": {"relay=" + m.components + m.parameters()}, "Signature": {m.mac(t)},
	}
	return r
}

// signed is a request as our own Signer makes it, now.
func signed(t testing.TB, k relay.Key, d relay.Direction, path, recipient string, body []byte) *http.Request {
	t.Helper()
	s, err := relay.NewSigner(k, d)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "https://central.example"+path, bytes.NewReader(body))
	if err := s.Sign(r, path, recipient, body); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASignedRequestIsLetThrough(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"our signer":           signed(t, key, relay.EnclaveToCentral, relay.MessagesPath, "42", []byte("envelope")),
		"the member's new key": signed(t, key2, relay.EnclaveToCentral, relay.MessagesPath, "42", []byte("envelope")),
		"written by hand":      newMessage(time.Now()).request(t),
		"without a body":       signed(t, key, relay.EnclaveToCentral, relay.DirectoryPath, "0", nil),
		"as large as it may":   signed(t, key, relay.EnclaveToCentral, relay.MessagesPath, "42", make([]byte, relay.MaxMessage)),
	} {
		c := newChecker(t, nil)
		if w := c.send(r); w.Code != 200 || len(c.got) != 1 {
			t.Errorf("%s: %d %s, refused: %s", name, w.Code, w.Body, c.refusals())
			continue
		}
		if got := c.got[0]; !strings.HasPrefix(got.AccessKey, "alpha-") || got.Recipient != r.Header.Get("Relay-Recipient") {
			t.Errorf("%s: proved %+v", name, got)
		}
	}
}

// What an attacker at an allowed address can do to a request, and what each
// attempt is counted as. The answer is the same 401 for all (attack O4).
func TestAnythingElseIsRefused(t *testing.T) {
	by := func(change func(*message)) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			m := newMessage(time.Now())
			change(&m)
			return m.request(t)
		}
	}
	after := func(change func(*http.Request)) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			r := newMessage(time.Now()).request(t)
			change(r)
			return r
		}
	}
	header := func(name, value string) func(*testing.T) *http.Request {
		return after(func(r *http.Request) { r.Header[name] = []string{value} })
	}
	digestOf := func(text string) string { return message{body: []byte(text)}.contentDigest() }
	for reason, attempts := range map[string]map[string]func(*testing.T) *http.Request{
		"unsigned": {
			"nothing": after(func(r *http.Request) { r.Header = http.Header{} }),
			"no signature": after(func(r *http.Request) {
				delete(r.Header, "Signature")
				delete(r.Header, "Signature-Input")
			}),
		},
		"malformed": {
			"input missing":     after(func(r *http.Request) { delete(r.Header, "Signature-Input") }),
			"signature missing": after(func(r *http.Request) { delete(r.Header, "Signature") }),
			"digest missing":    after(func(r *http.Request) { delete(r.Header, "Content-Digest") }),
			"recipient missing": after(func(r *http.Request) { delete(r.Header, "Relay-Recipient") }),
			"two recipients":    after(func(r *http.Request) { r.Header.Add("Relay-Recipient", "42") }),
			"two signatures":    after(func(r *http.Request) { r.Header.Add("Signature", r.Header.Get("Signature")) }),
			"a query":           after(func(r *http.Request) { r.URL.RawQuery = "recipient=42" }),
			"an empty query":    after(func(r *http.Request) { r.URL.ForceQuery = true }),
			"encoded path":      after(func(r *http.Request) { r.URL.RawPath = "/relay%2Fv1/messages" }),
			"signature text":    header("Signature", "relay=:AAAA:"),
			"signature string":  header("Signature", `relay="x"`),
			"other label": after(func(r *http.Request) {
				r.Header.Set("Signature", strings.Replace(r.Header.Get("Signature"), "relay", "other", 1))
			}),
			"sha-512": by(func(m *message) { m.digest = "sha-512=:" + base64.StdEncoding.EncodeToString(make([]byte, 64)) + ":" }),
			"method not covered": by(func(m *message) {
				m.components = `("@path" "content-digest" "relay-recipient")`
			}),
			"path not covered": by(func(m *message) { m.components = `("@method" "content-digest" "relay-recipient")` }),
			"body not covered": by(func(m *message) { m.components = `("@method" "@path" "relay-recipient")` }),
			"recipient not covered": by(func(m *message) {
				m.components = `("@method" "@path" "content-digest")`
			}),
			"nothing covered": by(func(m *message) { m.components = `()` }),
			"other order":     by(func(m *message) { m.components = `("@path" "@method" "content-digest" "relay-recipient")` }),
			"no nonce": by(func(m *message) {
				m.params = fmt.Sprintf(`;created=%d;keyid="alpha-1";tag="enclave-to-central"`, m.created)
			}),
			"no time": by(func(m *message) {
				m.params = fmt.Sprintf(`;nonce="%s";keyid="alpha-1";tag="enclave-to-central"`, m.nonce)
			}),
			"time as text":     by(func(m *message) { m.params = strings.Replace(m.parameters(), "created=", `created="`, 1) }),
			"time as fraction": by(func(m *message) { m.params = strings.Replace(m.parameters(), ";nonce", `.5;nonce`, 1) }),
			"time with plus":   by(func(m *message) { m.params = strings.Replace(m.parameters(), "created=", `created=+`, 1) }),
			"time too long": by(func(m *message) {
				m.params = strings.Replace(m.parameters(), "created=", `created=99999999999999999999`, 1)
			}),
			"an algorithm":   by(func(m *message) { m.params = m.parameters() + `;alg="hmac-sha256"` }),
			"an expiry":      by(func(m *message) { m.params = m.parameters() + `;expires=99999999999` }),
			"short nonce":    by(func(m *message) { m.nonce = "AAAA" }),
			"loose nonce":    by(func(m *message) { m.nonce = m.nonce[:42] + "d=" }),
			"key as quote":   by(func(m *message) { m.keyID = `alpha\"1` }),
			"blank in input": after(func(r *http.Request) { r.Header["Signature-Input"][0] += " " }),
			"long input":     after(func(r *http.Request) { r.Header["Signature-Input"][0] += strings.Repeat("x", 1000) }),
			"long recipient": by(func(m *message) { m.recipient = strings.Repeat("1", 21) }),
		},
		"direction": {
			"reflected": func(t *testing.T) *http.Request {
				return signed(t, key, relay.CentralToEnclave, relay.MessagesPath, "42", nil)
			},
			"no tag":              by(func(m *message) { m.tag = "" }),
			"tag of another wire": by(func(m *message) { m.tag = "enclave-to-centra" }),
		},
		"unknown-key": {
			"nobody's":     by(func(m *message) { m.keyID = "beta-1" }),
			"empty":        by(func(m *message) { m.keyID = "" }),
			"another case": by(func(m *message) { m.keyID = "ALPHA-1" }),
		},
		"stale": {
			"old":         by(func(m *message) { m.created -= 62 }),
			"future":      by(func(m *message) { m.created += 62 }),
			"epoch":       by(func(m *message) { m.created = 0 }),
			"before 1970": by(func(m *message) { m.created = -m.created }),
			"last moment": by(func(m *message) { m.created = math.MaxInt64 }),
		},
		"digest": {
			"another body": after(func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("an envelopf")) }),
			"longer body":  after(func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("an envelope ")) }),
			"no body":      after(func(r *http.Request) { r.Body = http.NoBody }),
			"signed wrong": by(func(m *message) { m.digest = digestOf("other") }),
		},
		"signature": {
			"another method":    after(func(r *http.Request) { r.Method = "PUT" }),
			"another path":      after(func(r *http.Request) { r.URL.Path = relay.RegisterPath }),
			"path with a slash": after(func(r *http.Request) { r.URL.Path += "/" }),
			"another recipient": header("Relay-Recipient", "42"),
			"another body, digest": after(func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader("other"))
				r.Header.Set("Content-Digest", digestOf("other"))
			}),
			"another time": after(func(r *http.Request) {
				m := newMessage(time.Now().Add(time.Second))
				r.Header.Set("Signature-Input", m.request(t).Header.Get("Signature-Input"))
			}),
			"another nonce": after(func(r *http.Request) {
				m := newMessage(time.Now())
				m.nonce = base64.StdEncoding.EncodeToString(make([]byte, 32))
				r.Header.Set("Signature-Input", m.request(t).Header.Get("Signature-Input"))
			}),
			"the other key's name": after(func(r *http.Request) {
				r.Header.Set("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), "alpha-1", "alpha-2", 1))
			}),
			"wrong secret":           by(func(m *message) { m.secret = "alpha's secret key, the wrong" }),
			"the other key's secret": by(func(m *message) { m.secret = key2.Secret.Reveal() }),
			"reflected, retagged":    by(func(m *message) { m.direction = "central-to-enclave" }),
			"zero MAC":               header("Signature", "relay=:"+base64.StdEncoding.EncodeToString(make([]byte, 32))+":"),
			"one bit":                after(func(r *http.Request) { r.Header.Set("Signature", flip(r.Header.Get("Signature"))) }),
		},
	} {
		for name, attempt := range attempts {
			c := newChecker(t, nil)
			w := c.send(attempt(t))
			if w.Code != 401 || len(c.got) != 0 {
				t.Errorf("%s: status %d, let through: %v", name, w.Code, len(c.got) != 0)
			}
			if got := c.refusals(); got != reason+":1" {
				t.Errorf("%s: counted as %q, want %q", name, got, reason+":1")
			}
			if got, want := w.Body.String(), `{"code":"UNAUTHENTICATED","message":"The request's signature is refused."}`; got != want {
				t.Errorf("%s: answered %s, want %s", name, got, want)
			}
		}
	}
}

// flip changes the first bit of a MAC.
func flip(signature string) string {
	b, _ := base64.StdEncoding.DecodeString(strings.Trim(strings.TrimPrefix(signature, "relay="), ":"))
	b[0] ^= 0x80
	return "relay=:" + base64.StdEncoding.EncodeToString(b) + ":"
}

func TestTheClockMayDifferByAMinuteEitherWay(t *testing.T) {
	for offset, want := range map[time.Duration]int{
		0: 200, 59 * time.Second: 200, 60 * time.Second: 200, 61 * time.Second: 401,
		-59 * time.Second: 200, -60 * time.Second: 200, -61 * time.Second: 401, 24 * time.Hour: 401,
	} {
		c := newChecker(t, nil)
		c.now = time.Unix(1_700_000_000, 0)
		if got := c.send(newMessage(c.now.Add(offset)).request(t)).Code; got != want {
			t.Errorf("created %s from now: %d, want %d", offset, got, want)
		}
	}
}

// Attack N5: an address that sends request after request without a valid
// signature is answered in the fewest words, and its connection closed; others,
// and what is signed, are not touched by it.
func TestTooManyUnsignedRequestsAreThrottled(t *testing.T) {
	c := newChecker(t, nil)
	bad := func(from string) int {
		r := newMessage(c.now).request(t)
		r.Header.Set("Signature", flip(r.Header.Get("Signature")))
		r.RemoteAddr = from
		w := c.send(r)
		if closes := w.Header().Get("Connection") == "close" && w.Header().Get("Retry-After") == "1"; closes != (w.Code == 429) {
			t.Errorf("%d with the header %v", w.Code, w.Header())
		}
		return w.Code
	}
	const here, there = "192.0.2.1:1", "192.0.2.2:1"
	for i := range 1000 {
		if got := bad(here); got != 401 {
			t.Fatalf("bad request %d: %d", i, got)
		}
	}
	if got := bad(here); got != 429 {
		t.Errorf("one too many: %d", got)
	}
	if got := bad("192.0.2.1:2"); got != 429 {
		t.Errorf("from another port: %d", got)
	}
	if got := bad(there); got != 401 {
		t.Errorf("from another address: %d", got)
	}
	r := newMessage(c.now).request(t)
	r.RemoteAddr = here
	if got := c.send(r); got.Code != 200 {
		t.Errorf("a signed request from there: %d", got.Code)
	}
	c.now = c.now.Add(time.Second)
	if got := bad(here); got != 401 {
		t.Errorf("a second later: %d", got)
	}
	for i := range 1001 {
		want := 401
		if i == 1000 {
			want = 429
		}
		if got := bad(fmt.Sprintf("[2001:db8::%x]:1", i)); got != want {
			t.Fatalf("request %d from one /64: %d", i, got)
		}
	}
}

func TestARequestIsAcceptedOnce(t *testing.T) {
	c := newChecker(t, nil)
	c.now = time.Unix(1_700_000_000, 0)
	m := newMessage(c.now.Add(time.Minute)) // as early as can be: it stays acceptable for two minutes
	if got := c.send(m.request(t)).Code; got != 200 {
		t.Fatalf("first time: %d", got)
	}
	for range 120 {
		if got := c.send(m.request(t)).Code; got != 401 {
			t.Fatalf("again at %s: %d", c.now, got)
		}
		c.now = c.now.Add(time.Second)
	}
	if got, want := c.refusals(), "replay:120"; got != want {
		t.Errorf("counted %q, want %q", got, want)
	}
	m.nonce = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32))
	if got := c.send(m.request(t)).Code; got != 200 {
		t.Errorf("the same with another nonce: %d", got)
	}
}

// A clock that is set back must not make forgotten requests acceptable again.
func TestAReplayAfterTheClockWasSetBack(t *testing.T) {
	c := newChecker(t, nil)
	start := time.Unix(1_700_000_000, 0)
	c.now = start
	m := newMessage(start)
	c.send(m.request(t))
	c.now = start.Add(10 * time.Minute)
	other := newMessage(c.now)
	c.send(other.request(t)) // forgets the first
	c.now = start
	if got := c.send(m.request(t)).Code; got != 401 || len(c.got) != 2 {
		t.Errorf("replayed after the clock went back: %d", got)
	}
}

// A full memory refuses; it never forgets what could come again. It is one
// key's own: the other goes on.
func TestAFullMemoryRefuses(t *testing.T) {
	c := newChecker(t, func(v *relay.VerifierConfig) { v.ReplayLimit = 3 })
	for i := range 3 {
		if got := c.send(signed(t, key, relay.EnclaveToCentral, "/", "1", nil)).Code; got != 200 {
			t.Fatalf("request %d: %d", i, got)
		}
	}
	if got := c.send(signed(t, key, relay.EnclaveToCentral, "/", "1", nil)).Code; got != 401 || c.refusals() != "replay-memory-full:1" {
		t.Errorf("fourth request: %d, counted %q", got, c.refusals())
	}
	if got := c.send(signed(t, key2, relay.EnclaveToCentral, "/", "1", nil)).Code; got != 200 {
		t.Errorf("the other key: %d", got)
	}
	c.now = c.now.Add(61 * time.Second) // the three are too old to come again
	m := newMessage(c.now)
	if got := c.send(m.request(t)).Code; got != 200 {
		t.Errorf("after a minute: %d", got)
	}
}

// A stranger who knows no key cannot take a request's nonce away from it.
func TestARefusedRequestLeavesNoTrace(t *testing.T) {
	c := newChecker(t, nil)
	m := newMessage(time.Now())
	forged := m.request(t)
	forged.Header.Set("Signature", flip(forged.Header.Get("Signature")))
	c.send(forged)
	if got := c.send(m.request(t)).Code; got != 200 {
		t.Errorf("the real one after a forgery with its nonce: %d", got)
	}
}

func TestABodyMayBeSoLong(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 101)
	for name, length := range map[string]int64{"told": 101, "not told": -1} {
		c := newChecker(t, func(v *relay.VerifierConfig) { v.MaxBody = 100 })
		r := signed(t, key, relay.EnclaveToCentral, "/", "1", body)
		r.ContentLength = length
		if w := c.send(r); w.Code != 413 || !strings.Contains(w.Body.String(), `"TOO-LARGE"`) || c.refusals() != "too-large:1" {
			t.Errorf("%s: %d %s, counted %q", name, w.Code, w.Body, c.refusals())
		}
	}
	c := newChecker(t, nil)
	r := signed(t, key, relay.EnclaveToCentral, "/", "1", body)
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("x"), brokenReader{}))
	if w := c.send(r); w.Code != 400 || c.refusals() != "body:1" {
		t.Errorf("broken body: %d, counted %q", w.Code, c.refusals())
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestOnlyARequestWithoutAnySignatureIsUnsigned(t *testing.T) {
	v, err := relay.NewVerifier(relay.VerifierConfig{Direction: relay.CentralToEnclave, Keys: []relay.Key{key}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	say := func(word string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, word) })
	}
	h := v.RequireOr(say("signed"), say("bare"))
	bad := signed(t, key2, relay.CentralToEnclave, relay.HealthPath, "1", nil)
	half := signed(t, key, relay.CentralToEnclave, relay.HealthPath, "1", nil)
	half.Header.Del("Signature")
	for name, c := range map[string]struct {
		r    *http.Request
		want string
	}{
		"signed":   {signed(t, key, relay.CentralToEnclave, relay.HealthPath, "1", nil), "signed"},
		"unsigned": {httptest.NewRequest("GET", relay.HealthPath, nil), "bare"},
		"wrong":    {bad, "refused"},
		"half":     {half, "refused"},
	} {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, c.r); !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %s, want %s", name, w.Body, c.want)
		}
	}
}

// The bytes of a signed request are frozen: an enclave of another version must
// still be understood.
func TestSignatureVector(t *testing.T) {
	const file = "testdata/signature.txt"
	m := newMessage(time.Unix(1_767_225_600, 0))
	want := m.text(t)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	frozen, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(frozen) != want {
		t.Errorf("computed by hand:\n%s\nfrozen:\n%s", want, frozen)
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(frozen)))
	if err != nil {
		t.Fatal(err)
	}
	c := newChecker(t, nil)
	c.now = time.Unix(1_767_225_600, 0)
	if w := c.send(r); w.Code != 200 {
		t.Errorf("the vector is refused: %d, %s", w.Code, c.refusals())
	}
}

func (m message) text(t *testing.T) string {
	r := m.request(t)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: central.example\r\nContent-Length: %d\r\n", m.method, m.path, len(m.body))
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, r.Header.Get(name))
	}
	return b.String() + "\r\n" + string(m.body)
}

func TestKeysThatAreNoKeys(t *testing.T) {
	good := key.Secret
	for want, k := range map[string]relay.Key{
		"access key is empty":               {Secret: good},
		"letters, digits":                   {Access: "a b", Secret: good},
		"access key must be":                {Access: `a"b`, Secret: good},
		"must be 1 to 128":                  {Access: strings.Repeat("a", 129), Secret: good},
		"has 0 bytes":                       {Access: "a"},
		"secret key has 15 bytes, fewer th": {Access: "a", Secret: relay.NewSecret("fifteen letters")},
	} {
		_, err := relay.NewSigner(k, relay.EnclaveToCentral)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "fifteen letters") {
			t.Errorf("NewSigner: %v, want %q", err, want)
		}
		if _, err := relay.NewVerifier(relay.VerifierConfig{Keys: []relay.Key{k}}); err == nil {
			t.Errorf("NewVerifier took a key of which %q", want)
		}
	}
	if _, err := relay.NewVerifier(relay.VerifierConfig{Keys: []relay.Key{key, key}}); err == nil {
		t.Error("NewVerifier took one access key twice")
	}
}

// An enclave takes nothing that was signed for another one, whether to a longer,
// a shorter or no VASP id; a misdelivered request is spent all the same.
func TestARequestForAnotherIsRefused(t *testing.T) {
	c := newChecker(t, func(config *relay.VerifierConfig) { config.Recipient = "42" })
	for _, recipient := range []string{"421", "4", "042", "0", "", "42 "} {
		if w := c.send(signed(t, key, relay.EnclaveToCentral, relay.MessagesPath, recipient, []byte("envelope"))); w.Code != http.StatusUnauthorized {
			t.Errorf("for %q: status %d", recipient, w.Code)
		}
	}
	if got := c.refusals(); got != "recipient:6" || len(c.got) != 0 {
		t.Errorf("counted %s; %d let through", got, len(c.got))
	}
	if w := c.send(signed(t, key, relay.EnclaveToCentral, relay.MessagesPath, "42", []byte("envelope"))); w.Code != http.StatusOK || len(c.got) != 1 {
		t.Errorf("its own: status %d, %d let through", w.Code, len(c.got))
	}
}

func TestRefusalMetricsAreWellFormed(t *testing.T) {
	c := newChecker(t, nil)
	if problems, err := testutil.GatherAndLint(c.registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// No input makes a request pass that nobody signed, or makes the checking
// panic, whatever the library underneath makes of it.
func FuzzSignatureHeaders(f *testing.F) {
	m := newMessage(time.Unix(1_700_000_000, 0))
	r := m.request(f)
	f.Add(r.Header.Get("Signature-Input"), flip(r.Header.Get("Signature")), m.contentDigest(), m.recipient, m.path, m.body)
	f.Add(`relay=("@method");created="x"`, "relay=1", "sha-256=1", "", "/", []byte(nil))
	f.Add(strings.Replace(r.Header.Get("Signature-Input"), "created=1700000000", "created=-1", 1), r.Header.Get("Signature"), "", "0", "/x", []byte("y"))
	valid := r.Header.Get("Signature")
	f.Fuzz(func(t *testing.T, in, signature, digest, recipient, path string, body []byte) {
		if signature == valid {
			return
		}
		v, err := relay.NewVerifier(relay.VerifierConfig{
			Direction: relay.EnclaveToCentral, Keys: []relay.Key{key}, Now: func() time.Time { return time.Unix(1_700_000_000, 0) },
		})
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Method: "POST", URL: &url.URL{Path: path}, Body: io.NopCloser(bytes.NewReader(body)), Header: http.Header{
			"Signature-Input": {in}, "Signature": {signature}, "Content-Digest": {digest}, "Relay-Recipient": {recipient},
		}}
		w := httptest.NewRecorder()
		v.Require(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Fatal("let through") })).ServeHTTP(w, r)
		if w.Code != 401 && w.Code != 413 {
			t.Fatalf("status %d", w.Code)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	s, err := relay.NewSigner(key, relay.EnclaveToCentral)
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 8<<10)
	r := httptest.NewRequest("POST", "https://central.example"+relay.MessagesPath, nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Sign(r, relay.MessagesPath, "42", body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSignAndVerify is what one hop pays for its signature, of a message
// of 8 KiB; take BenchmarkSign off for the verifier's part.
func BenchmarkSignAndVerify(b *testing.B) {
	s, err := relay.NewSigner(key, relay.EnclaveToCentral)
	if err != nil {
		b.Fatal(err)
	}
	v, err := relay.NewVerifier(relay.VerifierConfig{
		Direction: relay.EnclaveToCentral, Keys: []relay.Key{key, key2}, Now: time.Now, ReplayLimit: math.MaxInt,
	})
	if err != nil {
		b.Fatal(err)
	}
	h := v.Require(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	body := make([]byte, 8<<10)
	b.ReportAllocs()
	for b.Loop() {
		r := &http.Request{
			Method: "POST", URL: &url.URL{Path: relay.MessagesPath}, Header: make(http.Header), ContentLength: int64(len(body)),
			Body: io.NopCloser(bytes.NewReader(body)),
		}
		if err := s.Sign(r, relay.MessagesPath, "42", body); err != nil {
			b.Fatal(err)
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusNoContent {
			b.Fatal(w.Code)
		}
	}
}
