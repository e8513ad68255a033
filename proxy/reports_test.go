package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

const (
	txPath    = "/v1/verifications/tx"
	errorPath = "/v1/verifications/error"
)

func txReport(id, hash string) []byte {
	return fmt.Appendf(nil, `{"verificationUuid":%q,"txHash":%q}`, id, hash)
}

func errorReport(id, result, reason string) []byte {
	return fmt.Appendf(nil, `{"verificationUuid":%q,"result":%q,"reason":%q,"message":"Given up."}`, id, result, reason)
}

// accepted makes a report that must be taken.
func accepted(t testing.TB, p *proxytest.Party, path string, body []byte) {
	t.Helper()
	status, answer := p.Call(http.MethodPost, path, body)
	if status != http.StatusOK {
		t.Fatalf("POST %s = %d %s", path, status, answer)
	}
	sameJSON(t, path, answer, `{"result":true}`)
}

// settled waits until neither party has anything to deliver.
func settled(t testing.TB, w *proxytest.World) {
	t.Helper()
	w.Await("both outboxes are empty", func() bool {
		for _, p := range []*proxytest.Party{w.A, w.B} {
			if waiting, err := p.History.Outbox(t.Context()); err != nil || len(waiting) > 0 {
				return false
			}
		}
		return true
	})
}

// Contract 2.7 and 3.4: the hash is in both histories, with one time, and B's
// backend hears of it.
func TestContractTransactionReport(t *testing.T) {
	for _, keyType := range mutatedTypes {
		t.Run(keyType, func(t *testing.T) {
			w := proxytest.NewWorld(t)
			verified(w)
			id := verify(t, w, request(w, ofType(keyType)...))
			finished(t, w, id)
			body := fmt.Appendf(nil, `{"verificationUuid":%q,"txHash":"8a54A042","vout":"2","unknown":[1]}`, id)
			accepted(t, w.A, txPath, body)
			if r := row(t, w.A, id); r["txHash"] != "8a54A042" || r["vout"] != "2" || r["result"] != "VERIFIED" {
				t.Errorf("A's row at once: %v", r)
			}
			w.Await("B is called back", func() bool { return called(w.B, id) == 1 })
			sameJSON(t, "callback", []byte(callbacks(w.B, id)[0]),
				fmt.Sprintf(`{"callbackType":"TX_REPORT","data":{"verificationUuid":%q,"txHash":"8a54A042","vout":"2"}}`, id))
			a, b := row(t, w.A, id), row(t, w.B, id)
			if at, _ := a["orderedAt"].(string); !timestamp.MatchString(at) || b["orderedAt"] != at || b["txHash"] != "8a54A042" || b["vout"] != "2" {
				t.Errorf("rows %v and %v", a, b)
			}
			accepted(t, w.A, txPath, body)
			settled(t, w)
			if n := called(w.B, id); n != 1 {
				t.Errorf("the same report twice made %d callbacks", n)
			}
			for _, p := range []*proxytest.Party{w.A, w.B} {
				if page := ask(t, p, http.MethodGet, "/v1/verifications?txHash=8a54A042", nil); page["count"] != 1.0 {
					t.Errorf("%v rows of the hash", page["count"])
				}
				if page := ask(t, p, http.MethodGet, "/v1/verifications?txHash=8a54a042", nil); page["count"] != 0.0 {
					t.Error("a hash of another case is found")
				}
			}
			if len(audited(t, w.A, audit.ReportTx)) != 1 || len(audited(t, w.B, audit.OpenTx)) != 1 {
				t.Error("the audit logs do not tell of one report")
			}
		})
	}
}

