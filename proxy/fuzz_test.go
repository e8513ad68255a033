package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
)

// fuzzWorld is a world whose clock each input moves on, so that no budget of
// questions runs out.
func fuzzWorld(f *testing.F) (*proxytest.World, *proxytest.Clock) {
	clock := proxytest.NewClock(time.Now())
	w := proxytest.NewWorldAt(f, clock.Now, func(c *proxy.Config) { c.Callbacks = false })
	verified(w)
	return w, clock
}

// clean says what every answer of the API must be: no failure of ours, and a
// refusal has code and message.
func clean(t *testing.T, status int, answer []byte) {
	t.Helper()
	if !json.Valid(answer) {
		t.Fatalf("%d with something else than JSON: %q", status, answer)
	}
	if status >= 500 {
		t.Fatalf("%d %s", status, answer)
	}
	if status != http.StatusOK {
		problem(t, answer)
	}
}

func FuzzVerificationRequest(f *testing.F) {
	w, _ := fuzzWorld(f)
	w.Central.Down(true)
	good := request(w)
	f.Add(good)
	for _, c := range badVerifications(string(good)) {
		if body := strings.NewReplacer(c.edit...).Replace(string(good)); len(body) < 4096 {
			f.Add([]byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		status, answer := w.A.Call(http.MethodPost, "/v1/verifications", body)
		clean(t, status, answer)
		if status != http.StatusOK {
			return
		}
		// What was accepted can be read, and holds what was sent.
		r := row(t, w.A, object(t, answer)["verificationUuid"].(string))
		for _, part := range []string{"ivms101Originator", "ivms101Beneficiary"} {
			if text, _ := r[part].(string); !json.Valid([]byte(text)) {
				t.Fatalf("%s is %q", part, text)
			}
		}
	})
}

// Reports and inquiries, about a verification that there is.
func FuzzReports(f *testing.F) {
	w, clock := fuzzWorld(f)
	id := verify(f, w, request(w))
	for which, seed := range []string{
		fmt.Sprintf(`{"verificationUuid":%q,"txHash":"8a54","vout":"0"}`, id),
		fmt.Sprintf(`{"verificationUuid":%q,"result":"ERROR","reason":"X","message":"m"}`, id),
		fmt.Sprintf(`{"verificationUuid":%q}`, id),
	} {
		f.Add(uint8(which), []byte(seed))
		for _, c := range reportsInCommon(seed) {
			f.Add(uint8(which), []byte(strings.NewReplacer(c.edit...).Replace(seed)))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		clock.Advance(time.Second)
		status, answer := w.A.Call(http.MethodPost, []string{txPath, errorPath, inquiryPath}[which%3], body)
		clean(t, status, answer)
		if status == http.StatusOK && !json.Valid(body) {
			t.Fatalf("%q is taken", body)
		}
	})
}

func FuzzAccountRequest(f *testing.F) {
	w, clock := fuzzWorld(f)
	good := accountTo(w.B.ID)
	f.Add(good)
	for _, c := range badAccountChecks(string(good)) {
		if body := strings.NewReplacer(c.edit...).Replace(string(good)); len(body) < 4096 {
			f.Add([]byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		clock.Advance(time.Second)
		status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", body)
		clean(t, status, answer)
	})
}

// What central gives an enclave is answered with an envelope, or refused as
// none; what it changed is refused and never before the backend.
func FuzzServeMessage(f *testing.F) {
	w, _ := fuzzWorld(f)
	good := map[uint8][]byte{}
	for _, kind := range []envelope.MessageType{envelope.KeyRequest, envelope.AccountRequest, envelope.VerificationRequest, envelope.ErrorReport, envelope.TxReport, envelope.Refusal} {
		good[uint8(kind)] = w.A.Seal(w.B, proxytest.Message{Type: kind, Payload: []byte(`{"result":"ERROR","reason":"X"}`), ReplyBundle: w.A.EncodedBundle()})
		for _, at := range []uint16{0, 1, 5, 12, 40, 100, 300, 700, 5000} {
			f.Add(uint8(kind), at, []byte{0xff})
		}
	}
	f.Add(uint8(0), uint16(0), []byte{})
	f.Add(uint8(0), uint16(0), []byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, kind uint8, at uint16, patch []byte) {
		message := patch
		was := good[kind]
		if was != nil {
			message = bytes.Clone(was)
			copy(message[int(at)%len(message):], patch)
		}
		status, reply := w.Central.Send(w.B.ID, message)
		switch _, err := envelope.Parse(message); {
		case err != nil && status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge:
			t.Fatalf("what is no envelope is answered with %d", status)
		case err == nil && status != http.StatusOK:
			t.Fatalf("an envelope is answered with %d", status)
		case err == nil && !bytes.Equal(message, was) && proxytest.TypeOf(reply) != envelope.Refusal:
			t.Fatalf("what was changed on its way is answered with a %s", proxytest.TypeOf(reply))
		}
		if len(w.B.Backend.Asked()) > 0 {
			t.Fatal("the backend was asked")
		}
	})
}

func FuzzHistoryQuery(f *testing.F) {
	w, _ := fuzzWorld(f)
	verify(f, w, request(w))
	for _, query := range []string{"", "page=1&rpp=10", "fromDate=2026-01-01&toDate=2026-12-31", "result=VERIFIED&actionType=SEND", "symbol=%00", "oppositeVaspId=1",
		"page=-1", "fromDate=0000-01-01T00:00:00Z", "toDate=9999-12-31T23:59:59.999Z", "originatorAccountNumber=bc1qsender", ";", "%", "a=b&a=c"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, "/v1/verifications", nil)
		r.URL.RawQuery = query // as it came, whatever it is
		recorder := httptest.NewRecorder()
		w.A.Enclave.API("").ServeHTTP(recorder, r)
		clean(t, recorder.Code, recorder.Body.Bytes())
	})
}

