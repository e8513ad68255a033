package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

const inquiryPath = "/v1/verifications/tx/inquiry"

func inquiryAbout(id string) []byte { return fmt.Appendf(nil, `{"verificationUuid":%q}`, id) }

// tells lets a party's backend say where every transfer stands.
func tells(p *proxytest.Party, answer vasp.TransactionAnswer, err error) {
	p.Backend.OnStatus(func(context.Context, []byte) (*vasp.TransactionAnswer, error) {
		if err != nil {
			return nil, err
		}
		a := answer
		return &a, nil
	})
}

// Contract 2.9, 3.3 and 6.3.
func TestContractInquiry(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for _, keyType := range mutatedTypes {
		id := verify(t, w, request(w, ofType(keyType)...))
		finished(t, w, id)
		for _, c := range []struct {
			says vasp.TransactionAnswer
			want string
		}{
			{vasp.TransactionAnswer{VerificationUUID: id, Status: "PENDING"}, `"transactionStatus":"PENDING","txHash":""`},
			{vasp.TransactionAnswer{VerificationUUID: id, Status: "PROCESSING", TxHash: "8a54", VOut: "1"}, `"transactionStatus":"PROCESSING","txHash":"8a54","vout":"1"`},
			{vasp.TransactionAnswer{Status: "WAIT-CONFIRM", TxHash: "8a54"}, `"transactionStatus":"WAIT-CONFIRM","txHash":"8a54"`},
			{vasp.TransactionAnswer{VerificationUUID: id, Status: "CONFIRMED", TxHash: "8a54"}, `"transactionStatus":"CONFIRMED","txHash":"8a54"`},
			{vasp.TransactionAnswer{VerificationUUID: id, Status: "CANCELED"}, `"transactionStatus":"CANCELED","txHash":""`},
		} {
			tells(w.A, c.says, nil)
			status, answer := w.B.Call(http.MethodPost, inquiryPath, inquiryAbout(id))
			if status != http.StatusOK {
				t.Fatalf("%d %s", status, answer)
			}
			sameJSON(t, c.says.Status, answer, fmt.Sprintf(`{"verificationUuid":%q,%s}`, id, c.want))
		}
		asked := w.A.Backend.Asked()
		sameJSON(t, "what A's backend was asked", asked[len(asked)-1], fmt.Sprintf(`{"verificationUuid":%q}`, id))
		if r := row(t, w.B, id); r["txHash"] != nil {
			t.Error("an inquiry is no report, and B's row has a hash")
		}
	}
	if a, b := len(audited(t, w.A, audit.OpenInquiry)), len(audited(t, w.B, audit.Inquire)); a != 15 || b != 15 {
		t.Errorf("audited %d and %d times", a, b)
	}
}

// The hash that A's backend reported is told when it does not repeat it; and
// a backend without this API leaves the word to the history.
func TestInquiryFromTheHistory(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	inquire := func(id string) map[string]any { return ask(t, w.B, http.MethodPost, inquiryPath, inquiryAbout(id)) }
	id := verify(t, w, request(w))
	finished(t, w, id)
	none := &vasp.Error{API: "transaction", Problem: vasp.NotConfigured}
	tells(w.A, vasp.TransactionAnswer{}, none)
	if a := inquire(id); a["transactionStatus"] != "PENDING" || a["txHash"] != "" {
		t.Errorf("before the report %v", a)
	}
	accepted(t, w.A, txPath, fmt.Appendf(nil, `{"verificationUuid":%q,"txHash":"8a54","vout":"3"}`, id))
	if a := inquire(id); a["transactionStatus"] != "PROCESSING" || a["txHash"] != "8a54" || a["vout"] != "3" {
		t.Errorf("after it %v", a)
	}
	tells(w.A, vasp.TransactionAnswer{Status: "CONFIRMED"}, nil)
	if a := inquire(id); a["transactionStatus"] != "CONFIRMED" || a["txHash"] != "8a54" || a["vout"] != "3" {
		t.Errorf("with a backend that does not repeat the hash %v", a)
	}
	accepted(t, w.A, errorPath, errorReport(id, "ERROR", "USER-CANCELED"))
	tells(w.A, vasp.TransactionAnswer{}, none)
	if a := inquire(id); a["transactionStatus"] != "CANCELED" || a["txHash"] != "8a54" {
		t.Errorf("of what was canceled after the broadcast %v", a)
	}
	given := verify(t, w, request(w))
	finished(t, w, given)
	accepted(t, w.A, errorPath, errorReport(given, "ERROR", "USER-CANCELED"))
	tells(w.A, vasp.TransactionAnswer{}, none)
	if a := inquire(given); a["transactionStatus"] != "CANCELED" {
		t.Errorf("of what was given up %v", a)
	}
}

