package robotcmd

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// robot answers an enclave as a VASP's backend does, and drives it when told
// to. It keeps what it was asked for whoever wants to see it, and nothing on
// disk.
type robot struct {
	options
	header string   // that carries the enclave's token
	want   [32]byte // SHA-256 of its right value
	drives [32]byte // SHA-256 of the right Authorization of who drives

	requests, callbacks *memory
	transfers           *transfers
	chain               *chain
}

// options are what a robot is made of.
type options struct {
	book *book
	now  func() time.Time
	// ending is closed when the program ends: what hangs on purpose then
	// hangs no more. Nil never is.
	ending <-chan struct{}
	delay  time.Duration // before every answer

	// tokenHeader "" means Authorization with Bearer, as for the enclave
	// (contract 3.0). Without a token everybody may ask, or drive.
	tokenHeader, token, driverToken string

	enclave      *enclave      // nil for none: then nobody can drive
	inquireAfter time.Duration // 0 for never
	faults       *faults       // nil for none
}

func newRobot(o options) *robot {
	header, value := o.tokenHeader, o.token
	if header == "" {
		header, value = "Authorization", "Bearer "+o.token
	}
	if o.faults == nil {
		o.faults = new(faults)
	}
	return &robot{
		options: o, header: header, want: sha256.Sum256([]byte(value)), drives: sha256.Sum256([]byte("Bearer " + o.driverToken)),
		requests: newMemory(remembered), callbacks: newMemory(remembered),
		transfers: newTransfers(), chain: newChain(o.book),
	}
}

// handler is everything the robot serves. What an enclave calls is a POST
// without a version; the rest is for people and tests, who may see a sandbox's
// data.
func (r *robot) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /verify/account", r.asked(apiAccount, r.account))
	mux.Handle("POST /verify/user", r.asked(apiUser, r.user))
	mux.Handle("POST /verify/tx", r.asked(apiTransaction, r.transaction))
	mux.Handle("POST /callback", r.asked(apiCallback, r.callback))
	mux.HandleFunc(redirected, r.strayed)
	for path, do := range map[string]driving{
		"GET /requests":           func(context.Context, *http.Request, []byte) ([]byte, error) { return r.requests.asRequests(), nil },
		"GET /callbacks":          func(context.Context, *http.Request, []byte) ([]byte, error) { return r.callbacks.asBodies(), nil },
		"GET /v1.0/seen":          r.seen,
		"GET /v1.0/verifications": r.listTransfers,
		"GET /v1.0/faults":        r.listFaults,
		"POST /v1.0/faults":       r.plantFault,
		"DELETE /v1.0/faults":     r.clearFaults,

		"POST /v1.0/action/verifications/account": r.driveAccount,
		"POST /v1.0/action/verifications":         r.driveVerification,
		"POST /v1.0/action/verifications/tx":      r.driveReport,
		"POST /v1.0/action/verifications/error":   r.driveError,
		"POST /v1.0/action/withdrawal":            r.driveWithdrawal,
		"POST /v1.0/action/tx/inquiry":            r.driveInquiry,
		"POST /v1.0/action/tx/status":             r.driveStatus,
		"GET /v1.0/testnet/balance":               r.balance,
	} {
		mux.Handle(path, r.driven(do))
	}
	addProbes(mux)
	return mux
}

// maxBody bounds a request's body, in bytes.
const maxBody = 1 << 20

// The APIs of an enclave's backend, as faults name them.
const (
	apiAccount     = "account"
	apiUser        = "user"
	apiTransaction = "transaction"
	apiCallback    = "callback"
)

