package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// request is a user verification as A's backend sends it.
func request(w *proxytest.World) []byte {
	return fmt.Appendf(nil, `{"keyType":"PerVasp","beneficiaryVaspId":"%s",
"assetInfo":{"symbol":"BTC","network":"Bitcoin","amount":"0.5","isExceedingThreshold":true,"tradePrice":"45000000","tradeCurrency":"KRW","tradeISODatetime":"2025-03-04T05:06:07.000Z"},
"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME",
"payload":{"version":"1.0","ivms101":{"originator":{"originatorPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["bc1qsender"]},
"beneficiary":{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Doe","secondaryIdentifier":"Joe","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["bc1qreceiver"]}}}}`, w.B.ID)
}

const said = `{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Doe","secondaryIdentifier":"Joe","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["bc1qreceiver"]}`

// verified lets B's backend know the customer.
func verified(w *proxytest.World) {
	w.B.Backend.OnUser(func(context.Context, []byte) (*vasp.UserAnswer, error) {
		return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Version: "1.0", Beneficiary: []byte(said)}, nil
	})
}

// verify sends a verification from A and gives its id.
func verify(t *testing.T, w *proxytest.World, body []byte) string {
	t.Helper()
	status, answer := w.A.Call(http.MethodPost, "/v1/verifications", body)
	var accepted struct{ VerificationUUID, CreatedAt string }
	if err := json.Unmarshal(answer, &accepted); err != nil || status != http.StatusOK || accepted.CreatedAt == "" {
		t.Fatalf("POST /v1/verifications = %d %s", status, answer)
	}
	return accepted.VerificationUUID
}

// row reads one row of a party's history.
func row(t *testing.T, p *proxytest.Party, id string) map[string]any {
	t.Helper()
	status, answer := p.Call(http.MethodGet, "/v1/verifications/"+id, nil)
	var row map[string]any
	if err := json.Unmarshal(answer, &row); err != nil || status != http.StatusOK {
		t.Fatalf("GET /v1/verifications/%s = %d %s", id, status, answer)
	}
	return row
}

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
