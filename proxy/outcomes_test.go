package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// What B's backend says, and what becomes of it at both VASPs (contract 6.2).
func TestOutcomes(t *testing.T) {
	w := proxytest.NewWorld(t)
	deny := func(reason, message string) vasp.UserAnswer {
		return vasp.UserAnswer{Result: "DENIED", Reason: reason, Message: message, Version: "1.0"}
	}
	fails := func(p vasp.Problem, code int) error { return &vasp.Error{API: "user", Problem: p, Code: code} }
	long := strings.Repeat("é", 2000)
	for _, c := range []struct {
		name    string
		says    vasp.UserAnswer
		fails   error
		result  string
		reason  string
		message string
	}{
		{name: "verified", says: vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Version: "1.0", Beneficiary: []byte(said)}, result: "VERIFIED", reason: "OK"},
		{name: "verified without ivms101", says: vasp.UserAnswer{Result: "VERIFIED", Reason: "OK"}, result: "VERIFIED", reason: "OK"},
		{name: "verified without a reason", says: vasp.UserAnswer{Result: "VERIFIED"}, result: "VERIFIED", reason: "OK"},
		{name: "symbol", says: deny("UNKNOWN-SYMBOL", "BTC"), result: "DENIED", reason: "UNKNOWN-SYMBOL", message: "BTC"},
		{name: "network", says: deny("UNKNOWN-NETWORK", "Bitcoin"), result: "DENIED", reason: "UNKNOWN-NETWORK", message: "Bitcoin"},
		{name: "address", says: deny("UNKNOWN-ADDRESS", "bc1qreceiver"), result: "DENIED", reason: "UNKNOWN-ADDRESS", message: "bc1qreceiver"},
		{name: "name", says: deny("MISMATCHED-NAME", ""), result: "DENIED", reason: "MISMATCHED-NAME"},
		{name: "lacking", says: deny("LACK-OF-INFORMATION", "NATURAL_PERSON_NAME,ACCOUNT_NUMBER"), result: "DENIED", reason: "LACK-OF-INFORMATION", message: "NATURAL_PERSON_NAME,ACCOUNT_NUMBER"},
		{name: "unavailable", says: deny("UNAVAILABLE-INFORMATION", "NATURAL_PERSON_NAME"), result: "DENIED", reason: "UNAVAILABLE-INFORMATION", message: "NATURAL_PERSON_NAME"},
		{name: "blacklisted", says: deny("BLACKLISTED", ""), result: "DENIED", reason: "BLACKLISTED"},
		{name: "KYC", says: deny("UNVERIFIED-KYC", ""), result: "DENIED", reason: "UNVERIFIED-KYC"},
		{name: "policy", says: deny("NOT-ALLOWED", "Not on Sundays."), result: "DENIED", reason: "NOT-ALLOWED", message: "Not on Sundays."},
		{name: "undefined", says: deny("UNDEFINED-ERROR", "?"), result: "DENIED", reason: "UNDEFINED-ERROR", message: "?"},
		{name: "a reason of its own", says: deny("FULL-MOON", ""), result: "DENIED", reason: "FULL-MOON"},
		{name: "denied without a reason", says: deny("", ""), result: "DENIED", reason: "UNDEFINED-ERROR"},
		{name: "error", says: vasp.UserAnswer{Result: "ERROR", Reason: "UNDEFINED-ERROR", Message: "broken"}, result: "ERROR", reason: "UNDEFINED-ERROR", message: "broken"},
		{name: "a result that is none", says: vasp.UserAnswer{Result: "WAIT", Reason: "OK"}, result: "ERROR", reason: "OK"},
		{name: "long texts", says: deny(long, long), result: "DENIED", reason: strings.Repeat("é", 256), message: strings.Repeat("é", 1024)},
		{name: "another account", says: vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(`{"accountNumber":["bc1qother"]}`)},
			result: "ERROR", reason: "BENEFICIARY-ACCOUNT-NOT-MATCHED", message: "Beneficiary account is not matched with requested account."},
		{name: "account of another case", says: vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(`{"accountNumber":["BC1QRECEIVER"]}`)},
			result: "ERROR", reason: "BENEFICIARY-ACCOUNT-NOT-MATCHED", message: "Beneficiary account is not matched with requested account."},
		{name: "timeout", fails: fails(vasp.Timeout, 0), result: "ERROR", reason: "REQUEST-TIMEOUT", message: "Request timeout."},
		{name: "status 500", fails: fails(vasp.Status, 500), result: "ERROR", reason: "UNDEFINED-ERROR", message: "The beneficiary VASP's backend gave no usable answer."},
		{name: "garbage", fails: fails(vasp.NotJSON, 0), result: "ERROR", reason: "UNDEFINED-ERROR", message: "The beneficiary VASP's backend gave no usable answer."},
		{name: "duplicate keys or direction overrides", fails: fails(vasp.Invalid, 0), result: "ERROR", reason: "UNDEFINED-ERROR", message: "The beneficiary VASP's backend gave no usable answer."},
		{name: "redirect", fails: fails(vasp.Redirect, 302), result: "ERROR", reason: "UNDEFINED-ERROR", message: "The beneficiary VASP's backend gave no usable answer."},
		{name: "connection lost", fails: fails(vasp.Broken, 0), result: "ERROR", reason: "UNDEFINED-ERROR", message: "The beneficiary VASP's backend gave no usable answer."},
		{name: "too large", fails: fails(vasp.TooLarge, 0), result: "ERROR", reason: "UNDEFINED-ERROR", message: "The beneficiary VASP's backend gave no usable answer."},
		{name: "too large for an envelope", says: vasp.UserAnswer{Result: "VERIFIED", Beneficiary: []byte(`{"accountNumber":["bc1qreceiver"` + strings.Repeat(`,"`+strings.Repeat("x", 60<<10)+`"`, 10) + `]}`)},
			result: "ERROR", reason: "UNDEFINED-ERROR", message: "The beneficiary VASP's backend gave no usable answer."},
		{name: "too many parts for a reader", says: vasp.UserAnswer{Result: "VERIFIED", Beneficiary: []byte(`{"accountNumber":["bc1qreceiver"` + strings.Repeat(`,""`, 9_990) + `]}`)},
			result: "ERROR", reason: "UNDEFINED-ERROR", message: "The beneficiary VASP's backend gave no usable answer."},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(w.B.Backend.Asked())
			w.B.Backend.OnUser(func(context.Context, []byte) (*vasp.UserAnswer, error) {
				if c.fails != nil {
					return nil, c.fails
				}
				a := c.says
				return &a, nil
			})
			id := verify(t, w, request(w))
			finished(t, w, id)
			for _, p := range []*proxytest.Party{w.A, w.B} {
				result, reason, message := c.result, c.reason, c.message
				if p == w.B && reason == "BENEFICIARY-ACCOUNT-NOT-MATCHED" { // B does not know that A disagrees
					result, reason, message = "VERIFIED", "OK", ""
				}
				if r := row(t, p, id); r["result"] != result || r["reason"] != reason || r["message"] != message {
					t.Errorf("row of %s: %v %v %v, want %s %s %s", p.ID, r["result"], r["reason"], r["message"], result, reason, message)
				}
			}
			data := object(t, []byte(callbacks(w.A, id)[0]))["data"].(map[string]any)
			if data["verificationResult"] != c.result || data["reason"] != c.reason || data["message"] != c.message {
				t.Errorf("callback %v", data)
			}
			if asked := len(w.B.Backend.Asked()) - before; asked != 1 {
				t.Errorf("the backend was asked %d times", asked)
			}
		})
	}
	for _, e := range append(audited(t, w.A, audit.Finish), audited(t, w.B, audit.Open)...) {
		if strings.Contains(e.Reason, "é") || e.Reason == "FULL-MOON" {
			t.Errorf("the audit log holds the text %q", e.Reason)
		}
	}
}

