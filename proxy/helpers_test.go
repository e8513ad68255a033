package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

const (
	originator = `{"originatorPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["bc1qsender"]}`
	said       = `{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Doe","secondaryIdentifier":"Joe","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["bc1qreceiver"]}`
	asset      = `{"symbol":"BTC","network":"Bitcoin","amount":"0.5","isExceedingThreshold":true,"tradePrice":"45000000","tradeCurrency":"KRW","tradeISODatetime":"2025-03-04T05:06:07.000Z"}`
)

// requestTo is a user verification as a backend sends it. Each pair of more
// replaces a text in it.
func requestTo(id identity.VASPID, more ...string) []byte {
	text := fmt.Sprintf(`{"keyType":"PerVasp","beneficiaryVaspId":"%s","assetInfo":%s,"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME","payload":{"version":"1.0","ivms101":{"originator":%s,"beneficiary":%s}}}`,
		id, asset, originator, said)
	return []byte(strings.NewReplacer(more...).Replace(text))
}

// request is a user verification of A's backend with B.
func request(w *proxytest.World, more ...string) []byte { return requestTo(w.B.ID, more...) }

// accountTo is an account check as a backend sends it.
func accountTo(id identity.VASPID, more ...string) []byte {
	text := fmt.Sprintf(`{"keyType":"PerVasp","beneficiaryVaspId":"%s","symbol":"ETH","network":"Ethereum","payload":{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["0xAbC1"]}}}}`, id)
	return []byte(strings.NewReplacer(more...).Replace(text))
}

// says lets a party's backend answer every user verification.
func says(p *proxytest.Party, answer vasp.UserAnswer) {
	p.Backend.OnUser(func(context.Context, []byte) (*vasp.UserAnswer, error) {
		a := answer
		return &a, nil
	})
}

// verified lets B's backend know the customer.
func verified(w *proxytest.World) {
	says(w.B, vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Version: "1.0", Beneficiary: []byte(said)})
}

// verify sends a verification from A and gives its id.
func verify(t testing.TB, w *proxytest.World, body []byte) string {
	t.Helper()
	status, answer := w.A.Call(http.MethodPost, "/v1/verifications", body)
	var accepted struct{ VerificationUUID, CreatedAt string }
	if err := json.Unmarshal(answer, &accepted); err != nil || status != http.StatusOK || accepted.CreatedAt == "" {
		t.Fatalf("POST /v1/verifications = %d %s", status, answer)
	}
	return accepted.VerificationUUID
}

// finished waits until A's backend was told of a verification, and gives A's
// row.
func finished(t testing.TB, w *proxytest.World, id string) map[string]any {
	t.Helper()
	w.Await("A is called back", func() bool { return called(w.A, id) > 0 })
	return row(t, w.A, id)
}

// called counts a party's callbacks about one verification.
func called(p *proxytest.Party, id string) int { return len(callbacks(p, id)) }

func callbacks(p *proxytest.Party, id string) (about []string) {
	for _, body := range p.Backend.Callbacks() {
		if strings.Contains(string(body), id) {
			about = append(about, string(body))
		}
	}
	return about
}

// row reads one row of a party's history.
func row(t testing.TB, p *proxytest.Party, id string) map[string]any {
	t.Helper()
	return ask(t, p, http.MethodGet, "/v1/verifications/"+id, nil)
}

// ask makes a call that must succeed.
func ask(t testing.TB, p *proxytest.Party, method, path string, body []byte) map[string]any {
	t.Helper()
	status, answer := p.Call(method, path, body)
	if status != http.StatusOK {
		t.Fatalf("%s %s = %d %s", method, path, status, answer)
	}
	return object(t, answer)
}

func object(t testing.TB, text []byte) (o map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return o
}

// sameJSON compares texts as JSON: order and spaces do not count, and nothing
// may be there that was not expected.
func sameJSON(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%s: want %s: %v", what, want, err)
	}
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%s: got %s: %v", what, got, err)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// problem reads an error body, which has code and message and nothing else.
func problem(t testing.TB, answer []byte) (code, message string) {
	t.Helper()
	o := object(t, answer)
	code, _ = o["code"].(string)
	message, _ = o["message"].(string)
	if len(o) != 2 || code == "" || message == "" {
		t.Errorf("error body %s, want code and message", answer)
	}
	return code, message
}

// quoted is a text as a JSON string.
func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

func contains(text []byte, part string) bool { return strings.Contains(string(text), part) }

// parse is the id of a verification that the API gave.
func parse(t testing.TB, id string) uuid.UUID {
	t.Helper()
	parsed, err := uuid.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// loseKeys restarts a party without its private keys.
func loseKeys(t testing.TB, p *proxytest.Party) {
	t.Helper()
	held, err := p.History.OwnKeys(t.Context())
	if err != nil || len(held) == 0 {
		t.Fatalf("%d keys, %v", len(held), err)
	}
	for _, k := range held {
		if err := p.History.DropOwnKeys(t.Context(), k.ID); err != nil {
			t.Fatal(err)
		}
	}
	p.Stop()
	p.Start()
}

// audited gives a party's audit entries of one verb.
func audited(t testing.TB, p *proxytest.Party, verb string) (entries []storage.AuditEntry) {
	t.Helper()
	all, err := p.History.Audit(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Verb == verb {
			entries = append(entries, e)
		}
	}
	return entries
}

// breakable is a history whose changes fail when asked.
type breakable struct {
	storage.History
	err atomic.Pointer[error]
}

func (b *breakable) into(c *proxy.Config) { b.History, c.History = c.History, b }

// breaking starts a party again with a history whose changes can be made to fail.
func breaking(p *proxytest.Party) *breakable {
	b := new(breakable)
	p.Stop()
	p.Tweak(b.into)
	p.Start()
	return b
}

func (b *breakable) fail(err error) { b.err.Store(&err) }

func (b *breakable) Apply(ctx context.Context, c *storage.Change) error {
	if err := b.err.Load(); err != nil && *err != nil {
		return *err
	}
	return b.History.Apply(ctx, c)
}