// What a backend that fails becomes for the one that inquires.
func TestInquiryWhenTheBackendFails(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	fails := func(p vasp.Problem) error { return &vasp.Error{API: "transaction", Problem: p, Code: 500} }
	for _, c := range []struct {
		name   string
		says   vasp.TransactionAnswer
		err    error
		status int
		code   string
	}{
		{"away", vasp.TransactionAnswer{}, fails(vasp.Unreachable), 503, "COUNTERPARTY-UNAVAILABLE"},
		{"slow", vasp.TransactionAnswer{}, fails(vasp.Timeout), 503, "COUNTERPARTY-UNAVAILABLE"},
		{"garbage", vasp.TransactionAnswer{}, fails(vasp.NotJSON), 502, "COUNTERPARTY-ERROR"},
		{"status", vasp.TransactionAnswer{}, fails(vasp.Status), 502, "COUNTERPARTY-ERROR"},
		{"redirect", vasp.TransactionAnswer{}, fails(vasp.Redirect), 502, "COUNTERPARTY-ERROR"},
		{"huge", vasp.TransactionAnswer{}, fails(vasp.TooLarge), 502, "COUNTERPARTY-ERROR"},
		{"another verification", vasp.TransactionAnswer{VerificationUUID: uuid.NewString(), Status: "CONFIRMED"}, nil, 502, "COUNTERPARTY-ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tells(w.A, c.says, c.err)
			status, answer := w.B.Call(http.MethodPost, inquiryPath, inquiryAbout(id))
			if code, _ := problem(t, answer); status != c.status || code != c.code {
				t.Errorf("%d %s, want %d %s", status, answer, c.status, c.code)
			}
		})
	}
	w.Central.Down(true)
	status, answer := w.B.Call(http.MethodPost, inquiryPath, inquiryAbout(id))
	if code, _ := problem(t, answer); status != http.StatusServiceUnavailable || code != "COUNTERPARTY-UNAVAILABLE" {
		t.Errorf("without central %d %s", status, answer)
	}
}

// Only the beneficiary VASP inquires (contract 6.4), and only about its own
// transfers: to everybody else they are not there (attack O1).
func TestWhoMayInquire(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	for _, c := range []struct {
		by         *proxytest.Party
		id         string
		code, says string
	}{
		{w.A, id, "VASP-NOT-MATCHED", "You are not the beneficiary VASP for the verification"},
		{w.B, uuid.NewString(), "VERIFICATION-NOT-FOUND", "is not found"},
	} {
		status, answer := c.by.Call(http.MethodPost, inquiryPath, inquiryAbout(c.id))
		if code, message := problem(t, answer); status != http.StatusBadRequest || code != c.code || !strings.Contains(message, c.says) {
			t.Errorf("%d %s, want 400 %s", status, answer, c.code)
		}
	}
	ownID := verify(t, w, requestTo(w.A.ID)) // of A with itself, and none of B's business
	finished(t, w, ownID)
	asked := len(w.A.Backend.Asked())
	for _, foreign := range []string{ownID, uuid.NewString()} {
		sealed := w.B.Seal(w.A, proxytest.Message{Type: envelope.TxInquiry, Direction: envelope.ToOriginator, ID: parse(t, foreign), ReplyBundle: w.B.EncodedBundle(), Payload: []byte(`{}`)})
		_, reply := w.Central.Send(w.A.ID, sealed)
		sameJSON(t, "answer", w.B.Open(w.A, reply).Payload, `{"code":"VERIFICATION-NOT-FOUND"}`)
	}
	if n := len(w.A.Backend.Asked()); n != asked {
		t.Errorf("A's backend was asked %d times", n-asked)
	}
}

