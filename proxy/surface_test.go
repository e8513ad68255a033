package proxy_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// What this file holds are the points of the contract that no exchange needs
// and a backend may still meet.

// Contract 2.10 and 12: screening and owner verification are not served.
func TestContractPathsThatAreNotServed(t *testing.T) {
	w := proxytest.NewWorld(t)
	const id = "3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11"
	for _, c := range []struct{ method, path string }{
		{"POST", "/v1/risk-assessment/chainalysis-sanction"},
		{"POST", "/v1/risk-assessment/chainalysis-kyt"},
		{"POST", "/v1/risk-assessment/refinitiv-wco"},
		{"GET", "/v2/vasps"},
		{"POST", "/v2/owner-verifications"},
		{"GET", "/v2/owner-verifications"},
		{"GET", "/v2/owner-verifications/" + id},
		{"POST", "/v2/owner-verifications/" + id + "/result"},
		{"POST", "/v2/owner-verifications/" + id + "/tx"},
		{"POST", "/v2/owner-verifications/" + id + "/tx/inquiry"},
	} {
		status, answer := w.A.Call(c.method, c.path, []byte(`{"verificationUuid":"`+id+`"}`))
		if code, _ := problem(t, answer); status != http.StatusNotFound || code != "NOT-FOUND" {
			t.Errorf("%s %s = %d %s, want 404 NOT-FOUND", c.method, c.path, status, answer)
		}
	}
}

// Contract 2.2: whatever the directory says of a member's state is shown in
// the contract's words, and a member without a license is null.
func TestContractDirectoryShowsEveryState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		for _, status := range []string{"UNVERIFIED", "VERIFIED", "VERIFIED-MEMBER", "INTEROPERATED"} {
			for license, want := range map[string]any{"Regulated": "Regulated", "Unregulated": "Unregulated", "": nil} {
				for _, health := range []string{"UP", "DOWN"} {
					w.Central.EditDirectory(func(d *relay.Directory) {
						for i := range d.VASPs {
							d.VASPs[i].VASPStatus, d.VASPs[i].LicensedStatus, d.VASPs[i].Health = status, license, health
						}
					})
					w.Await("the directory says so", func() bool {
						v := ask(t, w.A, http.MethodGet, "/v1/vasps", nil)["vasps"].([]any)[1].(map[string]any)
						return v["vaspStatus"] == status && v["licensedStatus"] == want && v["health"] == health
					})
				}
			}
		}
	})
}

// Contract 2.3: each reason of an account check comes through, and so does one
// that the contract does not have.
func TestContractAccountReasons(t *testing.T) {
	w := proxytest.NewWorld(t)
	for _, reason := range []string{"UNKNOWN-SYMBOL", "UNKNOWN-NETWORK", "UNKNOWN-ADDRESS", "MISMATCHED-NAME", "UNDEFINED-ERROR", "BLACKLISTED", "UNVERIFIED-KYC", "FULL-MOON"} {
		w.B.Backend.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) {
			return &vasp.AccountAnswer{Result: "DENIED", Reason: reason, VerifiedAt: "2025-03-04T05:06:07.089Z"}, nil
		})
		_, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
		sameJSON(t, reason, answer, `{"accountVerificationResult":"DENIED","reason":"`+reason+`","verifiedAt":"2025-03-04T05:06:07.089Z"}`)
	}
}

// Contract 6.2: a report may give any reason of the contract.
func TestContractReasonsOfReports(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for _, reason := range []string{"OK", "UNKNOWN-SYMBOL", "UNKNOWN-NETWORK", "UNKNOWN-ADDRESS", "MISMATCHED-NAME", "LACK-OF-INFORMATION",
		"UNAVAILABLE-INFORMATION", "BLACKLISTED", "UNVERIFIED-KYC", "NOT-ALLOWED", "UNDEFINED-ERROR", "USER-CANCELED"} {
		id := verify(t, w, request(w))
		finished(t, w, id)
		accepted(t, w.A, errorPath, errorReport(id, "ERROR", reason))
		w.Await("B is called back", func() bool { return called(w.B, id) == 1 })
		data := object(t, []byte(callbacks(w.B, id)[0]))["data"].(map[string]any)
		if r := row(t, w.B, id); data["reason"] != reason || r["reason"] != reason || r["result"] != "ERROR" {
			t.Errorf("%s: callback %v, row %v %v", reason, data, r["result"], r["reason"])
		}
	}
}

