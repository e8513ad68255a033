package robotcmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

const (
	id    = "3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11"
	alpha = "15952089931162058999" // the robot's own
	bravo = "16384656509591635927"
	kim   = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
)

// fakeEnclave is the part of an enclave that a robot drives, by the contract.
type fakeEnclave struct {
	mu      sync.Mutex
	calls   []call
	answers map[string]string // by path
	status  int               // of the next answers
	asked   chan string       // the path of each call, when somebody waits for it
}

type call struct {
	path, token string
	body        []byte
}

func newFakeEnclave(t *testing.T) (*fakeEnclave, string) {
	t.Helper()
	e := &fakeEnclave{status: 200, asked: make(chan string, 100), answers: map[string]string{
		"/v1/vasps/self":               `{"vaspId":"` + alpha + `"}`,
		"/v1/verifications/account":    `{"accountVerificationResult":"VERIFIED","verifiedAt":"2026-01-02T03:04:05.000Z"}`,
		"/v1/verifications":            `{"verificationUuid":"` + id + `","createdAt":"2026-01-02T03:04:05.000Z"}`,
		"/v1/verifications/tx":         `{"result":true}`,
		"/v1/verifications/error":      `{"result":true}`,
		"/v1/verifications/tx/inquiry": `{"verificationUuid":"` + id + `","transactionStatus":"PROCESSING","txHash":"0xfeed","vout":"2"}`,
	}}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	return e, s.URL
}

func (e *fakeEnclave) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	answer, known := e.answers[r.URL.Path]
	status := e.status
	if r.Method == http.MethodPost {
		e.calls = append(e.calls, call{r.URL.Path, r.Header.Get("Authorization"), body})
	}
	e.mu.Unlock()
	if !known {
		status, answer = 404, `{"code":"VERIFICATION-NOT-FOUND","message":"Verification is not found"}`
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, answer)
	select {
	case e.asked <- r.URL.Path:
	default:
	}
}

func (e *fakeEnclave) set(status int, path, answer string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = status
	if path != "" {
		e.answers[path] = answer
	}
}

// last is the last POST, and how many there were.
func (e *fakeEnclave) last() (call, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.calls) == 0 {
		return call{}, 0
	}
	return e.calls[len(e.calls)-1], len(e.calls)
}

// drive posts to a driver endpoint and expects a status.
func drive(t *testing.T, robot, path, body string, want int) map[string]any {
	t.Helper()
	status, got := ask(t, robot+"/v1.0/"+path, body)
	if status != want {
		t.Fatalf("%s %s = %d %v, want %d", path, body, status, got, want)
	}
	return got
}

func call200(t *testing.T, robot, kind, data string) {
	t.Helper()
	if status, got := ask(t, robot+"/callback", `{"callbackType":"`+kind+`","data":`+data+`}`); status != 200 || got["result"] != true {
		t.Fatalf("callback %s = %d %v", kind, status, got)
	}
}

func balanceOf(t *testing.T, robot, symbol, address string) string {
	t.Helper()
	status, body := get(t, robot+"/v1.0/testnet/balance?vaspId="+bravo+"&symbol="+symbol+"&address="+address)
	var got struct{ VASPID, Symbol, Address, Balance string }
	if err := json.Unmarshal(body, &got); status != 200 || err != nil || got.VASPID != bravo || got.Symbol != symbol || got.Address != address {
		t.Fatalf("balance = %d %s", status, body)
	}
	return got.Balance
}

// statusOfTransfer is what the enclave would be told.
func statusOfTransfer(t *testing.T, robot string) map[string]any {
	t.Helper()
	_, got := ask(t, robot+"/verify/tx", `{"verificationUuid":"`+id+`"}`)
	return got
}

func wantJSON(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%s: %s is no JSON: %v", what, got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(g)
	b, _ := json.Marshal(w)
	if !bytes.Equal(a, b) {
		t.Errorf("%s sent\n%s\nwant\n%s", what, a, b)
	}
}

