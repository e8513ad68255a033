package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// Every value below holds one of these, so that looking for them finds each
// value, whatever it was encoded with and wherever it begins.
const (
	latin  = "Kestrelbaum"
	hangul = "독수리나무길"
	arabic = "شاهينزاده"
	digits = "719283645"
	born   = "1871-02-28"
)

// markers names values, each different from all others.
type markers struct{ n int }

func (m *markers) next(core string) string {
	m.n++
	return fmt.Sprintf("%s%d", core, m.n)
}

func (m *markers) person() string {
	return fmt.Sprintf(`{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":%q,"secondaryIdentifier":%q,"nameIdentifierType":"LEGL"}],"localNameIdentifier":[{"primaryIdentifier":%q,"secondaryIdentifier":%q,"nameIdentifierType":"LEGL"}]},"geographicAddress":[{"addressType":"HOME","streetName":%q,"buildingNumber":%q,"postcode":%q,"townName":%q,"country":"KR","addressLine":[%q]}],"nationalIdentification":{"nationalIdentifier":%q,"nationalIdentifierType":"CCPT"},"customerIdentification":%q,"dateAndPlaceOfBirth":{"dateOfBirth":%q,"placeOfBirth":%q},"nationality":%q,%q:%q}}`,
		m.next(latin), m.next(latin), m.next(hangul), m.next(arabic), m.next(latin), m.next(digits), m.next(digits), m.next(hangul), m.next(latin),
		m.next(digits), m.next(latin), born, m.next(latin), m.next(latin), m.next(latin), m.next(latin))
}

func (m *markers) company() string {
	return fmt.Sprintf(`{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":%q,"legalPersonNameIdentifierType":"LEGL"}]},"geographicAddress":[{"addressLine":[%q]}]}}`, m.next(latin), m.next(latin))
}

// beneficiary says account, or another one.
func (m *markers) beneficiary(account string) string {
	return fmt.Sprintf(`{"beneficiaryPersons":[%s],"accountNumber":[%q],%q:{"x":%q}}`, m.person(), account, m.next(latin), m.next(latin))
}

func (m *markers) ivms(account string) string {
	return fmt.Sprintf(`{"originator":{"originatorPersons":[%s,%s],"accountNumber":[%q]},"beneficiary":%s,"originatingVASP":%s,%q:%q}`,
		m.company(), m.person(), m.next(digits), m.beneficiary(account), m.company(), m.next(latin), m.next(latin))
}

func (m *markers) asset() string {
	return fmt.Sprintf(`{"symbol":%q,"network":%q,"amount":%q,"isExceedingThreshold":true,"tradePrice":%q,"tradeCurrency":%q,"tradeISODatetime":"2025-03-04T05:06:07.000Z",%q:1}`,
		m.next(latin), m.next(latin), m.next(digits), m.next(digits), m.next(latin), m.next(latin))
}

func (m *markers) request(to identity.VASPID, account string) string {
	return fmt.Sprintf(`{"keyType":"PerVasp","beneficiaryVaspId":"%s","assetInfo":%s,"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME","payload":{"version":%q,"ivms101":%s}}`,
		to, m.asset(), m.next(latin), m.ivms(account))
}

func (m *markers) account(to identity.VASPID) string {
	return fmt.Sprintf(`{"keyType":"PerVasp","beneficiaryVaspId":"%s","symbol":%q,"network":%q,"payload":{"version":%q,"ivms101":{"beneficiary":%s}}}`,
		to, m.next(latin), m.next(latin), m.next(latin), m.beneficiary(m.next(digits)))
}

// Attacks L1, L3, S1, S9: 200 verifications that end well and badly, account
// checks, refusals and attacks, with a marker in every field; none of them is
// in the logs, in the metrics, in the history's bytes, in what central saw or
// in the body of an error, in any common encoding.
func TestNothingLeaks(t *testing.T) { synctest.Test(t, nothingLeaks) }

