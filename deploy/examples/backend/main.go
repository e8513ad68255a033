// A small backend of a VASP, whole: it answers the four calls of its enclave,
// and sends withdrawals through it. Copy it and put your own customers, wallet
// and database where this one has maps. It needs the standard library only.
//
//	BACKEND_LISTEN      where the enclave finds it, such as 127.0.0.1:8081
//	BACKEND_TOKEN_FILE  holds VEGA_VERIFICATION_AUTHORIZATION_TOKEN of the enclave
//	BACKEND_ENCLAVE     where it finds the enclave, such as http://127.0.0.1:21117
package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// customer is one of ours: who it is, and the accounts that are theirs.
type customer struct {
	First, Last string
	Born, In    string // told to another VASP when the customer sends
	Accounts    []account
}

// account is an address on one network: the same coin on another network is
// another account, even where the addresses look alike.
type account struct{ Symbol, Network, Number string }

var customers = map[string]customer{
	"c-1001": {"Mina", "Lee", "1994-05-06", "Busan", []account{
		{"ETH", "Ethereum", "0x52908400098527886E0F7030069857D2E4169EE7"},
	}},
	"c-1002": {"José", "García López", "1988-11-30", "Sevilla", []account{
		{"ETH", "Ethereum", "0x8617E340B3D01FA5F11F306F4090FD50E238070D"},
		{"ETH", "Arbitrum", "0xde709f2102306220921060314715629080e2fb77"},
		{"XRP", "XRP", "rU6K7V3Po4snVhBBaU29sesqs2qTQJWDw1:1002"},
	}},
}

// holds compares symbol and network without case. A network that is not named
// is any.
func (a account) holds(symbol, network string) bool {
	return strings.EqualFold(a.Symbol, symbol) && (network == "" || strings.EqualFold(a.Network, network))
}

// backend is the program's state. All of it would be tables of your database.
type backend struct {
	enclave, token string

	mu          sync.Mutex
	withdrawals map[string]*transfer // that we send, by verificationUuid
	deposits    map[string]*transfer // that we receive; one to ourselves is in both

	early map[string]time.Time // results of withdrawals we do not know, by when they first came
	race  time.Duration        // how long a result may be faster than what it answers
}

func newBackend(enclave, token string) *backend {
	return &backend{
		enclave: enclave, token: token, race: time.Minute,
		withdrawals: map[string]*transfer{}, deposits: map[string]*transfer{}, early: map[string]time.Time{},
	}
}

// transfer is what we know of one. UNEXPECTED is for a person to look at: it
// was heard of by a callback, and nothing here began with it.
type transfer struct {
	State  string `json:"state"` // ASKED, SENT or STOPPED; EXPECTED, DEPOSITED or CANCELED; UNEXPECTED
	Reason string `json:"reason,omitempty"`
	TxHash string `json:"txHash,omitempty"`
}

func main() {
	token, err := os.ReadFile(os.Getenv("BACKEND_TOKEN_FILE"))
	if err != nil || os.Getenv("BACKEND_ENCLAVE") == "" {
		slog.Error("set BACKEND_LISTEN, BACKEND_TOKEN_FILE and BACKEND_ENCLAVE", "err", err)
		os.Exit(2)
	}
	b := newBackend(os.Getenv("BACKEND_ENCLAVE"), strings.TrimSpace(string(token)))
	server := &http.Server{Addr: os.Getenv("BACKEND_LISTEN"), Handler: b.handler(), ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	slog.Info("backend ready", "listen", server.Addr)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		slog.Error("backend ends", "err", err)
		os.Exit(1)
	}
}

func (b *backend) handler() http.Handler {
	mux := http.NewServeMux()
	// What the enclave calls.
	mux.HandleFunc("POST /verify/account", handle(b.verifyAccount))
	mux.HandleFunc("POST /verify/user", handle(b.verifyUser))
	mux.HandleFunc("POST /verify/tx", handle(b.transactionStatus))
	mux.HandleFunc("POST /callback", handle(b.callback))
	// What the rest of the exchange calls.
	mux.HandleFunc("POST /withdraw", handle(b.withdraw))
	mux.HandleFunc("GET /withdrawals/{uuid}", b.show(b.withdrawals))
	mux.HandleFunc("GET /deposits/{uuid}", b.show(b.deposits))
	return b.guarded(mux)
}

// guarded lets nobody in who has not the token: these calls hold and give
// personal data.
func (b *backend) guarded(next http.Handler) http.Handler {
	want := []byte("Bearer " + b.token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			http.Error(w, "the token is wrong or absent", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// handle reads a request's JSON and writes the answer's. An answer that is
// nil means: not now, ask again.
func handle[Q any](answer func(*Q) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := new(Q)
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(q); err != nil {
			http.Error(w, "the body is not the JSON that was expected", http.StatusBadRequest)
			return
		}
		a := answer(q)
		if a == nil {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		write(w, a)
	}
}

func write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// noAnswer is ask's own code: whether the enclave did what it was asked is not
// known.
const noAnswer = "NO-ANSWER"

// ask calls the enclave and reads its answer: GET without a question, POST
// with one. Another status than 200 comes with {code, message}; ask gives the
// code, and "" when all is well.
func (b *backend) ask(path string, question, answer any) (code string) {
	status, text, err := b.call(path, question)
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal(text, answer)
	} else if err == nil {
		var problem struct{ Code string }
		err = json.Unmarshal(text, &problem)
		code = problem.Code
	}
	if err != nil {
		where, _, _ := strings.Cut(path, "?") // an error would quote the rest: accounts
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		slog.Warn("the enclave gives no answer", "path", where, "err", err)
		return noAnswer
	}
	return code
}

func (b *backend) call(path string, question any) (status int, answer []byte, err error) {
	body, err := json.Marshal(question)
	if err != nil {
		return 0, nil, err
	}
	client := &http.Client{Timeout: 10 * time.Second}
	var response *http.Response
	if question == nil {
		response, err = client.Get(b.enclave + path)
	} else {
		response, err = client.Post(b.enclave+path, "application/json", bytes.NewReader(body))
	}
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

func (b *backend) show(transfers map[string]*transfer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		t := transfers[r.PathValue("uuid")]
		if t == nil {
			http.NotFound(w, r)
			return
		}
		write(w, t)
	}
}