// Contract 8.6 and 2.0: the enclave knows no list of networks or symbols, and
// passes on how they are written.
func TestUnknownNetworksAndSymbolsPass(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for _, c := range []struct{ symbol, network string }{
		{"XRP", "XRP"}, {"BCH", "Bitcoin_Cash"}, {"eth", "ETHEREUM"}, {"NEW", "zkSync2"}, {"원", "Nobody's chain"}, {"A", ""},
	} {
		edit := []string{`"symbol":"BTC"`, `"symbol":` + quoted(c.symbol), `"network":"Bitcoin"`, `"network":` + quoted(c.network)}
		var want any = c.network
		if c.network == "" {
			edit[2], edit[3], want = `"network":"Bitcoin",`, "", nil
		}
		id := verify(t, w, request(w, edit...))
		finished(t, w, id)
		for _, got := range []map[string]any{row(t, w.A, id), row(t, w.B, id), askedAbout(t, w.B, id)} {
			if assets := got["assetInfo"].(map[string]any); assets["symbol"] != c.symbol || assets["network"] != want {
				t.Errorf("%q on %q became %v", c.symbol, c.network, assets)
			}
		}
	}
}

// Contract 8.3: a hash is what the node prints. Nothing is added to it, taken
// away or changed, whatever the chain.
func TestHashesTravelAsTheyAre(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for _, hash := range []string{"8a54A042", "0x8A54a042", "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnb/+=", "8A54" + strings.Repeat("f", 252)} {
		id := verify(t, w, request(w))
		finished(t, w, id)
		accepted(t, w.A, txPath, txReport(id, hash))
		w.Await("B is called back", func() bool { return called(w.B, id) == 1 })
		data := object(t, []byte(callbacks(w.B, id)[0]))["data"].(map[string]any)
		if data["txHash"] != hash || row(t, w.A, id)["txHash"] != hash || row(t, w.B, id)["txHash"] != hash {
			t.Errorf("%q: callback %v, rows %v and %v", hash, data, row(t, w.A, id)["txHash"], row(t, w.B, id)["txHash"])
		}
	}
}

// The Content-Type of a request is not looked at: a backend may leave it away.
func TestContentTypeOfARequestIsNotLookedAt(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for _, kind := range []string{"", "application/json", "text/plain", "application/x-www-form-urlencoded", "\x7f"} {
		body := request(w)
		r := httptest.NewRequest(http.MethodPost, "/v1/verifications", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", kind)
		if got := w.A.Serve("", r, body); got.Code != http.StatusOK {
			t.Errorf("Content-Type %q: %d %s", kind, got.Code, got.Body)
		}
	}
}

// An absent keyType is PerVasp, and null is too.
func TestAnAbsentKeyTypeIsPerVasp(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for _, edit := range []string{``, `"keyType":null,`} {
		before := len(w.Central.Relayed())
		finished(t, w, verify(t, w, request(w, `"keyType":"PerVasp",`, edit)))
		for _, message := range w.Central.Relayed()[before:] {
			parsed, err := envelope.Parse(message)
			if err != nil || parsed.Header.KeyType != identity.PerVASP && parsed.Header.Type != envelope.Refusal {
				t.Errorf("with %q a %s of key type %v, %v", edit, parsed.Header.Type, parsed.Header.KeyType, err)
			}
		}
	}
}

// A body that ends before its length has no other code than this.
func TestABodyThatEndsEarlyIsABadRequest(t *testing.T) {
	w := proxytest.NewWorld(t)
	for _, path := range []string{"/v1/verifications", "/v1/verifications/account", txPath, errorPath, inquiryPath} {
		body := io.MultiReader(strings.NewReader(`{"keyType":`), iotest.ErrReader(io.ErrUnexpectedEOF))
		got := w.A.Serve("", httptest.NewRequest(http.MethodPost, path, body), nil)
		sameJSON(t, path, got.Body.Bytes(), `{"code":"BAD-REQUEST","message":"The body ended early."}`)
		if got.Code != http.StatusBadRequest {
			t.Errorf("POST %s = %d", path, got.Code)
		}
	}
}

// A full outbox accepts no more work, and says when to come again.
func TestAFullOutboxAcceptsNothing(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	settled(t, w)
	empty := w.A.Enclave.FillOutbox()
	for path, body := range map[string][]byte{"/v1/verifications": request(w), txPath: txReport(id, "8a54"), errorPath: errorReport(id, "ERROR", "X")} {
		got := w.A.Serve("", httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(body))), body)
		if code, _ := problem(t, got.Body.Bytes()); got.Code != http.StatusServiceUnavailable || code != "OUTBOX-FULL" || got.Header().Get("Retry-After") != "1" {
			t.Errorf("POST %s = %d %s, Retry-After %q", path, got.Code, got.Body, got.Header().Get("Retry-After"))
		}
	}
	if page := ask(t, w.A, http.MethodGet, "/v1/verifications", nil); page["count"] != 1.0 || row(t, w.A, id)["txHash"] != nil {
		t.Error("something was accepted")
	}
	empty()
	finished(t, w, verify(t, w, request(w)))
}