// A transaction that replaced the first one takes its place, and a replayed
// report does not put the first one back (attack K4).
func TestALaterTransactionTakesThePlaceOfTheFirst(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	before := len(w.Central.Relayed())
	accepted(t, w.A, txPath, txReport(id, "first"))
	w.Await("B is told of the first", func() bool { return called(w.B, id) == 1 })
	first := w.Central.Relayed()[before:]
	accepted(t, w.A, txPath, txReport(id, "second"))
	w.Await("B is told of the second", func() bool { return called(w.B, id) == 2 })
	replayed := 0
	for _, message := range first {
		if proxytest.TypeOf(message) == envelope.TxReport {
			replayed++
			w.Central.Send(w.B.ID, message)
		}
	}
	settled(t, w)
	if r := row(t, w.B, id); replayed != 1 || r["txHash"] != "second" || called(w.B, id) != 2 {
		t.Errorf("after %d replays B's row has %v, with %d callbacks", replayed, r["txHash"], called(w.B, id))
	}
}

// Contract 1.2: several withdrawals in one chain transaction are one report
// each, told apart by vout.
func TestSeveralTransfersInOneTransaction(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	var ids []string
	for i := range 5 {
		id := verify(t, w, request(w))
		finished(t, w, id)
		accepted(t, w.A, txPath, fmt.Appendf(nil, `{"verificationUuid":%q,"txHash":"batch","vout":"%d"}`, id, i))
		ids = append(ids, id)
	}
	settled(t, w)
	for _, p := range []*proxytest.Party{w.A, w.B} {
		page := ask(t, p, http.MethodGet, "/v1/verifications?txHash=batch", nil)
		if page["count"] != 5.0 {
			t.Fatalf("%v rows", page["count"])
		}
		for i, r := range page["verifications"].([]any) { // newest first
			if r := r.(map[string]any); r["verificationUuid"] != ids[4-i] || r["vout"] != fmt.Sprint(4-i) {
				t.Errorf("row %d: %v vout %v", i, r["verificationUuid"], r["vout"])
			}
		}
	}
}

// A transaction is a fact: it is taken and told whatever became of the
// verification, and somebody is warned.
func TestATransactionWithoutAVerifiedTransfer(t *testing.T) {
	w := proxytest.NewWorld(t)
	says(w.B, vasp.UserAnswer{Result: "DENIED", Reason: "BLACKLISTED"})
	id := verify(t, w, request(w))
	finished(t, w, id)
	accepted(t, w.A, txPath, txReport(id, "h"))
	w.Await("B is called back", func() bool { return called(w.B, id) == 1 })
	for _, p := range []*proxytest.Party{w.A, w.B} {
		if r := row(t, p, id); r["result"] != "DENIED" || r["txHash"] != "h" {
			t.Errorf("row %v %v", r["result"], r["txHash"])
		}
		if n := p.Metric("enclave_tx_reports_unverified_total"); n != 1 {
			t.Errorf("%v counted", n)
		}
	}
}

// Contract 2.8 and 6.1: what was VERIFIED changes at both VASPs, and B's
// backend hears of it, once.
func TestContractErrorReport(t *testing.T) {
	for _, c := range []struct{ result, reason, becomes string }{
		{"ERROR", "USER-CANCELED", "ERROR"},
		{"DENIED", "BLACKLISTED", "DENIED"},
		{"UNKNOWN", "UNKNOWN-ADDRESS", "UNKNOWN"},
		{"PENDING", "FULL-MOON", "PENDING"},
		{"TRANSFER_ERROR", "UNDEFINED-ERROR", "TRANSFER_ERROR"},
		{"VERIFIED", "OK", "ERROR"}, // a report of failure makes no transfer good (A7)
	} {
		t.Run(c.result, func(t *testing.T) {
			w := proxytest.NewWorld(t)
			verified(w)
			id := verify(t, w, request(w))
			finished(t, w, id)
			accepted(t, w.A, errorPath, errorReport(id, c.result, c.reason))
			w.Await("B is called back", func() bool { return called(w.B, id) == 1 })
			sameJSON(t, "callback", []byte(callbacks(w.B, id)[0]), fmt.Sprintf(
				`{"callbackType":"ERROR_REPORT","data":{"verificationUuid":%q,"result":%q,"reason":%q,"message":"Given up."}}`, id, c.becomes, c.reason))
			accepted(t, w.A, errorPath, errorReport(id, c.result, c.reason))
			settled(t, w)
			for _, p := range []*proxytest.Party{w.A, w.B} {
				if r := row(t, p, id); r["result"] != c.becomes || r["reason"] != c.reason || r["message"] != "Given up." {
					t.Errorf("row %v %v %v", r["result"], r["reason"], r["message"])
				}
				if n := called(p, id); n != 1 {
					t.Errorf("%d callbacks", n)
				}
			}
			if len(audited(t, w.A, audit.ReportError)) != 1 || len(audited(t, w.B, audit.OpenError)) != 1 {
				t.Error("the audit logs do not tell of one report")
			}
		})
	}
}

