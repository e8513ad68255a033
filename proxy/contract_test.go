package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

var timestamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// Contract 2.1 and 2.11.
func TestContractSelfAndHealth(t *testing.T) {
	w := proxytest.NewWorld(t)
	_, answer := w.A.Call(http.MethodGet, "/v1/vasps/self", nil)
	sameJSON(t, "self", answer, `{"vaspId":"15952089931162058999"}`)
	_, answer = w.A.Call(http.MethodGet, "/healthcheck", nil)
	sameJSON(t, "healthcheck", answer, `{"status":"UP"}`)
}

// Contract 2.2: own VASP included, ids strings, what enclaves tell each other
// through the directory left out.
func TestContractDirectory(t *testing.T) { synctest.Test(t, contractDirectory) }

func contractDirectory(t *testing.T) {
	w := proxytest.NewWorld(t)
	w.Central.EditDirectory(func(d *relay.Directory) {
		for i := range d.VASPs {
			m := &d.VASPs[i]
			m.EnclaveVersion, m.Suites = "1.2.3", []string{"x-wing"}
			if m.VASPID == w.B.ID {
				m.Health, m.VASPName, m.Jurisdiction, m.Country, m.CountryCode = "DOWN", "Beta \"b\"", "Singapore", "Singapore", "SG"
				m.LegalName, m.LicensedStatus, m.Protocol, m.IsAlliance, m.VASPStatus = "", "", "CODE", false, "INTEROPERATED"
			}
		}
	})
	a := `{"health":"UP","vaspId":"15952089931162058999","vaspName":"V15952089931162058999","legalName":"Legal 15952089931162058999","isAlliance":true,"protocol":"VERIFYVASP","licensedStatus":"Regulated","vaspStatus":"VERIFIED-MEMBER","createdAt":"2026-01-02T03:04:05.000Z","updatedAt":"2026-01-02T03:04:05.000Z"}`
	b := `{"health":"DOWN","vaspId":"16384656509591635927","vaspName":"Beta \"b\"","jurisdiction":"Singapore","country":"Singapore","countryCode":"SG","isAlliance":false,"protocol":"CODE","licensedStatus":null,"vaspStatus":"INTEROPERATED","createdAt":"2026-01-02T03:04:05.000Z","updatedAt":"2026-01-02T03:04:05.000Z"}`
	list := func(query string) []byte {
		status, answer := w.A.Call(http.MethodGet, "/v1/vasps"+query, nil)
		if status != http.StatusOK {
			t.Fatalf("GET /v1/vasps%s = %d %s", query, status, answer)
		}
		return answer
	}
	w.Await("the directory is fresh", func() bool { return strings.Contains(string(list("")), "Beta") })
	sameJSON(t, "all", list(""), `{"vasps":[`+a+","+b+`]}`)
	sameJSON(t, "ALL", list("?protocol=ALL&includesAll=true"), `{"vasps":[`+a+","+b+`]}`)
	sameJSON(t, "VERIFYVASP", list("?protocol=VERIFYVASP"), `{"vasps":[`+a+`]}`)
	sameJSON(t, "CODE", list("?protocol=CODE"), `{"vasps":[`+b+`]}`)
	w.Central.Down(true)
	sameJSON(t, "without central", list(""), `{"vasps":[`+a+","+b+`]}`)
}