func TestDriveAnAccountCheck(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url, "ROBOT_ENCLAVE_TOKEN=t0ken")
	for _, c := range []struct{ name, body, want string }{
		{"least", `{"beneficiaryVaspId":"` + bravo + `","address":"0x1"}`,
			`{"keyType":"PerVasp","beneficiaryVaspId":"` + bravo + `","symbol":"ETH","payload":{"version":"1.0","ivms101":{"beneficiary":{"beneficiaryPersons":[],"accountNumber":["0x1"]}}}}`},
		{"address alone, of a sample customer", `{"beneficiaryVaspId":"` + bravo + `","address":"` + taylor + `"}`,
			`{"keyType":"PerVasp","beneficiaryVaspId":"` + bravo + `","symbol":"ETH","payload":{"version":"1.0","ivms101":{"beneficiary":{"beneficiaryPersons":[],"accountNumber":["` + taylor + `"]}}}}`},
		{"most", `{"beneficiaryVaspId":"` + bravo + `","address":"r1:2","symbol":"XRP","network":"XRP","keyType":"PerAddress","beneficiaryName":"Ann Roe"}`,
			`{"keyType":"PerAddress","beneficiaryVaspId":"` + bravo + `","symbol":"XRP","network":"XRP","payload":{"version":"1.0","ivms101":{"beneficiary":{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Ann Roe","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["r1:2"]}}}}`},
		{"persons", `{"beneficiaryVaspId":"` + bravo + `","address":"0x1","beneficiaryPersons":[` + company("Acme") + `]}`,
			`{"keyType":"PerVasp","beneficiaryVaspId":"` + bravo + `","symbol":"ETH","payload":{"version":"1.0","ivms101":{"beneficiary":{"beneficiaryPersons":[` + company("Acme") + `],"accountNumber":["0x1"]}}}}`},
	} {
		got := drive(t, robot, "action/verifications/account", c.body, 200)
		if got["accountVerificationResult"] != "VERIFIED" {
			t.Errorf("%s: answered %v, want the enclave's answer", c.name, got)
		}
		last, _ := enclave.last()
		wantJSON(t, c.name, last.body, c.want)
		if last.path != "/v1/verifications/account" || last.token != "Bearer t0ken" {
			t.Errorf("%s: called %s with %q", c.name, last.path, last.token)
		}
	}
}

func TestDriveAVerification(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url)
	got := drive(t, robot, "action/verifications", `{"beneficiaryVaspId":"`+bravo+`","address":"`+kim+`","amount":"1.25"}`, 200)
	if got["verificationUuid"] != id || got["createdAt"] == nil {
		t.Errorf("answered %v, want what the enclave did", got)
	}
	last, _ := enclave.last()
	var sent map[string]any
	if err := json.Unmarshal(last.body, &sent); err != nil {
		t.Fatal(err)
	}
	at := sent["assetInfo"].(map[string]any)["tradeISODatetime"]
	wantJSON(t, "the least", last.body, fmt.Sprintf(`{"keyType":"PerVasp","beneficiaryVaspId":%q,
		"assetInfo":{"symbol":"ETH","amount":"1.25","isExceedingThreshold":true,"tradePrice":"1000","tradeCurrency":"USD","tradeISODatetime":%q},
		"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME","payload":{"version":"1.0","ivms101":{
		"originator":{"originatorPersons":[%s],"accountNumber":[%q]},
		"beneficiary":{"beneficiaryPersons":[%s],"accountNumber":[%q]}}}}`,
		bravo, at, person("Robbins", "Taylor", "1985-03-14", "Boston"), taylor, person("Kim", "Min-jun"), kim))
	if last.token != "" {
		t.Errorf("sent the token %q, want none", last.token)
	}

	drive(t, robot, "action/verifications", `{"beneficiaryVaspId":"`+bravo+`","address":"r9:1","symbol":"XRP","network":"XRP","amount":"7","keyType":"PerVerification",
		"originatorAccountNumber":"rGFFufDwabHuPur9927p1EgBTcCBfsjtEU:456789123","originatorPersons":[`+person("Escobar", "Pablo", "1949-12-01", "Colombia")+`],
		"beneficiaryPersons":[`+company("Acme")+`],"requiredBeneficiaryInfo":"ACCOUNT_NUMBER","isExceedingThreshold":false,"tradePrice":"3.5","tradeCurrency":"SGD"}`, 200)
	last, _ = enclave.last()
	_ = json.Unmarshal(last.body, &sent)
	at = sent["assetInfo"].(map[string]any)["tradeISODatetime"]
	wantJSON(t, "the most", last.body, fmt.Sprintf(`{"keyType":"PerVerification","beneficiaryVaspId":%q,
		"assetInfo":{"symbol":"XRP","network":"XRP","amount":"7","isExceedingThreshold":false,"tradePrice":"3.5","tradeCurrency":"SGD","tradeISODatetime":%q},
		"requiredBeneficiaryInfo":"ACCOUNT_NUMBER","payload":{"version":"1.0","ivms101":{
		"originator":{"originatorPersons":[%s],"accountNumber":["rGFFufDwabHuPur9927p1EgBTcCBfsjtEU:456789123"]},
		"beneficiary":{"beneficiaryPersons":[%s],"accountNumber":["r9:1"]}}}}`,
		bravo, at, person("Escobar", "Pablo", "1949-12-01", "Colombia"), company("Acme")))

	drive(t, robot, "action/verifications", `{"beneficiaryVaspId":"`+bravo+`","address":"`+garrit+`","amount":"1"}`, 200)
	if last, _ = enclave.last(); !bytes.Contains(last.body, []byte(`"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,LEGAL_PERSON_NAME"`)) || !bytes.Contains(last.body, []byte("Clarke")) {
		t.Errorf("to a company the robot sent %s", last.body)
	}
}

