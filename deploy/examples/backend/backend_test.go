package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func call(b *backend, path, token, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	b.handler().ServeHTTP(w, r)
	return w
}

func TestOnlyTheEnclaveMayAsk(t *testing.T) {
	b := newBackend("", "secret")
	for _, path := range []string{"/verify/account", "/verify/user", "/verify/tx", "/callback", "/withdraw"} {
		if w := call(b, path, "guess", `{}`); w.Code != http.StatusUnauthorized {
			t.Errorf("%s with a wrong token = %d", path, w.Code)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		first, last string
		same        bool
	}{
		{"José", "García López", true}, {"JOSÉ", "garcía  lópez", true}, {"López José", "García", true},
		{"Jose", "García López", false}, {"José", "García", false}, {"", "", false},
	} {
		if got := sameName(customers["c-1002"], []person{named(customer{First: c.first, Last: c.last})}); got != c.same {
			t.Errorf("%q %q is the customer: %t, want %t", c.first, c.last, got, c.same)
		}
	}
}

// A result that is delivered ten times at once sends the coins once.
func TestCallbacksAreIdempotent(t *testing.T) {
	reports := make(chan string, 10)
	enclave := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reports <- r.URL.Path
		fmt.Fprint(w, `{"result":true}`)
	}))
	defer enclave.Close()
	b := newBackend(enclave.URL, "secret")
	const result = `{"callbackType":"VERIFICATION_RESULT","data":{"verificationUuid":"u-1","verificationResult":"VERIFIED","reason":"OK"}}`
	if w := call(b, "/callback", "secret", result); w.Code == http.StatusOK {
		t.Errorf("a result of what is not known yet is taken: %d %s", w.Code, w.Body)
	}
	b.withdrawals["u-1"] = &transfer{State: "ASKED"}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if w := call(b, "/callback", "secret", result); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `{"result":true}`) {
				t.Errorf("callback = %d %s", w.Code, w.Body)
			}
		})
	}
	all.Wait()
	if path := <-reports; path != "/v1/verifications/tx" {
		t.Errorf("the enclave was called at %s", path)
	}
	select {
	case <-reports:
		t.Error("the coins were sent twice")
	case <-time.After(100 * time.Millisecond):
	}
}

// What the example did not begin is kept and taken, or it would come again for
// ever: coins that came though it had said no, and everything after a restart.
func TestWhatNobodyExpectsIsTaken(t *testing.T) {
	b := newBackend("", "secret")
	for _, c := range []struct{ callback, path, want string }{
		{`{"callbackType":"TX_REPORT","data":{"verificationUuid":"u-1","txHash":"0x1"}}`, "/deposits/u-1", `{"state":"UNEXPECTED","txHash":"0x1"}`},
		{`{"callbackType":"ERROR_REPORT","data":{"verificationUuid":"u-1","result":"ERROR","reason":"USER-CANCELED"}}`, "/deposits/u-1", `{"state":"UNEXPECTED","reason":"USER-CANCELED","txHash":"0x1"}`},
		{`{"callbackType":"ERROR_REPORT","data":{"verificationUuid":"u-2","result":"ERROR","reason":"BLACKLISTED"}}`, "/deposits/u-2", `{"state":"UNEXPECTED","reason":"BLACKLISTED"}`},
	} {
		if w := call(b, "/callback", "secret", c.callback); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `{"result":true}`) {
			t.Errorf("%s = %d %s", c.callback, w.Code, w.Body)
		}
		if got := look(b, c.path); got != c.want {
			t.Errorf("%s = %s, want %s", c.path, got, c.want)
		}
	}
	const result = `{"callbackType":"VERIFICATION_RESULT","data":{"verificationUuid":"u-3","verificationResult":"VERIFIED","reason":"OK"}}`
	for range 3 {
		if w := call(b, "/callback", "secret", result); w.Code != http.StatusServiceUnavailable {
			t.Errorf("a result that may be early = %d %s", w.Code, w.Body)
		}
	}
	b.early["u-3"] = time.Now().Add(-b.race)
	if w := call(b, "/callback", "secret", result); w.Code != http.StatusOK {
		t.Errorf("a result that nobody waits for = %d %s", w.Code, w.Body)
	}
	if got := look(b, "/withdrawals/u-3"); got != `{"state":"UNEXPECTED","reason":"OK"}` || len(b.early) != 0 {
		t.Errorf("it is kept as %s, and %d are still early", got, len(b.early))
	}
}

