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
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// customer is one of ours: who it is, and the addresses that are theirs, by
// symbol.
type customer struct {
	First, Last string
	Born, In    string // told to another VASP when the customer sends
	Accounts    map[string]string
}

var customers = map[string]customer{
	"c-1001": {"Mina", "Lee", "1994-05-06", "Busan", map[string]string{"ETH": "0x52908400098527886E0F7030069857D2E4169EE7"}},
	"c-1002": {"José", "García López", "1988-11-30", "Sevilla", map[string]string{"ETH": "0x8617E340B3D01FA5F11F306F4090FD50E238070D", "XRP": "rU6K7V3Po4snVhBBaU29sesqs2qTQJWDw1:1002"}},
}

// backend is the program's state. All of it would be tables of your database.
type backend struct {
	enclave, token string

	mu          sync.Mutex
	withdrawals map[string]*transfer // that we send, by verificationUuid
	deposits    map[string]*transfer // that we receive; one to ourselves is in both
}

func newBackend(enclave, token string) *backend {
	return &backend{enclave: enclave, token: token, withdrawals: map[string]*transfer{}, deposits: map[string]*transfer{}}
}

// transfer is what we know of one.
type transfer struct {
	State  string `json:"state"` // ASKED, SENT or STOPPED; EXPECTED, DEPOSITED or CANCELED
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

// ask calls the enclave and reads its answer. Another status than 200 comes
// with {code, message}; ask gives the code, and "" when all is well.
func (b *backend) ask(path string, question, answer any) (code string) {
	status, text, err := b.post(path, question)
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal(text, answer)
	} else if err == nil {
		var problem struct{ Code string }
		err = json.Unmarshal(text, &problem)
		code = problem.Code
	}
	if err != nil {
		slog.Warn("the enclave gives no answer", "path", path, "err", err)
		return "NO-ANSWER"
	}
	return code
}

func (b *backend) post(path string, question any) (status int, answer []byte, err error) {
	body, err := json.Marshal(question)
	if err != nil {
		return 0, nil, err
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Post(b.enclave+path, "application/json", bytes.NewReader(body))
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
