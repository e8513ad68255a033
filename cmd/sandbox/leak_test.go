package sandbox_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// marked is one person with an unmistakable word in every field.
type marked struct{ first, last, city, street, born, customer, account, local string }

func mark(party string, i int) marked {
	// Scripts that a careless encoder treats differently.
	tails := []string{"", "é", "김", "محمد"}
	tail := tails[i%len(tails)]
	m := func(field string) string { return fmt.Sprintf("zq%s%s%04d%s", party, field, i, tail) }
	return marked{
		first: m("first"), last: m("last"), city: m("city"), street: m("street"), customer: m("cust"), local: m("local"),
		born: fmt.Sprintf("%04d-0%d-1%d", 1900+i, i%9+1, i%10), account: fmt.Sprintf("0x%s%036x", map[string]string{"o": "aaaa", "b": "bbbb"}[party], 0x5eed0000+i),
	}
}

func (m marked) words() []string {
	return []string{m.first, m.last, m.city, m.street, m.customer, m.account, m.local, m.born}
}

func (m marked) person() string {
	return fmt.Sprintf(`{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":%q,"secondaryIdentifier":%q,"nameIdentifierType":"LEGL"}],`+
		`"localNameIdentifier":[{"primaryIdentifier":%q,"nameIdentifierType":"LEGL"}]},"geographicAddress":[{"addressType":"HOME","addressLine":[%q],"townName":%q,"country":"KR"}],`+
		`"customerIdentification":%q,"dateAndPlaceOfBirth":{"dateOfBirth":%q,"placeOfBirth":%q}}}`,
		m.last, m.first, m.local, m.street, m.city, m.customer, m.born, m.city)
}

// Nothing of a person reaches central, a file, a log or a metric in clear, in
// any common encoding (L1, L3, S1, S9, K14).
func TestNoPersonalDataReachesCentralFilesLogsOrMetrics(t *testing.T) {
	const transfers = 26 // of 8 words on each side: more than 400 markers
	customers := "originatorNeeds: []\ncustomers:\n"
	var words []string
	var bodies [][]byte
	a := prepare(t, sandbox.Options{
		Record: true, Enclave: []string{"VEGA_LOG_LEVEL=debug"}, Central: []string{"CENTRAL_LOG_LEVEL=debug"},
		Robot: []string{"ROBOT_CUSTOMERS_FILE=customers.yaml"},
	})
	for i := range transfers {
		o, b := mark("o", i), mark("b", i)
		words = append(append(words, o.words()...), b.words()...)
		if i%2 == 0 { // the others are denied: unknown address
			customers += fmt.Sprintf("  - persons: [%s]\n    accounts: [{symbol: ETH, account: %q}]\n", b.person(), b.account)
		}
		bodies = append(bodies, fmt.Appendf(nil, `{"keyType":"PerVasp","beneficiaryVaspId":%q,`+
			`"assetInfo":{"symbol":"ETH","network":"Ethereum","amount":"1","isExceedingThreshold":true,"tradePrice":"1","tradeCurrency":"USD","tradeISODatetime":"2026-01-15T09:30:00.000Z"},`+
			`"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME,NATURAL_PERSON_GEOGRAPHIC_ADDRESS,NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH",`+
			`"payload":{"version":"1.0","ivms101":{"originator":{"originatorPersons":[%s],"accountNumber":[%q]},"beneficiary":{"beneficiaryPersons":[%s],"accountNumber":[%q]}}}}`,
			a.VASPs[1].ID, o.person(), o.account, b.person(), b.account))
	}
	if err := os.WriteFile(filepath.Join(a.Dir, "customers.yaml"), []byte(customers), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	sender := a.VASPs[0]
	var ids []string
	for _, body := range bodies {
		accepted, err := sender.Verify(t.Context(), body)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, accepted.VerificationUUID)
		b := mark("b", len(ids)-1)
		check := fmt.Appendf(nil, `{"beneficiaryVaspId":%q,"symbol":"ETH","payload":{"version":"1.0","ivms101":{"beneficiary":{"beneficiaryPersons":[%s],"accountNumber":[%q]}}}}`,
			a.VASPs[1].ID, b.person(), b.account)
		if status, answer, err := sandbox.Call(t.Context(), "POST", sender.API+"/v1/verifications/account", check); err != nil || status != 200 {
			t.Fatalf("account check = %d %s, %v", status, answer, err)
		}
		// A refused request names its field, and not what was in it.
		if _, err := sender.Verify(t.Context(), bytes.Replace(body, []byte(`"symbol":"ETH",`), nil, 1)); err == nil {
			t.Error("a request without a symbol was accepted")
		}
	}
	results := map[string]int{}
	eventually(t, 30*time.Second, "every verification has its final state", func() bool {
		clear(results)
		for _, id := range ids {
			row, err := sender.Row(t.Context(), id)
			if err != nil || row.Result == "WAIT" {
				return false
			}
			results[row.Result+"/"+row.Reason]++
		}
		return true
	})
	if results["VERIFIED/OK"] != transfers/2 || results["DENIED/UNKNOWN-ADDRESS"] != transfers/2 {
		t.Errorf("results are %v, want half verified and half denied", results)
	}
	sinks := map[string][]byte{"metrics of central": []byte(metrics(t, a.CentralMetrics))}
	for _, v := range a.VASPs {
		sinks["metrics of "+v.Name] = []byte(metrics(t, v.Metrics))
		sinks["database of "+v.Name] = read(t, v.Database)
		sinks["log of "+v.Enclave.Name] = read(t, v.Enclave.Log)
	}
	sinks["state of central"] = read(t, a.Dir, "central-state.json")
	sinks["log of central"] = read(t, a.Central.Log)
	sinks["what central relayed"] = read(t, a.Record)
	relayed, err := a.Relayed()
	if err != nil || len(relayed) < transfers {
		t.Fatalf("central recorded %d exchanges, %v", len(relayed), err)
	}
	for _, r := range relayed {
		sinks["bytes central relayed"] = append(append(sinks["bytes central relayed"], r.Question.Bytes...), r.Answer.Bytes...)
	}
	t.Logf("%d markers in %d sinks", len(words), len(sinks))
	for name, found := range search(sinks, words) {
		t.Errorf("%s holds %d markers in clear, %q first", name, len(found), found[0])
	}
	// The search itself finds what is there: the row as the backend reads it.
	_, page, err := sandbox.Call(t.Context(), "GET", sender.API+"/v1/verifications/"+ids[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	inside, _ := json.Marshal(string(page))
	if got := search(map[string][]byte{"row": page, "escaped": inside}, mark("o", 0).words()); len(got["row"]) != 8 || len(got["escaped"]) != 8 {
		t.Errorf("the search finds %v in a row that holds 8 markers", got)
	}
}

// search looks for words in each sink, in every encoding, without case.
func search(sinks map[string][]byte, words []string) map[string][]string {
	found := map[string][]string{}
	for name, content := range sinks {
		lower := bytes.ToLower(content)
		for _, word := range words {
			for _, form := range sandbox.Encodings(word) {
				if bytes.Contains(lower, bytes.ToLower(form)) {
					found[name] = append(found[name], strings.ToValidUTF8(word, "?"))
					break
				}
			}
		}
	}
	return found
}