// A fault of our own is answered like any other error, and quotes nothing.
func TestAFaultOfOurOwnHasTheContractsForm(t *testing.T) {
	api := edge.Recover(slog.New(slog.DiscardHandler), nil, new(proxy.Enclave).API("")) // without a history it panics
	got := httptest.NewRecorder()
	api.ServeHTTP(got, httptest.NewRequest(http.MethodGet, "/v1/verifications", nil))
	sameJSON(t, "answer", got.Body.Bytes(), `{"code":"INTERNAL-ERROR","message":"The enclave failed; its log says why."}`)
	if kind := got.Header().Get("Content-Type"); got.Code != http.StatusInternalServerError || !strings.HasPrefix(kind, "application/json") {
		t.Errorf("%d %s", got.Code, kind)
	}
}

// A counterparty's keys may be used up for us: its refusal says so between
// enclaves, and our backend is told to come again.
func TestCounterpartysEmptyBudgetIsUnavailable(t *testing.T) {
	w := proxytest.NewWorld(t)
	drain := proxytest.Message{Type: envelope.KeyRequest, Payload: make([]byte, 32), Edit: func(h *envelope.Header) { h.KeyType = identity.PerVerification }}
	ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
	for w.B.Metric("enclave_keys_exhausted_total", "PerVerification") == 0 {
		w.Central.Send(w.B.ID, w.A.Seal(w.B, drain))
	}
	for range 1000 {
		status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, `"PerVasp"`, `"PerVerification"`))
		if status == http.StatusOK { // a key was given back meanwhile
			w.Central.Send(w.B.ID, w.A.Seal(w.B, drain))
			continue
		}
		if code, _ := problem(t, answer); status != http.StatusServiceUnavailable || code != "COUNTERPARTY-UNAVAILABLE" {
			t.Errorf("%d %s, want 503 COUNTERPARTY-UNAVAILABLE", status, answer)
		}
		return
	}
	t.Error("the budget never was empty")
}

// Reports are tried for seven days and then given up, with a line and a count.
func TestReportsAreTriedForSevenDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64 // nanoseconds; days of retries would take long
		w := proxytest.NewWorldAt(t, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
		verified(w)
		id := verify(t, w, request(w))
		finished(t, w, id)
		w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
			if proxytest.TypeOf(message) == envelope.TxReport {
				return nil, proxytest.ErrDown
			}
			return message, nil
		})
		waiting := func() int {
			entries, err := w.A.History.Outbox(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(entries)
		}
		accepted(t, w.A, txPath, txReport(id, "8a54"))
		ahead.Add(int64(7*24*time.Hour - 10*time.Minute))
		time.Sleep(time.Minute)
		if n := waiting(); n != 1 {
			t.Errorf("%d deliveries wait shortly before the end of seven days, want the report", n)
		}
		ahead.Add(int64(10 * time.Minute))
		time.Sleep(time.Minute)
		if n, given := waiting(), w.A.Metric("enclave_reports_undelivered_total"); n != 0 || given != 1 {
			t.Errorf("%d deliveries wait after it, %v were counted as given up", n, given)
		}
	})
}