// What failed before keeps its own reason at home, and the counterparty hears
// of it: after BENEFICIARY-ACCOUNT-NOT-MATCHED its row says VERIFIED still.
func TestAnErrorReportAfterAFailure(t *testing.T) {
	w := proxytest.NewWorld(t)
	says(w.B, vasp.UserAnswer{Result: "VERIFIED", Beneficiary: []byte(`{"accountNumber":["bc1qother"]}`)})
	id := verify(t, w, request(w))
	finished(t, w, id)
	if r := row(t, w.B, id); r["result"] != "VERIFIED" {
		t.Fatalf("B's row is %v", r["result"])
	}
	accepted(t, w.A, errorPath, errorReport(id, "ERROR", "USER-CANCELED"))
	w.Await("B is called back", func() bool { return called(w.B, id) == 1 })
	if a, b := row(t, w.A, id), row(t, w.B, id); a["reason"] != "BENEFICIARY-ACCOUNT-NOT-MATCHED" || b["result"] != "ERROR" || b["reason"] != "USER-CANCELED" {
		t.Errorf("rows %v and %v %v", a["reason"], b["result"], b["reason"])
	}
	says(w.B, vasp.UserAnswer{Result: "DENIED", Reason: "BLACKLISTED"})
	id = verify(t, w, request(w))
	finished(t, w, id)
	accepted(t, w.A, errorPath, errorReport(id, "ERROR", "USER-CANCELED"))
	settled(t, w)
	for _, p := range []*proxytest.Party{w.A, w.B} {
		if r := row(t, p, id); r["result"] != "DENIED" || r["reason"] != "BLACKLISTED" {
			t.Errorf("what B refused became %v %v", r["result"], r["reason"])
		}
	}
}

// A customer who cancels before the answer is there: the verification ends by
// the report, is called back as any end is, and B ends with an error or
// without a row.
func TestAnErrorReportEndsWhatWaits(t *testing.T) {
	for _, keyType := range mutatedTypes {
		t.Run(keyType, func(t *testing.T) {
			w := proxytest.NewWorld(t)
			verified(w)
			w.Central.Down(true)
			id := verify(t, w, request(w, ofType(keyType)...))
			keys, _ := w.A.History.OwnKeys(t.Context())
			accepted(t, w.A, errorPath, errorReport(id, "ERROR", "USER-CANCELED"))
			if left, _ := w.A.History.OwnKeys(t.Context()); keyType != "PerVasp" && len(left) >= len(keys) {
				t.Error("the key for the answer has not ended with the verification")
			}
			r := finished(t, w, id)
			if r["result"] != "ERROR" || r["reason"] != "USER-CANCELED" {
				t.Errorf("row %v %v", r["result"], r["reason"])
			}
			w.Central.Down(false)
			settled(t, w)
			data := object(t, []byte(callbacks(w.A, id)[0]))["data"].(map[string]any)
			if called(w.A, id) != 1 || data["verificationResult"] != "ERROR" || data["reason"] != "USER-CANCELED" {
				t.Errorf("%d callbacks, %v", called(w.A, id), data)
			}
			// An attempt that was under way may have come through.
			if status, answer := w.B.Call(http.MethodGet, "/v1/verifications/"+id, nil); status == http.StatusOK && object(t, answer)["result"] != "ERROR" {
				t.Errorf("B's row is %s", answer)
			}
		})
	}
}