// A backend that cannot be reached was not asked: it is, once, when it can be.
func TestABackendThatIsAwayIsAskedLater(t *testing.T) {
	w := proxytest.NewWorld(t)
	var attempts atomic.Int32
	w.B.Backend.OnUser(func(context.Context, []byte) (*vasp.UserAnswer, error) {
		if attempts.Add(1) <= 3 {
			return nil, &vasp.Error{API: "user", Problem: vasp.Unreachable}
		}
		return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(said)}, nil
	})
	id := verify(t, w, request(w))
	if r := finished(t, w, id); r["result"] != "VERIFIED" {
		t.Errorf("row %v %v", r["result"], r["reason"])
	}
	if n := attempts.Load(); n != 4 {
		t.Errorf("%d attempts to ask, want 4", n)
	}
	if opened := audited(t, w.B, audit.Open); len(opened) != 1 {
		t.Errorf("%d audit entries of opening at B, want the one that was answered", len(opened))
	}
}

// What was not asked for never leaves B, in whatever part of the answer it is
// (contract 3.2).
func TestUnrequestedDataIsStripped(t *testing.T) {
	w := proxytest.NewWorld(t)
	says(w.B, vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Version: "1.0", Beneficiary: []byte(strings.Replace(said, `{"naturalPerson":{`,
		`{"naturalPerson":{"geographicAddress":[{"streetName":"`+marker+`"}],"dateAndPlaceOfBirth":{"dateOfBirth":"`+marker+`"},"nationality":"`+marker+`","notes":"`+marker+`",`, 1)),
		Raw: []byte(`{"other":"` + marker + `"}`)})
	var opened atomic.Pointer[[]byte]
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		if proxytest.TypeOf(reply) == envelope.VerificationAnswer {
			body := w.A.Open(w.B, reply).Payload
			opened.Store(&body)
		}
		return reply, nil
	})
	id := verify(t, w, request(w))
	r := finished(t, w, id)
	if r["ivms101Beneficiary"] != said {
		t.Errorf("A holds %v, want what it asked for: %s", r["ivms101Beneficiary"], said)
	}
	if got := string(*opened.Load()); strings.Contains(got, marker) {
		t.Errorf("sealed in the answer: %s", got)
	}
	if got := fmt.Sprint(row(t, w.B, id)); strings.Contains(got, marker) {
		t.Errorf("B holds %s", got)
	}
	if log := w.B.Log.String(); strings.Contains(log, marker) || !strings.Contains(log, "/beneficiaryPersons/0/naturalPerson/geographicAddress") {
		t.Error("the log quotes what was taken away, or does not name its fields")
	}
}