// Contract 2.3 and 3.1.
func TestContractAccountCheck(t *testing.T) {
	w := proxytest.NewWorld(t)
	var answer vasp.AccountAnswer
	w.B.Backend.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) { return &answer, nil })
	for _, c := range []struct {
		name string
		says vasp.AccountAnswer
		want string
	}{
		{"verified", vasp.AccountAnswer{Result: "VERIFIED", VerifiedAt: "2025-03-04T05:06:07.089Z"},
			`{"accountVerificationResult":"VERIFIED","verifiedAt":"2025-03-04T05:06:07.089Z"}`},
		{"denied", vasp.AccountAnswer{Result: "DENIED", Reason: "UNKNOWN-ADDRESS", VerifiedAt: "20250304T050607.089Z"},
			`{"accountVerificationResult":"DENIED","reason":"UNKNOWN-ADDRESS","verifiedAt":"2025-03-04T05:06:07.089Z"}`},
		{"with a message", vasp.AccountAnswer{Result: "DENIED", Reason: "UNKNOWN-SYMBOL", Message: "ETH", VerifiedAt: "2025-03-04T14:06:07+09:00"},
			`{"accountVerificationResult":"DENIED","reason":"UNKNOWN-SYMBOL","message":"ETH","verifiedAt":"2025-03-04T05:06:07.000Z"}`},
		{"denied without a reason", vasp.AccountAnswer{Result: "DENIED", VerifiedAt: "2025-03-04T05:06:07.089Z"},
			`{"accountVerificationResult":"DENIED","reason":"UNDEFINED-ERROR","verifiedAt":"2025-03-04T05:06:07.089Z"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer = c.says
			status, got := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
			if status != http.StatusOK {
				t.Fatalf("status %d %s", status, got)
			}
			sameJSON(t, "answer", got, c.want)
		})
	}
	for _, badTime := range []string{"", "yesterday"} {
		answer = vasp.AccountAnswer{Result: "VERIFIED", VerifiedAt: badTime}
		got := ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
		if at, _ := got["verifiedAt"].(string); !timestamp.MatchString(at) {
			t.Errorf("verifiedAt %q where the backend said %q, want a time", at, badTime)
		}
	}
	sameJSON(t, "what B's backend was asked", w.B.Backend.Asked()[0],
		`{"originatingVaspId":"15952089931162058999","symbol":"ETH","network":"Ethereum","version":"1.0","ivms101":{"beneficiary":{"accountNumber":["0xAbC1"]}}}`)
	ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, `"network":"Ethereum",`, "", `"PerVasp"`, `null`))
	asked := w.B.Backend.Asked()
	sameJSON(t, "without a network", asked[len(asked)-1],
		`{"originatingVaspId":"15952089931162058999","symbol":"ETH","version":"1.0","ivms101":{"beneficiary":{"accountNumber":["0xAbC1"]}}}`)
	if page := ask(t, w.A, http.MethodGet, "/v1/verifications", nil); page["count"] != 0.0 {
		t.Error("an account check left a row in the history")
	}
}

// Contract 2.4 to 2.6, 3.2 and 3.4: one transfer as each of the four
// interfaces shows it.
func TestContractVerification(t *testing.T) {
	w := proxytest.NewWorld(t)
	says(w.B, vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Message: "", Version: "1.0", Beneficiary: []byte(said)})
	// Both spellings and all forms of the time are read; extra keys are ignored.
	body := request(w, `"tradeISODatetime":"2025-03-04T05:06:07.000Z"`, `"tradeISODateTime":"2025-03-04T14:06:07+09:00"`,
		`{"keyType"`, `{"originatingVaspId":"7","new":{"x":[1]},"keyType"`)
	_, answer := w.A.Call(http.MethodPost, "/v1/verifications", body)
	accepted := object(t, answer)
	id, _ := accepted["verificationUuid"].(string)
	if parsed, err := uuid.Parse(id); len(accepted) != 2 || err != nil || parsed.Version() != 4 || parsed.String() != id {
		t.Errorf("answer %s, want a version 4 UUID and createdAt", answer)
	}
	createdAt, _ := accepted["createdAt"].(string)
	if !timestamp.MatchString(createdAt) {
		t.Errorf("createdAt %q", createdAt)
	}
	finished(t, w, id)

	sameJSON(t, "what B's backend was asked", w.B.Backend.Asked()[0], fmt.Sprintf(
		`{"verificationUuid":%q,"assetInfo":%s,"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME","originatingVaspId":"15952089931162058999","version":"1.0","ivms101":{"originator":%s,"beneficiary":%s,"originatingVASP":%s}}`,
		id, asset, originator, said, proxytest.LegalPerson(w.A.ID)))
	for _, p := range []*proxytest.Party{w.A, w.B} {
		_, got := p.Call(http.MethodGet, "/v1/verifications/"+id, nil)
		o := object(t, got)
		number, _ := o["verificationId"].(string)
		verifiedAt, _ := o["verifiedAt"].(string)
		created, _ := o["createdAt"].(string)
		if !timestamp.MatchString(verifiedAt) || !timestamp.MatchString(created) || number == "" || strings.Trim(number, "0123456789") != "" {
			t.Errorf("verificationId %q, verifiedAt %q, createdAt %q", number, verifiedAt, created)
		}
		if p == w.A && created != createdAt {
			t.Errorf("createdAt %s, the answer said %s", created, createdAt)
		}
		want := fmt.Sprintf(`{"verificationId":%q,"verificationUuid":%q,"result":"VERIFIED","reason":"OK","message":"","assetInfo":%s,"txHash":null,"vout":null,
"originatingVaspId":"15952089931162058999","originatorAccountNumber":"bc1qsender","ivms101Originator":%s,"ivms101OriginatingVasp":%s,
"beneficiaryVaspId":"16384656509591635927","beneficiaryAccountNumber":"bc1qreceiver","ivms101Beneficiary":%s,"ivms101BeneficiaryVasp":%s,
"verifiedAt":%q,"orderedAt":null,"createdAt":%q}`,
			number, id, asset, quoted(originator), quoted(proxytest.LegalPerson(w.A.ID)), quoted(said), quoted(proxytest.LegalPerson(w.B.ID)), verifiedAt, created)
		sameJSON(t, "row of "+p.ID.String(), got, want)
		_, page := p.Call(http.MethodGet, "/v1/verifications", nil)
		sameJSON(t, "page of "+p.ID.String(), page, `{"count":1,"page":1,"rpp":10,"verifications":[`+want+`]}`)
	}
}

// Contract 3.4: a DENIED carries all four parts.
func TestContractDeniedCallback(t *testing.T) {
	w := proxytest.NewWorld(t)
	says(w.B, vasp.UserAnswer{Result: "DENIED", Reason: "LACK-OF-INFORMATION", Message: "NATURAL_PERSON_GEOGRAPHIC_ADDRESS"})
	id := verify(t, w, request(w))
	finished(t, w, id)
	sameJSON(t, "callback", w.A.Backend.Callbacks()[0], fmt.Sprintf(
		`{"callbackType":"VERIFICATION_RESULT","data":{"verificationUuid":%q,"verificationResult":"DENIED","reason":"LACK-OF-INFORMATION","message":"NATURAL_PERSON_GEOGRAPHIC_ADDRESS","ivms101":{"originator":%s,"beneficiary":%s,"originatingVASP":%s,"beneficiaryVASP":%s}}}`,
		id, originator, said, proxytest.LegalPerson(w.A.ID), proxytest.LegalPerson(w.B.ID)))
}

// A row that waits shows null where there is nothing yet, and an enclave
// without callbacks configured is polled.
func TestContractWaitingRowAndPolling(t *testing.T) {
	w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Callbacks, c.VASPIVMS101 = false, nil })
	verified(w)
	w.Central.Down(true)
	id := verify(t, w, request(w))
	r := row(t, w.A, id)
	for field, want := range map[string]any{
		"result": "WAIT", "reason": "", "message": "", "verifiedAt": nil, "orderedAt": nil, "ivms101OriginatingVasp": nil, "ivms101BeneficiaryVasp": nil,
	} {
		if got, ok := r[field]; !ok || got != want {
			t.Errorf("%s = %v, want %v", field, got, want)
		}
	}
	w.Central.Down(false)
	w.Await("the row is final", func() bool { return row(t, w.A, id)["result"] == "VERIFIED" })
	if n := len(w.A.Backend.Callbacks()); n != 0 {
		t.Errorf("%d callbacks without a callback URL", n)
	}
	// Neither VASP has a part of its own here: the directory's word stands in.
	for _, p := range []*proxytest.Party{w.A, w.B} {
		vasps := row(t, p, id)
		text, _ := vasps["ivms101BeneficiaryVasp"].(string)
		other, _ := vasps["ivms101OriginatingVasp"].(string)
		if p == w.A && !strings.Contains(text, "Legal "+w.B.ID.String()) || p == w.B && !strings.Contains(other, "Legal "+w.A.ID.String()) {
			t.Errorf("VASP parts at %s: %s, %s", p.ID, other, text)
		}
	}
}

// Contract 2.5: filters are ANDed, pages are counted, the newest comes first.
func TestContractHistoryFilters(t *testing.T) {
	clock := proxytest.NewClock(time.Date(2026, 3, 1, 23, 59, 59, 999_000_000, time.UTC))
	w := proxytest.NewWorldAt(t, clock.Now)
	verified(w)
	says(w.A, vasp.UserAnswer{Result: "DENIED", Reason: "BLACKLISTED"})
	var ids []string
	add := func(from, to *proxytest.Party, edit ...string) {
		t.Helper()
		accepted := ask(t, from, http.MethodPost, "/v1/verifications", requestTo(to.ID, edit...))
		id := accepted["verificationUuid"].(string)
		w.Await("it is done", func() bool { return called(from, id) == 1 })
		ids = append(ids, id)
	}
	add(w.A, w.B)                                                          // 0: on the first of March
	clock.Advance(time.Millisecond)                                        // midnight
	add(w.A, w.B, `"BTC"`, `"eth"`, `"Bitcoin"`, `"Ethereum"`)             // 1
	clock.Advance(time.Hour)                                               //
	add(w.B, w.A)                                                          // 2: A denies
	clock.Advance(time.Hour)                                               //
	add(w.A, w.B, "bc1qreceiver", "bc1qother", `"network":"Bitcoin",`, "") // 3: B answers with another account
	clock.Advance(22 * time.Hour)                                          // the third
	add(w.A, w.A)                                                          // 4: A denies itself
	for _, c := range []struct {
		query string
		want  []int
	}{
		{"", []int{4, 3, 2, 1, 0}},
		{"symbol=BTC", []int{4, 3, 2, 0}},
		{"symbol=ETH", []int{1}},
		{"network=bitcoin", []int{4, 2, 0}},
		{"result=VERIFIED", []int{1, 0}},
		{"result=DENIED", []int{4, 2}},
		{"result=ERROR", []int{3}},
		{"result=WAIT", nil},
		{"actionType=SEND", []int{4, 3, 1, 0}},
		{"actionType=RECEIVE", []int{4, 2}},
		{"oppositeVaspId=16384656509591635927", []int{3, 2, 1, 0}},
		{"oppositeVaspId=7", nil},
		{"originatorAccountNumber=bc1qsender", []int{4, 3, 2, 1, 0}},
		{"beneficiaryAccountNumber=bc1qother", []int{3}},
		{"beneficiaryAccountNumber=BC1QOTHER", nil},
		{"txHash=00", nil},
		{"fromDate=2026-03-02", []int{4, 3, 2, 1}},
		{"toDate=2026-03-01", []int{0}},
		{"fromDate=2026-03-02&toDate=2026-03-02", []int{3, 2, 1}},
		{"fromDate=2026-03-02T00:00:00.000Z&toDate=2026-03-02T01:00:00.000Z", []int{2, 1}},
		{"fromDate=20260302T010000.000Z", []int{4, 3, 2}},
		{"fromDate=2026-03-02T10:00:00%2B09:00&toDate=2026-03-02T10:00:00%2B09:00", []int{2}},
		{"fromDate=2026-03-05&toDate=2026-03-01", nil},
		{"actionType=SEND&result=VERIFIED&symbol=btc", []int{0}},
		{"rpp=2", []int{4, 3}},
		{"rpp=2&page=2", []int{2, 1}},
		{"rpp=2&page=3", []int{0}},
		{"rpp=2&page=4", nil},
		{"unknown=1", []int{4, 3, 2, 1, 0}},
	} {
		t.Run(c.query, func(t *testing.T) {
			page := ask(t, w.A, http.MethodGet, "/v1/verifications?"+c.query, nil)
			var got, want []string
			for _, v := range page["verifications"].([]any) {
				got = append(got, v.(map[string]any)["verificationUuid"].(string))
			}
			for _, i := range c.want {
				want = append(want, ids[i])
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if !strings.Contains(c.query, "rpp") && page["count"] != float64(len(want)) || strings.Contains(c.query, "rpp") && page["count"] != 5.0 {
				t.Errorf("count %v", page["count"])
			}
		})
	}
}

// Every path, every method, and the bodies of refusals.
func TestContractRefusals(t *testing.T) {
	w := proxytest.NewWorld(t)
	const unknown = "3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11"
	for _, c := range []struct {
		method, path string
		status       int
		want, allow  string
	}{
		{"GET", "/v1/verifications/" + unknown, 404, `{"code":"VERIFICATION-NOT-FOUND","message":"Verification(` + unknown + `) is not found"}`, ""},
		{"GET", "/v1/verifications/" + strings.ToUpper(unknown), 404, `{"code":"VERIFICATION-NOT-FOUND","message":"Verification(` + unknown + `) is not found"}`, ""},
		{"GET", "/nowhere", 404, `{"code":"NOT-FOUND","message":"No such path; the enclave's paths begin with /v1/."}`, ""},
		{"GET", "/", 404, `{"code":"NOT-FOUND","message":"No such path; the enclave's paths begin with /v1/."}`, ""},
		{"POST", "/verifications", 404, `{"code":"NOT-FOUND","message":"No such path; the enclave's paths begin with /v1/."}`, ""},
		{"GET", "/v1/verifications/", 404, `{"code":"NOT-FOUND","message":"No such path; the enclave's paths begin with /v1/."}`, ""},
		{"GET", "/relay/v1/messages", 404, `{"code":"NOT-FOUND","message":"No such path; the enclave's paths begin with /v1/."}`, ""},
		{"POST", "/v1/vasps/self", 405, `{"code":"METHOD-NOT-ALLOWED","message":"Use GET."}`, "GET"},
		{"DELETE", "/v1/vasps", 405, `{"code":"METHOD-NOT-ALLOWED","message":"Use GET."}`, "GET"},
		{"GET", "/v1/verifications/account", 405, `{"code":"METHOD-NOT-ALLOWED","message":"Use POST."}`, "POST"},
		{"PUT", "/v1/verifications", 405, `{"code":"METHOD-NOT-ALLOWED","message":"Use GET or POST."}`, "GET, POST"},
		{"POST", "/v1/verifications/" + unknown, 405, `{"code":"METHOD-NOT-ALLOWED","message":"Use GET."}`, "GET"},
		{"POST", "/healthcheck", 405, `{"code":"METHOD-NOT-ALLOWED","message":"Use GET."}`, "GET"},
	} {
		recorder := w.A.Serve("", httptest.NewRequest(c.method, c.path, nil), nil)
		if recorder.Code != c.status || recorder.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s = %d, Allow %q, want %d, %q", c.method, c.path, recorder.Code, recorder.Header().Get("Allow"), c.status, c.allow)
		}
		if kind := recorder.Header().Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
			t.Errorf("%s %s: Content-Type %q", c.method, c.path, kind)
		}
		sameJSON(t, c.method+" "+c.path, recorder.Body.Bytes(), c.want)
	}
	for _, path := range []string{"/v1/verifications", "/v1/verifications/account"} {
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(request(w)))
		r.Header.Set("Content-Encoding", "gzip")
		recorder := w.A.Serve("", r, request(w))
		if code, _ := problem(t, recorder.Body.Bytes()); recorder.Code != 415 || code != "UNSUPPORTED-MEDIA-TYPE" {
			t.Errorf("POST %s compressed = %d %s", path, recorder.Code, code)
		}
	}
}

// The API's token, when there is one, guards all but the health check and the
// documents.
func TestContractToken(t *testing.T) {
	w := proxytest.NewWorld(t)
	for _, c := range []struct {
		path, header string
		status       int
	}{
		{"/v1/vasps/self", "", 401},
		{"/v1/vasps/self", "Bearer secret-2", 401},
		{"/v1/vasps/self", "Bearer ", 401},
		{"/v1/vasps/self", "secret-1", 401},
		{"/v1/vasps/self", "Basic secret-1", 401},
		{"/v1/vasps/self", "Bearer secret-1x", 401},
		{"/v1/vasps", "", 401},
		{"/v1/verifications", "", 401},
		{"/v1/verifications/account", "", 401},
		{"/v1/verifications/3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11", "", 401},
		{"/v1/vasps/self", "Bearer secret-1", 200},
		{"/v1/vasps/self", "bearer secret-1", 200},
		{"/healthcheck", "", 200},
		{"/openapi.json", "", 200},
		{"/openapi-vasp.json", "", 200},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		counted := w.A.Metric("enclave_backend_unauthenticated_total")
		recorder := w.A.Serve("secret-1", r, nil)
		if recorder.Code != c.status {
			t.Errorf("GET %s with %q = %d, want %d", c.path, c.header, recorder.Code, c.status)
		}
		if now := w.A.Metric("enclave_backend_unauthenticated_total"); (now == counted+1) != (c.status == 401) {
			t.Errorf("GET %s with %q is counted %v times", c.path, c.header, now-counted)
		}
		if c.status == 401 {
			if code, _ := problem(t, recorder.Body.Bytes()); code != "UNAUTHENTICATED" || recorder.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("GET %s: %s", c.path, recorder.Body)
			}
			if strings.Contains(recorder.Body.String(), "secret") {
				t.Error("the refusal quotes a token")
			}
		}
	}
	if log := w.A.Log.String(); !strings.Contains(log, "does not have the token of VEGA_SERVER_TOKEN") || strings.Contains(log, "secret-") {
		t.Errorf("of callers without the token the log says\n%s", log)
	}
}