// A counterparty that has keys and no good will: what it answers is an answer
// or refused.
func FuzzAnswerPayload(f *testing.F) {
	w, clock := fuzzWorld(f)
	var payload atomic.Pointer[[]byte]
	var asked atomic.Pointer[[]byte]
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		asked.Store(&message)
		return message, nil
	})
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		if proxytest.TypeOf(reply) != envelope.AccountAnswer {
			return reply, nil
		}
		return w.B.Reply(w.A, *asked.Load(), proxytest.Message{Type: envelope.AccountAnswer, Payload: *payload.Load()}), nil
	})
	for _, seed := range []string{
		`{"accountVerificationResult":"VERIFIED","verifiedAt":"2026-01-02T03:04:05.000Z"}`, `{"accountVerificationResult":"DENIED","reason":"` + strings.Repeat("x", 300) + `"}`,
		`{"result":"VERIFIED","reason":"OK","message":"","version":"1.0","verifiedAt":"x","ivms101":{"beneficiary":` + said + `,"beneficiaryVASP":{}}}`,
		`{"result":"WAIT"}`, `{"result":"VERIFIED","ivms101":null}`, `{"result":"DENIED","ivms101":{"beneficiary":null}}`, `{}`, `null`, `[]`, ``, `{"result":1}`, "\xff", `{"a":1,"a":2}`,
		`{"result":"ERROR","message":"` + "\u202e" + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		clock.Advance(time.Second)
		if len(b) > envelope.MaxBody {
			return
		}
		payload.Store(&b)
		status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
		if status != http.StatusBadGateway { // refused: the counterparty's fault
			clean(t, status, answer)
		}
		if err := w.A.Enclave.ReadAnswer(b); err == nil && !json.Valid(b) {
			t.Fatalf("%q is taken for an answer", b)
		}
	})
}

// The same, of what it asks: it is answered, and what is no request is never
// before the backend.
func FuzzRequestPayload(f *testing.F) {
	w, clock := fuzzWorld(f)
	for _, kind := range []envelope.MessageType{envelope.VerificationRequest, envelope.AccountRequest, envelope.ErrorReport, envelope.TxReport, envelope.TxInquiry} {
		for _, seed := range []string{
			`{"assetInfo":` + asset + `,"requiredBeneficiaryInfo":"ACCOUNT_NUMBER","version":"1.0","ivms101":{"originator":` + originator + `,"beneficiary":` + said + `}}`,
			`{"assetInfo":` + asset + `,"requiredBeneficiaryInfo":"ACCOUNT_NUMBER","version":"1.0","ivms101":{"originator":` + originator + `,"beneficiary":` + said + `,"originatingVASP":null}}`,
			`{"symbol":"ETH","network":"Ethereum","version":"1.0","ivms101":{"beneficiary":` + said + `}}`,
			`{"result":"ERROR","reason":"REQUEST-TIMEOUT","message":"Request timeout."}`,
			`{"txHash":"8a54","vout":"1","orderedAt":"2026-01-02T03:04:05.000Z"}`,
			`{"ivms101":null}`, `{"ivms101":{}}`, `{"ivms101":{"originator":{},"beneficiary":{"accountNumber":["x"]}}}`, `{}`, `null`, ``, "\xff", `{"requiredBeneficiaryInfo":"é","ivms101":{"originator":{},"beneficiary":{"accountNumber":["x"]}}}`,
		} {
			f.Add(uint8(kind), []byte(seed))
		}
	}
	id := uuid.New()
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		clock.Advance(time.Second)
		m := envelope.MessageType(kind)
		if len(b) > 256<<10 || !m.Sealed() {
			return
		}
		before := len(w.B.Backend.Asked())
		message := proxytest.Message{Type: m, Direction: m.Direction(), Payload: b, ReplyBundle: w.A.EncodedBundle()}
		if m == envelope.ErrorReport || m == envelope.TxReport {
			message.ID = id
		}
		status, reply := w.Central.Send(w.B.ID, w.A.Seal(w.B, message))
		if status != http.StatusOK || proxytest.TypeOf(reply) == 0 {
			t.Fatalf("answered with %d %q", status, reply)
		}
		if asked := w.B.Backend.Asked()[before:]; len(asked) > 1 || len(asked) == 1 && !json.Valid(asked[0]) {
			t.Fatalf("the backend was asked %q", asked)
		}
	})
}
