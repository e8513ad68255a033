package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// Contract 2.0, checklist 2: either spelling of the rate's time, in each of
// the three forms, is read; one spelling and one form are written.
func TestTimesAreReadInThreeFormsAndWrittenInOne(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for _, spelling := range []string{"tradeISODatetime", "tradeISODateTime"} {
		for given, want := range map[string]string{
			"2025-03-04T05:06:07.000Z":        "2025-03-04T05:06:07.000Z",
			"2025-03-04T05:06:07Z":            "2025-03-04T05:06:07.000Z",
			"2025-03-04T05:06:07.123456Z":     "2025-03-04T05:06:07.123Z",
			"20250304T050607.089Z":            "2025-03-04T05:06:07.089Z",
			"20250304T050607Z":                "2025-03-04T05:06:07.000Z",
			"2025-03-04T14:06:07+09:00":       "2025-03-04T05:06:07.000Z",
			"2025-03-03T23:36:07.5-05:30":     "2025-03-04T05:06:07.500Z",
			"9999-12-31T23:59:59.999Z":        "9999-12-31T23:59:59.999Z",
			"0001-01-01T00:00:00.001Z":        "0001-01-01T00:00:00.001Z",
			"2025-03-04T05:06:07.089-00:00":   "2025-03-04T05:06:07.089Z",
			"2024-02-29T00:30:00.000+01:00":   "2024-02-28T23:30:00.000Z",
			"2025-03-04T05:06:07.0000000000Z": "2025-03-04T05:06:07.000Z",
		} {
			id := verify(t, w, request(w, `"tradeISODatetime":"2025-03-04T05:06:07.000Z"`, fmt.Sprintf("%q:%q", spelling, given)))
			for _, got := range []map[string]any{finished(t, w, id), row(t, w.B, id), askedAbout(t, w.B, id)} {
				assets := got["assetInfo"].(map[string]any)
				if assets["tradeISODatetime"] != want || assets["tradeISODateTime"] != nil {
					t.Errorf("%s %q is written as %v, want %q", spelling, given, assets, want)
				}
			}
		}
		for _, given := range []string{"2025-03-04", "2025-03-04 05:06:07Z", "2025-03-04T05:06:07", "1741064767000", "2025-02-30T05:06:07Z", "20250304T050607+09:00", "Tue, 04 Mar 2025 05:06:07 GMT",
			"9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+00:01", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z"} {
			refused(t, w, "/v1/verifications", request(w, `"tradeISODatetime":"2025-03-04T05:06:07.000Z"`, fmt.Sprintf("%q:%q", spelling, given)),
				http.StatusBadRequest, "INVALID-TRADE-ISO-DATETIME", "`tradeISODatetime`")
		}
	}
}

// askedAbout is what a party's backend was asked about a verification.
func askedAbout(t *testing.T, p *proxytest.Party, id string) map[string]any {
	t.Helper()
	for _, body := range p.Backend.Asked() {
		if strings.Contains(string(body), id) {
			return object(t, body)
		}
	}
	t.Fatalf("nobody asked about %s", id)
	return nil
}

// Contract 3.2 and 8.3: the account comes back unchanged, or the transfer is
// an error. It is compared exactly but for how Unicode composes letters, tag
// and case included; several are compared by the first.
func TestTheAnsweredAccountIsCompared(t *testing.T) {
	const hangul = "고객-7:메모"
	w := proxytest.NewWorld(t)
	for _, c := range []struct {
		asked, answered string
		same            bool
	}{
		{"rAddress:815", "rAddress:815", true},
		{"rAddress:815", "rAddress", false},
		{"rAddress", "rAddress:815", false},
		{"rAddress:815", "rAddress:816", false},
		{"rAddress:815", "raddress:815", false},
		{"0xAbC1", "0xabc1", false},
		{"0xAbC1", " 0xAbC1", false},
		{norm.NFD.String(hangul), norm.NFC.String(hangul), true},
		{norm.NFC.String(hangul), norm.NFD.String(hangul), true},
		{norm.NFC.String("é"), "e", false},
		{"qq1", "bitcoincash:qq1", false},
		{"ａ1", "a1", false},
	} {
		says(w.B, vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(`{"accountNumber":[` + quoted(c.answered) + `,"another"]}`)})
		r := finished(t, w, verify(t, w, request(w, `"bc1qreceiver"`, quoted(c.asked))))
		want := "ERROR BENEFICIARY-ACCOUNT-NOT-MATCHED"
		if c.same {
			want = "VERIFIED OK"
		}
		if got := fmt.Sprint(r["result"], " ", r["reason"]); got != want || r["beneficiaryAccountNumber"] != c.asked {
			t.Errorf("asked %q, answered %q: %s, the row has %q, want %s", c.asked, c.answered, got, r["beneficiaryAccountNumber"], want)
		}
	}
}

// Attack P3: what misleads a reviewer is refused on the way out and on the way
// in; the joiners and direction hints that names need travel as they are.
func TestDirectionOverridesStopAndJoinersTravel(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	for c := rune(0x2000); c <= 0x206f; c++ {
		for _, name := range []string{"a" + string(c) + "b", fmt.Sprintf(`a\u%04Xb`, c)} {
			body := request(w, `"Roe"`, `"`+name+`"`)
			if c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
				refused(t, w, "/v1/verifications", body, http.StatusBadRequest, "INVALID-PRIMARY-IDENTIFIER", "direction override")
			} else if c >= 0x200c && c <= 0x200f {
				id := verify(t, w, body)
				finished(t, w, id)
				if asked := fmt.Sprint(askedAbout(t, w.B, id)["ivms101"]); !strings.Contains(asked, "a"+string(c)+"b") {
					t.Errorf("with %U B's backend was asked %q", c, asked)
				}
			}
		}
	}
	if err := w.A.Enclave.ReadAnswer([]byte("{\"result\":\"VERIFIED\",\"ivms101\":{\"beneficiary\":{\"accountNumber\":[\"a\u202eb\"]}}}")); err == nil {
		t.Error("an answer with a direction override is read")
	}
}