// A question that cannot be told what it asked for gets nothing personal.
func TestNothingIsSharedWhenItIsUnclearWhatWasAskedFor(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	asked := w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, ReplyBundle: w.A.EncodedBundle(), Payload: payload("requiredBeneficiaryInfo", "é")})
	_, reply := w.Central.Send(w.B.ID, asked)
	if got := string(w.A.Open(w.B, reply).Payload); strings.Contains(got, "Doe") || !strings.Contains(got, `"VERIFIED"`) {
		t.Errorf("answer %s", got)
	}
}

// payload is a verification request as an enclave seals it; member is replaced.
func payload(member, value string) []byte {
	required := "ACCOUNT_NUMBER,NATURAL_PERSON_NAME"
	if member == "requiredBeneficiaryInfo" {
		required = value
	}
	ivms := `{"originator":` + originator + `,"beneficiary":` + said + `}`
	if member == "ivms101" {
		ivms = value
	}
	return fmt.Appendf(nil, `{"assetInfo":%s,"requiredBeneficiaryInfo":%s,"version":"1.0","ivms101":%s}`, asset, quoted(required), ivms)
}

// A counterparty's payload that is not well formed ends in an ERROR, and not in
// a panic, a loop or a question to the backend.
func TestMalformedRequestsOfACounterparty(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for name, text := range map[string]string{
		"no ivms101":                `{"version":"1.0"}`,
		"null ivms101":              string(payload("ivms101", "null")),
		"empty ivms101":             string(payload("ivms101", "{}")),
		"no originator":             string(payload("ivms101", `{"beneficiary":`+said+`}`)),
		"no beneficiary":            string(payload("ivms101", `{"originator":`+originator+`}`)),
		"no account":                string(payload("ivms101", `{"originator":`+originator+`,"beneficiary":{}}`)),
		"empty account":             string(payload("ivms101", `{"originator":`+originator+`,"beneficiary":{"accountNumber":[""]}}`)),
		"not JSON":                  `x`,
		"nothing":                   ``,
		"null":                      `null`,
		"duplicate keys":            `{"version":"1.0","version":"1.0"}`,
		"direction override":        strings.Replace(string(payload("", "")), "Roe", "\u202e", 1),
		"invalid UTF-8":             strings.Replace(string(payload("", "")), "Roe", "\xff", 1),
		"amount of the wrong type":  strings.Replace(string(payload("", "")), `"0.5"`, `0.5`, 1),
		"ivms101 of the wrong type": string(payload("ivms101", `"x"`)),
	} {
		t.Run(name, func(t *testing.T) {
			status, reply := w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, ReplyBundle: w.A.EncodedBundle(), Payload: []byte(text)}))
			if status != http.StatusOK || proxytest.TypeOf(reply) != envelope.VerificationAnswer {
				t.Fatalf("answered with %d, a %s", status, proxytest.TypeOf(reply))
			}
			answer := object(t, w.A.Open(w.B, reply).Payload)
			if answer["result"] != "ERROR" || answer["reason"] != "UNDEFINED-ERROR" {
				t.Errorf("answer %v", answer)
			}
			status, reply = w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: envelope.AccountRequest, ReplyBundle: w.A.EncodedBundle(), Payload: []byte(text)}))
			if status != http.StatusOK || proxytest.TypeOf(reply) != envelope.AccountAnswer {
				t.Fatalf("an account check is answered with %d, a %s", status, proxytest.TypeOf(reply))
			}
			if name == "no originator" || name == "amount of the wrong type" { // which is nothing to an account check
				return
			}
			if answer := object(t, w.A.Open(w.B, reply).Payload); answer["accountVerificationResult"] != "DENIED" || answer["reason"] != "UNDEFINED-ERROR" {
				t.Errorf("account answer %v", answer)
			}
		})
	}
	for _, asked := range w.B.Backend.Asked() {
		if !strings.Contains(string(asked), `"symbol":""`) { // the two account checks above
			t.Errorf("the backend was asked %s", asked)
		}
	}
}

