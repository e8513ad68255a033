package sandbox_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi/openapitest"
)

// people are customers on both sides, as IVMS101 has them.
var people = map[string]string{
	"latin":   `{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Nuñez Ødegård","secondaryIdentifier":"José \"Pepe\"","nameIdentifierType":"LEGL"}]},"dateAndPlaceOfBirth":{"dateOfBirth":"1980-02-29","placeOfBirth":"Málaga"}}}`,
	"korean":  `{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Hong","secondaryIdentifier":"Gildong","nameIdentifierType":"LEGL"}],"localNameIdentifier":[{"primaryIdentifier":"홍","secondaryIdentifier":"길동","nameIdentifierType":"LEGL"}]},"dateAndPlaceOfBirth":{"dateOfBirth":"1990-12-31","placeOfBirth":"서울"}}}`,
	"arabic":  `{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"عبد\u200cالرحمن","secondaryIdentifier":"محمد","nameIdentifierType":"LEGL"}]},"dateAndPlaceOfBirth":{"dateOfBirth":"1975-07-01","placeOfBirth":"الإسكندرية"}}}`,
	"company": `{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":"Acme & Söhne Ltd","legalPersonNameIdentifierType":"LEGL"}]},"geographicAddress":[{"addressType":"GEOG","addressLine":["1 High St"],"country":"SG"}],"nationalIdentification":{"nationalIdentifier":"201912345A","nationalIdentifierType":"RAID","registrationAuthority":"RA000523"},"countryOfRegistration":"SG","dateOfIncorporation":"2019-03-27"}},{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Tan","secondaryIdentifier":"Mei","nameIdentifierType":"LEGL"}]}}}`,
}

// wanted is what can be asked about each as a beneficiary.
var wanted = map[string]string{
	"latin": "ACCOUNT_NUMBER,NATURAL_PERSON_NAME", "korean": "ACCOUNT_NUMBER,NATURAL_PERSON_NAME,LOCAL_NATURAL_PERSON_NAME",
	"arabic": "ACCOUNT_NUMBER,NATURAL_PERSON_NAME", "company": "ACCOUNT_NUMBER,LEGAL_PERSON_NAME,CORPORATE_REPRESENTATIVE_NAME",
}

// transfer is one verification between two of them, with a member that nobody
// knows, which must arrive.
func transfer(to, from, receiver string) []byte {
	return fmt.Appendf(nil, `{"keyType":"PerVasp","beneficiaryVaspId":%q,"originatingVaspId":"1","assetInfo":{"symbol":"XRP","network":"XRP","amount":"0.50","isExceedingThreshold":true,"tradePrice":"45000000","tradeCurrency":"KRW","tradeISODatetime":"2025-03-04T05:06:07.000Z"},`+
		`"requiredBeneficiaryInfo":%q,`+
		`"payload":{"version":"1.0","ivms101":{"originator":{"originatorPersons":[%s],"accountNumber":["rSender:4711"]},"beneficiary":{"beneficiaryPersons":[%s],"accountNumber":["rShared:%s"]},"payloadMetadata":{"transliterationMethod":["kore"]}}}}`,
		to, wanted[receiver], people[from], people[receiver], receiver)
}

// The whole surface speaks the contract's JSON: names, types, nulls, strings
// that hold JSON, for persons and companies in several scripts.
func TestABackendSpeaksTheContractsJSON(t *testing.T) {
	a := prepare(t, sandbox.Options{Robot: []string{"ROBOT_CUSTOMERS_FILE=people.yaml"}})
	customers := "originatorNeeds: [NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH]\ncustomers:\n"
	for name, person := range people {
		customers += fmt.Sprintf("  - persons: [%s]\n    accounts: [{symbol: XRP, account: \"rShared:%s\"}]\n", person, name)
	}
	if err := os.WriteFile(filepath.Join(a.Dir, "people.yaml"), []byte(customers), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	sender, receiver := a.VASPs[0], a.VASPs[1]
	get := func(method, path string, body []byte, want int) map[string]any {
		t.Helper()
		status, answer, err := sandbox.Call(t.Context(), method, sender.API+path, body)
		if err != nil || status != want {
			t.Fatalf("%s %s = %d %s, %v, want %d", method, path, status, answer, err, want)
		}
		var object map[string]any
		if err := json.Unmarshal(answer, &object); err != nil {
			t.Fatalf("%s %s answers %s: %v", method, path, answer, err)
		}
		return object
	}
	if got := get("GET", "/v1/vasps/self", nil, 200); !cmp.Equal(got, map[string]any{"vaspId": sender.ID}) {
		t.Errorf("self = %v", got)
	}
	for _, v := range get("GET", "/v1/vasps?protocol=ALL", nil, 200)["vasps"].([]any) {
		want := []string{"country", "countryCode", "createdAt", "health", "isAlliance", "jurisdiction", "legalName", "licensedStatus", "protocol", "updatedAt", "vaspId", "vaspName", "vaspStatus"}
		if got := slices.Sorted(maps.Keys(v.(map[string]any))); !cmp.Equal(got, want) {
			t.Errorf("a VASP of the directory has %v, want %v", got, want)
		}
	}
	check := get("POST", "/v1/verifications/account", fmt.Appendf(nil, `{"keyType":"PerVasp","beneficiaryVaspId":%q,"symbol":"XRP","payload":{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["rShared:korean"],"beneficiaryPersons":[%s]}}}}`, receiver.ID, people["korean"]), 200)
	if check["accountVerificationResult"] != "VERIFIED" || !isTime(check["verifiedAt"]) {
		t.Errorf("account check = %v", check)
	}
	check = get("POST", "/v1/verifications/account", fmt.Appendf(nil, `{"keyType":"PerVasp","beneficiaryVaspId":%q,"symbol":"XRP","payload":{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["rNobody"]}}}}`, receiver.ID), 200)
	if check["accountVerificationResult"] != "DENIED" || check["reason"] != "UNKNOWN-ADDRESS" {
		t.Errorf("account check of an unknown account = %v", check)
	}
	for _, who := range []struct{ from, to string }{{"latin", "korean"}, {"korean", "arabic"}, {"arabic", "company"}, {"latin", "latin"}} {
		t.Run(who.from+" to "+who.to, func(t *testing.T) {
			body := transfer(receiver.ID, who.from, who.to)
			accepted := get("POST", "/v1/verifications", body, 200)
			id, _ := accepted["verificationUuid"].(string)
			if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) || !isTime(accepted["createdAt"]) || len(accepted) != 2 {
				t.Fatalf("accepted = %v", accepted)
			}
			eventually(t, 10*time.Second, "a final state", func() bool { return get("GET", "/v1/verifications/"+id, nil, 200)["result"] != "WAIT" })
			checkRow(t, get("GET", "/v1/verifications/"+id, nil, 200), sender.ID, receiver.ID, who.from, who.to)
			list := get("GET", "/v1/verifications?rpp=1&actionType=SEND&beneficiaryAccountNumber=rShared:"+who.to, nil, 200)
			if rows, _ := list["verifications"].([]any); list["count"] != 1.0 || list["page"] != 1.0 || list["rpp"] != 1.0 || len(rows) != 1 {
				t.Errorf("list = %v", list)
			}
			checkAsked(t, receiver, id, sender.ID, body)
		})
	}
	if got := get("GET", "/v1/verifications/3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11", nil, 404); got["code"] != "VERIFICATION-NOT-FOUND" || got["message"] != "Verification(3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11) is not found" {
		t.Errorf("an unknown verification = %v", got)
	}
}