// From the verification to the last confirmation, with the coins.
func TestDriveAWithdrawal(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url)
	withdraw := `{"verificationUuid":"` + id + `"}`
	drive(t, robot, "action/verifications", `{"beneficiaryVaspId":"`+bravo+`","address":"0xOut","amount":"1.25"}`, 200)
	if got := drive(t, robot, "action/withdrawal", withdraw, 409); got["code"] != "NOT-VERIFIED" {
		t.Errorf("before the result: %v, want NOT-VERIFIED", got)
	}
	if got := statusOfTransfer(t, robot); got["transactionStatus"] != "PENDING" || got["txHash"] != nil {
		t.Errorf("before the withdrawal it is %v, want PENDING", got)
	}
	call200(t, robot, "VERIFICATION_RESULT", `{"verificationUuid":"`+id+`","verificationResult":"VERIFIED","reason":"OK"}`)
	got := drive(t, robot, "action/withdrawal", `{"verificationUuid":"`+id+`","omitTxReport":true,"vout":"3"}`, 200)
	hash, _ := got["txHash"].(string)
	if len(hash) != 66 || !strings.HasPrefix(hash, "0x") || got["transactionStatus"] != "PROCESSING" || got["reported"] != false || got["vout"] != "3" {
		t.Errorf("withdrew %v, want a hash that is not reported", got)
	}
	if last, _ := enclave.last(); last.path != "/v1/verifications" {
		t.Errorf("called %s though the report was to be omitted", last.path)
	}
	if got := statusOfTransfer(t, robot); got["transactionStatus"] != "PROCESSING" || got["txHash"] != hash || got["vout"] != "3" {
		t.Errorf("then it is %v, want PROCESSING with the hash", got)
	}

	// Again it moves nothing, and reports what was not reported.
	enclave.set(503, "", "")
	drive(t, robot, "action/withdrawal", withdraw, 503)
	enclave.set(200, "", "")
	for range 2 {
		if got := drive(t, robot, "action/withdrawal", withdraw, 200); got["txHash"] != hash || got["reported"] != true {
			t.Errorf("again it is %v, want the same hash, reported", got)
		}
	}
	last, n := enclave.last()
	if n != 3 {
		t.Errorf("the enclave was called %d times, want a verification, a report that failed and one more", n)
	}
	wantJSON(t, "the report", last.body, `{"verificationUuid":"`+id+`","txHash":"`+hash+`","vout":"3"}`)
	if from, to := balanceOf(t, robot, "ETH", taylor), balanceOf(t, robot, "ETH", "0xOut"); from != "998.75" || to != "1.25" {
		t.Errorf("balances are %s and %s, want 998.75 and 1.25", from, to)
	}

	for _, status := range []string{"WAIT-CONFIRM", "CONFIRMED", "CONFIRMED"} {
		drive(t, robot, "action/tx/status", `{"verificationUuid":"`+id+`","transactionStatus":"`+status+`"}`, 200)
		if got := statusOfTransfer(t, robot); got["transactionStatus"] != status || got["txHash"] != hash {
			t.Errorf("set to %s it is %v", status, got)
		}
	}
	for _, status := range []string{"PENDING", "CANCELED"} {
		if got := drive(t, robot, "action/tx/status", `{"verificationUuid":"`+id+`","transactionStatus":"`+status+`"}`, 409); got["code"] != "FINAL" {
			t.Errorf("from CONFIRMED to %s: %v, want FINAL", status, got)
		}
	}
	drive(t, robot, "action/verifications/error", withdraw, 200) // a lie: the coins are gone
	if got := balanceOf(t, robot, "ETH", taylor); got != "998.75" {
		t.Errorf("balance is %s after an error report on what was confirmed, want 998.75", got)
	}
}

func TestACanceledTransferGivesTheCoinsBack(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url)
	drive(t, robot, "action/verifications", `{"beneficiaryVaspId":"`+bravo+`","address":"0xOut","amount":"600"}`, 200)
	call200(t, robot, "VERIFICATION_RESULT", `{"verificationUuid":"`+id+`","verificationResult":"VERIFIED","reason":"OK"}`)
	drive(t, robot, "action/withdrawal", `{"verificationUuid":"`+id+`","omitTxReport":true}`, 200)
	for range 2 {
		if got := drive(t, robot, "action/verifications/error", `{"verificationUuid":"`+id+`"}`, 200); got["result"] != true {
			t.Errorf("answered %v", got)
		}
	}
	last, _ := enclave.last()
	wantJSON(t, "the error report", last.body, `{"verificationUuid":"`+id+`","result":"ERROR","reason":"USER-CANCELED"}`)
	if from, to := balanceOf(t, robot, "ETH", taylor), balanceOf(t, robot, "ETH", "0xOut"); from != "1000" || to != "0" {
		t.Errorf("balances are %s and %s, want 1000 and 0", from, to)
	}
	if got := statusOfTransfer(t, robot); got["transactionStatus"] != "CANCELED" {
		t.Errorf("it is %v, want CANCELED", got)
	}
	if got := drive(t, robot, "action/withdrawal", `{"verificationUuid":"`+id+`"}`, 409); got["code"] != "CANCELED" {
		t.Errorf("a canceled transfer: %v, want CANCELED", got)
	}
}