// Whoever is faster, the report or the answer: each verification is called
// back once, and B's history does not end VERIFIED where A's ended in error.
func TestErrorReportsRaceWithAnswers(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	const n = 120
	ids := make([]string, n)
	var reports sync.WaitGroup
	for i := range n {
		ids[i] = verify(t, w, request(w, ofType(mutatedTypes[i%3])...))
		reports.Go(func() {
			if status, answer := w.A.Call(http.MethodPost, errorPath, errorReport(ids[i], "ERROR", "USER-CANCELED")); status != http.StatusOK {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	reports.Wait()
	settled(t, w)
	var first int
	for _, id := range ids {
		results := 0
		for _, c := range callbacks(w.A, id) {
			if strings.Contains(c, "VERIFICATION_RESULT") {
				results++
			}
		}
		if r := row(t, w.A, id); r["result"] != "ERROR" || r["reason"] != "USER-CANCELED" || results != 1 {
			t.Errorf("A's row %v %v, %d results called back", r["result"], r["reason"], results)
		}
		status, answer := w.B.Call(http.MethodGet, "/v1/verifications/"+id, nil)
		switch {
		case status == http.StatusNotFound:
			first++
		case object(t, answer)["result"] != "ERROR":
			t.Errorf("B's row %s", answer)
		}
	}
	t.Logf("of %d verifications %d were given up before they came", n, first)
}

// Only the originating VASP reports; an id that nobody knows is a bad request
// (contract 6.4).
func TestWhoMayReport(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	for path, body := range map[string]func(id string) []byte{
		txPath:    func(id string) []byte { return txReport(id, "h") },
		errorPath: func(id string) []byte { return errorReport(id, "ERROR", "X") },
	} {
		for _, c := range []struct {
			by   *proxytest.Party
			id   string
			code string
			says string
		}{
			{w.B, id, "VASP-NOT-MATCHED", "You are not the originating VASP for the verification"},
			{w.A, uuid.NewString(), "VERIFICATION-NOT-FOUND", "is not found"},
			{w.B, uuid.NewString(), "VERIFICATION-NOT-FOUND", "is not found"},
		} {
			status, answer := c.by.Call(http.MethodPost, path, body(c.id))
			if code, message := problem(t, answer); status != http.StatusBadRequest || code != c.code || !strings.Contains(message, c.says) {
				t.Errorf("%s = %d %s, want 400 %s", path, status, answer, c.code)
			}
		}
	}
	for _, p := range []*proxytest.Party{w.A, w.B} {
		if r := row(t, p, id); r["result"] != "VERIFIED" || r["txHash"] != nil {
			t.Errorf("row %v %v", r["result"], r["txHash"])
		}
	}
}

// A report of another VASP about somebody's verification changes nothing, and
// what B reports of A's does not either.
func TestReportsOfOthersChangeNothing(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	tx := fmt.Appendf(nil, `{"txHash":"stolen","orderedAt":%q}`, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
	for _, kind := range []envelope.MessageType{envelope.TxReport, envelope.ErrorReport} {
		body := tx
		if kind == envelope.ErrorReport {
			body = []byte(`{"result":"ERROR","reason":"X"}`)
		}
		_, reply := w.Central.Send(w.A.ID, w.B.Seal(w.A, proxytest.Message{Type: kind, ID: parse(t, id), ReplyBundle: w.B.EncodedBundle(), Payload: body}))
		if kind == envelope.TxReport {
			sameJSON(t, "answer", w.B.Open(w.A, reply).Payload, `{"result":false}`)
		}
	}
	if r := row(t, w.A, id); r["result"] != "VERIFIED" || r["txHash"] != nil || called(w.A, id) != 1 {
		t.Errorf("A's row %v %v", r["result"], r["txHash"])
	}
	for _, bad := range []string{`{}`, `{"txHash":"h"}`, `{"txHash":"h","orderedAt":"9999-12-31T00:00:00.000Z"}`, `{"txHash":"","orderedAt":"2026-01-01T00:00:00.000Z"}`, `{"txHash":"h","orderedAt":"soon"}`,
		`{"txHash":"` + strings.Repeat("h", 257) + `","orderedAt":"2026-01-01T00:00:00.000Z"}`, `[]`, `{"txHash":7,"orderedAt":"2026-01-01T00:00:00.000Z"}`} {
		_, reply := w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: envelope.TxReport, ID: parse(t, id), ReplyBundle: w.A.EncodedBundle(), Payload: []byte(bad)}))
		if code := refusal(t, w.B, reply); code != rejected {
			t.Errorf("%s is answered with %s", bad, code)
		}
	}
	if r := row(t, w.B, id); r["txHash"] != nil {
		t.Errorf("B's row has %v", r["txHash"])
	}
}

// Reports wait for a counterparty that is away, over a restart, and come in
// the order in which they were made; callbacks of a backend that is away too.
func TestReportsComeInOrderOverRestarts(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	var ids []string
	for range 20 {
		id := verify(t, w, request(w))
		finished(t, w, id)
		ids = append(ids, id)
	}
	w.Central.Down(true)
	for _, id := range ids {
		accepted(t, w.A, txPath, txReport(id, "first"))
		accepted(t, w.A, txPath, txReport(id, "second"))
		accepted(t, w.A, errorPath, errorReport(id, "ERROR", "USER-CANCELED"))
	}
	w.A.Stop()
	w.A.Start()
	var mu sync.Mutex
	failures := 45
	w.B.Backend.OnCallback(func([]byte) error {
		mu.Lock()
		defer mu.Unlock()
		if failures--; failures > 0 && failures%3 != 0 {
			return &vasp.Error{API: "callback", Problem: vasp.Status, Code: 500}
		}
		return nil
	})
	w.Central.Down(false)
	settled(t, w)
	for _, id := range ids {
		if r := row(t, w.B, id); r["txHash"] != "second" || r["result"] != "ERROR" {
			t.Errorf("B's row %v %v", r["txHash"], r["result"])
		}
		var order []string
		for _, c := range callbacks(w.B, id) {
			o := object(t, []byte(c))
			what := o["callbackType"].(string)
			if hash, ok := o["data"].(map[string]any)["txHash"]; ok {
				what += " " + hash.(string)
			}
			if len(order) == 0 || order[len(order)-1] != what { // one that failed comes again
				order = append(order, what)
			}
		}
		if want := []string{"TX_REPORT first", "TX_REPORT second", "ERROR_REPORT"}; !slices.Equal(order, want) {
			t.Errorf("B was called back %v, want %v", order, want)
		}
	}
}

// A transfer to ourselves: the row changes once, and the backend is called
// back as the beneficiary's.
func TestReportsToOurselves(t *testing.T) {
	w := proxytest.NewWorld(t)
	says(w.A, vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(said)})
	id := verify(t, w, requestTo(w.A.ID))
	finished(t, w, id)
	accepted(t, w.A, txPath, txReport(id, "h"))
	accepted(t, w.A, errorPath, errorReport(id, "ERROR", "USER-CANCELED"))
	settled(t, w)
	if r := row(t, w.A, id); r["txHash"] != "h" || r["result"] != "ERROR" || r["orderedAt"] == nil {
		t.Errorf("row %v", r)
	}
	told := callbacks(w.A, id)
	if len(told) != 3 {
		t.Fatalf("%d callbacks", len(told))
	}
	sameJSON(t, "second callback", []byte(told[1]), fmt.Sprintf(`{"callbackType":"TX_REPORT","data":{"verificationUuid":%q,"txHash":"h"}}`, id))
	sameJSON(t, "third callback", []byte(told[2]), fmt.Sprintf(
		`{"callbackType":"ERROR_REPORT","data":{"verificationUuid":%q,"result":"ERROR","reason":"USER-CANCELED","message":"Given up."}}`, id))
	// One that is given up before it came in: there is no beneficiary to tell.
	w.Central.Down(true)
	id = verify(t, w, requestTo(w.A.ID))
	accepted(t, w.A, errorPath, errorReport(id, "ERROR", "USER-CANCELED"))
	w.Central.Down(false)
	settled(t, w)
	if n := called(w.A, id); n != 1 {
		t.Errorf("%d callbacks", n)
	}
}

// Reports of a store that takes no changes are not accepted, and nothing is
// half done: the same report again is.
func TestAReportThatCannotBeStored(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	broken := breaking(w.A)
	broken.fail(storage.ErrReadOnly)
	for path, body := range map[string][]byte{txPath: txReport(id, "h"), errorPath: errorReport(id, "ERROR", "X")} {
		status, answer := w.A.Call(http.MethodPost, path, body)
		if code, _ := problem(t, answer); status != http.StatusServiceUnavailable || code != "STORAGE-UNAVAILABLE" {
			t.Errorf("%s = %d %s", path, status, answer)
		}
	}
	broken.fail(nil)
	if r := row(t, w.A, id); r["txHash"] != nil || r["result"] != "VERIFIED" {
		t.Errorf("row %v %v", r["txHash"], r["result"])
	}
	accepted(t, w.A, txPath, txReport(id, "h"))
	w.Await("B is called back", func() bool { return called(w.B, id) == 1 })
}

func badReports(good string) []bad {
	all := append(reportsInCommon(good), []bad{
		{"no hash", []string{`"txHash":"8a54"`, `"x":1`}, "MISSING-TX-HASH", "`txHash`"},
		{"empty hash", []string{`8a54`, ``}, "MISSING-TX-HASH", "`txHash`"},
		{"number as hash", []string{`"8a54"`, `8`}, "INVALID-TX-HASH", "a string"},
		{"long hash", []string{`8a54`, strings.Repeat(marker, 50)}, "INVALID-TX-HASH", "256"},
		{"direction override in the hash", []string{`8a54`, marker + "\u202e"}, "INVALID-TX-HASH", "`txHash`"},
		{"number as vout", []string{`"vout":"0"`, `"vout":0`}, "INVALID-VOUT", "a string"},
		{"long vout", []string{`"vout":"0"`, `"vout":"` + strings.Repeat(marker, 50) + `"`}, "INVALID-VOUT", "256"},
	}...)
	return all
}

func badErrorReports(good string) []bad {
	return append(reportsInCommon(good), []bad{
		{"no result", []string{`"result":"ERROR"`, `"x":1`}, "MISSING-RESULT", "`result` is required."},
		{"a result that is none", []string{`"ERROR"`, `"` + marker + `"`}, "INVALID-RESULT", "`result` should be one of `VERIFIED`, `DENIED`, `ERROR`."},
		{"WAIT as result", []string{`"ERROR"`, `"WAIT"`}, "INVALID-RESULT", "`result`"},
		{"result of another case", []string{`"ERROR"`, `"error"`}, "INVALID-RESULT", "`result`"},
		{"no reason", []string{`"reason":"X"`, `"x":1`}, "MISSING-REASON", "`reason`"},
		{"long reason", []string{`"reason":"X"`, `"reason":"` + strings.Repeat(marker, 50) + `"`}, "INVALID-REASON", "256"},
		{"number as message", []string{`"message":"m"`, `"message":5`}, "INVALID-MESSAGE", "a string"},
	}...)
}

func badInquiries(good string) []bad { return reportsInCommon(good) }

func reportsInCommon(good string) []bad {
	id := good[len(`{"verificationUuid":"`):][:36]
	return []bad{
		{"no id", []string{`"verificationUuid"`, `"x"`}, "MISSING-VERIFICATION-UUID", "`verificationUuid` is required."},
		{"empty id", []string{id, ""}, "MISSING-VERIFICATION-UUID", "`verificationUuid`"},
		{"null id", []string{`"` + id + `"`, "null"}, "MISSING-VERIFICATION-UUID", "`verificationUuid`"},
		{"number as id", []string{`"` + id + `"`, "7"}, "INVALID-VERIFICATION-UUID", "a string"},
		{"words as id", []string{id, marker}, "INVALID-VERIFICATION-UUID", "`verificationUuid`"},
		{"id without hyphens", []string{id, strings.ReplaceAll(id, "-", "")}, "INVALID-VERIFICATION-UUID", "`verificationUuid`"},
		{"id in braces", []string{id, "{" + id + "}"}, "INVALID-VERIFICATION-UUID", "`verificationUuid`"},
		{"the id twice", []string{`{"verificationUuid"`, `{"verificationUuid":"` + marker + `","verificationUuid"`}, "INVALID-JSON", "verificationUuid"},
		{"cut off", []string{good, good[:len(good)-1]}, "INVALID-JSON", "early"},
		{"trailing data", []string{good, good + "{}"}, "INVALID-JSON", "one value"},
	}
}

// Bad reports and inquiries get the contract's error or a clear one in its
// pattern, name the field, quote nothing, and leave no trace.
func TestBadReportsAreRefused(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	entries, _ := w.A.History.Audit(t.Context(), 1, 0)
	tx := fmt.Sprintf(`{"verificationUuid":%q,"txHash":"8a54","vout":"0"}`, id)
	failure := fmt.Sprintf(`{"verificationUuid":%q,"result":"ERROR","reason":"X","message":"m"}`, id)
	inquiry := fmt.Sprintf(`{"verificationUuid":%q}`, id)
	for _, endpoint := range []struct {
		path, good string
		bad        []bad
	}{
		{txPath, tx, badReports(tx)}, {errorPath, failure, badErrorReports(failure)}, {inquiryPath, inquiry, badInquiries(inquiry)},
	} {
		for _, c := range endpoint.bad {
			t.Run(endpoint.path+"/"+c.name, func(t *testing.T) {
				body := strings.NewReplacer(c.edit...).Replace(endpoint.good)
				if body == endpoint.good {
					t.Fatal("the edit changes nothing")
				}
				refused(t, w, endpoint.path, []byte(body), http.StatusBadRequest, c.code, c.says)
			})
		}
		for _, body := range []string{"", "[]", "7", "{", "<xml/>", "\x00"} {
			refused(t, w, endpoint.path, []byte(body), http.StatusBadRequest, "INVALID-JSON", "The body is refused")
		}
		refused(t, w, endpoint.path, fmt.Appendf(nil, `{"x":"%s"}`, strings.Repeat("9", 256<<10)), http.StatusRequestEntityTooLarge, "PAYLOAD-TOO-LARGE", "262144")
		if status, answer := w.A.Call(http.MethodGet, endpoint.path, nil); status != http.StatusMethodNotAllowed {
			t.Errorf("GET %s = %d %s", endpoint.path, status, answer)
		}
	}
	if after, _ := w.A.History.Audit(t.Context(), 1, 0); len(after) != len(entries) {
		t.Errorf("%d audit entries more", len(after)-len(entries))
	}
	if r := row(t, w.A, id); r["txHash"] != nil || r["result"] != "VERIFIED" || strings.Contains(w.A.Log.String(), marker) {
		t.Errorf("row %v %v, or a refused value was logged", r["txHash"], r["result"])
	}
}

// Who chooses an id that is another VASP's already, ours above all, is refused:
// callbacks name a verification by its id alone, so it could speak to our
// backend about a transfer that is none of its own (attack K3).
func TestAnIDBelongsToOneOriginator(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	asked, told := len(w.A.Backend.Asked()), called(w.A, id)
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	for _, m := range []proxytest.Message{
		{Type: envelope.VerificationRequest, Payload: payload("", "")},
		{Type: envelope.TxReport, Payload: fmt.Appendf(nil, `{"txHash":"evil","orderedAt":%q}`, now)},
		{Type: envelope.ErrorReport, Payload: []byte(`{"result":"ERROR","reason":"USER-CANCELED"}`)},
	} {
		m.ID, m.ReplyBundle = parse(t, id), w.B.EncodedBundle()
		w.Central.Send(w.A.ID, w.B.Seal(w.A, m))
	}
	settled(t, w)
	if n := len(w.A.Backend.Asked()); n != asked || called(w.A, id) != told {
		t.Errorf("A's backend was asked %d times, and called back %d times, about its own transfer", n-asked, called(w.A, id)-told)
	}
	if r := row(t, w.A, id); r["result"] != "VERIFIED" || r["txHash"] != nil || r["originatingVaspId"] != w.A.ID.String() {
		t.Errorf("A's row %v", r)
	}
	if w.A.Metric("enclave_verification_conflicts_total") != 1 || len(audited(t, w.A, audit.Conflict)) != 1 {
		t.Error("nobody is alarmed")
	}
}

// One counterparty's reports cannot fill what everybody needs (attack G4): of
// verifications that nobody knows it may report so many, and so many callbacks
// of its doing may wait.
func TestReportsHaveABudget(t *testing.T) {
	clock := proxytest.NewClock(time.Now())
	w := proxytest.NewWorldAt(t, clock.Now)
	verified(w)
	taken := func(n int, id func() uuid.UUID, body func(i int) []byte, kind envelope.MessageType) (taken int) {
		for i := range n {
			reply := func() []byte {
				_, reply := w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: kind, ID: id(), ReplyBundle: w.A.EncodedBundle(), Payload: body(i)}))
				return reply
			}()
			if proxytest.TypeOf(reply) != envelope.Refusal {
				taken++
			} else if code := refusal(t, w.B, reply); code != "BUSY" {
				t.Fatalf("refused with %s", code)
			}
		}
		return taken
	}
	failure := func(int) []byte { return []byte(`{"result":"ERROR","reason":"USER-CANCELED"}`) }
	if n := taken(1010, uuid.New, failure, envelope.ErrorReport); n != 1000 {
		t.Errorf("%d reports about what nobody knows were taken, want 1000", n)
	}
	if n := w.B.Metric("enclave_over_budget_total", "error-report"); n != 10 {
		t.Errorf("%v counted", n)
	}
	id := verify(t, w, request(w))
	finished(t, w, id)
	accepted(t, w.A, txPath, txReport(id, "h")) // of one that is known, it is taken
	w.Await("B is called back", func() bool { return called(w.B, id) == 1 })

	w.B.Backend.OnCallback(func([]byte) error { return &vasp.Error{API: "callback", Problem: vasp.Unreachable} })
	const few = 20
	w.B.Enclave.LimitOwed(few)
	later := func(i int) []byte {
		return fmt.Appendf(nil, `{"txHash":"h%d","orderedAt":%q}`, i, clock.Now().Add(time.Duration(i)*time.Millisecond).UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	clock.Advance(time.Minute)
	if n := taken(few+5, func() uuid.UUID { return parse(t, id) }, later, envelope.TxReport); n != few {
		t.Errorf("%d reports were taken while nobody hears of them, want %d", n, few)
	}
	// B's own work goes on.
	ask(t, w.B, http.MethodPost, "/v1/verifications", requestTo(w.A.ID))
}

// What a counterparty answers to a report is an answer, or the report stays on
// its way: an empty one does not lose it.
func TestReportAnswersThatAreNone(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	var asked []byte
	says := []string{`{}`, `{"result":null}`, `{"result":"yes"}`, `[]`, `true`}
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		asked = message
		return message, nil
	})
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		if proxytest.TypeOf(reply) != envelope.TxReportAnswer || len(says) == 0 {
			return reply, nil
		}
		payload := says[0]
		says = says[1:]
		return w.B.Reply(w.A, asked, proxytest.Message{Type: envelope.TxReportAnswer, Payload: []byte(payload)}), nil
	})
	accepted(t, w.A, txPath, txReport(id, "h"))
	settled(t, w)
	if n := w.A.Metric("enclave_refused_total", "answer"); n != 5 || len(says) != 0 {
		t.Errorf("%v of 5 answers refused", n)
	}
	if n := w.A.Metric("enclave_reports_undelivered_total"); n != 0 || called(w.B, id) != 1 {
		t.Errorf("%v reports undelivered, %d callbacks", n, called(w.B, id))
	}
}
