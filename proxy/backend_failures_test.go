package proxy_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
)

// way is one way in which a backend is wrong: another body, another answer
// altogether, or a port that does not work.
type way struct {
	name       string
	body       func(good string) string
	raw        func(c net.Conn, api, good string) // the connection ends with it
	refuses    bool                               // no port
	strangeTLS bool                               // a certificate of nobody's
	want       *outcome
}

// outcome is what a backend's failure becomes for the two VASPs.
type outcome struct {
	atA, atB string // result and reason of a user verification
	account  string // of an account check: result and reason, or status and code
	inquiry  string // transactionStatus, or status and code
	takes    bool   // callbacks count as taken
	late     bool   // only the deadline ends it
	away     bool   // nothing is decided before the backend is back
}

const (
	verifiedOK = "VERIFIED OK"
	undefined  = "ERROR UNDEFINED-ERROR"
	timedOut   = "ERROR REQUEST-TIMEOUT"
)

// What the contract's reference promises (docs/contract.md): the backend is
// right after all, answers what is none, answers too late, or is away.
var (
	fine    = &outcome{atA: verifiedOK, atB: verifiedOK, account: "VERIFIED", inquiry: "CONFIRMED", takes: true}
	useless = &outcome{atA: undefined, atB: undefined, account: "DENIED UNDEFINED-ERROR", inquiry: "502 COUNTERPARTY-ERROR"}
	late    = &outcome{atA: timedOut, atB: timedOut, account: "DENIED UNDEFINED-ERROR", inquiry: "503 COUNTERPARTY-UNAVAILABLE", late: true}
	away    = &outcome{atA: verifiedOK, atB: verifiedOK, account: "503 COUNTERPARTY-UNAVAILABLE", inquiry: "503 COUNTERPARTY-UNAVAILABLE", away: true}
	// another: an answer about another account and another verification.
	another = &outcome{atA: "ERROR BENEFICIARY-ACCOUNT-NOT-MATCHED", atB: verifiedOK, account: "VERIFIED", inquiry: "502 COUNTERPARTY-ERROR", takes: true}
)

// private is what nobody asked for.
const private = "Zanzibar"

func replaced(pairs ...string) func(string) string { return strings.NewReplacer(pairs...).Replace }

func always(body string) func(string) string { return func(string) string { return body } }

// more adds members to an answer.
func more(members string) func(string) string {
	return func(good string) string { return strings.TrimSuffix(good, "}") + "," + members + "}" }
}

// writes writes a head, or anything, and hangs up.
func writes(format func(good string) string) func(net.Conn, string, string) {
	return func(c net.Conn, _, good string) {
		_, _ = io.WriteString(c, format(good))
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, c)
	}
}

func status(line string) func(net.Conn, string, string) {
	return writes(func(good string) string { return answerWith(line, "application/json", good) })
}

func typed(mediaType string) func(net.Conn, string, string) {
	return writes(func(good string) string { return answerWith("200 OK", mediaType, good) })
}

// floods writes a head and then one block until nobody reads.
func floods(head, block string) func(net.Conn, string, string) {
	return func(c net.Conn, _, _ string) {
		_, err := io.WriteString(c, head)
		for err == nil {
			_, err = io.WriteString(c, block)
		}
	}
}

// tooLate is longer than any API's deadline, which comes first.
var tooLate = map[string]time.Duration{"account": 1200 * time.Millisecond, "user": 5200 * time.Millisecond, "transaction": 1200 * time.Millisecond, "callback": 1200 * time.Millisecond}

const (
	jsonHead    = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	chunkedHead = jsonHead + "Transfer-Encoding: chunked\r\n\r\n"
)