// null for an optional part is the same as no part; nobody gets it doubled.
func TestNullForAnOptionalPart(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w, `"originator":`, `"originatingVASP":null,"beneficiaryVASP":null,"originator":`))
	if r := finished(t, w, id); r["result"] != "VERIFIED" || r["ivms101OriginatingVasp"] != proxytest.LegalPerson(w.A.ID) {
		t.Errorf("row %v", r)
	}
	// From a counterparty that has no part of its own: the directory's word.
	status, _ := w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, ReplyBundle: w.A.EncodedBundle(),
		Payload: payload("ivms101", `{"originatingVASP" : null, "originator":`+originator+`,"beneficiary":`+said+`}`)}))
	asked := w.B.Backend.Asked()
	if len(asked) != 2 || status != http.StatusOK {
		t.Fatalf("status %d, B's backend was asked %d times", status, len(asked))
	}
	for _, question := range asked {
		if n := strings.Count(string(question), "originatingVASP"); n != 1 {
			t.Errorf("originatingVASP is %d times in %s", n, question)
		}
		object(t, question)
	}
	if !strings.Contains(string(asked[1]), "Legal "+w.A.ID.String()) {
		t.Errorf("B's backend was asked %s", asked[1])
	}
}

// An account check that fails is audited like one that does not: the account
// left the house, sealed.
func TestFailedAccountChecksAreAudited(t *testing.T) {
	w := proxytest.NewWorld(t)
	ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) { return reply[:len(reply)-1], nil })
	refused(t, w, "/v1/verifications/account", accountTo(w.B.ID), http.StatusBadGateway, "ENVELOPE-REJECTED", "refused")
	entries := audited(t, w.A, audit.CheckAccount)
	if len(entries) != 2 || entries[0].Outcome != "VERIFIED" || entries[1].Outcome != "refused" {
		t.Errorf("audit %+v", entries)
	}
	if opened := audited(t, w.B, audit.OpenAccount); len(opened) != 2 {
		t.Errorf("%d audit entries at B", len(opened))
	}
}

// Contract 6.4: a synchronous call ends after five seconds, with these words,
// wherever the time was lost.
func TestASynchronousCallTimesOut(t *testing.T) {
	const stuck = 6 * time.Second
	for name, lose := range map[string]func(w *proxytest.World){
		"central holds the key request": func(w *proxytest.World) {
			w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
				time.Sleep(stuck)
				return message, nil
			})
		},
		"the counterparty does not answer": func(w *proxytest.World) {
			w.B.Backend.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) {
				time.Sleep(stuck)
				return &vasp.AccountAnswer{Result: "VERIFIED"}, nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := proxytest.NewWorld(t)
				lose(w)
				start := time.Now()
				status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
				if took := time.Since(start); status != http.StatusRequestTimeout || took != 5*time.Second {
					t.Errorf("status %d after %v", status, took)
				}
				sameJSON(t, "answer", answer, `{"code":"REQUEST-TIMEOUT","message":"timeout of 5000ms exceeded"}`)
				if entries := audited(t, w.A, audit.CheckAccount); len(entries) != 1 || entries[0].Outcome != "timeout" {
					t.Errorf("audit %+v", entries)
				}
				time.Sleep(2 * stuck) // what is stuck ends
			})
		})
	}
}
