// Package outsider is a VASP's backend as somebody writes it who has the
// public contract and nothing of ours: it imports the standard library only,
// and a test of the repository says so. What it takes for granted is what the
// contract says, in the contract's words; where its enclave does not keep to
// that, it writes down a complaint.
//
// It is scripted: a test says what it answers about an account or a transfer.
package outsider

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Answer is what the backend says of an account and of a transfer to it
// (contract 3.1, 3.2).
type Answer struct {
	Result  string // VERIFIED, DENIED or ERROR
	Reason  string // OK, or one of contract 6.2
	Message string // what contract 6.2 wants beside the reason
	// Beneficiary is what is told of the customer; nil tells nothing.
	Beneficiary json.RawMessage
	After       time.Duration // how long the backend thinks
}

// Status is where a transfer stands that the VASP originates (contract 3.3).
type Status struct {
	VerificationUUID  string `json:"verificationUuid"`
	TransactionStatus string `json:"transactionStatus"`
	TxHash            string `json:"txHash,omitempty"`
	VOut              string `json:"vout,omitempty"`
}

// Callback is one that the backend has taken (contract 3.4).
type Callback struct {
	Type string
	Data CallbackData
	// Seen is what the enclave's history said while the callback was being
	// handled.
	Seen Row
}

// CallbackData is the data of the three kinds of callback together.
type CallbackData struct {
	VerificationUUID   string                     `json:"verificationUuid"`
	VerificationResult string                     `json:"verificationResult"`
	Result             string                     `json:"result"`
	Reason             string                     `json:"reason"`
	Message            string                     `json:"message"`
	IVMS101            map[string]json.RawMessage `json:"ivms101"`
	TxHash             string                     `json:"txHash"`
	VOut               string                     `json:"vout"`
}

// Backend serves the four APIs of the contract's section 3 on a loopback
// address, and knows its enclave. Make it with Listen.
type Backend struct {
	URL     string  // base of /account, /user, /tx and /callback
	Enclave Enclave // set it before the first request

	header, value string // what the enclave must send
	server        *http.Server

	mu         sync.Mutex
	scripts    map[string]func(*Question) Answer
	statuses   map[string]Status
	deliveries map[string]int
	refused    int
	taken      []Callback
	changed    chan struct{} // closed at the next callback taken
	complaints []string
}

// Listen starts a backend that wants a header from its enclave: Authorization
// with `Bearer <token>`, or another name with the token alone (contract 3.0).
func Listen(header, token string) (*Backend, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Backend{
		URL: "http://" + listener.Addr().String(), header: header, value: token,
		scripts: map[string]func(*Question) Answer{}, statuses: map[string]Status{}, deliveries: map[string]int{},
		changed: make(chan struct{}),
	}
	if header == "Authorization" {
		b.value = "Bearer " + token
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/account", b.asked(b.account))
	mux.HandleFunc("/user", b.asked(b.user))
	mux.HandleFunc("/tx", b.asked(b.status))
	mux.HandleFunc("/callback", b.asked(b.callback))
	b.server = &http.Server{Handler: mux}
	go func() { _ = b.server.Serve(listener) }()
	return b, nil
}

// Close ends the backend.
func (b *Backend) Close() error { return b.server.Close() }

// Says scripts what the backend says of a beneficiary's account. An account
// without a script is nobody's.
func (b *Backend) Says(account string, script func(*Question) Answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scripts[account] = script
}

// Stands scripts where a transfer stands; PENDING without a script.
func (b *Backend) Stands(s Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.statuses[s.VerificationUUID] = s
}

// Complaints is what the enclave did that the contract does not allow.
func (b *Backend) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.complaints)
}

// Refused is how many callbacks were not taken when they first came.
func (b *Backend) Refused() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// Taken is every callback about a verification that was taken, the first one
// of each type only.
func (b *Backend) Taken(id string) (all []Callback) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.taken {
		if c.Data.VerificationUUID == id {
			all = append(all, c)
		}
	}
	return all
}

// Await waits until a callback of a type about a verification was taken.
func (b *Backend) Await(ctx context.Context, kind, id string) (*Callback, error) {
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		for _, c := range b.Taken(id) {
			if c.Type == kind {
				return &c, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("no callback %s about %s: %w", kind, id, ctx.Err())
		}
	}
}

func (b *Backend) complain(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, fmt.Sprintf(format, args...))
}

