package relay_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// Keys change while requests come in: what another key signed is refused, what
// a key that stays has signed before is still known, and a key whose secret is
// another is another one. A bad set changes nothing.
func TestSetKeys(t *testing.T) {
	v, err := relay.NewVerifier(relay.VerifierConfig{Direction: relay.EnclaveToCentral, Keys: []relay.Key{key, key2}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	handler := v.Require(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "in") }))
	status := func(r *http.Request) int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	signed := func(k relay.Key) *http.Request {
		t.Helper()
		signer, err := relay.NewSigner(k, relay.EnclaveToCentral)
		r := httptest.NewRequest(http.MethodGet, relay.DirectoryPath, nil)
		if err == nil {
			err = signer.Sign(r, relay.DirectoryPath, relay.ToCentral, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	seen := signed(key)
	if status(seen) != http.StatusOK || status(signed(key2)) != http.StatusOK {
		t.Fatal("the first keys are not known")
	}
	other := relay.Key{Access: key2.Access, Secret: relay.NewSecret("another secret of the same name")}
	if err := v.SetKeys([]relay.Key{key, other}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		r    *http.Request
		want int
	}{
		"replayed across the change": {seen, 401}, "the key that stays": {signed(key), 200},
		"the secret before": {signed(key2), 401}, "the secret now": {signed(other), 200},
	} {
		if got := status(c.r); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	for name, keys := range map[string][]relay.Key{"twice": {key2, key2}, "no secret": {{Access: "alpha-3"}}} {
		if err := v.SetKeys(keys); err == nil {
			t.Errorf("%s: was taken", name)
		}
		if status(signed(key)) != http.StatusOK || status(signed(key2)) != http.StatusUnauthorized {
			t.Errorf("%s: changed something", name)
		}
	}
}
