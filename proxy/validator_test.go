package proxy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// strictly is a world in which B, or A, judges by all rules.
func strictly(t *testing.T, who func(*proxytest.World) *proxytest.Party) *proxytest.World {
	w := proxytest.NewWorld(t)
	p := who(w)
	p.Stop()
	p.Tweak(func(c *proxy.Config) { c.Validator = ivms101.Strict{} })
	p.Start()
	w.Await("it is back", func() bool { return p.Metric("enclave_directory_fetched_timestamp_seconds") > 0 })
	return w
}

const (
	rich    = `"originator":{"originatorPersons":[{"legalPerson":{"dateOfIncorporation":"2019-02-30","name":{"nameIdentifier":[{"legalPersonName":"` + marker + `","legalPersonNameIdentifierType":"LEGL"}]}}}],"accountNumber":["bc1qsender"]}`
	incorp  = "/payload/ivms101/originator/originatorPersons/0/legalPerson/dateOfIncorporation"
	married = `"nameIdentifierType":"MAID"`
)

// Contract 2.4, change log 1.5.4: a dateOfIncorporation is looked at when it is
// there, in the default too, and nothing is stored when it is none.
func TestTheDefaultWantsADateOfIncorporation(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for name, date := range map[string]string{
		"no day": `"2019-02-30"`, "words": `"` + marker + `"`, "a number": `20190327`, "another form": `"27.03.2019"`, "a time": `"2019-03-27T00:00:00Z"`,
		"an array": `["2019-03-27"]`,
	} {
		body := request(w, `"originator":`+originator, strings.Replace(rich, `"2019-02-30"`, date, 1))
		status, answer := w.A.Call(http.MethodPost, "/v1/verifications", body)
		code, message := problem(t, answer)
		if status != http.StatusBadRequest || code != "INVALID-DATE-OF-INCORPORATION" || !strings.Contains(message, incorp) ||
			!strings.Contains(message, "YYYY-MM-DD") || strings.Contains(message, marker) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	if page := ask(t, w.A, http.MethodGet, "/v1/verifications", nil); page["count"] != 0.0 || len(w.B.Backend.Asked()) != 0 {
		t.Errorf("refused requests left %v rows and %d questions", page["count"], len(w.B.Backend.Asked()))
	}
	if strings.Contains(w.A.Log.String(), marker) || w.A.Metric("enclave_payloads_refused_total", "outbound") != 6 {
		t.Error("a refusal is in the log, or not in the metric")
	}
	for name, date := range map[string]string{"a day": `"2019-03-27"`, "nothing": `null`, "empty": `""`} {
		body := request(w, `"originator":`+originator, strings.Replace(rich, `"2019-02-30"`, date, 1))
		if r := finished(t, w, verify(t, w, body)); r["result"] != "VERIFIED" {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// The default asks nothing else of a payload, and nothing at all of a
// counterparty's: strict validation breaks peers.
func TestTheDefaultIsLenientToCounterparties(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	w.A.Stop()
	w.A.Tweak(func(c *proxy.Config) { c.Validator = never{} })
	w.A.Start()
	poor := `"originator":{"originatorPersons":[{"legalPerson":{"dateOfIncorporation":"soon","geographicAddress":7}}]}`
	if r := finished(t, w, verify(t, w, request(w, `"originator":`+originator, poor))); r["result"] != "VERIFIED" {
		t.Errorf("row %v", r)
	}
}

// never finds nothing.
type never struct{}

func (never) Validate(ivms101.Occasion, *ivms101.Payload) []ivms101.Finding { return nil }

func TestStrictRefusesWhatOurBackendSends(t *testing.T) {
	w := strictly(t, func(w *proxytest.World) *proxytest.Party { return w.A })
	verified(w)
	for _, c := range []struct {
		name, from, to, code, says string
	}{
		{"no legal name", `"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"`, `"primaryIdentifier":"` + marker + `",` + married,
			"INVALID-NAME-IDENTIFIER", "give one nameIdentifierType LEGL (at /payload/ivms101/originator/originatorPersons/0/naturalPerson/name/nameIdentifier)"},
		{"no persons", `"originatorPersons"`, `"` + marker + `"`, "INVALID-ORIGINATOR-PERSONS", "(at /payload/ivms101/originator/originatorPersons)"},
		{"space in an account", `"bc1qreceiver"`, `" bc1qreceiver"`, "INVALID-ACCOUNT-NUMBER", "(at /payload/ivms101/beneficiary/accountNumber/0)"},
		{"a number for a name", `"primaryIdentifier":"Roe"`, `"primaryIdentifier":7`, "INVALID-PRIMARY-IDENTIFIER", "want a string"},
	} {
		status, answer := w.A.Call(http.MethodPost, "/v1/verifications", request(w, c.from, c.to))
		code, message := problem(t, answer)
		if status != http.StatusBadRequest || code != c.code || !strings.Contains(message, c.says) || strings.Contains(message, marker) {
			t.Errorf("%s: %d %s, want %s and %q", c.name, status, answer, c.code, c.says)
		}
	}
	status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, `"0xAbC1"`, `"ethereum:0xAbC1"`))
	if code, _ := problem(t, answer); status != http.StatusBadRequest || code != "INVALID-ACCOUNT-NUMBER" {
		t.Errorf("account check: %d %s", status, answer)
	}
	if page := ask(t, w.A, http.MethodGet, "/v1/verifications", nil); page["count"] != 0.0 || len(w.B.Backend.Asked()) != 0 {
		t.Errorf("refused requests left %v rows and %d questions", page["count"], len(w.B.Backend.Asked()))
	}
	// The contract's own sample has a name only: a warning, and no error.
	if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
		t.Errorf("row %v", r)
	}
	ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
}

// A counterparty's payload that breaks the rules is not shown to our backend.
// Its sender hears where it is wrong, in the words of an error rather than of
// a denial: the customer was not judged.
func TestStrictAnswersACounterparty(t *testing.T) {
	w := strictly(t, func(w *proxytest.World) *proxytest.Party { return w.B })
	verified(w)
	r := finished(t, w, verify(t, w, request(w, `"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"`, `"primaryIdentifier":"`+marker+`",`+married)))
	const want = "The IVMS101 payload is refused: has no legal name; give one nameIdentifierType LEGL (at /ivms101/originator/originatorPersons/0/naturalPerson/name/nameIdentifier)."
	if r["result"] != "ERROR" || r["reason"] != "UNDEFINED-ERROR" || r["message"] != want {
		t.Errorf("A's row: %v %v %q\nwant ERROR UNDEFINED-ERROR %q", r["result"], r["reason"], r["message"], want)
	}
	theirs := row(t, w.B, r["verificationUuid"].(string))
	if theirs["result"] != "ERROR" || theirs["message"] != want || !strings.Contains(theirs["ivms101Originator"].(string), marker) {
		t.Errorf("B's row: %v", theirs)
	}
	w.B.Backend.OnAccount(func(context.Context, []byte) (*vasp.AccountAnswer, error) { panic("asked") })
	answer := ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, `"0xAbC1"`, `"`+marker+`:"`))
	if answer["accountVerificationResult"] != "DENIED" || answer["reason"] != "UNDEFINED-ERROR" ||
		!strings.Contains(answer["message"].(string), "(at /ivms101/beneficiary/accountNumber/0)") || strings.Contains(answer["message"].(string), marker) {
		t.Errorf("account check: %v", answer)
	}
	if n := len(w.B.Backend.Asked()); n != 0 {
		t.Errorf("B's backend was asked %d times", n)
	}
	if strings.Contains(w.B.Log.String(), marker) || !strings.Contains(w.B.Log.String(), "/ivms101/originator/originatorPersons/0/naturalPerson/name/nameIdentifier") {
		t.Error("B's log lacks the place, or holds a value")
	}
	if n := w.B.Metric("enclave_payloads_refused_total", "inbound"); n != 2 {
		t.Errorf("%v refused payloads are counted, want 2", n)
	}
	if e := audited(t, w.B, audit.Open); len(e) != 1 || e[0].Outcome != "ERROR" {
		t.Errorf("B's audit: %+v", e)
	}
}