func look(b *backend, path string) string {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Authorization", "Bearer secret")
	b.handler().ServeHTTP(w, r)
	return strings.TrimSpace(w.Body.String())
}

func TestNetworks(t *testing.T) {
	b := newBackend("", "secret")
	const onEthereum, onArbitrum = "0x8617E340B3D01FA5F11F306F4090FD50E238070D", "0xde709f2102306220921060314715629080e2fb77"
	for _, c := range []struct{ symbol, network, account, want string }{
		{"ETH", "Ethereum", onEthereum, "VERIFIED"}, {"eth", "ethereum", onEthereum, "VERIFIED"}, {"ETH", "", onEthereum, "VERIFIED"},
		{"ETH", "Arbitrum", onArbitrum, "VERIFIED"}, {"ETH", "Arbitrum", onEthereum, "UNKNOWN-ADDRESS"}, {"ETH", "Ethereum", onArbitrum, "UNKNOWN-ADDRESS"},
		{"ETH", "Polygon", onEthereum, `"message":"Polygon","reason":"UNKNOWN-NETWORK"`}, {"XRP", "Ethereum", "r:1", "UNKNOWN-NETWORK"},
		{"DOGE", "", onEthereum, `"message":"DOGE","reason":"UNKNOWN-SYMBOL"`},
	} {
		check := fmt.Sprintf(`{"symbol":%q,"network":%q,"ivms101":{"beneficiary":{"accountNumber":[%q]}}}`, c.symbol, c.network, c.account)
		if w := call(b, "/verify/account", "secret", check); !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("check of %s on %q = %s, want %s", c.symbol, c.network, w.Body, c.want)
		}
		transfer := fmt.Sprintf(`{"verificationUuid":"u","assetInfo":{"symbol":%q,"network":%q},"requiredBeneficiaryInfo":"ACCOUNT_NUMBER","ivms101":{"originator":{"originatorPersons":[{}]},
			"beneficiary":{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"García López","secondaryIdentifier":"José"}]}}}],"accountNumber":[%q]}}}`, c.symbol, c.network, c.account)
		if w := call(b, "/verify/user", "secret", transfer); !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("transfer of %s on %q = %s, want %s", c.symbol, c.network, w.Body, c.want)
		}
	}
}

// losing is an enclave whose answers to POST /v1/verifications get lost,
// whether it took the request or not, and whose list may be out of reach.
type losing struct {
	takes, lists bool

	mu   sync.Mutex
	rows []map[string]any
}

func (l *losing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r.URL.Path == "/v1/verifications/account":
		fmt.Fprint(w, `{"accountVerificationResult":"VERIFIED"}`)
	case r.Method == http.MethodPost:
		var q map[string]any
		_ = json.NewDecoder(r.Body).Decode(&q)
		if l.takes {
			l.rows = append(l.rows, map[string]any{"verificationUuid": fmt.Sprintf("u-%d", len(l.rows)+1), "assetInfo": q["assetInfo"]})
		}
		panic(http.ErrAbortHandler)
	case !l.lists || r.URL.Query().Get("actionType") != "SEND" || r.URL.Query().Get("beneficiaryAccountNumber") != "0x1":
		panic(http.ErrAbortHandler)
	default:
		stranger := map[string]any{"verificationUuid": "u-0", "assetInfo": map[string]any{"amount": "2", "tradeISODatetime": "2026-01-01T00:00:00.000Z"}}
		_ = json.NewEncoder(w).Encode(map[string]any{"verifications": append([]map[string]any{stranger}, l.rows...)})
	}
}

func TestALostAnswerIsLookedForInTheList(t *testing.T) {
	for _, c := range []struct {
		enclave *losing
		want    string
	}{
		{&losing{takes: true, lists: true}, `{"state":"ASKED","verificationUuid":"u-1"}`},
		{&losing{lists: true}, `{"state":"STOPPED","reason":"NOT-TAKEN"}`},
		{&losing{takes: true}, `"state":"UNSURE"`},
	} {
		enclave := httptest.NewServer(c.enclave)
		b := newBackend(enclave.URL, "secret")
		b.race = time.Second
		w := call(b, "/withdraw", "secret", `{"customer":"c-1001","beneficiaryVaspId":"1","symbol":"ETH","network":"Ethereum","amount":"2","account":"0x1"}`)
		if got := strings.TrimSpace(w.Body.String()); !strings.Contains(got, c.want) {
			t.Errorf("an enclave that takes (%t) and lists (%t): %s, want %s", c.enclave.takes, c.enclave.lists, got, c.want)
		}
		enclave.Close()
	}
}
