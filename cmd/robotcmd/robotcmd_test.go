package robotcmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/text/unicode/norm"

	"github.com/vasp-enclave/vasp-enclave/cmd/robotcmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi/openapitest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a robot with the given settings and gives its URL.
func start(t *testing.T, environ ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	logs, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := robotcmd.Run(ctx, append([]string{"ROBOT_LISTEN=127.0.0.1:0"}, environ...), w)
		w.CloseWithError(io.EOF)
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	lines := json.NewDecoder(logs)
	for {
		var line struct{ Msg, Listen, Scheme string }
		if err := lines.Decode(&line); err != nil {
			t.Fatalf("no ready line: %v; %v", err, <-ended)
		}
		if line.Msg == "robotvasp ready" {
			return line.Scheme + "://" + line.Listen
		}
	}
}

// ask posts a body and gives status and answer.
func ask(t *testing.T, url, body string, header ...string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return do(t, r)
}

func do(t *testing.T, r *http.Request) (int, map[string]any) {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK && vaspAPI(resp.Request.URL.Path) {
		if err := openapitest.VASP().Answer(r.Method, r.URL.Path, resp.StatusCode, resp.Header, text); err != nil {
			t.Errorf("the answer is not in the VASP API's document: %v", err)
		}
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s %s answered %d and no JSON: %v", r.Method, r.URL.Path, resp.StatusCode, err)
	}
	return resp.StatusCode, answer
}

// vaspAPI says whether a path is one of those that an enclave calls; the others
// are for people.
func vaspAPI(path string) bool {
	return slices.ContainsFunc(openapitest.VASP().Operations, func(o *openapitest.Operation) bool { return o.Path == path })
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// show gives the JSON array at a path.
func show[T any](t *testing.T, url string) (all []T) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return all
}

const (
	taylor = "0xFa230E9cCAF5e382539147294d7965Eeccbbfa5c"
	ethan  = "0x319E92715729c46869ed31d228f3b4f31e951450"
	garrit = "0x26704Dc20d0ddF6cAa45b4D2b8AcB643015B951E"
	adaeze = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"
)

// person is a natural person, with a birth when one is given.
func person(primary, secondary string, birth ...string) string {
	p := fmt.Sprintf(`{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":%q,"secondaryIdentifier":%q,"nameIdentifierType":"LEGL"}]}`, primary, secondary)
	if len(birth) == 2 {
		p += fmt.Sprintf(`,"dateAndPlaceOfBirth":{"dateOfBirth":%q,"placeOfBirth":%q}`, birth[0], birth[1])
	}
	return p + "}}"
}

func company(name string) string {
	return fmt.Sprintf(`{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":%q,"legalPersonNameIdentifierType":"LEGL"}]}}}`, name)
}

func accountBody(symbol, network, account, persons string) string {
	return fmt.Sprintf(`{"originatingVaspId":"1","symbol":%q,"network":%q,"version":"1.0","ivms101":{"beneficiary":{"accountNumber":[%q],"beneficiaryPersons":[%s]}}}`,
		symbol, network, account, persons)
}