// asked reads and remembers a request, judges its token, and lets answer
// answer it, unless a fault was planted for the API: then the answer, which
// was made and meant, goes wrong on its way.
func (r *robot) asked(api string, answer func(context.Context, *request) ([]byte, error)) http.Handler {
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
		status := http.StatusOK
		text, err := answer(h.Context(), q)
		if err != nil {
			status, text = http.StatusBadRequest, problem("BAD-REQUEST", err.Error())
		}
		if f := r.faults.take(api); f != nil {
			f.spoil(&scene{w: w, r: h, api: api, status: status, right: text, ending: r.ending})
			return
		}
		reply(w, status, text)
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
	return r.token == "" || subtle.ConstantTimeCompare(got[:], r.want[:]) == 1
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

// strayed is where the fault `redirect` leads. Whoever comes here followed it,
// and /requests shows it.
func (r *robot) strayed(w http.ResponseWriter, h *http.Request) {
	body, _ := readBody(w, h)
	r.requests.add(&request{at: r.now(), method: h.Method, path: h.URL.Path, header: r.header, sent: masked(h.Header.Get(r.header)), right: r.right(h), body: body})
	reply(w, http.StatusOK, []byte(`{"result":true}`))
}

func (r *robot) account(_ context.Context, q *request) ([]byte, error) {
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

func (r *robot) user(_ context.Context, q *request) ([]byte, error) {
	var question userQuestion
	if err := wirejson.Unmarshal(q.body, &question); err != nil {
		return nil, err
	}
	v := r.book.judgeUser(&question)
	r.expect(&question, v)
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

// expect remembers a transfer to a customer. One that was verified waits for
// the report of its transaction, and is inquired about when none comes.
func (r *robot) expect(q *userQuestion, v verdict) {
	if q.UUID == "" {
		return
	}
	r.transfers.update(transferKey{receives, q.UUID}, func(t *transfer) {
		if t.result != "" {
			return // asked again
		}
		t.counterparty, t.symbol, t.network, t.amount = q.Originating, q.Asset.Symbol, q.Asset.Network, q.Asset.Amount
		t.from, t.to = first(q.IVMS101.Originator.Accounts), first(q.IVMS101.Beneficiary.Accounts)
		t.result, t.reason = v.result(), v.reason
		if v.reason == "OK" && r.inquireAfter > 0 && r.enclave != nil {
			t.due = r.now().Add(r.inquireAfter)
		}
	})
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// lookupTimeout leaves a transaction's question, which has 1 s (contract 3.0),
// the time to be answered without a lookup.
const lookupTimeout = 700 * time.Millisecond

// transaction answers where a transfer stands that a customer sent. One that
// neither the robot nor its enclave knows was never broadcast: PENDING.
func (r *robot) transaction(ctx context.Context, q *request) ([]byte, error) {
	var question struct {
		UUID string `json:"verificationUuid"`
	}
	if err := wirejson.Unmarshal(q.body, &question); err != nil {
		return nil, err
	}
	if question.UUID == "" {
		return nil, errors.New("`verificationUuid` is required")
	}
	key := transferKey{sends, question.UUID}
	found, known := r.transfers.get(key)
	if !known {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		if found, known = r.recall(ctx, question.UUID); !known {
			found = transfer{transferKey: key, status: pending}
		}
	}
	var t text
	t.str("verificationUuid", question.UUID)
	t.str("transactionStatus", found.status)
	found.hash(&t)
	return t.end(), nil
}

// callback takes what an enclave tells. It does the same however often it is
// told (contract 3.4).
func (r *robot) callback(_ context.Context, q *request) ([]byte, error) {
	var told struct {
		Type string         `json:"callbackType"`
		Data jsontext.Value `json:"data"`
	}
	if err := wirejson.Unmarshal(q.body, &told); err != nil {
		return nil, err
	}
	if take := r.takers()[told.Type]; take != nil && len(told.Data) > 0 {
		var data callbackData
		if err := wirejson.Unmarshal(told.Data, &data); err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		if data.UUID != "" {
			take(&data)
		}
	}
	r.callbacks.add(q)
	return []byte(`{"result":true}`), nil
}

// callbackData is `data` of a callback, as far as a robot reads it.
type callbackData struct {
	UUID    string `json:"verificationUuid"`
	Verdict string `json:"verificationResult"`
	Result  string `json:"result"`
	Reason  string `json:"reason"`
	TxHash  string `json:"txHash"`
	VOut    string `json:"vout"`
}

// takers are what a robot does about the callbacks of contract 3.4. Others are
// kept for people to see.
func (r *robot) takers() map[string]func(*callbackData) {
	return map[string]func(*callbackData){
		"VERIFICATION_RESULT": func(d *callbackData) {
			r.transfers.update(transferKey{sends, d.UUID}, func(t *transfer) {
				t.result, t.reason = d.Verdict, d.Reason
				if d.Verdict != "VERIFIED" {
					t.settle(canceled, "", "") // only what was verified is sent
				}
			})
		},
		"TX_REPORT": func(d *callbackData) { r.arrived(d.UUID, processing, d.TxHash, d.VOut) },
		"ERROR_REPORT": func(d *callbackData) {
			r.transfers.update(transferKey{receives, d.UUID}, func(t *transfer) {
				t.result, t.reason = d.Result, d.Reason
				t.settle(canceled, "", "")
			})
		},
	}
}

// arrived notes what was reported, or told when we inquired, of a transfer to
// a customer. With the hash the coins are there, once, unless they were sent
// on our own chain.
func (r *robot) arrived(uuid, status, txHash, vout string) {
	sent, _ := r.transfers.get(transferKey{sends, uuid})
	r.transfers.update(transferKey{receives, uuid}, func(t *transfer) {
		t.settle(status, txHash, vout)
		if txHash == "" || status == canceled {
			return
		}
		t.reported = true
		amount, err := parseAmount(t.amount)
		if t.paid || sent.paid || err != nil {
			return
		}
		t.paid = true
		r.chain.credit(keyOf(t.symbol, t.to), amount)
	})
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
	reply(w, status, problem(code, message))
}

// problem is the body of an error (contract 2.0).
func problem(code, message string) []byte {
	var t text
	t.str("code", code)
	t.str("message", message)
	return t.end()
}

func reply(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}