func isTime(v any) bool {
	s, _ := v.(string)
	return regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`).MatchString(s)
}

func checkRow(t *testing.T, row map[string]any, sender, receiver, from, to string) {
	t.Helper()
	for _, name := range []string{"ivms101Originator", "ivms101OriginatingVasp", "ivms101Beneficiary", "ivms101BeneficiaryVasp"} {
		text, _ := row[name].(string)
		var inner map[string]any
		if err := json.Unmarshal([]byte(text), &inner); err != nil {
			t.Errorf("%s is not a string that holds JSON: %v", name, row[name])
		}
		delete(row, name)
		if name == "ivms101Originator" {
			var want map[string]any
			if err := json.Unmarshal(fmt.Appendf(nil, `{"originatorPersons":[%s],"accountNumber":["rSender:4711"]}`, people[from]), &want); err != nil {
				t.Fatal(err)
			}
			if !cmp.Equal(inner, want) {
				t.Errorf("%s: %s", name, cmp.Diff(want, inner))
			}
		}
	}
	for _, name := range []string{"createdAt", "verifiedAt"} {
		if !isTime(row[name]) {
			t.Errorf("%s = %v, want a time", name, row[name])
		}
		delete(row, name)
	}
	if id, _ := row["verificationId"].(string); !regexp.MustCompile(`^\d+$`).MatchString(id) {
		t.Errorf("verificationId = %v, want digits in a string", row["verificationId"])
	}
	delete(row, "verificationId")
	delete(row, "verificationUuid")
	want := map[string]any{
		"result": "VERIFIED", "reason": "OK", "message": "", "txHash": nil, "vout": nil, "orderedAt": nil,
		"assetInfo": map[string]any{
			"symbol": "XRP", "network": "XRP", "amount": "0.50", "isExceedingThreshold": true,
			"tradePrice": "45000000", "tradeCurrency": "KRW", "tradeISODatetime": "2025-03-04T05:06:07.000Z",
		},
		"originatingVaspId": sender, "originatorAccountNumber": "rSender:4711",
		"beneficiaryVaspId": receiver, "beneficiaryAccountNumber": "rShared:" + to,
	}
	if diff := cmp.Diff(want, row); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
}

// checkAsked looks at what the beneficiary's backend was asked: flattened,
// with who asks, and every member of the payload, known or not.
func checkAsked(t *testing.T, receiver *sandbox.VASP, id, sender string, sent []byte) {
	t.Helper()
	asked, err := receiver.LastAsked(t.Context(), "/verify/user")
	if err != nil || asked.Method != http.MethodPost {
		t.Fatalf("the backend was asked %+v, %v", asked, err)
	}
	if err := openapitest.VASP().Request(asked.Method, asked.Path, []byte(asked.Body)); err != nil {
		t.Errorf("the backend was asked what is not in the document: %v", err)
	}
	var got, original map[string]any
	if json.Unmarshal([]byte(asked.Body), &got) != nil || json.Unmarshal(sent, &original) != nil {
		t.Fatalf("the backend was asked %s", asked.Body)
	}
	payload := original["payload"].(map[string]any)
	ivms := payload["ivms101"].(map[string]any)
	asGot, _ := got["ivms101"].(map[string]any)
	ivms["originatingVASP"] = asGot["originatingVASP"] // the enclave's own word
	want := map[string]any{
		"verificationUuid": id, "originatingVaspId": sender, "assetInfo": original["assetInfo"],
		"requiredBeneficiaryInfo": original["requiredBeneficiaryInfo"], "version": "1.0", "ivms101": ivms,
	}
	if diff := cmp.Diff(want, got); diff != "" || asGot["originatingVASP"] == nil {
		t.Errorf("the backend was asked (-want +got):\n%s", diff)
	}
}