// A message has room for some findings, and says that there are more.
func TestManyFindingsFitAMessage(t *testing.T) {
	w := strictly(t, func(w *proxytest.World) *proxytest.Party { return w.B })
	r := finished(t, w, verify(t, w, request(w, `"originatorPersons":[`, `"originatorPersons":[`+strings.Repeat(`{"naturalPerson":{"geographicAddress":[{"country":"`+marker+`"}]}},`, 100))))
	if message := r["message"].(string); len(message) > 1024 || !strings.HasSuffix(message, " more.") || strings.Contains(message, marker) {
		t.Errorf("%d bytes: %s", len(message), message)
	}
}

// An operator's own validator may be careless; the enclave is not.
func TestAForeignValidatorLeaksNoName(t *testing.T) {
	w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Validator = careless{} })
	status, answer := w.A.Call(http.MethodPost, "/v1/verifications", request(w))
	if code, message := problem(t, answer); status != http.StatusBadRequest || code != "INVALID-PAYLOAD" || strings.Contains(message, marker) || !strings.Contains(message, "/payload/ivms101/?") {
		t.Errorf("%d %s", status, answer)
	}
}

type careless struct{}

func (careless) Validate(ivms101.Occasion, *ivms101.Payload) []ivms101.Finding {
	return []ivms101.Finding{{Pointer: "/version", Problem: "is a matter of taste", Warning: true}, {Pointer: "/ivms101/" + marker, Problem: "is not to our liking"}}
}
