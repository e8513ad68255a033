package outsider

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const (
	goodAccount = `{"originatingVaspId":"15952089931162058999","symbol":"ETH","network":"Ethereum","version":"1.0","ivms101":{"beneficiary":{"accountNumber":["0x1"]}}}`
	goodUser    = `{"verificationUuid":"3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11","assetInfo":{"symbol":"BTC","network":"Bitcoin","amount":"0.5","isExceedingThreshold":true,"tradePrice":"45000000","tradeCurrency":"KRW","tradeISODatetime":"2025-03-04T05:06:07.000Z"},` +
		`"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME","originatingVaspId":"15952089931162058999","version":"1.0","ivms101":{"originator":{"originatorPersons":[{}],"accountNumber":["bc1qsender"]},"beneficiary":{"beneficiaryPersons":[{}],"accountNumber":["bc1qreceiver"]}}}`
	goodResult = `{"callbackType":"VERIFICATION_RESULT","data":{"verificationUuid":"3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11","verificationResult":"VERIFIED","reason":"OK","message":""}}`
)

// An outsider that never complains proves nothing: each of these is one word
// away from what the contract has.
func TestComplaints(t *testing.T) {
	account := func(body string) []string { _, wrong := readAccountQuestion([]byte(body)); return wrong }
	user := func(body string) []string { _, wrong := readUserQuestion([]byte(body)); return wrong }
	callback := func(body string) []string { _, wrong := readCallback([]byte(body)); return wrong }
	for _, c := range []struct {
		read     func(string) []string
		good     string
		was, now string
	}{
		{account, goodAccount, `"15952089931162058999"`, `15952089931162058999`},
		{account, goodAccount, `"version":"1.0",`, ``},
		{account, goodAccount, `["0x1"]`, `["0x1","0x2"]`},
		{account, goodAccount, `"symbol"`, `"payload":{},"symbol"`},
		{user, goodUser, `tradeISODatetime`, `tradeISODateTime`},
		{user, goodUser, `05:06:07.000Z`, `05:06:07Z`},
		{user, goodUser, `"0.5"`, `0.5`},
		{user, goodUser, `-4b53-`, `-1b53-`},
		{user, goodUser, `ACCOUNT_NUMBER,`, ``},
		{user, goodUser, `"originatorPersons":[{}],`, ``},
		{user, goodUser, `"version":"1.0"`, `"payload":{"version":"1.0"}`},
		{callback, goodResult, `"verificationResult"`, `"result"`},
		{callback, goodResult, `"VERIFICATION_RESULT"`, `"TX_REPORT"`},
		{callback, goodResult, `"VERIFICATION_RESULT"`, `"HELLO"`},
		{callback, goodResult, `"reason":"OK",`, ``},
		{callback, goodResult, `}}`, `}}{}`},
	} {
		if wrong := c.read(c.good); len(wrong) > 0 {
			t.Fatalf("what is right is complained about: %q", wrong)
		}
		if !strings.Contains(c.good, c.was) {
			t.Fatalf("there is no %s to change", c.was)
		}
		if len(c.read(strings.Replace(c.good, c.was, c.now, 1))) == 0 {
			t.Errorf("%s in place of %s is not complained about", c.now, c.was)
		}
	}
}

func TestComplaintsAboutTheHead(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"method":      func(r *http.Request) { r.Method = http.MethodPut },
		"type":        func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"no token":    func(r *http.Request) { r.Header.Del("X-Api-Key") },
		"two tokens":  func(r *http.Request) { r.Header.Add("X-Api-Key", "secret") },
		"bearer":      func(r *http.Request) { r.Header.Set("X-Api-Key", "Bearer secret") },
		"both places": func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") },
	} {
		r := httptest.NewRequest(http.MethodPost, "/user", nil)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Api-Key", "secret")
		if wrong := wrongHead(r, "X-Api-Key", "secret"); len(wrong) > 0 {
			t.Fatalf("what is right is complained about: %q", wrong)
		}
		change(r)
		if len(wrongHead(r, "X-Api-Key", "secret")) == 0 {
			t.Errorf("%s: not complained about", name)
		}
	}
}

// A callback that comes before its result is stored is noticed.
func TestComplaintsAboutTheOrder(t *testing.T) {
	result, _ := readCallback([]byte(goodResult))
	row := Row{VerificationUUID: result.Data.VerificationUUID, Result: "VERIFIED", Reason: "OK"}
	if wrong := contradicts(result, &row); len(wrong) > 0 {
		t.Fatalf("what is right is complained about: %q", wrong)
	}
	row.Result, row.Reason = "WAIT", ""
	if len(contradicts(result, &row)) == 0 {
		t.Error("a result that is not stored yet is not complained about")
	}
	report := &Callback{Type: "TX_REPORT", Data: CallbackData{VerificationUUID: row.VerificationUUID, TxHash: "0x1"}}
	if len(contradicts(report, &row)) == 0 {
		t.Error("a hash that is not stored yet is not complained about")
	}
}