// What is refused moves no coins.
func TestOnlyWhatMayBeSentIsSent(t *testing.T) {
	_, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url)
	withdraw := `{"verificationUuid":"` + id + `"}`
	if got := drive(t, robot, "action/withdrawal", withdraw, 404); got["code"] != "VERIFICATION-NOT-FOUND" {
		t.Errorf("unknown: %v", got)
	}
	drive(t, robot, "action/verifications", `{"beneficiaryVaspId":"`+bravo+`","address":"0xOut","amount":"1000.5"}`, 200)
	call200(t, robot, "VERIFICATION_RESULT", `{"verificationUuid":"`+id+`","verificationResult":"VERIFIED","reason":"OK"}`)
	if got := drive(t, robot, "action/withdrawal", withdraw, 409); got["code"] != "INSUFFICIENT-BALANCE" {
		t.Errorf("too much: %v", got)
	}
	call200(t, robot, "VERIFICATION_RESULT", `{"verificationUuid":"`+id+`","verificationResult":"DENIED","reason":"MISMATCHED-NAME"}`)
	if got := drive(t, robot, "action/withdrawal", withdraw, 409); got["code"] != "CANCELED" {
		t.Errorf("denied: %v", got)
	}
	if got := balanceOf(t, robot, "ETH", taylor); got != "1000" {
		t.Errorf("balance is %s, want 1000", got)
	}
}

// A verification that somebody else started, or that the robot forgot, is
// found in the enclave's history.
func TestTheEnclaveIsAskedWhatTheRobotDoesNotKnow(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url)
	history := func(result, from, hash string) string {
		return fmt.Sprintf(`{"verificationUuid":%q,"result":%q,"reason":"OK","assetInfo":{"symbol":"ETH","amount":"2"},"txHash":%s,"vout":null,"originatingVaspId":"`+alpha+`","beneficiaryVaspId":%q,"originatorAccountNumber":%q,"beneficiaryAccountNumber":"0xOut"}`, id, result, hash, bravo, from)
	}
	path := "/v1/verifications/" + id
	enclave.set(200, path, history("WAIT", taylor, "null"))
	if got := drive(t, robot, "action/withdrawal", `{"verificationUuid":"`+id+`"}`, 409); got["code"] != "NOT-VERIFIED" {
		t.Errorf("WAIT: %v", got)
	}
	enclave.set(200, path, history("VERIFIED", taylor, "null"))
	if got := drive(t, robot, "action/withdrawal", `{"verificationUuid":"`+id+`"}`, 200); got["reported"] != true || got["amount"] != "2" {
		t.Errorf("VERIFIED: %v", got)
	}
	if got := balanceOf(t, robot, "ETH", taylor); got != "998" {
		t.Errorf("balance is %s, want 998", got)
	}

	fresh := start(t, "ROBOT_ENCLAVE_URL="+url)
	enclave.set(200, path, history("VERIFIED", taylor, `"0xfeed"`))
	if got := statusOfTransfer(t, fresh); got["transactionStatus"] != "PROCESSING" || got["txHash"] != "0xfeed" {
		t.Errorf("after a restart it is %v, want what the history has", got)
	}
	fresh = start(t, "ROBOT_ENCLAVE_URL="+url)
	enclave.set(200, path, history("ERROR", taylor, "null"))
	if got := statusOfTransfer(t, fresh); got["transactionStatus"] != "CANCELED" {
		t.Errorf("after an error report it is %v, want CANCELED", got)
	}
	fresh = start(t, "ROBOT_ENCLAVE_URL="+url)
	enclave.set(200, path, history("VERIFIED", "0xStranger", "null"))
	if got := drive(t, fresh, "action/withdrawal", `{"verificationUuid":"`+id+`"}`, 409); got["code"] != "NOT-OURS" {
		t.Errorf("a stranger's: %v", got)
	}

	// What came is no transfer that a customer sends, even from an account
	// that one of them has, as robots with the same customers see it.
	came := strings.Replace(history("VERIFIED", taylor, `"0xfeed"`), alpha, bravo, 1)
	fresh = start(t, "ROBOT_ENCLAVE_URL="+url)
	enclave.set(200, path, came)
	if got := drive(t, fresh, "action/withdrawal", `{"verificationUuid":"`+id+`"}`, 404); got["code"] != "VERIFICATION-NOT-FOUND" {
		t.Errorf("a withdrawal of what came: %v", got)
	}
	if got := statusOfTransfer(t, fresh); got["transactionStatus"] != "PENDING" || got["txHash"] != nil {
		t.Errorf("what came is %v, want PENDING as if unknown", got)
	}
	if status, body := get(t, fresh+"/v1.0/verifications"); status != 200 || bytes.Contains(body, []byte(id)) {
		t.Errorf("what came is remembered as sent: %d %s", status, body)
	}
}

