package robotcmd

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const question = `{"verificationUuid":"u","symbol":"ETH","assetInfo":{"symbol":"ETH","network":"Ethereum"},"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME","version":"1.0",` +
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