func TestAccountRules(t *testing.T) {
	robot := start(t)
	for _, c := range []struct {
		name, body, reason string
	}{
		{"address alone", accountBody("ETH", "Ethereum", taylor, ""), ""},
		{"symbol and network without case", accountBody("eth", "holesky", taylor, ""), ""},
		{"without network", accountBody("ETH", "", taylor, ""), ""},
		{"with name", accountBody("ETH", "", taylor, person("Robbins", "Taylor")), ""},
		{"name in the other order", accountBody("ETH", "", taylor, person("taylor", "ROBBINS")), ""},
		{"whole name in one", accountBody("ETH", "", taylor, person("Taylor Robbins", "")), ""},
		{"tag", accountBody("XRP", "XRP", "rGFFufDwabHuPur9927p1EgBTcCBfsjtEU:123456789", person("Robbins", "Taylor")), ""},
		{"company", accountBody("ETH", "", garrit, company("Garrit Studio")+","+person("Clarke", "Jason")), ""},
		{"company and one of two representatives", accountBody("ETH", "", garrit, company("garrit studio")+","+person("No", "Body")+","+person("Clarke", "Jason")), ""},
		{"representative alone", accountBody("ETH", "", garrit, person("Clarke", "Jason")), ""},

		{"symbol", accountBody("DOGE", "", taylor, ""), "UNKNOWN-SYMBOL"},
		{"network", accountBody("ETH", "Polygon", taylor, ""), "UNKNOWN-NETWORK"},
		{"address", accountBody("ETH", "", "0x00", ""), "UNKNOWN-ADDRESS"},
		{"address in other case", accountBody("ETH", "", strings.ToLower(taylor), ""), "UNKNOWN-ADDRESS"},
		{"address of another symbol", accountBody("XRP", "", taylor, ""), "UNKNOWN-ADDRESS"},
		{"no tag", accountBody("XRP", "", "rGFFufDwabHuPur9927p1EgBTcCBfsjtEU", ""), "UNKNOWN-ADDRESS"},
		{"no address", `{"symbol":"ETH","ivms101":{"beneficiary":{}}}`, "UNKNOWN-ADDRESS"},
		{"addresses of two customers", `{"symbol":"ETH","ivms101":{"beneficiary":{"accountNumber":["` + taylor + `","` + garrit + `"]}}}`, "UNKNOWN-ADDRESS"},
		{"name", accountBody("ETH", "", taylor, person("Cook", "Ethan")), "MISMATCHED-NAME"},
		{"person without name", accountBody("ETH", "", taylor, "{}"), "MISMATCHED-NAME"},
		{"company of another name", accountBody("ETH", "", garrit, company("Studio")+","+person("Clarke", "Jason")), "MISMATCHED-NAME"},
		{"only other representatives", accountBody("ETH", "", garrit, company("Garrit Studio")+","+person("No", "Body")), "MISMATCHED-NAME"},
		{"company for a person", accountBody("ETH", "", taylor, company("Robbins")), "MISMATCHED-NAME"},
		{"kyc", accountBody("ETH", "", ethan, ""), "UNVERIFIED-KYC"},

		{"name with other punctuation", accountBody("ETH", "", kim, person("KIM", "Minjun")), ""},
		{"name in local script", accountBody("ETH", "", kim, person("김민준", "")), ""},
		{"denied transfers are no account's", accountBody("ETH", "", adaeze, person("Okafor", "Adaeze")), ""},
	} {
		status, got := ask(t, robot+"/verify/account", c.body)
		want := map[bool]string{true: "VERIFIED", false: "DENIED"}[c.reason == ""]
		reason, _ := got["reason"].(string)
		if status != 200 || got["accountVerificationResult"] != want || reason != c.reason {
			t.Errorf("%s: answered %d %v, want %s %s", c.name, status, got, want, c.reason)
		}
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(got["verifiedAt"])); err != nil {
			t.Errorf("%s: verifiedAt is %v", c.name, got["verifiedAt"])
		}
	}
}

func userBody(required, originator, account, beneficiary string) string {
	return fmt.Sprintf(`{"verificationUuid":"3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11","assetInfo":{"symbol":"ETH","network":"Ethereum","amount":"1"},"requiredBeneficiaryInfo":%q,"originatingVaspId":"1","version":"1.0",`+
		`"ivms101":{"originator":{"originatorPersons":[%s],"accountNumber":["a"]},"beneficiary":{"beneficiaryPersons":[%s],"accountNumber":[%q]}}}`,
		required, originator, beneficiary, account)
}