var ways = []way{
	{name: "too slow", want: late, raw: func(c net.Conn, api, good string) {
		time.Sleep(tooLate[api])
		_, _ = io.WriteString(c, whole(good))
	}},
	{name: "hangs", want: late, raw: func(c net.Conn, _, _ string) { _, _ = io.Copy(io.Discard, c) }},
	{name: "drips", want: late, raw: func(c net.Conn, _, good string) {
		for i := 0; ; i++ {
			if _, err := io.WriteString(c, whole(strings.Repeat(" ", 4096) + good)[i:i+1]); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}},
	{name: "500", want: useless, raw: status("500 Internal Server Error")},
	{name: "503 with Retry-After", want: useless, raw: writes(func(good string) string {
		return strings.Replace(answerWith("503 Service Unavailable", "application/json", good), "\r\n", "\r\nRetry-After: 1\r\n", 1)
	})},
	{name: "404", want: useless, raw: status("404 Not Found")},
	{name: "401", want: useless, raw: status("401 Unauthorized")},
	{name: "201", want: useless, raw: status("201 Created")},
	{name: "204", want: useless, raw: writes(always("HTTP/1.1 204 No Content\r\n\r\n"))},
	{name: "302", want: useless, raw: writes(always("HTTP/1.1 302 Found\r\nLocation: /callback\r\nContent-Length: 0\r\n\r\n"))},
	{name: "early hints without end", want: useless, raw: floods("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")},
	{name: "huge", want: useless, body: more(`"x":"` + strings.Repeat("x", 1<<20) + `"`)},
	{name: "endless", want: useless, raw: floods(chunkedHead, "10000\r\n"+strings.Repeat(" ", 1<<16)+"\r\n")},
	{name: "endless head", want: useless, raw: floods(jsonHead, "X-Long: "+strings.Repeat("x", 4096)+"\r\n")},
	{name: "garbage", want: useless, body: always("\x00\xff\x00 garbage")},
	{name: "HTML", want: useless, body: always("<!doctype html><title>Login</title>")},
	{name: "empty", want: useless, body: always("")},
	{name: "half of the JSON", want: useless, body: func(good string) string { return good[:len(good)/2] }},
	{name: "two values", want: useless, body: func(good string) string { return good + good }},
	{name: "byte order mark", want: useless, body: func(good string) string { return "\ufeff" + good }},
	{name: "wrong types", want: useless, body: replaced(`"VERIFIED"`, `7`, `"CONFIRMED"`, `7`, `true`, `7`)},
	{name: "a list", want: useless, body: func(good string) string { return "[" + good + "]" }},
	{name: "null", want: useless, body: always("null")},
	{name: "a name twice", want: useless, body: more(`"result":"DENIED","accountVerificationResult":"DENIED","transactionStatus":"CANCELED"`)},
	{name: "unknown result", want: useless, body: replaced(`"VERIFIED"`, `"MAYBE"`, `"CONFIRMED"`, `"MAYBE"`, `true`, `"MAYBE"`)},
	{name: "result in lower case", want: useless, body: replaced(`"VERIFIED"`, `"verified"`, `"CONFIRMED"`, `"confirmed"`, `true`, `"true"`)},
	{name: "no result", want: useless, body: replaced(`"result"`, `"outcome"`, `"accountVerificationResult"`, `"outcome"`, `"transactionStatus"`, `"outcome"`)},
	{name: "more personal data than asked for", want: fine, body: func(good string) string {
		good = strings.Replace(good, `{"naturalPerson":{`, `{"naturalPerson":{"nationality":"`+private+`","dateAndPlaceOfBirth":{"dateOfBirth":"1990-01-02","placeOfBirth":"`+private+`"},`, 1)
		return more(`"customer":{"city":"` + private + `"}`)(good)
	}},
	{name: "another account and verification", want: another, body: func(good string) string {
		good = strings.Replace(good, "bc1qreceiver", "bc1qother", 1)
		return strings.Replace(good, `{"verificationUuid":"`, `{"verificationUuid":"`+uuid.NewString()+`","was":"`, 1)
	}},
	{name: "bidirectional controls", want: useless, body: more(`"note":"\u202eevil"`)},
	{name: "invalid UTF-8", want: useless, body: more("\"note\":\"\xff\xfe\"")},
	{name: "NUL", want: useless, body: more(`"note":"\u0000"`)},
	{name: "deep nesting", want: useless, body: more(`"note":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000))},
	{name: "gzip", want: useless, raw: writes(func(good string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, good)
		_ = z.Close()
		return strings.Replace(whole(b.String()), "\r\n", "\r\nContent-Encoding: gzip\r\n", 1)
	})},
	{name: "wrong content type", want: useless, raw: typed("text/plain")},
	{name: "content type in upper case with a charset", want: fine, raw: typed("Application/JSON; charset=UTF-8")},
	{name: "no HTTP", want: useless, raw: writes(always("SSH-2.0-backend\r\n\r\n"))},
	{name: "two lengths", want: useless, raw: writes(func(good string) string {
		return fmt.Sprintf(jsonHead+"Content-Length: %d\r\nContent-Length: 1\r\n\r\n%s", len(good), good)
	})},
	{name: "reset", want: useless, raw: func(c net.Conn, _, _ string) { _ = c.(*net.TCPConn).SetLinger(0) }},
	{name: "ends before it answers", want: useless, raw: func(net.Conn, string, string) {}},
	{name: "ends within its answer", want: useless, raw: writes(func(good string) string {
		answer := whole(good)
		return answer[:len(answer)-2]
	})},
	{name: "HTTP/1.0", want: fine, raw: writes(func(good string) string {
		return "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + good
	})},
	{name: "cuts what it said to keep", want: fine, raw: func(c net.Conn, _, good string) { _, _ = io.WriteString(c, whole(good)) }},
	{name: "refuses connections", want: away, refuses: true},
	{name: "certificate of nobody's", want: away, strangeTLS: true},
}

// A backend may fail in any of these ways, at either VASP and in each of its
// APIs. The counterparty gets the result that docs/contract.md defines, no
// callback is lost, and when the backend is right again, so is everything.
func TestBackendsThatFail(t *testing.T) {
	if len(ways) < 30 {
		t.Fatalf("only %d ways", len(ways))
	}
	for i := range ways {
		t.Run(ways[i].name, func(t *testing.T) {
			t.Parallel()
			failsIn(t, &ways[i])
		})
	}
}

// faulty is one way in a world of its own.
type faulty struct {
	*testing.T
	*proxytest.World
	atA, atB *hostile
	want     *outcome
}

func failsIn(t *testing.T, w *way) {
	f := &faulty{T: t, atA: newHostile(t, w), atB: newHostile(t, w), want: w.want}
	f.World = proxytest.NewWorld(t, func(c *proxy.Config) {
		map[identity.VASPID]*hostile{proxytest.IDOfA: f.atA, proxytest.IDOfB: f.atB}[c.Self].client(c)
	})
	first := f.verified()
	second := f.answers(first)
	third := f.callbacks()
	fourth := f.verified() // as if nothing had been
	if got := f.account(); got != fine.account {
		f.Errorf("afterwards an account check says %s", got)
	}
	if got := f.inquiry(fourth); got != fine.inquiry {
		f.Errorf("afterwards an inquiry says %s", got)
	}
	for _, id := range []string{first, second, third, fourth} {
		if !f.atA.has("VERIFICATION_RESULT", id) {
			f.Errorf("a callback was lost")
		}
	}
	for _, p := range []*proxytest.Party{f.A, f.B} {
		f.Await("nothing is left to deliver", func() bool { return p.Metric("enclave_outbox_entries") == 0 })
		if strings.Contains(p.Log.String(), "panic") {
			f.Errorf("%s has panicked", p.ID)
		}
	}
}

// answers breaks what the counterparty hears: two APIs of B's backend, and
// the one of A's that B's inquiries reach.
func (f *faulty) answers(known string) (id string) {
	f.atB.breaks("user", "account")
	f.atA.breaks("transaction")
	id = verify(f, f.World, request(f.World))
	if !f.want.late && !f.want.away { // else meanwhile
		f.ended(id)
	}
	got := f.account()
	if f.want.away && got != f.want.account {
		// It went out on a kept connection just as that ended, and so may
		// have been heard; the next one finds no connection.
		got = f.account()
	}
	if got != f.want.account {
		f.Errorf("an account check says %s, want %s", got, f.want.account)
	}
	if got := f.inquiry(known); got != f.want.inquiry {
		f.Errorf("an inquiry says %s, want %s", got, f.want.inquiry)
	}
	if f.want.away {
		if got := f.result(f.A, id); got != "WAIT " {
			f.Errorf("while B's backend is away the verification is %s", got)
		}
	} else if n := f.atB.wronged("user"); !f.want.late && n != 1 {
		f.Errorf("B's backend was asked %d times about one verification", n)
	}
	if f.want.late {
		f.ended(id)
	}
	f.atA.mends()
	f.atB.mends()
	f.ended(id)
	for p, want := range map[*proxytest.Party]string{f.A: f.want.atA, f.B: f.want.atB} {
		if got := f.result(p, id); got != want {
			f.Errorf("%s has the verification as %s, want %s", p.ID, got, want)
		}
	}
	if strings.Contains(fmt.Sprint(row(f, f.A, id)), private) {
		f.Errorf("A has got what it did not ask for")
	}
	return id
}

// callbacks breaks those of all three types, until each side has failed.
func (f *faulty) callbacks() (id string) {
	f.atA.breaks("callback")
	failures := f.failures(f.A)
	id = verify(f, f.World, request(f.World))
	f.Await("the result is there", func() bool { return f.result(f.A, id) == verifiedOK })
	if !f.want.takes {
		f.Await("a callback has failed", func() bool { return f.failures(f.A) > failures })
		if f.atA.has("VERIFICATION_RESULT", id) {
			f.Errorf("the callback counts as taken")
		}
	}
	f.atA.mends()
	f.ended(id)

	f.atB.breaks("callback")
	failures = f.failures(f.B)
	accepted(f, f.A, txPath, fmt.Appendf(nil, `{"verificationUuid":%q,"txHash":"8a54","vout":"3"}`, id))
	accepted(f, f.A, errorPath, errorReport(id, "ERROR", "USER-CANCELED"))
	f.Await("both reports are there", func() bool {
		return f.result(f.B, id) == "ERROR USER-CANCELED" && row(f, f.B, id)["txHash"] == "8a54"
	})
	if !f.want.takes {
		f.Await("a callback has failed", func() bool { return f.failures(f.B) > failures })
	}
	f.atB.mends()
	f.Await("B hears of both reports", func() bool { return f.atB.has("TX_REPORT", id) && f.atB.has("ERROR_REPORT", id) })
	return id
}

// verified is a verification in which everybody is right.
func (f *faulty) verified() (id string) {
	f.Helper()
	id = verify(f, f.World, request(f.World))
	f.ended(id)
	for _, p := range []*proxytest.Party{f.A, f.B} {
		if got := f.result(p, id); got != verifiedOK {
			f.Fatalf("with backends that are right, %s has %s", p.ID, got)
		}
	}
	return id
}

// ended waits until A's backend has taken a verification's result.
func (f *faulty) ended(id string) {
	f.Helper()
	f.AwaitWithin(time.Minute, "A's backend takes the result", func() bool { return f.atA.has("VERIFICATION_RESULT", id) })
}

func (f *faulty) result(p *proxytest.Party, id string) string {
	f.Helper()
	r := row(f, p, id)
	reason, _ := r["reason"].(string)
	return r["result"].(string) + " " + reason
}

func (f *faulty) account() string {
	status, answer := f.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(f.B.ID))
	if status != http.StatusOK {
		code, _ := problem(f, answer)
		return fmt.Sprint(status, " ", code)
	}
	o := object(f, answer)
	reason, _ := o["reason"].(string)
	return strings.TrimSpace(o["accountVerificationResult"].(string) + " " + reason)
}

func (f *faulty) inquiry(id string) string {
	status, answer := f.B.Call(http.MethodPost, inquiryPath, inquiryAbout(id))
	if status != http.StatusOK {
		code, _ := problem(f, answer)
		return fmt.Sprint(status, " ", code)
	}
	return object(f, answer)["transactionStatus"].(string)
}

// failures counts the callbacks that a party could not deliver.
func (f *faulty) failures(p *proxytest.Party) float64 {
	const attempts = "enclave_outbox_attempts_total"
	return p.Metric(attempts, "backend") - p.Metric(attempts, "backend", "ok")
}

// strangeTLS is a configuration whose certificate nobody vouches for.
var strangeTLS = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})