func TestDriveReports(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url)
	if got := drive(t, robot, "action/verifications/tx", `{"verificationUuid":"`+id+`"}`, 409); got["code"] != "NO-TX-HASH" {
		t.Errorf("without a hash: %v", got)
	}
	drive(t, robot, "action/verifications/tx", `{"verificationUuid":"`+id+`","txHash":"8a54","vout":"1"}`, 200)
	last, _ := enclave.last()
	wantJSON(t, "the report", last.body, `{"verificationUuid":"`+id+`","txHash":"8a54","vout":"1"}`)
	drive(t, robot, "action/verifications/tx", `{"verificationUuid":"`+id+`"}`, 200) // the same again
	last, n := enclave.last()
	wantJSON(t, "the second report", last.body, `{"verificationUuid":"`+id+`","txHash":"8a54","vout":"1"}`)
	if n != 2 || last.path != "/v1/verifications/tx" {
		t.Errorf("called %d times, last %s", n, last.path)
	}
	if got := statusOfTransfer(t, robot); got["transactionStatus"] != "PROCESSING" || got["txHash"] != "8a54" {
		t.Errorf("it is %v, want PROCESSING", got)
	}
	drive(t, robot, "action/verifications/error", `{"verificationUuid":"`+id+`","result":"DENIED","reason":"BLACKLISTED","message":"On a list."}`, 200)
	last, _ = enclave.last()
	wantJSON(t, "the error report", last.body, `{"verificationUuid":"`+id+`","result":"DENIED","reason":"BLACKLISTED","message":"On a list."}`)
	if last.path != "/v1/verifications/error" {
		t.Errorf("called %s", last.path)
	}

	// The enclave's refusal is the answer, as it is.
	enclave.set(400, "/v1/verifications/error", `{"code":"INVALID-RESULT","message":"no"}`)
	if got := drive(t, robot, "action/verifications/error", `{"verificationUuid":"`+id+`","result":"MAYBE"}`, 400); got["code"] != "INVALID-RESULT" || got["message"] != "no" {
		t.Errorf("the enclave's refusal came as %v", got)
	}
}

// deposit lets a robot verify a transfer to one of its customers.
func deposit(t *testing.T, robot string) {
	t.Helper()
	if _, got := ask(t, robot+questions["user"][0], questions["user"][1]); got["result"] != "VERIFIED" {
		t.Fatalf("answered %v, want VERIFIED", got)
	}
}

func TestDriveAnInquiry(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url)
	deposit(t, robot)
	for range 2 { // the coins arrive once
		if got := drive(t, robot, "action/tx/inquiry", `{"verificationUuid":"`+id+`"}`, 200); got["transactionStatus"] != "PROCESSING" || got["txHash"] != "0xfeed" {
			t.Errorf("answered %v, want what the enclave did", got)
		}
	}
	last, _ := enclave.last()
	wantJSON(t, "the inquiry", last.body, `{"verificationUuid":"`+id+`"}`)
	if got := balanceOf(t, robot, "ETH", taylor); got != "1001" {
		t.Errorf("balance is %s, want 1001", got)
	}
}

// Whatever is called back, and however often, does the same.
func TestCallbacksAreIdempotent(t *testing.T) {
	robot := start(t)
	deposit(t, robot)
	report := `{"verificationUuid":"` + id + `","txHash":"0xabc","vout":"2"}`
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			resp, err := client.Post(robot+"/callback", "application/json", strings.NewReader(`{"callbackType":"TX_REPORT","data":`+report+`}`))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(body) != `{"result":true}` {
				t.Errorf("answered %d %s", resp.StatusCode, body)
			}
		})
	}
	all.Wait()
	if got := balanceOf(t, robot, "ETH", taylor); got != "1001" {
		t.Errorf("balance is %s after one deposit of 1 told eight times, want 1001", got)
	}
	_, body := get(t, robot+"/v1.0/verifications")
	wantJSON(t, "the robot", body, `{"verifications":[{"verificationUuid":"`+id+`","actionType":"RECEIVE","counterpartyVaspId":"1","symbol":"ETH","network":"Ethereum","amount":"1",
		"originatorAccountNumber":"a","beneficiaryAccountNumber":"`+taylor+`","result":"VERIFIED","reason":"OK","transactionStatus":"PROCESSING","txHash":"0xabc","vout":"2","reported":true,"inquiries":0}]}`)
	for range 2 {
		call200(t, robot, "ERROR_REPORT", `{"verificationUuid":"`+id+`","result":"ERROR","reason":"BLACKLISTED","message":"x"}`)
	}
	call200(t, robot, "TX_REPORT", report) // a late one: canceled stays canceled
	call200(t, robot, "SOMETHING_NEW", `{"verificationUuid":7}`)
	if _, body := get(t, robot+"/v1.0/verifications"); !bytes.Contains(body, []byte(`"result":"ERROR","reason":"BLACKLISTED","transactionStatus":"CANCELED"`)) {
		t.Errorf("after an error report the robot knows %s", body)
	}
	if status, _ := ask(t, robot+"/callback", `{"callbackType":"TX_REPORT","data":{"verificationUuid":7}}`); status != 400 {
		t.Errorf("a report whose id is a number was answered %d, want 400", status)
	}
	var seen struct{ Requests, Callbacks []json.RawMessage }
	if _, body := get(t, robot+"/v1.0/seen"); json.Unmarshal(body, &seen) != nil || len(seen.Requests) != 14 || len(seen.Callbacks) != 12 {
		t.Errorf("/v1.0/seen shows %d requests and %d callbacks, want 14 and 12", len(seen.Requests), len(seen.Callbacks))
	}
}