func TestUserRules(t *testing.T) {
	robot := start(t)
	ann, to := person("Roe", "Ann", "1980-01-02", "Seoul"), person("Robbins", "Taylor")
	const name = "ACCOUNT_NUMBER,NATURAL_PERSON_NAME"
	for _, c := range []struct {
		name, body, reason, message string
	}{
		{"person", userBody(name, ann, taylor, to), "OK", ""},
		{"account only", userBody("ACCOUNT_NUMBER", ann, taylor, to), "OK", ""},
		{"misspelt birth", userBody(name, strings.Replace(ann, "dateAnd", "dataAnd", 1), taylor, to), "OK", ""},
		{"company to company", userBody("ACCOUNT_NUMBER,LEGAL_PERSON_NAME,CORPORATE_REPRESENTATIVE_NAME", company("Acme")+","+person("Tan", "Mei"), garrit, company("Garrit Studio")+","+person("Clarke", "Jason")), "OK", ""},
		{"another Pablo Escobar", userBody(name, person("Escobar", "Pablo", "1990-12-01", "Colombia"), taylor, to), "OK", ""},

		{"person of whom all can be asked", userBody("ACCOUNT_NUMBER,NATURAL_PERSON_NATIONALITY,LOCAL_NATURAL_PERSON_NAME", ann, kim, person("Kim", "Min-jun")), "OK", ""},

		{"kyc", userBody(name, ann, ethan, person("Cook", "Ethan")), "UNVERIFIED-KYC", ""},
		{"not allowed", userBody(name, ann, adaeze, person("Okafor", "Adaeze")), "NOT-ALLOWED", "The account takes no deposits."},
		{"what is not told", userBody("ACCOUNT_NUMBER,NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH", ann, taylor, to), "UNAVAILABLE-INFORMATION", "NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH"},
		{"name", userBody(name, ann, taylor, person("Cook", "Ethan")), "MISMATCHED-NAME", ""},
		{"no name", userBody(name, ann, taylor, ""), "MISMATCHED-NAME", ""},
		{"address", userBody(name, ann, "0x00", to), "UNKNOWN-ADDRESS", "0x00"},
		{"symbol", strings.Replace(userBody(name, ann, taylor, to), `"ETH"`, `"DOGE"`, 1), "UNKNOWN-SYMBOL", "DOGE"},
		{"network", strings.Replace(userBody(name, ann, taylor, to), `"Ethereum"`, `"Tron"`, 1), "UNKNOWN-NETWORK", "Tron"},
		{"blacklisted", userBody(name, person("Escobar", "Pablo", "1949-12-01", "Rionegro, Colombia"), taylor, to), "BLACKLISTED", ""},
		{"no birth", userBody(name, person("Roe", "Ann"), taylor, to), "LACK-OF-INFORMATION", "NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH"},
		{"no originator", userBody(name, "", taylor, to), "LACK-OF-INFORMATION", "NATURAL_PERSON_NAME,NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH"},
		{"company without name", userBody(name, `{"legalPerson":{}}`, taylor, to), "LACK-OF-INFORMATION", "LEGAL_PERSON_NAME"},
		{"more than it has", userBody(name+",NATURAL_PERSON_NATIONALITY,NEW_CODE", ann, taylor, to), "UNAVAILABLE-INFORMATION", "NATURAL_PERSON_NATIONALITY,NEW_CODE"},
	} {
		status, got := ask(t, robot+"/verify/user", c.body)
		want := map[bool]string{true: "VERIFIED", false: "DENIED"}[c.reason == "OK"]
		if status != 200 || got["result"] != want || got["reason"] != c.reason || got["message"] != c.message || got["version"] != "1.0" {
			t.Errorf("%s: answered %d %v, want %s %s %q", c.name, status, got, want, c.reason, c.message)
		}
		if (got["ivms101"] != nil) != (c.reason == "OK") {
			t.Errorf("%s: told %v", c.name, got["ivms101"])
		}
	}
}