// An inquiry in the wrong direction, one that is replayed and more of them
// than anybody needs are refused before the backend is asked (attacks K3, K4).
func TestInquiriesThatAreRefused(t *testing.T) {
	w := proxytest.NewWorldAt(t, proxytest.NewClock(time.Now()).Now)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	inquiry := func(d envelope.Direction) []byte {
		return w.B.Seal(w.A, proxytest.Message{Type: envelope.TxInquiry, Direction: d, ID: parse(t, id), ReplyBundle: w.B.EncodedBundle(), Payload: []byte(`{}`)})
	}
	if _, reply := w.Central.Send(w.A.ID, inquiry(envelope.ToBeneficiary)); refusal(t, w.A, reply) != rejected || w.A.Metric("enclave_refused_total", "direction") != 1 {
		t.Errorf("in the wrong direction: %s", refusal(t, w.A, reply))
	}
	sealed := inquiry(envelope.ToOriginator)
	w.Central.Send(w.A.ID, sealed)
	asked := len(w.A.Backend.Asked())
	if _, reply := w.Central.Send(w.A.ID, sealed); refusal(t, w.A, reply) != rejected || w.A.Metric("enclave_refused_total", "replay") != 1 {
		t.Errorf("replayed: %s", refusal(t, w.A, reply))
	}
	if n := len(w.A.Backend.Asked()); n != asked {
		t.Error("a replayed inquiry asks A's backend")
	}
	busy := 0
	for range 250 {
		if _, reply := w.Central.Send(w.A.ID, inquiry(envelope.ToOriginator)); proxytest.TypeOf(reply) == envelope.Refusal {
			busy++
		}
	}
	if busy != 51 { // 200 at once, one of which was used above
		t.Errorf("%d of 250 at once were refused", busy)
	}
}

// A transfer to ourselves can be inquired about.
func TestAnInquiryToOurselves(t *testing.T) {
	w := proxytest.NewWorld(t)
	says(w.A, vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(said)})
	tells(w.A, vasp.TransactionAnswer{Status: "CONFIRMED", TxHash: "8a54"}, nil)
	id := verify(t, w, requestTo(w.A.ID))
	finished(t, w, id)
	if a := ask(t, w.A, http.MethodPost, inquiryPath, inquiryAbout(id)); a["transactionStatus"] != "CONFIRMED" || a["txHash"] != "8a54" {
		t.Errorf("answer %v", a)
	}
}

// Answers of a counterparty that has keys and no good will.
func TestInquiryAnswersThatAreNone(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	var says string
	var asked []byte
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		asked = message
		return message, nil
	})
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		if proxytest.TypeOf(reply) != envelope.TxInquiryAnswer {
			return reply, nil
		}
		return w.A.Reply(w.B, asked, proxytest.Message{Type: envelope.TxInquiryAnswer, Payload: []byte(says)}), nil
	})
	for _, c := range []struct {
		says, code string
		status     int
	}{
		{`{}`, "ENVELOPE-REJECTED", 502},
		{`{"transactionStatus":"LOST"}`, "ENVELOPE-REJECTED", 502},
		{`{"transactionStatus":7}`, "ENVELOPE-REJECTED", 502},
		{`[]`, "ENVELOPE-REJECTED", 502},
		{`{"code":"VERIFICATION-NOT-FOUND"}`, "VERIFICATION-NOT-FOUND", 400},
		{`{"code":"ANYTHING"}`, "COUNTERPARTY-ERROR", 502},
	} {
		says = c.says
		status, answer := w.B.Call(http.MethodPost, inquiryPath, inquiryAbout(id))
		if code, _ := problem(t, answer); status != c.status || code != c.code {
			t.Errorf("%s becomes %d %s, want %d %s", c.says, status, answer, c.status, c.code)
		}
	}
}
