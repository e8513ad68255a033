package robotcmd

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const question = `{"verificationUuid":"u","symbol":"ETH","assetInfo":{"symbol":"ETH","network":"Ethereum","amount":"1"},"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME","version":"1.0",` +
	`"ivms101":{"originator":{"originatorPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann"}]},"dateAndPlaceOfBirth":{"dateOfBirth":"1980-01-02","placeOfBirth":"Seoul"}}}]},` +
	`"beneficiary":{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Robbins","secondaryIdentifier":"Taylor"}]}}}],"accountNumber":["0xFa230E9cCAF5e382539147294d7965Eeccbbfa5c"]}}}`

func sampleRobot(tb testing.TB) http.Handler {
	b, err := parseCustomers(sampleCustomers)
	if err != nil {
		tb.Fatal(err)
	}
	return newRobot(options{book: b, now: time.Now}).handler()
}

// post gives the status and the answer to a body.
func post(h http.Handler, path, body string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// Whatever is asked is answered, or refused as no question.
func FuzzQuestions(f *testing.F) {
	paths := []string{"/verify/account", "/verify/user", "/verify/tx", "/callback"}
	for i := range paths {
		f.Add(uint8(i), question)
		f.Add(uint8(i), `{"ivms101":{"beneficiary":{"beneficiaryPersons":[null,{"naturalPerson":null}],"accountNumber":[""]}}}`)
		f.Add(uint8(i), "\xff")
	}
	h := sampleRobot(f)
	f.Fuzz(func(t *testing.T, i uint8, body string) {
		path := paths[int(i)%len(paths)]
		if status, answer := post(h, path, body); status != 200 && status != 400 && status != 413 {
			t.Fatalf("POST %s %q answered %d %q", path, body, status, answer)
		}
	})
}

// A file of customers is read or refused, and what was read can be asked.
func FuzzCustomers(f *testing.F) {
	f.Add(string(sampleCustomers))
	f.Add("customers: [{persons: [{naturalPerson: null}], accounts: [{symbol: A, account: b}]}]")
	f.Add("blacklist: [{name: x}]\ncustomers: &a [*a]")
	f.Fuzz(func(t *testing.T, file string) {
		b, err := parseCustomers([]byte(file))
		if err != nil {
			return
		}
		post(newRobot(options{book: b, now: time.Now}).handler(), "/verify/user", question)
	})
}

// Whatever a driver sends is done or refused, with a code and a message.
func FuzzDriver(f *testing.F) {
	paths := []string{
		"/v1.0/action/verifications/account", "/v1.0/action/verifications", "/v1.0/action/verifications/tx", "/v1.0/action/verifications/error",
		"/v1.0/action/withdrawal", "/v1.0/action/tx/inquiry", "/v1.0/action/tx/status", "/v1.0/faults",
	}
	for i := range paths {
		f.Add(uint8(i), `{"verificationUuid":"3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11","txHash":"1","transactionStatus":"CONFIRMED"}`)
		f.Add(uint8(i), `{"beneficiaryVaspId":"1","address":"a","amount":"1.5","beneficiaryPersons":[{"naturalPerson":null}]}`)
		f.Add(uint8(i), `{"api":"user","fault":"500","times":1,"delayMs":0}`)
		f.Add(uint8(i), "\xff")
	}
	h := sampleRobot(f)
	f.Fuzz(func(t *testing.T, i uint8, body string) {
		path := paths[int(i)%len(paths)]
		status, answer := post(h, path, body)
		if status == 200 && path == "/v1.0/faults" {
			return
		}
		var refused struct{ Code, Message string }
		if err := json.Unmarshal([]byte(answer), &refused); err != nil || refused.Code == "" || refused.Message == "" || status < 400 || status == 500 {
			t.Fatalf("POST %s %q answered %d %q", path, body, status, answer)
		}
	})
}

// A plan of faults is refused, or reads back as what it says.
func FuzzFaultPlan(f *testing.F) {
	f.Add("user:500")
	f.Add("user:slow:3:2000, *:hang")
	f.Add(":::")
	f.Fuzz(func(t *testing.T, text string) {
		var plan, again FaultPlan
		if plan.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(plan.String())); err != nil || again.String() != plan.String() {
			t.Fatalf("%q reads as %q and that as %q, %v", text, plan, again, err)
		}
	})
}

// An amount is refused, or is written as the number it is.
func FuzzAmount(f *testing.F) {
	f.Add("1.250")
	f.Add("0")
	f.Add("1e9")
	f.Add("1/3")
	f.Fuzz(func(t *testing.T, text string) {
		amount, err := parseAmount(text)
		if err != nil {
			return
		}
		again, err := parseAmount(formatAmount(amount))
		if err != nil || again.Cmp(amount) != 0 || amount.Sign() < 0 {
			t.Fatalf("%q is written %q", text, formatAmount(amount))
		}
	})
}

func BenchmarkVerifyUser(b *testing.B) {
	h := sampleRobot(b)
	if status, answer := post(h, "/verify/user", question); status != 200 || !strings.Contains(answer, `"VERIFIED"`) {
		b.Fatal(status, answer)
	}
	b.ReportAllocs()
	for b.Loop() {
		post(h, "/verify/user", question)
	}
}