// The client that an enclave uses understands a robot, and the robot tells
// what was asked for and leaves the account unchanged.
func TestRobotSpeaksTheContract(t *testing.T) {
	file := write(t, "customers.yaml", `
customers:
  - persons:
      - naturalPerson:
          name: {nameIdentifier: [{primaryIdentifier: 김, secondaryIdentifier: 철수}], localNameIdentifier: [{primaryIdentifier: Kim}]}
          nationality: KR
          customerIdentification: c-1
    accounts: [{symbol: BTC, account: "bc1q계좌"}]
  - persons: [{naturalPerson: {name: {nameIdentifier: [{primaryIdentifier: "محمد بن عبد الله"}]}}}]
    accounts: [{symbol: BTC, networks: [Bitcoin], account: bc1qarabic}]
`)
	robot := start(t, "ROBOT_CUSTOMERS_FILE="+file, "ROBOT_TOKEN=t0ken")
	c, err := vasp.New(vasp.Config{
		Account: robot + "/verify/account", Verification: robot + "/verify/user", Transaction: robot + "/verify/tx", Callback: robot + "/callback",
		Token: vasp.NewToken("t0ken"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	account := norm.NFD.String("bc1q계좌")
	ask := func(required, account, name string) string {
		return strings.Replace(userBody(required, person("x", ""), account, person(name, "")), `"ETH","network":"Ethereum"`, `"BTC","network":"Bitcoin"`, 1)
	}
	for _, q := range []struct{ required, account, name, want string }{
		{"ACCOUNT_NUMBER,NATURAL_PERSON_NATIONALITY", account, norm.NFD.String("김철수"), `{"beneficiaryPersons":[{"naturalPerson":{"nationality":"KR"}}],"accountNumber":["` + account + `"]}`},
		{"ACCOUNT_NUMBER", account, "KIM", `{"beneficiaryPersons":[],"accountNumber":["` + account + `"]}`},
		{"ACCOUNT_NUMBER,NATURAL_PERSON_NAME", "bc1qarabic", "محمد بن عبد الله", `{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"محمد بن عبد الله"}]}}}],"accountNumber":["bc1qarabic"]}`},
	} {
		got, err := c.VerifyUser(t.Context(), []byte(ask(q.required, q.account, q.name)))
		if err != nil {
			t.Fatal(err)
		}
		if got.Result != "VERIFIED" || string(got.Beneficiary) != q.want {
			t.Errorf("VerifyUser = %s %s %s, want %s", got.Result, got.Reason, got.Beneficiary, q.want)
		}
	}
	a, err := c.VerifyAccount(t.Context(), []byte(accountBody("BTC", "Bitcoin", "bc1qarabic", "")))
	if err != nil || a.Result != "VERIFIED" {
		t.Errorf("VerifyAccount = %+v, %v, want VERIFIED", a, err)
	}
	tx, err := c.TransactionStatus(t.Context(), []byte(`{"verificationUuid":"u-1"}`))
	if err != nil || tx.Status != "PENDING" || tx.VerificationUUID != "u-1" {
		t.Errorf("TransactionStatus = %+v, %v, want PENDING", tx, err)
	}
	if err := c.Callback(t.Context(), []byte(`{"callbackType":"VERIFICATION_RESULT"}`)); err != nil {
		t.Errorf("Callback = %v, want nil", err)
	}
}

func TestOnlyTheRightTokenIsAnswered(t *testing.T) {
	body := accountBody("ETH", "", taylor, "")
	for _, c := range []struct {
		name         string
		environ      []string
		header, sent string
		status       int
		shown        string
	}{
		{"no token set", nil, "Authorization", "Bearer anything", 200, "Authorization: Bearer [masked]"},
		{"bearer", []string{"ROBOT_TOKEN=s3cret"}, "Authorization", "Bearer s3cret", 200, "Authorization: Bearer [masked]"},
		{"bearer from a file", []string{"ROBOT_TOKEN_FILE=" + write(t, "token", "s3cret\n")}, "Authorization", "Bearer s3cret", 200, "Authorization: Bearer [masked]"},
		{"wrong", []string{"ROBOT_TOKEN=s3cret"}, "Authorization", "Bearer s3cre", 401, "Authorization: Bearer [masked]"},
		{"without Bearer", []string{"ROBOT_TOKEN=s3cret"}, "Authorization", "s3cret", 401, "Authorization: [masked]"},
		{"none", []string{"ROBOT_TOKEN=s3cret"}, "X", "s3cret", 401, ""},
		{"own header", []string{"ROBOT_TOKEN=s3cret", "ROBOT_TOKEN_HEADER=X-Api-Key"}, "X-Api-Key", "s3cret", 200, "X-Api-Key: [masked]"},
		{"own header with Bearer", []string{"ROBOT_TOKEN=s3cret", "ROBOT_TOKEN_HEADER=X-Api-Key"}, "X-Api-Key", "Bearer s3cret", 401, "X-Api-Key: Bearer [masked]"},
		{"another header", []string{"ROBOT_TOKEN=s3cret", "ROBOT_TOKEN_HEADER=X-Api-Key"}, "Authorization", "Bearer s3cret", 401, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			robot := start(t, c.environ...)
			if status, got := ask(t, robot+"/verify/account", body, c.header, c.sent); status != c.status {
				t.Errorf("answered %d %v, want %d", status, got, c.status)
			}
			seen := show[seen](t, robot+"/requests")
			if len(seen) != 1 || seen[0].Authorization != c.shown || seen[0].Authorized != (c.status == 200) {
				t.Errorf("/requests shows %+v, want %q", seen, c.shown)
			}
		})
	}
}

// seen is an entry of /requests.
type seen struct {
	Time          time.Time       `json:"time"`
	Method        string          `json:"method"`
	Path          string          `json:"path"`
	Authorization string          `json:"authorization"`
	Authorized    bool            `json:"authorized"`
	Body          json.RawMessage `json:"body"`
}

func TestRobotShowsWhatItWasSent(t *testing.T) {
	robot := start(t)
	const callback = `{"callbackType":"VERIFICATION_RESULT","data":{"b": 1,"a":2}}`
	ask(t, robot+"/callback", callback)
	ask(t, robot+"/verify/user", `{"broken":`)
	large := `"` + strings.Repeat("x", 70_000) + `"`
	ask(t, robot+"/callback", `{"large":[`+large[:50_000]+`",`+large[:50_000]+`"]}`)
	got := show[seen](t, robot+"/requests")
	var bodies []string
	for _, s := range got {
		bodies = append(bodies, s.Method+" "+s.Path+" "+string(s.Body))
	}
	want := []string{"POST /callback " + callback, `POST /verify/user "{\"broken\":"`, `POST /callback "100015 bytes"`}
	if !slices.Equal(bodies, want) {
		t.Errorf("/requests shows %.300q, want %q", bodies, want)
	}
	if calls := show[json.RawMessage](t, robot+"/callbacks"); len(calls) != 2 || string(calls[0]) != callback {
		t.Errorf("/callbacks shows %.300q, want %q first of two", calls, callback)
	}
}

func TestRobotRemembersTheLastThousand(t *testing.T) {
	robot := start(t)
	c, err := vasp.New(vasp.Config{Account: robot, Verification: robot, Callback: robot + "/callback"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 1003 {
		if err := c.Callback(t.Context(), fmt.Appendf(nil, `{"n":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/requests", "/callbacks"} {
		got := show[json.RawMessage](t, robot+path)
		if len(got) != 1000 || !bytes.Contains(got[0], []byte(`{"n":3}`)) || !bytes.Contains(got[999], []byte(`{"n":1002}`)) {
			t.Errorf("%s shows %d, from %s to %s", path, len(got), got[0], got[len(got)-1])
		}
	}
}

func TestWhatIsNoQuestionIsRefused(t *testing.T) {
	robot := start(t)
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/verify/account", "", 400},
		{"/verify/account", "[]", 400},
		{"/verify/account", `{"symbol":1}`, 400},
		{"/verify/user", `{"ivms101":{"originator":{"originatorPersons":7}}}`, 400},
		{"/verify/user", `{"assetInfo":{},"assetInfo":{}}`, 400},
		{"/verify/tx", `{}`, 400},
		{"/callback", `nonsense`, 400},
		{"/callback", strings.Repeat(" ", 1<<20) + "{}", 413},
	} {
		status, got := ask(t, robot+c.path, c.body)
		if status != c.status || got["code"] == "" || got["message"] == "" {
			t.Errorf("%s answered %.40q by %d %v, want %d", c.path, c.body, status, got, c.status)
		}
	}
	resp, err := client.Get(robot + "/verify/user")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET /verify/user answered %d, want 405", resp.StatusCode)
	}
}

func TestDelay(t *testing.T) {
	robot := start(t, "ROBOT_DELAY_MS=3600000")
	c, err := vasp.New(vasp.Config{Account: robot, Verification: robot, Callback: robot + "/callback"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var failed *vasp.Error
	if err := c.Callback(ctx, []byte("{}")); !errors.As(err, &failed) || failed.Problem != vasp.Timeout {
		t.Errorf("Callback = %v, want a timeout", err)
	}
	if got := show[seen](t, robot+"/requests"); len(got) != 1 {
		t.Errorf("/requests shows %d, want the one that waits", len(got))
	}
}

func TestHTTPS(t *testing.T) {
	cert, key := certificate(t)
	robot := start(t, "ROBOT_TLS_CERT_FILE="+cert, "ROBOT_TLS_KEY_FILE="+key)
	if !strings.HasPrefix(robot, "https://") {
		t.Fatalf("robot listens at %s, want https", robot)
	}
	c, err := vasp.New(vasp.Config{Account: robot, Verification: robot, Callback: robot + "/callback", Roots: roots(t, cert)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Callback(t.Context(), []byte("{}")); err != nil {
		t.Errorf("Callback = %v, want nil", err)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for _, c := range []struct{ name, environ, want string }{
		{"listen", "ROBOT_LISTEN=localhost:x", "ROBOT_LISTEN"},
		{"half of TLS", "ROBOT_TLS_CERT_FILE=x", "ROBOT_TLS_KEY_FILE"},
		{"no file", "ROBOT_CUSTOMERS_FILE=/nonexistent", "ROBOT_CUSTOMERS_FILE"},
		{"no YAML", "ROBOT_CUSTOMERS_FILE=" + write(t, "a", "customers: ["), "ROBOT_CUSTOMERS_FILE"},
		{"unknown member", "ROBOT_CUSTOMERS_FILE=" + write(t, "b", "customers: [{account: x}]"), "/customers/0/account: unknown member"},
		{"nobody", "ROBOT_CUSTOMERS_FILE=" + write(t, "c", "customers: [{persons: []}]"), "customers[0].persons: nobody has a name"},
		{"two owners", "ROBOT_CUSTOMERS_FILE=" + write(t, "d", "customers: [{persons: [{legalPerson: {name: {nameIdentifier: [{legalPersonName: A}]}}}], accounts: [{symbol: A, account: a},{symbol: a, account: a}]}]"), "two owners"},
		{"no symbol", "ROBOT_CUSTOMERS_FILE=" + write(t, "e", "customers: [{persons: [{legalPerson: {name: {nameIdentifier: [{legalPersonName: A}]}}}], accounts: [{account: a}]}]"), "needs a symbol"},
		{"needs", "ROBOT_CUSTOMERS_FILE=" + write(t, "f", "originatorNeeds: [SHOE_SIZE]"), "originatorNeeds"},
		{"code", "ROBOT_CUSTOMERS_FILE=" + write(t, "g", "customers: [{persons: [{legalPerson: {name: {nameIdentifier: [{legalPersonName: A}]}}}], tells: [SHOE_SIZE]}]"), "customers[0].tells: want only"},
		{"reason", "ROBOT_CUSTOMERS_FILE=" + write(t, "h", "customers: [{persons: [{legalPerson: {name: {nameIdentifier: [{legalPersonName: A}]}}}], deny: {reason: OK}}]"), "customers[0].deny.reason: want one of [BLACKLISTED"},
		{"balance", "ROBOT_CUSTOMERS_FILE=" + write(t, "i", "customers: [{persons: [{legalPerson: {name: {nameIdentifier: [{legalPersonName: A}]}}}], accounts: [{symbol: A, account: a, balance: much}]}]"), "customers[0].accounts[0].balance: write a decimal number"},
		{"balance without quotes", "ROBOT_CUSTOMERS_FILE=" + write(t, "j", "customers: [{accounts: [{symbol: A, account: a, balance: 7}]}]"), "/customers/0/accounts/0/balance"},
		{"long symbol", "ROBOT_CUSTOMERS_FILE=" + write(t, "k", "customers: [{persons: [{legalPerson: {name: {nameIdentifier: [{legalPersonName: A}]}}}], accounts: [{symbol: ABCDEFGHIJKLMNOPQ, account: a}]}]"), "accounts[0].symbol: has more than 16"},
		{"empty network", "ROBOT_CUSTOMERS_FILE=" + write(t, "l", "customers: [{persons: [{legalPerson: {name: {nameIdentifier: [{legalPersonName: A}]}}}], accounts: [{symbol: A, account: a, networks: ['']}]}]"), "accounts[0].networks"},
		{"nameless on the blacklist", "ROBOT_CUSTOMERS_FILE=" + write(t, "m", "blacklist: [{dateOfBirth: '1949-12-01'}]"), "blacklist[0].name"},
		{"born on no day", "ROBOT_CUSTOMERS_FILE=" + write(t, "n", "blacklist: [{name: A, dateOfBirth: 'May 1949'}]"), "blacklist[0].dateOfBirth"},
		{"twice", "ROBOT_CUSTOMERS_FILE=" + write(t, "o", "customers: []\ncustomers: []"), "ROBOT_CUSTOMERS_FILE"},
		{"enclave", "ROBOT_ENCLAVE_URL=127.0.0.1:21117", "ROBOT_ENCLAVE_URL"},
		{"inquiries", "ROBOT_INQUIRE_AFTER_MS=ten", "ROBOT_INQUIRE_AFTER_MS"},
	} {
		var out, errs bytes.Buffer
		if code := robotcmd.Main([]string{"run"}, []string{c.environ}, &out, &errs); code != 2 || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%s: Main = %d and says %q, want 2 and %q", c.name, code, errs.String(), c.want)
		}
	}
	var errs bytes.Buffer
	if code := robotcmd.Main([]string{"fly"}, nil, io.Discard, &errs); code != 1 {
		t.Errorf("Main of an unknown command = %d %q, want 1", code, errs.String())
	}
}

// Who is reachable from elsewhere without its tokens says so.
func TestOpenRobotsWarn(t *testing.T) {
	for _, c := range []struct {
		environ string
		want    []string
	}{
		{"ROBOT_LISTEN=127.0.0.1:0", nil},
		{"ROBOT_LISTEN=:0", []string{"ROBOT_TOKEN is not set", "ROBOT_DRIVER_TOKEN is not set"}},
		{"ROBOT_LISTEN=:0 ROBOT_TOKEN=a", []string{"ROBOT_DRIVER_TOKEN is not set"}},
		{"ROBOT_LISTEN=:0 ROBOT_TOKEN=a ROBOT_DRIVER_TOKEN=b", nil},
		{"ROBOT_ENCLAVE_TOKEN=a", []string{"without ROBOT_ENCLAVE_URL"}},
	} {
		var s robotcmd.Settings
		got, err := settings.Load(robotcmd.Prefix, &s, strings.Fields(c.environ))
		if err != nil || len(got) != len(c.want) {
			t.Fatalf("%s warns %q, %v, want %d", c.environ, got, err, len(c.want))
		}
		for i := range got {
			if !strings.Contains(got[i], c.want[i]) {
				t.Errorf("%s warns %q, want %q", c.environ, got[i], c.want[i])
			}
		}
	}
}

// A file of one's own changes every rule.
func TestRulesOfAFile(t *testing.T) {
	const people = `
networkRequired: true
customers:
  - persons: [{naturalPerson: {name: {nameIdentifier: [{primaryIdentifier: Roe}]}}}]
    accounts: [{symbol: ETH, account: a}]
    deny: {reason: BLACKLISTED, message: a}
  - persons: [{naturalPerson: {name: {nameIdentifier: [{primaryIdentifier: Doe}]}}}]
    accounts: [{symbol: ETH, account: d, balance: "0.5"}]
`
	enclave, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_CUSTOMERS_FILE="+write(t, "people.yaml", people), "ROBOT_ENCLAVE_URL="+url)
	drive(t, robot, "action/verifications", `{"beneficiaryVaspId":"1","address":"0x1","amount":"0.1"}`, 200)
	if last, _ := enclave.last(); !bytes.Contains(last.body, []byte(`"primaryIdentifier":"Doe"`)) {
		t.Errorf("sent %s, want it from the customer against whom there is nothing", last.body)
	}
	for _, c := range []struct{ body, reason, message string }{
		{accountBody("ETH", "", "d", ""), "UNKNOWN-NETWORK", ""},
		{accountBody("ETH", "Anything", "d", ""), "", ""},
		{accountBody("ETH", "Anything", "a", ""), "BLACKLISTED", "a"},
	} {
		_, got := ask(t, robot+"/verify/account", c.body)
		if reason, _ := got["reason"].(string); reason != c.reason || (c.message != "" && got["message"] != c.message) {
			t.Errorf("%s = %v, want %s %s", c.body, got, c.reason, c.message)
		}
	}
	if got := balanceOf(t, robot, "ETH", "d"); got != "0.5" {
		t.Errorf("balance is %s, want 0.5", got)
	}
}

func TestHelpNamesEverySetting(t *testing.T) {
	var out bytes.Buffer
	if code := robotcmd.Main([]string{"run", "--help"}, nil, &out, io.Discard); code != 0 {
		t.Fatalf("Main = %d, want 0", code)
	}
	for _, s := range settings.Describe(&robotcmd.Settings{}) {
		if !strings.Contains(out.String(), s.Name) {
			t.Errorf("help does not name %s", s.Name)
		}
	}
}

// What `customers` prints is a file to start from.
func TestSampleCustomersAreAFile(t *testing.T) {
	var out bytes.Buffer
	if code := robotcmd.Main([]string{"customers"}, nil, &out, io.Discard); code != 0 {
		t.Fatalf("Main = %d, want 0", code)
	}
	robot := start(t, "ROBOT_CUSTOMERS_FILE="+write(t, "customers.yaml", out.String()))
	if _, got := ask(t, robot+"/verify/account", accountBody("ETH", "", taylor, "")); got["accountVerificationResult"] != "VERIFIED" {
		t.Errorf("answered %v, want VERIFIED", got)
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