// The robot asks by itself when nobody reports, until it is told.
func TestTheRobotInquires(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	enclave.set(200, "/v1/verifications/tx/inquiry", `{"verificationUuid":"`+id+`","transactionStatus":"PENDING","txHash":""}`)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url, "ROBOT_INQUIRE_AFTER_MS=1")
	deposit(t, robot)
	for range 2 {
		if path := <-enclave.asked; path != "/v1/verifications/tx/inquiry" {
			t.Errorf("the enclave was asked %s", path)
		}
	}
	last, _ := enclave.last()
	wantJSON(t, "the inquiry", last.body, `{"verificationUuid":"`+id+`"}`)
}

func TestDriversAreToldWhatIsWrong(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url)
	to := `"beneficiaryVaspId":"` + bravo + `","address":"0x1"`
	for _, c := range []struct{ path, body, code, says string }{
		{"action/verifications/account", `{"address":"0x1"}`, "MISSING-BENEFICIARY-VASP-ID", "`beneficiaryVaspId` is required."},
		{"action/verifications/account", `{"beneficiaryVaspId":"` + bravo + `"}`, "MISSING-ADDRESS", "`address` is required."},
		{"action/verifications/account", `{"beneficiaryVaspId":7,"address":"0x1"}`, "INVALID-JSON", "/beneficiaryVaspId"},
		{"action/verifications/account", `{"beneficiaryVaspId":"-7","address":"0x1"}`, "INVALID-BENEFICIARY-VASP-ID", "decimal number"},
		{"action/verifications/account", `{"beneficiaryVaspId":"18446744073709551616","address":"0x1"}`, "INVALID-BENEFICIARY-VASP-ID", "decimal number"},
		{"action/verifications/account", `{` + to + `,"adress":"0x1"}`, "INVALID-JSON", "/adress: unknown member"},
		{"action/verifications/account", `{` + to + `,"amount":"1"}`, "INVALID-JSON", "/amount: unknown member"},
		{"action/verifications/account", `{` + to + `,"beneficiaryName":"A","beneficiaryPersons":[]}`, "INVALID-BENEFICIARY-NAME", "not both"},
		{"action/verifications/account", `{` + to + `,"beneficiaryPersons":{}}`, "INVALID-BENEFICIARY-PERSONS", "IVMS101"},
		{"action/verifications/account", `{` + to + `,"beneficiaryPersons":[]}`, "INVALID-BENEFICIARY-PERSONS", "IVMS101"},
		{"action/verifications", `{` + to + `}`, "MISSING-AMOUNT", "`amount` is required."},
		{"action/verifications", `{` + to + `,"amount":"1e9"}`, "INVALID-AMOUNT", "decimal"},
		{"action/verifications", `{` + to + `,"amount":"-1"}`, "INVALID-AMOUNT", "decimal"},
		{"action/verifications", `{` + to + `,"amount":"1/3"}`, "INVALID-AMOUNT", "decimal"},
		{"action/verifications", `{` + to + `,"amount":"1","tradePrice":"much"}`, "INVALID-TRADE-PRICE", "decimal"},
		{"action/verifications", `{` + to + `,"amount":"1","symbol":"DOGE"}`, "INVALID-SYMBOL", "ROBOT_CUSTOMERS_FILE"},
		{"action/verifications", `{` + to + `,"amount":"1","originatorAccountNumber":"0x1"}`, "INVALID-ORIGINATOR-ACCOUNT-NUMBER", "no customer"},
		{"action/verifications", `{` + to + `,"amount":"1","originatorPersons":"me"}`, "INVALID-ORIGINATOR-PERSONS", "IVMS101"},
		{"action/verifications", `{` + to + `,"amount":"1","amount":"2"}`, "INVALID-JSON", "amount"},
		{"action/withdrawal", `{}`, "MISSING-VERIFICATION-UUID", "`verificationUuid` is required."},
		{"action/withdrawal", `{"verificationUuid":"1"}`, "INVALID-VERIFICATION-UUID", "36 characters"},
		{"action/withdrawal", `{"verificationUuid":"` + id + `","omitTxReport":"true"}`, "INVALID-JSON", "/omitTxReport"},
		{"action/verifications/tx", `{}`, "MISSING-VERIFICATION-UUID", "required"},
		{"action/verifications/tx", `{"verificationUuid":"../self"}`, "INVALID-VERIFICATION-UUID", "36"},
		{"action/verifications/error", `{}`, "MISSING-VERIFICATION-UUID", "required"},
		{"action/tx/inquiry", `{}`, "MISSING-VERIFICATION-UUID", "required"},
		{"action/tx/status", `{"verificationUuid":"` + id + `","transactionStatus":"LOST"}`, "INVALID-TRANSACTION-STATUS", "WAIT-CONFIRM"},
		{"action/tx/status", `{"transactionStatus":"CONFIRMED"}`, "MISSING-VERIFICATION-UUID", "required"},
	} {
		got := drive(t, robot, c.path, c.body, 400)
		if got["code"] != c.code || !strings.Contains(fmt.Sprint(got["message"]), c.says) {
			t.Errorf("%s %s = %v, want %s and %q", c.path, c.body, got, c.code, c.says)
		}
	}
	if _, n := enclave.last(); n != 0 {
		t.Errorf("the enclave was called %d times for what was refused", n)
	}
	drive(t, robot, "action/tx/status", `{"verificationUuid":"`+id+`","transactionStatus":"CONFIRMED"}`, 404)
	for query, code := range map[string]string{
		"symbol=ETH": "MISSING-ADDRESS", "address=0x1": "MISSING-SYMBOL", "symbol=ETH&address=0x1&vaspId=x": "INVALID-VASP-ID",
		"symbol=ETH&address=0x1&adress=0x2": "INVALID-QUERY", "symbol=ETH&symbol=XRP&address=0x1": "INVALID-QUERY", "symbol=%zz": "INVALID-QUERY",
	} {
		if status, body := get(t, robot+"/v1.0/testnet/balance?"+query); status != 400 || !bytes.Contains(body, []byte(code)) {
			t.Errorf("balance?%s = %d %s, want %s", query, status, body, code)
		}
	}
	if status, got := ask(t, robot+"/v1.0/action/withdrawal", strings.Repeat(" ", 1<<20)+"{}"); status != 413 {
		t.Errorf("a large body = %d %v, want 413", status, got)
	}
}