func nothingLeaks(t *testing.T) {
	w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Timeout = time.Minute })
	m := new(markers)
	var mu sync.Mutex // guards m below, which backends use too
	locked := func(make func() string) string {
		mu.Lock()
		defer mu.Unlock()
		return make()
	}
	var refusals bytes.Buffer
	refuse := func(method, path string, body []byte) {
		t.Helper()
		status, answer := w.A.Call(method, path, body)
		if status == http.StatusOK {
			t.Fatalf("%s %s = %d", method, path, status)
		}
		refusals.Write(answer)
	}

	// B's backend answers in turn in every way.
	turn := 0
	w.B.Backend.OnUser(func(_ context.Context, body []byte) (*vasp.UserAnswer, error) {
		mu.Lock()
		defer mu.Unlock()
		account := object(t, body)["ivms101"].(map[string]any)["beneficiary"].(map[string]any)["accountNumber"].([]any)[0].(string)
		turn++
		switch turn % 8 {
		case 0:
			return nil, &vasp.Error{API: "user", Problem: vasp.Unreachable}
		case 1:
			return nil, &vasp.Error{API: "user", Problem: vasp.Status, Code: 500}
		case 2:
			return nil, &vasp.Error{API: "user", Problem: vasp.Timeout}
		case 3:
			return &vasp.UserAnswer{Result: "DENIED", Reason: m.next(latin), Message: m.next(latin)}, nil
		case 4:
			return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Message: m.next(latin), Beneficiary: []byte(m.beneficiary(m.next(digits)))}, nil // another account
		default: // with more than was asked for
			return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Message: m.next(latin), Version: m.next(latin), Beneficiary: []byte(m.beneficiary(account))}, nil
		}
	})
	w.B.Backend.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) {
		mu.Lock()
		defer mu.Unlock()
		return &vasp.AccountAnswer{Result: "DENIED", Reason: m.next(latin), Message: m.next(latin), VerifiedAt: "2025-03-04T05:06:07.089Z"}, nil
	})
	fails := 0
	w.A.Backend.OnCallback(func([]byte) error {
		mu.Lock()
		defer mu.Unlock()
		if fails++; fails%5 == 0 {
			return &vasp.Error{API: "callback", Problem: vasp.Status, Code: 500}
		}
		return nil
	})

	// 200 verifications; of some, central drops every answer until they time out.
	drop := map[string]bool{}
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if parsed, err := envelope.Parse(reply); err == nil && drop[uuid.UUID(parsed.Header.Verification).String()] && parsed.Header.Type == envelope.VerificationAnswer {
			return nil, proxytest.ErrDown
		}
		return reply, nil
	})
	var ids []string
	for i := range 200 {
		body := locked(func() string { return m.request(w.B.ID, m.next(digits)) })
		id := verify(t, w, []byte(body))
		if i%10 == 0 {
			locked(func() string { drop[id] = true; return "" })
		}
		ids = append(ids, id)
	}
	results := map[any]int{}
	for _, id := range ids {
		w.AwaitWithin(5*time.Minute, "it has ended", func() bool { return called(w.A, id) > 0 })
		results[row(t, w.A, id)["result"]]++
	}
	if results["VERIFIED"] < 40 || results["DENIED"] < 10 || results["ERROR"] < 40 {
		t.Fatalf("results %v: not every outcome was met", results)
	}

	// Account checks, and all that is refused.
	for range 20 {
		ask(t, w.A, http.MethodPost, "/v1/verifications/account", []byte(locked(func() string { return m.account(w.B.ID) })))
	}
	for _, text := range []string{m.request(12345, m.next(digits)), m.request(w.B.ID, ""), m.account(12345), m.next(latin), `{"` + m.next(latin) + `":1,"` + latin + `":1}`, `{"` + latin + `":1,"` + latin + `":2}`} {
		refuse(http.MethodPost, "/v1/verifications", []byte(text))
		refuse(http.MethodPost, "/v1/verifications/account", []byte(text))
	}
	for _, c := range badVerifications(string(request(w))) {
		for i, text := range c.edit {
			c.edit[i] = strings.ReplaceAll(text, marker, m.next(latin))
		}
		body := strings.NewReplacer(c.edit...).Replace(string(request(w)))
		if status, answer := w.A.Call(http.MethodPost, "/v1/verifications", []byte(body)); status != http.StatusOK {
			refusals.Write(answer)
		}
	}
	for _, filter := range []string{"originatorAccountNumber", "beneficiaryAccountNumber", "txHash", "symbol", "network"} {
		ask(t, w.A, http.MethodGet, "/v1/verifications?"+filter+"="+url.QueryEscape(m.next(hangul)), nil)
	}
	for _, filter := range []string{"page", "rpp", "fromDate", "result", "actionType", "oppositeVaspId"} {
		refuse(http.MethodGet, "/v1/verifications?"+filter+"="+url.QueryEscape(m.next(hangul)), nil)
	}
	refuse(http.MethodGet, "/v1/verifications/"+m.next(latin), nil)
	refuse(http.MethodGet, "/"+m.next(latin), nil)

	// A counterparty that is hostile, and one whose id comes again.
	id := uuid.New()
	for _, text := range []string{
		string(payload("", "")), fmt.Sprintf(`{"assetInfo":%s,"requiredBeneficiaryInfo":%q,"version":%q,"ivms101":%s}`, m.asset(), m.next(latin), m.next(latin), m.ivms(m.next(digits))),
		m.next(latin), `{"ivms101":"` + m.next(latin) + `"}`, `{"` + latin + `":1,"` + latin + `":2}`,
	} {
		for _, kind := range []envelope.MessageType{envelope.VerificationRequest, envelope.AccountRequest, envelope.ErrorReport, envelope.TxReport} {
			w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: kind, ID: id, ReplyBundle: w.A.EncodedBundle(), Payload: []byte(text)}))
			w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: kind, ReplyBundle: w.A.EncodedBundle(), Payload: []byte(text)}))
		}
	}
	for _, id := range ids[:20] {
		report := fmt.Sprintf(`{"result":"ERROR","reason":%q,"message":%q}`, m.next(latin), m.next(latin))
		w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: envelope.ErrorReport, ID: parse(t, id), ReplyBundle: w.A.EncodedBundle(), Payload: []byte(report)}))
	}

	places := map[string][]byte{"what central relayed": bytes.Join(w.Central.Relayed(), nil), "bodies of errors": refusals.Bytes()}
	for _, p := range []*proxytest.Party{w.A, w.B} {
		places["metrics of "+p.ID.String()] = metricsText(t, p)
		p.Stop()
		places["log of "+p.ID.String()] = []byte(p.Log.String())
		file, err := os.ReadFile(p.File)
		if err != nil {
			t.Fatal(err)
		}
		places["history of "+p.ID.String()] = file
	}
	t.Logf("%d markers", m.n)
	for place, text := range places {
		if len(text) == 0 {
			t.Errorf("%s: nothing to look at", place)
		}
		text = lower(text)
		for _, core := range []string{latin, hangul, arabic, digits, born} {
			for _, form := range sandbox.Encodings(core) {
				if at := bytes.Index(text, lower(form)); at >= 0 {
					t.Errorf("%s holds %s as %q: ...%q...", place, core, form, text[max(0, at-80):min(len(text), at+80)])
				}
			}
		}
	}
}

// lower makes ASCII letters small and leaves every other byte as it is: the
// Unicode way would make all that is not UTF-8 look alike.
func lower(b []byte) []byte {
	small := bytes.Clone(b)
	for i, c := range small {
		if c >= 'A' && c <= 'Z' {
			small[i] = c + 'a' - 'A'
		}
	}
	return small
}

func metricsText(t testing.TB, p *proxytest.Party) []byte {
	t.Helper()
	families, err := p.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, family := range families {
		fmt.Fprintln(&b, family)
	}
	return b.Bytes()
}