// The health check is of the enclave alone: a central server that is away is
// nothing to it.
func TestTheHealthCheckIsOfTheEnclaveAlone(t *testing.T) {
	w := proxytest.NewWorld(t)
	w.Central.Down(true)
	status, answer := w.A.Call(http.MethodGet, "/healthcheck", nil)
	if status != http.StatusOK {
		t.Errorf("%d", status)
	}
	sameJSON(t, "healthcheck", answer, `{"status":"UP"}`)
}

// The first problem is the answer: JSON, then key type, VASP, asset, what is
// asked for, payload, its rules, and the directory at last.
func TestTheFirstProblemIsTheAnswer(t *testing.T) {
	w := proxytest.NewWorld(t)
	// All is wrong at once, and is set right one after the other.
	body := string(request(w, w.B.ID.String(), "x", `"keyType":"PerVasp"`, `"keyType":"x"`, `"symbol":"BTC"`, `"symbol":""`, `"amount":"0.5"`, `"amount":"x"`,
		"ACCOUNT_NUMBER,", "", `"version":"1.0"`, `"version":""`, originator, `{"originatorPersons":[{"legalPerson":{"dateOfIncorporation":"x"}}],"accountNumber":["bc1qsender"]}`))
	body = strings.Replace(body, `{"version"`, `{"twice":1,"twice":2,"version"`, 1)
	for _, c := range []struct{ code, from, to string }{
		{"INVALID-JSON", `"twice":1,"twice":2,`, ``},
		{"INVALID-KEY-TYPE", `"keyType":"x"`, `"keyType":"PerVasp"`},
		{"INVALID-VASP", `"beneficiaryVaspId":"x"`, `"beneficiaryVaspId":"12345"`},
		{"MISSING-SYMBOL", `"symbol":""`, `"symbol":"BTC"`},
		{"INVALID-AMOUNT", `"amount":"x"`, `"amount":"0.5"`},
		{"INVALID-REQUIRED-BENEFICIARY-INFO", `"NATURAL_PERSON_NAME"`, `"ACCOUNT_NUMBER"`},
		{"MISSING-VERSION", `"version":""`, `"version":"1.0"`},
		{"INVALID-DATE-OF-INCORPORATION", `"dateOfIncorporation":"x"`, `"dateOfIncorporation":"2019-03-27"`},
		{"ALLIANCE-NOT-FOUND", `"12345"`, quoted(w.B.ID.String())},
	} {
		status, answer := w.A.Call(http.MethodPost, "/v1/verifications", []byte(body))
		if code, _ := problem(t, answer); status != http.StatusBadRequest || code != c.code {
			t.Errorf("%d %s, want %s", status, answer, c.code)
		}
		if !strings.Contains(body, c.from) {
			t.Fatalf("there is no %s to set right", c.from)
		}
		body = strings.Replace(body, c.from, c.to, 1)
	}
	ask(t, w.A, http.MethodPost, "/v1/verifications", []byte(body))
}

// What a counterparty's enclave may refuse a question with, and what our
// backend hears of it.
func TestRefusalsOfACounterpartyAreTold(t *testing.T) {
	w := proxytest.NewWorld(t)
	ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
	var asked, refusal []byte
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) { asked = message; return message, nil })
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		if proxytest.TypeOf(reply) == envelope.AccountAnswer {
			return w.B.Reply(w.A, asked, proxytest.Message{Type: envelope.Refusal, Payload: refusal}), nil
		}
		return reply, nil
	})
	for _, c := range []struct {
		refusal string
		status  int
		code    string
	}{
		{"INVALID-KEY-TYPE", 400, "INVALID-KEY-TYPE"},
		{"KEYS-EXHAUSTED", 503, "COUNTERPARTY-UNAVAILABLE"},
		{"BUSY", 503, "COUNTERPARTY-UNAVAILABLE"},
		{"UNKNOWN-MESSAGE-TYPE", 502, "ENVELOPE-REJECTED"},
		{marker, 502, "ENVELOPE-REJECTED"},
	} {
		refusal = []byte(c.refusal)
		refused(t, w, "/v1/verifications/account", accountTo(w.B.ID), c.status, c.code, "")
	}
}