// An enclave that is not there, or is not one, is named as what is wrong.
func TestDrivingWithoutAnEnclave(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	var strayed atomic.Bool
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/verifications/tx/inquiry":
			io.WriteString(w, "<html>")
		case "/v1/verifications/account":
			http.Redirect(w, r, "/stolen", http.StatusTemporaryRedirect)
		case "/v1/verifications/tx":
			io.WriteString(w, `"`+strings.Repeat("x", 5<<20)+`"`)
		case "/stolen":
			strayed.Store(true)
		default:
			io.WriteString(w, "{}")
		}
	}))
	defer odd.Close()
	inquiry := `{"verificationUuid":"` + id + `"}`
	check := `{"beneficiaryVaspId":"` + bravo + `","address":"0x1"}`
	for _, c := range []struct {
		url, path, body string
		status          int
		code            string
	}{
		{"", "action/tx/inquiry", inquiry, 503, "NO-ENCLAVE"},
		{gone.URL, "action/tx/inquiry", inquiry, 502, "ENCLAVE-UNREACHABLE"},
		{odd.URL, "action/tx/inquiry", inquiry, 502, "ENCLAVE-ANSWER"},
		{odd.URL, "action/verifications/account", check, 502, "ENCLAVE-ANSWER"},
		{odd.URL, "action/verifications/tx", `{"verificationUuid":"` + id + `","txHash":"1"}`, 502, "ENCLAVE-ANSWER"},
		{odd.URL, "action/verifications", `{"beneficiaryVaspId":"` + bravo + `","address":"0x1","amount":"1"}`, 502, "ENCLAVE-ANSWER"},
	} {
		robot := start(t, "ROBOT_ENCLAVE_URL="+c.url, "ROBOT_ENCLAVE_TOKEN=t0ken")
		if got := drive(t, robot, c.path, c.body, c.status); got["code"] != c.code {
			t.Errorf("%s = %v, want %s", c.path, got, c.code)
		}
	}
	if strayed.Load() {
		t.Error("a redirect was followed, with the token")
	}
}

// With a driver's token nobody else drives, plants faults or looks.
func TestDriversMayNeedAToken(t *testing.T) {
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url, "ROBOT_DRIVER_TOKEN=dr1ver", "ROBOT_TOKEN=t0ken")
	paths := []string{
		"GET /requests", "GET /callbacks", "GET /v1.0/seen", "GET /v1.0/verifications", "GET /v1.0/faults", "POST /v1.0/faults", "DELETE /v1.0/faults",
		"POST /v1.0/action/verifications/account", "POST /v1.0/action/verifications", "POST /v1.0/action/verifications/tx", "POST /v1.0/action/verifications/error",
		"POST /v1.0/action/withdrawal", "POST /v1.0/action/tx/inquiry", "POST /v1.0/action/tx/status", "GET /v1.0/testnet/balance",
	}
	for _, p := range paths {
		method, path, _ := strings.Cut(p, " ")
		for _, token := range []string{"", "Bearer dr1ve", "Bearer t0ken", "dr1ver"} {
			if status, body := send(t, method, robot+path, `{"verificationUuid":"`+id+`"}`, "Authorization", token); status != 401 || !bytes.Contains(body, []byte("ROBOT_DRIVER_TOKEN")) {
				t.Errorf("%s with %q = %d %s, want 401", p, token, status, body)
			}
		}
		if status, body := send(t, method, robot+path, "", "Authorization", "Bearer dr1ver"); status == 401 {
			t.Errorf("%s with the token = %d %s", p, status, body)
		}
	}
	if _, n := enclave.last(); n != 0 {
		t.Errorf("the enclave was called %d times", n)
	}
}