// asked reads a request, holds it against the contract's rules for all of
// them, and lets answer answer it.
func (b *Backend) asked(answer func(ctx context.Context, body []byte) (status int, say any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		for _, wrong := range wrongHead(r, b.header, b.value) {
			b.complain("%s: %s", r.URL.Path, wrong)
		}
		status, say := answer(r.Context(), body)
		text, ok := say.(string)
		if !ok {
			encoded, err := json.Marshal(say)
			if err != nil {
				b.complain("%s: cannot write the answer: %v", r.URL.Path, err)
			}
			text = string(encoded)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_, _ = io.WriteString(w, text)
		}
	}
}

// judge finds the script for a question and waits as long as it thinks.
func (b *Backend) judge(ctx context.Context, q *Question) Answer {
	account := q.account()
	b.mu.Lock()
	script := b.scripts[account]
	b.mu.Unlock()
	if script == nil {
		return Answer{Result: "DENIED", Reason: "UNKNOWN-ADDRESS", Message: account}
	}
	a := script(q)
	select {
	case <-time.After(a.After):
	case <-ctx.Done():
	}
	return a
}

func (b *Backend) account(ctx context.Context, body []byte) (int, any) {
	q, wrong := readAccountQuestion(body)
	for _, w := range wrong {
		b.complain("account: %s", w)
	}
	a := b.judge(ctx, q)
	answer := map[string]string{"accountVerificationResult": a.Result, "verifiedAt": time.Now().UTC().Format("2006-01-02T15:04:05.000Z")}
	if a.Result == "DENIED" {
		answer["reason"], answer["message"] = a.Reason, a.Message
	}
	return http.StatusOK, answer
}

func (b *Backend) user(ctx context.Context, body []byte) (int, any) {
	q, wrong := readUserQuestion(body)
	for _, w := range wrong {
		b.complain("user: %s", w)
	}
	a := b.judge(ctx, q)
	answer := map[string]any{"result": a.Result, "reason": a.Reason, "message": a.Message, "version": "1.0"}
	if a.Beneficiary != nil {
		answer["ivms101"] = map[string]json.RawMessage{"beneficiary": a.Beneficiary}
	}
	return http.StatusOK, answer
}

func (b *Backend) status(_ context.Context, body []byte) (int, any) {
	var q struct {
		VerificationUUID string `json:"verificationUuid"`
	}
	if err := strict(body, &q); err != nil || !isUUID(q.VerificationUUID) {
		b.complain("tx: the request is not {verificationUuid}: %v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.statuses[q.VerificationUUID]
	if !ok {
		s = Status{VerificationUUID: q.VerificationUUID, TransactionStatus: "PENDING"}
	}
	return http.StatusOK, s
}

// refusals are answers by which a callback was not taken (contract 3.4: HTTP
// 200 and {"result":true} only).
var refusals = []struct {
	status int
	text   string
}{
	{http.StatusInternalServerError, `{"result":true}`}, {http.StatusNoContent, ""}, {http.StatusOK, `{"result":false}`},
	{http.StatusOK, `{}`}, {http.StatusOK, `"OK"`}, {http.StatusAccepted, `{"result":true}`},
}

// callback does not take any callback at first, each time in another way. The
// second time it looks into the enclave's history, which must say already what
// the callback says, and takes it.
func (b *Backend) callback(ctx context.Context, body []byte) (int, any) {
	c, wrong := readCallback(body)
	for _, w := range wrong {
		b.complain("callback: %s", w)
	}
	if len(wrong) > 0 {
		return http.StatusBadRequest, "{}"
	}
	if status, text, refuse := b.refuse(c); refuse {
		return status, text
	}
	row, err := b.Enclave.Row(ctx, c.Data.VerificationUUID)
	if err != nil {
		return http.StatusServiceUnavailable, "{}" // too slow, perhaps; it comes again
	}
	for _, wrong := range contradicts(c, row) {
		b.complain("callback %s: %s", c.Type, wrong)
	}
	c.Seen = *row
	b.take(c)
	return http.StatusOK, `{"result":true}`
}

func (b *Backend) refuse(c *Callback) (status int, text string, refuse bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := c.key()
	b.deliveries[key]++
	if b.deliveries[key] > 1 {
		return 0, "", false
	}
	r := refusals[b.refused%len(refusals)]
	b.refused++
	return r.status, r.text, true
}

// take remembers a callback once, however often it is delivered.
func (b *Backend) take(c *Callback) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.ContainsFunc(b.taken, func(t Callback) bool { return t.key() == c.key() }) {
		return
	}
	b.taken = append(b.taken, *c)
	close(b.changed)
	b.changed = make(chan struct{})
}

// key tells callbacks apart: a verification has one of each type, and a
// transaction report one for each hash.
func (c *Callback) key() string {
	return c.Type + " " + c.Data.VerificationUUID + " " + c.Data.TxHash + " " + c.Data.VOut
}
