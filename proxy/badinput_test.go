package proxy_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// marker stands in every refused value: no answer and no log may hold it.
const marker = "Zzyzx7"

// bad is a refused body, as replacements in a good one.
type bad struct {
	name string
	edit []string // pairs
	code string
	says string // the field as the message names it, or what else it must say
}

// Attacks P1 to P3: what the backend may not send, whichever request it is in.
func common(good string) []bad {
	beneficiary := `"beneficiary":{`
	return []bad{
		{"duplicate key", []string{`{"keyType"`, `{"keyType":"` + marker + `","keyType"`}, "INVALID-JSON", "keyType"},
		{"duplicate key deep inside", []string{beneficiary, beneficiary + `"` + marker + `":{"x":1,"x":2},`}, "INVALID-JSON", "twice"},
		{"duplicate key by an escape", []string{`{"keyType"`, `{"keyTyp\u0065":"` + marker + `","keyType"`}, "INVALID-JSON", "keyType"},
		{"deep nesting", []string{beneficiary, beneficiary + `"` + marker + `":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `,`}, "INVALID-JSON", "flatter"},
		{"many parts", []string{beneficiary, beneficiary + `"x":[` + strings.Repeat("1,", 10_000) + `1],`}, "INVALID-JSON", "fewer"},
		{"long string", []string{"1.0", strings.Repeat("a", 65<<10)}, "INVALID-JSON", "65536"},
		{"invalid UTF-8", []string{"1.0", marker + "\xff"}, "INVALID-JSON", "UTF-8"},
		{"lone surrogate", []string{"1.0", marker + `\ud800`}, "INVALID-JSON", "version"},
		{"NUL", []string{"1.0", marker + `\u0000`}, "INVALID-JSON", "NUL"},
		{"bare NUL", []string{"1.0", marker + "\x00"}, "INVALID-JSON", "not JSON"},
		{"bare control character", []string{"1.0", marker + "\x01"}, "INVALID-JSON", "not JSON"},
		{"escaped control character", []string{"1.0", marker + `\u001b[31m`}, "INVALID-VERSION", "version"},
		{"direction override", []string{"1.0", marker + "\u202e"}, "INVALID-VERSION", "version"},
		{"direction override in a field nobody knows", []string{beneficiary, beneficiary + `"` + marker + `":"` + "\u2066" + `",`}, "INVALID-JSON", "direction"},
		{"direction override in a name", []string{beneficiary, beneficiary + `"` + marker + "\u202e" + `":1,`}, "INVALID-JSON", "direction"},
		{"trailing data", []string{good, good + "{}"}, "INVALID-JSON", "one value"},
		{"cut off", []string{good, good[:len(good)-1]}, "INVALID-JSON", "early"},

		{"no VASP", []string{`"beneficiaryVaspId"`, `"x"`}, "MISSING-VASP", "`beneficiaryVaspId`"},
		{"empty VASP", []string{proxytest.IDOfB.String(), ""}, "MISSING-VASP", "`beneficiaryVaspId`"},
		{"null VASP", []string{`"` + proxytest.IDOfB.String() + `"`, "null"}, "MISSING-VASP", "`beneficiaryVaspId`"},
		{"number as VASP", []string{`"` + proxytest.IDOfB.String() + `"`, proxytest.IDOfB.String()}, "INVALID-BENEFICIARY-VASP-ID", "a string"},
		{"words as VASP", []string{proxytest.IDOfB.String(), marker}, "INVALID-VASP", "`beneficiaryVaspId`"},
		{"negative VASP", []string{proxytest.IDOfB.String(), "-1"}, "INVALID-VASP", "`beneficiaryVaspId`"},
		{"zero VASP", []string{proxytest.IDOfB.String(), "0"}, "INVALID-VASP", "`beneficiaryVaspId`"},
		{"VASP with a leading zero", []string{proxytest.IDOfB.String(), "0" + proxytest.IDOfB.String()}, "INVALID-VASP", "`beneficiaryVaspId`"},
		{"VASP over 64 bits", []string{proxytest.IDOfB.String(), "18446744073709551616"}, "INVALID-VASP", "`beneficiaryVaspId`"},
		{"unknown VASP", []string{proxytest.IDOfB.String(), "12345"}, "ALLIANCE-NOT-FOUND", "not found"},

		{"unknown key type", []string{"PerVasp", marker}, "INVALID-KEY-TYPE", "`keyType`"},
		{"empty key type", []string{"PerVasp", ""}, "INVALID-KEY-TYPE", "`keyType`"},
		{"key type of another case", []string{"PerVasp", "pervasp"}, "INVALID-KEY-TYPE", "`keyType`"},
		{"number as key type", []string{`"PerVasp"`, "1"}, "INVALID-KEY-TYPE", "a string"},

		{"no payload", []string{`"payload"`, `"x"`}, "MISSING-PAYLOAD", "`payload`"},
		{"null payload", []string{`"payload":{"version":"1.0","ivms101":{`, `"payload":null,"x":{"y":{`}, "MISSING-PAYLOAD", "`payload`"},
		{"text as payload", []string{`"payload":{"version":"1.0","ivms101":{`, `"payload":"` + marker + `","x":{"y":{`}, "INVALID-PAYLOAD", "an object"},
		{"no version", []string{`"version"`, `"x"`}, "MISSING-VERSION", "`version`"},
		{"empty version", []string{`"1.0"`, `""`}, "MISSING-VERSION", "`version`"},
		{"number as version", []string{`"1.0"`, `1.0`}, "INVALID-VERSION", "a string"},
		{"long version", []string{"1.0", strings.Repeat(marker, 100)}, "INVALID-VERSION", "256"},
		{"no ivms101", []string{`"ivms101"`, `"x"`}, "MISSING-IVMS101", "`ivms101`"},
		{"text as ivms101", []string{`"ivms101":{`, `"ivms101":"` + marker + `","x":{`}, "INVALID-IVMS101", "`ivms101`"},
		{"array as ivms101", []string{`"ivms101":{`, `"ivms101":["` + marker + `"],"x":{`}, "INVALID-IVMS101", "`ivms101`"},
		{"no beneficiary", []string{`"beneficiary"`, `"x"`}, "MISSING-BENEFICIARY", "`beneficiary`"},
		{"null beneficiary", []string{beneficiary, `"beneficiary":null,"x":{`}, "MISSING-BENEFICIARY", "`beneficiary`"},
		{"text as beneficiary", []string{beneficiary, `"beneficiary":"` + marker + `","x":{`}, "INVALID-BENEFICIARY", "an object"},
	}
}

func account(account string) []bad {
	at := `"accountNumber":["` + account + `"]`
	return []bad{
		{"no account", []string{at, `"x":1`}, "MISSING-ACCOUNT-NUMBER", "`accountNumber`"},
		{"null as account", []string{at, `"accountNumber":null`}, "MISSING-ACCOUNT-NUMBER", "`accountNumber`"},
		{"no account in the list", []string{at, `"accountNumber":[]`}, "MISSING-ACCOUNT-NUMBER", "`accountNumber`"},
		{"empty account", []string{at, `"accountNumber":[""]`}, "MISSING-ACCOUNT-NUMBER", "`accountNumber`"},
		{"text as account", []string{at, `"accountNumber":"` + marker + `"`}, "INVALID-ACCOUNT-NUMBER", "an array"},
		{"number as account", []string{at, `"accountNumber":[12345]`}, "INVALID-ACCOUNT-NUMBER", "a string"},
		{"null in the list", []string{at, `"accountNumber":[null]`}, "INVALID-ACCOUNT-NUMBER", "a string"},
		{"persons of the wrong type", []string{at, at + `,"beneficiaryPersons":{}`, `"beneficiaryPersons"`, `"x"`}, "INVALID-BENEFICIARY-PERSONS", "an array"},
		{"person of the wrong type", []string{at, at + `,"beneficiaryPersons":["` + marker + `"]`, `"beneficiaryPersons"`, `"x"`}, "INVALID-BENEFICIARY-PERSONS", "an object"},
	}
}

func badVerifications(good string) []bad {
	all := append(common(good), account("bc1qreceiver")...)
	for _, field := range []struct{ name, kebab, value, wrong string }{
		{"symbol", "SYMBOL", `"BTC"`, "5"},
		{"amount", "AMOUNT", `"0.5"`, "0.5"},
		{"tradePrice", "TRADE-PRICE", `"45000000"`, "45000000"},
		{"tradeCurrency", "TRADE-CURRENCY", `"KRW"`, `["KRW"]`},
		{"tradeISODatetime", "TRADE-ISO-DATETIME", `"2025-03-04T05:06:07.000Z"`, "1741064767"},
		{"isExceedingThreshold", "IS-EXCEEDING-THRESHOLD", `true`, `"true"`},
		{"requiredBeneficiaryInfo", "REQUIRED-BENEFICIARY-INFO", `"ACCOUNT_NUMBER,NATURAL_PERSON_NAME"`, `["ACCOUNT_NUMBER"]`},
	} {
		was := `"` + field.name + `":` + field.value
		all = append(all,
			bad{"no " + field.name, []string{was, `"x":1`}, "MISSING-" + field.kebab, "`" + field.name + "`"},
			bad{"null as " + field.name, []string{was, `"` + field.name + `":null`}, "MISSING-" + field.kebab, "`" + field.name + "`"},
			bad{"wrong type of " + field.name, []string{was, `"` + field.name + `":` + field.wrong}, "INVALID-" + field.kebab, "`" + field.name + "`"})
		if field.name != "isExceedingThreshold" {
			all = append(all, bad{"empty " + field.name, []string{was, `"` + field.name + `":""`}, "MISSING-" + field.kebab, "`" + field.name + "`"})
		}
	}
	invalid := func(name, field, kebab, old, value string) bad {
		return bad{name, []string{`"` + field + `":"` + old + `"`, `"` + field + `":"` + value + `"`}, "INVALID-" + kebab, "`" + field + "`"}
	}
	for _, amount := range []string{"-1", "1e9", "0x10", "1,5", "1.", ".5", "+1", " 1", "1 ", "NaN", marker, strings.Repeat("9", 79), "0." + strings.Repeat("9", 79), "١٢"} {
		all = append(all, invalid("amount "+amount, "amount", "AMOUNT", "0.5", amount), invalid("price "+amount, "tradePrice", "TRADE-PRICE", "45000000", amount))
	}
	for _, date := range []string{"2025-03-04", "2025-02-30T05:06:07.000Z", "2025-03-04T25:06:07.000Z", "2025-03-04 05:06:07", "yesterday", marker, "1741064767", "2025-03-04T05:06:07"} {
		all = append(all, invalid("date "+date, "tradeISODatetime", "TRADE-ISO-DATETIME", "2025-03-04T05:06:07.000Z", date))
	}
	long := strings.Repeat(marker, 50)
	return append(all,
		invalid("long symbol", "symbol", "SYMBOL", "BTC", long),
		invalid("long network", "network", "NETWORK", "Bitcoin", long),
		invalid("long currency", "tradeCurrency", "TRADE-CURRENCY", "KRW", long),
		invalid("direction override in the symbol", "symbol", "SYMBOL", "BTC", marker+"\u202e"),
		bad{"other spelling of the time, wrong type", []string{`"tradeISODatetime":"2025-03-04T05:06:07.000Z"`, `"tradeISODateTime":7`}, "INVALID-TRADE-ISO-DATETIME", "a string"},
		bad{"network of the wrong type", []string{`"network":"Bitcoin"`, `"network":7`}, "INVALID-NETWORK", "a string"},
		bad{"no asset", []string{`"assetInfo"`, `"x"`}, "MISSING-ASSET-INFO", "`assetInfo`"},
		bad{"asset of the wrong type", []string{`"assetInfo":{`, `"assetInfo":"` + marker + `","x":{`}, "INVALID-ASSET-INFO", "an object"},
		bad{"no account asked for", []string{"ACCOUNT_NUMBER,", ""}, "INVALID-REQUIRED-BENEFICIARY-INFO", "`ACCOUNT_NUMBER`"},
		bad{"odd codes asked for", []string{"ACCOUNT_NUMBER,NATURAL", "ACCOUNT_NUMBER," + marker + " é "}, "INVALID-REQUIRED-BENEFICIARY-INFO", "`requiredBeneficiaryInfo`"},
		bad{"no originator", []string{`"originator"`, `"x"`}, "MISSING-ORIGINATOR", "`originator`"},
		bad{"originator of the wrong type", []string{`"originator":{`, `"originator":"` + marker + `","x":{`}, "INVALID-ORIGINATOR", "an object"},
		bad{"direction override in a name", []string{"Roe", marker + "\u202e"}, "INVALID-PRIMARY-IDENTIFIER", "`primaryIdentifier`"},
		bad{"VASP part of the wrong type", []string{`"originator":{`, `"originatingVASP":[],"originator":{`}, "INVALID-ORIGINATING-VASP", "an object"},
	)
}

func badAccountChecks(good string) []bad {
	long := strings.Repeat(marker, 50)
	return append(append(common(good), account("0xAbC1")...),
		bad{"no symbol", []string{`"symbol"`, `"x"`}, "MISSING-SYMBOL", "`symbol`"},
		bad{"empty symbol", []string{`"ETH"`, `""`}, "MISSING-SYMBOL", "`symbol`"},
		bad{"number as symbol", []string{`"ETH"`, `7`}, "INVALID-SYMBOL", "a string"},
		bad{"long symbol", []string{"ETH", long}, "INVALID-SYMBOL", "`symbol`"},
		bad{"number as network", []string{`"Ethereum"`, `7`}, "INVALID-NETWORK", "a string"},
		bad{"long network", []string{"Ethereum", long}, "INVALID-NETWORK", "`network`"},
		bad{"two accounts", []string{`["0xAbC1"]`, `["0xAbC1","` + marker + `"]`}, "INVALID-ACCOUNT-NUMBER", "one account"},
	)
}

// Bad input gets the contract's error or a clear one in its pattern, names the
// field, quotes nothing, and leaves no trace.
func TestBadBodiesAreRefused(t *testing.T) {
	w := proxytest.NewWorld(t)
	for _, endpoint := range []struct {
		path string
		good []byte
		bad  []bad
	}{
		{"/v1/verifications", request(w), badVerifications(string(request(w)))},
		{"/v1/verifications/account", accountTo(w.B.ID), badAccountChecks(string(accountTo(w.B.ID)))},
	} {
		for _, c := range endpoint.bad {
			t.Run(endpoint.path+"/"+c.name, func(t *testing.T) {
				body := strings.NewReplacer(c.edit...).Replace(string(endpoint.good))
				if body == string(endpoint.good) {
					t.Fatal("the edit changes nothing")
				}
				refused(t, w, endpoint.path, []byte(body), http.StatusBadRequest, c.code, c.says)
			})
		}
		for _, body := range []string{"", " ", "[]", `"` + marker + `"`, "7", marker, "{", "\ufeff" + string(endpoint.good), "<xml/>", "\x00", strings.Repeat("[", 100_000)} {
			t.Run(endpoint.path+"/body "+body[:min(len(body), 10)], func(t *testing.T) {
				refused(t, w, endpoint.path, []byte(body), http.StatusBadRequest, "INVALID-JSON", "The body is refused")
			})
		}
		refused(t, w, endpoint.path, []byte("null"), http.StatusBadRequest, "MISSING-VASP", "`beneficiaryVaspId`")
		for _, size := range []int{256<<10 + 1, 1<<20 + 1, 8 << 20} {
			t.Run(fmt.Sprintf("%s/%d bytes", endpoint.path, size), func(t *testing.T) {
				body := append(endpoint.good[:len(endpoint.good):len(endpoint.good)], strings.Repeat(" ", size-len(endpoint.good))...)
				refused(t, w, endpoint.path, body, http.StatusRequestEntityTooLarge, "PAYLOAD-TOO-LARGE", "262144")
				refused(t, w, endpoint.path, []byte(`{"amount":"`+strings.Repeat("9", size)+`"}`), http.StatusRequestEntityTooLarge, "PAYLOAD-TOO-LARGE", "262144")
			})
		}
	}
	if page := ask(t, w.A, http.MethodGet, "/v1/verifications", nil); page["count"] != 0.0 {
		t.Errorf("%v rows were stored", page["count"])
	}
	if n := len(w.Central.Relayed()); n != 0 {
		t.Errorf("%d messages were relayed", n)
	}
	if waiting, err := w.A.History.Outbox(t.Context()); err != nil || len(waiting) != 0 {
		t.Errorf("the outbox holds %d entries, %v", len(waiting), err)
	}
	if strings.Contains(w.A.Log.String(), marker) {
		t.Error("a refused value was logged")
	}
	// The edits began from what is good.
	ask(t, w.A, http.MethodPost, "/v1/verifications", request(w))
	ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
}

func refused(t *testing.T, w *proxytest.World, path string, body []byte, status int, code, says string) {
	t.Helper()
	got, answer := w.A.Call(http.MethodPost, path, body)
	gotCode, message := problem(t, answer)
	if got != status || gotCode != code || !strings.Contains(message, says) {
		t.Errorf("%d %s, want %d %s and %q", got, answer, status, code, says)
	}
	if strings.Contains(string(answer), marker) {
		t.Errorf("the answer quotes the value: %s", answer)
	}
}

// The largest body that is let in is delivered: with what the enclave adds it
// still fits an envelope.
func TestTheLargestBodyIsDelivered(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	var filler []string
	for range 4 {
		filler = append(filler, `"`+strings.Repeat("é", 31<<9)+`"`)
	}
	body := request(w, `"originator":{`, `"originator":{"filler":[`+strings.Join(filler, ",")+`],`)
	body = append(body, strings.Repeat(" ", 256<<10-len(body))...)
	if r := finished(t, w, verify(t, w, body)); r["result"] != "VERIFIED" {
		t.Errorf("row %v %v %v", r["result"], r["reason"], r["message"])
	}
}

// What is unknown is not refused: the contract lets backends grow.
func TestUnknownKeysAreIgnored(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	body := request(w, `{"keyType"`, `{"KEYTYPE":"x","new":{"deep":[{"x":null}]},"keyType"`, `"assetInfo":{`, `"assetInfo":{"AMOUNT":"9","new":1,`,
		`"ivms101":{`, `"ivms101":{"payloadMetadata":{"transliterationMethod":["hang"]},"new":{"k":"v"},`, `"beneficiary":{`, `"beneficiary":{"extra":{"a":[1, 2]},`)
	id := verify(t, w, body)
	if r := finished(t, w, id); r["assetInfo"].(map[string]any)["amount"] != "0.5" {
		t.Errorf("the amount became %v", r["assetInfo"])
	}
	// And what is unknown in the personal data travels, as it was written.
	if asked := string(w.B.Backend.Asked()[0]); !strings.Contains(asked, `"new":{"k":"v"}`) || !strings.Contains(asked, `"extra":{"a":[1, 2]}`) {
		t.Errorf("B's backend was asked %s", asked)
	}
}

// Bad queries of the history and the directory.
func TestBadQueriesAreRefused(t *testing.T) {
	w := proxytest.NewWorld(t)
	id := verify(t, w, request(w)) // a filter that is passed over would find it
	finished(t, w, id)
	for _, c := range []struct{ query, code, says string }{
		{"page=0", "INVALID-PAGE", "`page`"},
		{"page=-1", "INVALID-PAGE", "`page`"},
		{"page=1.5", "INVALID-PAGE", "`page`"},
		{"page=" + marker, "INVALID-PAGE", "`page`"},
		{"page=99999999999999999999", "INVALID-PAGE", "`page`"},
		{"page=1000000001", "INVALID-PAGE", "`page`"},
		{"rpp=0", "INVALID-RPP", "from 1 to 1000"},
		{"rpp=1001", "INVALID-RPP", "from 1 to 1000"},
		{"rpp=" + marker, "INVALID-RPP", "`rpp`"},
		{"fromDate=" + marker, "INVALID-FROM-DATE", "YYYY-MM-DD"},
		{"fromDate=2026-02-30", "INVALID-FROM-DATE", "YYYY-MM-DD"},
		{"fromDate=2026-13-01", "INVALID-FROM-DATE", "YYYY-MM-DD"},
		{"fromDate=%00", "INVALID-FROM-DATE", "YYYY-MM-DD"},
		{"toDate=01/02/2026", "INVALID-TO-DATE", "YYYY-MM-DD"},
		{"toDate=%ff%fe", "INVALID-TO-DATE", "YYYY-MM-DD"},
		{"result=" + marker, "INVALID-RESULT", "`result`"},
		{"result=verified", "INVALID-RESULT", "`VERIFIED`"},
		{"actionType=" + marker, "INVALID-ACTION-TYPE", "`SEND`"},
		{"oppositeVaspId=" + marker, "INVALID-OPPOSITE-VASP-ID", "`oppositeVaspId`"},
		{"oppositeVaspId=-1", "INVALID-OPPOSITE-VASP-ID", "`oppositeVaspId`"},
		{"result=DENIED;x=1", "INVALID-QUERY", "percent-encoded"},
		{"symbol=%zz" + marker, "INVALID-QUERY", "percent-encoded"},
		{"symbol=BTC&symbol=" + marker, "INVALID-SYMBOL", "more than once"},
		{"page=1&page=2", "INVALID-PAGE", "more than once"},
	} {
		status, answer := w.A.Call(http.MethodGet, "/v1/verifications?"+c.query, nil)
		code, message := problem(t, answer)
		if status != http.StatusBadRequest || code != c.code || !strings.Contains(message, c.says) || strings.Contains(message, marker) {
			t.Errorf("?%s = %d %s, want 400 %s and %q", c.query, status, answer, c.code, c.says)
		}
	}
	for _, query := range []string{"protocol=" + marker, "protocol=code", "protocol=ALL&protocol=CODE", "protocol=%zz"} {
		status, answer := w.A.Call(http.MethodGet, "/v1/vasps?"+query, nil)
		if _, message := problem(t, answer); status != http.StatusBadRequest || strings.Contains(message, marker) {
			t.Errorf("?%s = %d %s", query, status, answer)
		}
	}
	// Odd, and an answer that finds nothing is the right one.
	for _, query := range []string{"symbol=%00", "network=%ff", "originatorAccountNumber=" + strings.Repeat("9", 8000), "txHash=%e2%80%ae", "page=1000000000&rpp=1000",
		"fromDate=9999-12-31", "toDate=0001-01-01", "symbol=" + url.QueryEscape(`"]}`)} {
		if page := ask(t, w.A, http.MethodGet, "/v1/verifications?"+query, nil); len(page["verifications"].([]any)) != 0 {
			t.Errorf("?%.40s found a row", query)
		}
	}
}

// Weird ids find nothing, and nothing is said about them.
func TestBadUUIDsFindNothing(t *testing.T) {
	w := proxytest.NewWorld(t)
	id := verify(t, w, request(w))
	for _, given := range []string{
		marker, "1", strings.ReplaceAll(id, "-", ""), "{" + id + "}", "urn:uuid:" + id, id + "x", id[:35], id + "%00", "%00", "%ff", "..%2f..", id + "%20", strings.Repeat("9", 10_000),
		"00000000-0000-0000-0000-000000000000", "3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7cXX", "%e2%80%ae",
	} {
		status, answer := w.A.Call(http.MethodGet, "/v1/verifications/"+given, nil)
		if code, message := problem(t, answer); status != http.StatusNotFound || code != "VERIFICATION-NOT-FOUND" || strings.Contains(message, marker) || len(message) > 100 {
			t.Errorf("%.40s = %d %.200s", given, status, answer)
		}
	}
	if r := row(t, w.A, strings.ToUpper(id)); r["verificationUuid"] != id {
		t.Errorf("an id in capitals finds %v", r)
	}
}

// A VASP that is known and not a live member, and a directory never seen.
func TestVASPsThatCannotBeVerifiedWith(t *testing.T) { synctest.Test(t, vASPsThatCannotBeVerifiedWith) }

func vASPsThatCannotBeVerifiedWith(t *testing.T) {
	w := proxytest.NewWorld(t)
	w.Central.EditDirectory(func(d *relay.Directory) {
		d.VASPs = append(d.VASPs, relay.Member{
			Health: relay.Up, VASPID: 77, VASPName: "Not live", Protocol: relay.Protocol, VASPStatus: relay.StatusVerified,
			CreatedAt: "2026-01-02T03:04:05.000Z", UpdatedAt: "2026-01-02T03:04:05.000Z",
		})
	})
	for path, body := range map[string][]byte{"/v1/verifications": requestTo(77), "/v1/verifications/account": accountTo(77)} {
		w.Await("the directory is fresh", func() bool {
			_, answer := w.A.Call(http.MethodGet, "/v1/vasps", nil)
			return strings.Contains(string(answer), "Not live")
		})
		refused(t, w, path, body, http.StatusBadRequest, "ALLIANCE-NOT-ACTIVE", "not active")
	}
}

// A new enclave that never saw central has nobody to verify with, and says so.
func TestWithoutADirectoryNothingIsAccepted(t *testing.T) {
	w := proxytest.NewWorld(t)
	w.A.Stop()
	if err := os.Remove(w.A.File); err != nil {
		t.Fatal(err)
	}
	w.Central.Down(true)
	w.A.Start()
	refused(t, w, "/v1/verifications", request(w), http.StatusServiceUnavailable, "DIRECTORY-UNAVAILABLE", "try again")
	refused(t, w, "/v1/verifications/account", accountTo(w.B.ID), http.StatusServiceUnavailable, "DIRECTORY-UNAVAILABLE", "try again")
	_, answer := w.A.Call(http.MethodGet, "/v1/vasps", nil)
	sameJSON(t, "directory", answer, `{"vasps":[]}`)
}