// switched is a handler that is known later than its address.
type switched struct{ atomic.Pointer[http.Handler] }

func (s *switched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := s.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

// Two robots with real enclaves between them: one is driven, the other
// answers, and each enclave understands its robot.
func TestTwoRobotsThroughTwoEnclaves(t *testing.T) {
	var api switched
	server := httptest.NewServer(&api)
	defer server.Close()
	robots := map[bool]string{true: start(t, "ROBOT_ENCLAVE_URL="+server.URL, "ROBOT_ENCLAVE_TOKEN=b4ckend"), false: start(t)}
	world := proxytest.NewWorld(t, func(c *proxy.Config) {
		robot := robots[c.Self == proxytest.IDOfA]
		backend, err := vasp.New(vasp.Config{Account: robot + "/verify/account", Verification: robot + "/verify/user", Transaction: robot + "/verify/tx", Callback: robot + "/callback"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(backend.Close)
		c.Backend = backend
	})
	h := world.A.Enclave.API("b4ckend")
	api.Store(&h)
	sender, receiver := robots[true], robots[false]

	for _, c := range []struct{ what, body, result, reason string }{
		{"account", `"address":"` + kim + `","keyType":"PerAddress"`, "VERIFIED", ""},
		{"account and name", `"address":"` + kim + `","beneficiaryName":"MINJUN KIM"`, "VERIFIED", ""},
		{"name", `"address":"` + kim + `","beneficiaryName":"Ann Roe"`, "DENIED", "MISMATCHED-NAME"},
		{"symbol", `"address":"` + kim + `","symbol":"DOGE"`, "DENIED", "UNKNOWN-SYMBOL"},
	} {
		got := drive(t, sender, "action/verifications/account", `{"beneficiaryVaspId":"`+bravo+`",`+c.body+`}`, 200)
		if reason, _ := got["reason"].(string); got["accountVerificationResult"] != c.result || reason != c.reason {
			t.Errorf("%s = %v, want %s %s", c.what, got, c.result, c.reason)
		}
	}
	for _, c := range []struct{ what, body, result, reason string }{
		{"person", `"address":"` + kim + `","requiredBeneficiaryInfo":"ACCOUNT_NUMBER,LOCAL_NATURAL_PERSON_NAME,NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH"`, "VERIFIED", "OK"},
		{"company", `"address":"` + garrit + `"`, "VERIFIED", "OK"},
		{"kyc", `"address":"` + ethan + `"`, "DENIED", "UNVERIFIED-KYC"},
		{"blacklisted", `"address":"` + taylor + `","originatorPersons":[` + person("Escobar", "Pablo", "1949-12-01", "Colombia") + `]`, "DENIED", "BLACKLISTED"},
		{"not told", `"address":"` + taylor + `","requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH"`, "DENIED", "UNAVAILABLE-INFORMATION"},
	} {
		begun := drive(t, sender, "action/verifications", `{"beneficiaryVaspId":"`+bravo+`","amount":"2.5",`+c.body+`}`, 200)
		uuid := begun["verificationUuid"].(string)
		world.Await("the result of "+c.what, func() bool {
			return slices.ContainsFunc(show[json.RawMessage](t, sender+"/callbacks"), func(b json.RawMessage) bool { return bytes.Contains(b, []byte(uuid)) })
		})
		_, known := get(t, sender+"/v1.0/verifications")
		if want := fmt.Sprintf(`"result":%q,"reason":%q`, c.result, c.reason); !bytes.Contains(lineOf(known, uuid), []byte(want)) {
			t.Errorf("%s: the sender knows %s, want %s", c.what, lineOf(known, uuid), want)
		}
		_, known = get(t, receiver+"/v1.0/verifications")
		if want := fmt.Sprintf(`"actionType":"RECEIVE","counterpartyVaspId":"%s"`, proxytest.IDOfA); !bytes.Contains(lineOf(known, uuid), []byte(want)) {
			t.Errorf("%s: the receiver knows %s, want %s", c.what, lineOf(known, uuid), want)
		}
		want := map[string]int{"VERIFIED": 200, "DENIED": 409}[c.result]
		drive(t, sender, "action/withdrawal", `{"verificationUuid":"`+uuid+`","omitTxReport":true}`, want)
	}
	if got := balanceOf(t, sender, "ETH", taylor); got != "995" {
		t.Errorf("the sender's balance is %s, want 995", got)
	}
}

// lineOf is the line of a list that is about a verification.
func lineOf(list []byte, uuid string) []byte {
	for _, line := range bytes.Split(list, []byte("\n")) {
		if bytes.Contains(line, []byte(uuid)) {
			return line
		}
	}
	return nil
}
