package main

import (
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
