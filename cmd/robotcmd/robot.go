package robotcmd

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// robot answers an enclave as a VASP's backend does. It keeps what it was
// asked for whoever wants to see it, and nothing on disk.
type robot struct {
	book  *book
	now   func() time.Time
	delay time.Duration // before every answer

	header string   // that carries the token
	want   [32]byte // SHA-256 of its right value
	open   bool     // no token was set: everybody may ask

	requests, callbacks *memory
}

// newRobot makes a robot. Without a token everybody may ask; header "" means
// Authorization with Bearer, as for the enclave (contract 3.0).
func newRobot(b *book, header, token string, delay time.Duration, now func() time.Time) *robot {
	value := token
	if header == "" {
		header, value = "Authorization", "Bearer "+token
	}
	return &robot{
		book: b, now: now, delay: delay, header: header, want: sha256.Sum256([]byte(value)), open: token == "",
		requests: newMemory(remembered), callbacks: newMemory(remembered),
	}
}

// handler is everything the robot serves. What an enclave calls is a POST; the
// GETs are for people and tests, who may see a sandbox's data.
func (r *robot) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /verify/account", r.asked(r.account))
	mux.Handle("POST /verify/user", r.asked(r.user))
	mux.Handle("POST /verify/tx", r.asked(r.transaction))
	mux.Handle("POST /callback", r.asked(r.callback))
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, r.requests.asRequests()) })
	mux.HandleFunc("GET /callbacks", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, r.callbacks.asBodies()) })
	return mux
}

// maxBody bounds a request's body, in bytes.
const maxBody = 1 << 20

// asked reads and remembers a request, judges its token, and lets answer
// answer it.
func (r *robot) asked(answer func(*request) ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		body, err := readBody(w, h)
		if err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, "TOO-LARGE", "The body is longer than 1 MiB or ended early.")
			return
		}
		q := &request{at: r.now(), method: h.Method, path: h.URL.Path, header: r.header, sent: masked(h.Header.Get(r.header)), right: r.right(h), body: body}
		r.requests.add(q)
		if !r.wait(h.Context()) {
			return
		}
		if !q.right {
			refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED", "The token is wrong or absent.")
			return
		}
		text, err := answer(q)
		if err != nil {
			refuse(w, http.StatusBadRequest, "BAD-REQUEST", err.Error())
			return
		}
		reply(w, http.StatusOK, text)
	})
}

func readBody(w http.ResponseWriter, h *http.Request) ([]byte, error) {
	limited := http.MaxBytesReader(w, h.Body, maxBody)
	if h.ContentLength <= 0 || h.ContentLength > maxBody {
		return io.ReadAll(limited)
	}
	body := make([]byte, h.ContentLength)
	_, err := io.ReadFull(limited, body)
	return body, err
}

// right compares digests, so that the time taken says nothing of the token.
func (r *robot) right(h *http.Request) bool {
	got := sha256.Sum256([]byte(h.Header.Get(r.header)))
	return r.open || subtle.ConstantTimeCompare(got[:], r.want[:]) == 1
}

// wait is the configured delay; false when the asker left meanwhile.
func (r *robot) wait(ctx context.Context) bool {
	if r.delay == 0 {
		return true
	}
	select {
	case <-time.After(r.delay):
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *robot) account(q *request) ([]byte, error) {
	var question accountQuestion
	if err := wirejson.Unmarshal(q.body, &question); err != nil {
		return nil, err
	}
	v := r.book.judgeAccount(&question)
	var t text
	t.str("accountVerificationResult", v.result())
	if v.reason != "OK" {
		t.str("reason", v.reason)
		t.str("message", v.message)
	}
	t.str("verifiedAt", r.now().UTC().Format("2006-01-02T15:04:05.000Z"))
	return t.end(), nil
}

func (r *robot) user(q *request) ([]byte, error) {
	var question userQuestion
	if err := wirejson.Unmarshal(q.body, &question); err != nil {
		return nil, err
	}
	v := r.book.judgeUser(&question)
	var t text
	t.str("result", v.result())
	t.str("reason", v.reason)
	t.str("message", v.message)
	t.str("version", "1.0")
	if v.beneficiary != nil {
		var ivms text
		ivms.raw("beneficiary", v.beneficiary)
		t.raw("ivms101", ivms.end())
	}
	return t.end(), nil
}

// transaction answers PENDING: a robot moves no coins, so no transfer of its
// was ever broadcast.
func (r *robot) transaction(q *request) ([]byte, error) {
	var question struct {
		UUID string `json:"verificationUuid"`
	}
	if err := wirejson.Unmarshal(q.body, &question); err != nil {
		return nil, err
	}
	if question.UUID == "" {
		return nil, errors.New("`verificationUuid` is required")
	}
	var t text
	t.str("verificationUuid", question.UUID)
	t.str("transactionStatus", "PENDING")
	return t.end(), nil
}

func (r *robot) callback(q *request) ([]byte, error) {
	if err := wirejson.Check(q.body, wirejson.Limits{}); err != nil {
		return nil, err
	}
	r.callbacks.add(q)
	return []byte(`{"result":true}`), nil
}

// masked is what a header's value shows to people: its scheme and that there
// was something.
func masked(value string) string {
	scheme, rest, found := strings.Cut(value, " ")
	switch {
	case value == "":
		return ""
	case found && rest != "" && (scheme == "Bearer" || scheme == "Basic"):
		return scheme + " [masked]"
	}
	return "[masked]"
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	var t text
	t.str("code", code)
	t.str("message", message)
	reply(w, status, t.end())
}

func reply(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}
