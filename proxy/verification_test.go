package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
)

func TestAVerificationGoesThroughEndToEnd(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	w.Await("A is called back", func() bool { return len(w.A.Backend.Callbacks()) == 1 })
	want := fmt.Sprintf(`{"callbackType":"VERIFICATION_RESULT","data":{"verificationUuid":%q,"verificationResult":"VERIFIED","reason":"OK","message":"","ivms101":{"beneficiary":%s}}}`, id, said)
	if got := string(w.A.Backend.Callbacks()[0]); got != want {
		t.Errorf("callback\n got %s\nwant %s", got, want)
	}
	for _, p := range []*proxytest.Party{w.A, w.B} {
		if r := row(t, p, id); r["result"] != "VERIFIED" || r["ivms101Beneficiary"] != said {
			t.Errorf("row of %s = %v", p.ID, r)
		}
	}
	for _, message := range w.Central.Relayed() {
		if s := string(message); strings.Contains(s, "Roe") || strings.Contains(s, "bc1q") {
			t.Error("central saw a name or an account")
		}
	}
}
