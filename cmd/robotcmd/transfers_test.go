package robotcmd

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const uuidOne = "3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11"

// inquiring is a robot with a clock that the test moves, and an enclave that
// counts inquiries and answers as told.
type inquiring struct {
	*robot
	handler http.Handler
	mu      sync.Mutex
	now     time.Time
	asked   int
	answer  string
}

func newInquiring(t *testing.T) *inquiring {
	t.Helper()
	q := &inquiring{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), answer: `{"transactionStatus":"PENDING","txHash":""}`}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if r.URL.Path != "/v1/verifications/tx/inquiry" {
			t.Errorf("the enclave was asked %s", r.URL.Path)
		}
		q.asked++
		io.WriteString(w, q.answer)
	}))
	t.Cleanup(s.Close)
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseCustomers(sampleCustomers)
	if err != nil {
		t.Fatal(err)
	}
	own := newEnclave(base, "")
	t.Cleanup(own.close)
	q.robot = newRobot(options{book: b, now: func() time.Time { return q.now }, enclave: own, inquireAfter: 10 * time.Minute})
	q.handler = q.robot.handler()
	return q
}

// pass moves the clock a second at a time and gives how often the robot
// inquired.
func (q *inquiring) pass(t *testing.T, d time.Duration) int {
	t.Helper()
	before := q.count()
	for range d / time.Second {
		q.now = q.now.Add(time.Second)
		q.inquireDue(t.Context())
	}
	return q.count() - before
}

func (q *inquiring) answers(answer string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answer = answer
}

func (q *inquiring) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.asked
}

func (q *inquiring) deposit(t *testing.T) {
	t.Helper()
	body := strings.Replace(question, `"verificationUuid":"u"`, `"verificationUuid":"`+uuidOne+`"`, 1)
	if status, answer := post(q.handler, "/verify/user", body); status != 200 || !strings.Contains(answer, "VERIFIED") {
		t.Fatal(status, answer)
	}
}

// As the documented robot (contract 9.9): after ten minutes without a report,
// and again up to an hour.
func TestInquiriesOfAnHour(t *testing.T) {
	q := newInquiring(t)
	q.deposit(t)
	q.pass(t, 5*time.Minute)
	q.deposit(t) // the same again moves nothing
	for _, c := range []struct {
		pass time.Duration
		want int
	}{{5*time.Minute - time.Second, 0}, {time.Second, 1}, {10*time.Minute - time.Second, 0}, {time.Second, 1}, {40 * time.Minute, 4}, {2 * time.Hour, 0}} {
		if got := q.pass(t, c.pass); got != c.want {
			t.Errorf("in the next %s the robot inquired %d times, want %d", c.pass, got, c.want)
		}
	}
}

func TestInquiriesEndWithAnAnswer(t *testing.T) {
	for _, c := range []struct{ name, path, body, answer string }{
		{"a report", "/callback", `{"callbackType":"TX_REPORT","data":{"verificationUuid":"` + uuidOne + `","txHash":"1"}}`, ""},
		{"an error report", "/callback", `{"callbackType":"ERROR_REPORT","data":{"verificationUuid":"` + uuidOne + `","result":"ERROR","reason":"USER-CANCELED"}}`, ""},
		{"a hash", "", "", `{"transactionStatus":"PROCESSING","txHash":"1"}`},
		{"a cancellation", "", "", `{"transactionStatus":"CANCELED"}`},
	} {
		q := newInquiring(t)
		q.deposit(t)
		if got := q.pass(t, 10*time.Minute); got != 1 {
			t.Fatalf("inquired %d times, want once", got)
		}
		if c.path != "" {
			if status, answer := post(q.handler, c.path, c.body); status != 200 {
				t.Fatal(status, answer)
			}
			if got := q.pass(t, time.Hour); got != 0 {
				t.Errorf("after %s the robot inquired %d times more", c.name, got)
			}
			continue
		}
		q.answers(c.answer)
		if got := q.pass(t, time.Hour); got != 1 {
			t.Errorf("after %s the robot inquired %d times in all, want once", c.name, got)
		}
	}
}

// What was denied is not inquired about, nor anything when it is off.
func TestNothingToInquire(t *testing.T) {
	q := newInquiring(t)
	post(q.handler, "/verify/user", strings.NewReplacer(`"verificationUuid":"u"`, `"verificationUuid":"`+uuidOne+`"`, "Robbins", "Nobody").Replace(question))
	if got := q.pass(t, time.Hour); got != 0 {
		t.Errorf("inquired %d times about what was denied", got)
	}
	q = newInquiring(t)
	q.inquireAfter = 0
	q.deposit(t)
	q.inquireUntil(t.Context()) // returns at once
	if got := q.pass(t, time.Hour); got != 0 {
		t.Errorf("inquired %d times though it is off", got)
	}
}

func TestTransfersAreBounded(t *testing.T) {
	all := newTransfers()
	for i := range maxTransfers + 10 {
		all.update(transferKey{sends, fmt.Sprint(i)}, func(*transfer) {})
	}
	if n := len(all.list()); n != maxTransfers || len(all.known) != maxTransfers {
		t.Errorf("%d are remembered, want %d", n, maxTransfers)
	}
	if _, known := all.get(transferKey{sends, "9"}); known {
		t.Error("the oldest is remembered")
	}
	if _, known := all.get(transferKey{sends, "10"}); !known {
		t.Error("one within the bound is forgotten")
	}
}

func TestHashesLookLikeTheirChain(t *testing.T) {
	for symbol, form := range map[string]string{"ETH": `^0x[0-9a-f]{64}$`, "xrp": `^[0-9A-F]{64}$`, "BTC": `^[0-9a-f]{64}$`} {
		a, b := newHash(symbol), newHash(symbol)
		if a == b || !regexp.MustCompile(form).MatchString(a) {
			t.Errorf("hashes of %s are %s and %s, want two like %s", symbol, a, b, form)
		}
	}
}

// A transfer to oneself is on both sides, and its coins move once.
func TestCoinsOfATransferToOneself(t *testing.T) {
	q := newInquiring(t)
	q.deposit(t)
	q.transfers.update(transferKey{sends, uuidOne}, func(t *transfer) { t.paid = true })
	q.arrived(uuidOne, processing, "1", "")
	at := keyOf("ETH", "0xFa230E9cCAF5e382539147294d7965Eeccbbfa5c")
	if got := formatAmount(q.chain.balance(at)); got != "1000" {
		t.Errorf("balance is %s, want 1000", got)
	}
}
