package relay_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

var registration = relay.Registration{
	PublicEndpoint: "https://enclave.alpha.example:8443/travel-rule", Version: "1.2.3", Suites: []string{"x-wing", "x25519"},
	Identity: base64.StdEncoding.EncodeToString([]byte("a chain of identity statements")), Instance: "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseRegistration(t *testing.T) {
	got, err := relay.ParseRegistration([]byte(text(t, registration)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&registration, got); diff != "" {
		t.Error(diff)
	}
	if chain, err := got.Chain(); string(chain) != "a chain of identity statements" || err != nil {
		t.Errorf("Chain = %q, %v", chain, err)
	}
}

func TestParseRegistrationRefuses(t *testing.T) {
	good := text(t, registration)
	set := func(field, value string) string {
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(good), &m); err != nil {
			t.Fatal(err)
		}
		m[field] = json.RawMessage(value)
		return text(t, m)
	}
	for code, texts := range map[string][]string{
		"INVALID-REGISTRATION": {
			"", "null x", "[]", `"x"`, "{", good + good, set("extra", "1"), set("PublicEndpoint", `"https://a.example"`),
			strings.Replace(good, `{`, `{"version":"1",`, 1), set("suites", `"x-wing"`), set("suites", `[1]`), set("version", "1"),
			set("version", "\"\xff\""), set("version", `"\u0000"`), set("identity", `[1]`),
			strings.Replace(good, `"version"`, `"vers\u0069on":"1","version"`, 1),
		},
		"INVALID-PUBLIC-ENDPOINT": {"{}", "null", set("publicEndpoint", `""`), set("publicEndpoint", `"http://a.example"`)},
		"INVALID-VERSION":         {set("version", `""`), set("version", `"a\nb"`), set("version", `"é"`), set("version", `"`+strings.Repeat("1", 65)+`"`)},
		"INVALID-SUITES": {
			set("suites", "[]"), set("suites", "null"), set("suites", `["x-wing","x-wing"]`), set("suites", `["X-Wing"]`), set("suites", `[""]`),
			set("suites", `["a","b","c","d","e","f","g","h","i","j","k","l","m","n","o","p","q"]`),
		},
		"INVALID-INSTANCE": {set("instance", `""`), set("instance", `"1"`), set("instance", `"{6ba7b810-9dad-41d1-80b4-00c04fd430c8}"`), set("instance", `"6BA7B810-9dad-41d1-80b4-00c04fd430c8"`)},
		"INVALID-IDENTITY": {set("identity", `""`), set("identity", `"a"`), set("identity", `"YWJj\n"`), set("identity", `"YWI"`), set("identity", `"YWJ="`), set("identity", `"`+strings.Repeat("A", 50_000)+`"`)},
	} {
		for _, given := range texts {
			got, err := relay.ParseRegistration([]byte(given))
			var invalid *relay.InvalidError
			if !errors.As(err, &invalid) || invalid.Code != code {
				t.Errorf("ParseRegistration(%.120s) = %v, %v; want %s", given, got, err, code)
			}
		}
	}
}

func TestParseEndpoint(t *testing.T) {
	for given, want := range map[string]string{
		"https://central.example":                 "https://central.example",
		"https://central.example/":                "https://central.example",
		"https://central.example//":               "https://central.example",
		"https://central.example:8443/a/b-c_d.e~": "https://central.example:8443/a/b-c_d.e~",
		"https://192.0.2.1/enclave/":              "https://192.0.2.1/enclave",
		"https://[2001:db8::1]:1/x":               "https://[2001:db8::1]:1/x",
		"HTTPS://central.example":                 "https://central.example",
	} {
		if got, err := relay.ParseEndpoint(given); err != nil || got.String() != want {
			t.Errorf("ParseEndpoint(%q) = %v, %v; want %s", given, got, err, want)
		}
	}
	for given, want := range map[string]string{
		"":                                       "must begin with https://",
		"http://central.example":                 "must begin with https://",
		"central.example":                        "must begin with https://",
		"https:central.example":                  "must name a host",
		"https:///path":                          "must name a host",
		"https://:443":                           "must name a host",
		"https://user:pass@central.example":      "user name or password",
		"https://central.example?x":              "query",
		"https://central.example?":               "query",
		"https://central.example#x":              "query",
		"https://central.example/a/../b":         "plain path",
		"https://central.example/./b":            "plain path",
		"https://central.example/a//b":           "plain path",
		"https://central.example/a%2fb":          "plain path",
		"https://central.example/a%62":           "plain path",
		"https://central.example/ä":              "plain path",
		"https://central.example/a b":            "plain path",
		"https://central.example:x":              "not a URL",
		"https://central.example/\x7f":           "not a URL",
		"https://" + strings.Repeat("a", 600):    "not a URL",
		"ftp://central.example":                  "must begin with https://",
		"javascript://central.example/%0aalert1": "must begin with https://",
	} {
		if got, err := relay.ParseEndpoint(given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseEndpoint(%q) = %v, %v; want %q", given, got, err, want)
		}
	}
}

func TestBelowCutsTheBaseOff(t *testing.T) {
	for base, paths := range map[string]map[string]string{
		"https://a.example/x/": {"/x/relay/v1/vasps": "/relay/v1/vasps", "/relay/v1/vasps": "/relay/v1/vasps"},
		"https://a.example/":   {"/relay/v1/vasps": "/relay/v1/vasps"},
		"https://a.example":    {"/relay/v1/vasps": "/relay/v1/vasps", "/": "/"},
		"https://a.example/x/y": {
			"/x/y/relay/v1/vasps": "/relay/v1/vasps", "/relay/v1/vasps": "/relay/v1/vasps", "/x/y": "/x/y", "/x/yz/relay": "/x/yz/relay",
			"/x/y/x/y/relay": "/x/y/relay", "/x/y/": "/",
		},
	} {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		for given, want := range paths {
			var got string
			h := relay.Below(u, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.Path }))
			r := &http.Request{Method: "GET", URL: &url.URL{Path: given}}
			if h.ServeHTTP(httptest.NewRecorder(), r); got != want || r.URL.Path != given {
				t.Errorf("below %s: %s came as %s, want %s", base, given, got, want)
			}
		}
	}
}

func TestParseDirectory(t *testing.T) {
	want := &relay.Directory{VASPs: []relay.Member{{
		Health: relay.Up, VASPID: 17104899575711305197, VASPName: "Alpha", LegalName: "Alpha Ltd", Jurisdiction: "Singapore", IsAlliance: true,
		Country: "Singapore", CountryCode: "SG", Protocol: relay.Protocol, LicensedStatus: "Regulated", VASPStatus: relay.StatusMember,
		CreatedAt: "2024-01-02T03:04:05.000Z", UpdatedAt: "2024-05-06T07:08:09.000Z", Identity: "YWJj", Suites: []string{"x-wing"}, EnclaveVersion: "1",
	}, {Health: relay.Down, VASPID: 2, VASPName: "Beta", Protocol: relay.Protocol, VASPStatus: relay.StatusVerified}}}
	got, err := relay.ParseDirectory([]byte(text(t, want)))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for given, problem := range map[string]string{
		``:                                       "empty",
		`{"vasps":[],"vasps":[]}`:                "twice",
		`{"vasps":[],"more":1}`:                  "",
		`{"VASPS":[]}`:                           "",
		`{"vasps":[{"health":"UP"}]}`:            "no vaspId",
		`{"vasps":[{"health":"UP","vaspId":1}]}`: "",
		`{"vasps":[{"health":"UP","vaspId":"1"},{"health":"UP","vaspId":"1"}]}`:    "VASP 1 twice",
		`{"vasps":[{"health":"up","vaspId":"1"}]}`:                                 "no health",
		`{"vasps":[{"health":"UP","vaspId":"1","identity":"*"}]}`:                  "base64",
		`{"vasps":[{"health":"UP","vaspId":"1","identity":"YQ==","Identity":""}]}`: "",
	} {
		if d, err := relay.ParseDirectory([]byte(given)); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("ParseDirectory(%s) = %v, %v; want %q", given, d, err, problem)
		}
	}
}

func TestParseLease(t *testing.T) {
	l, err := relay.ParseLease([]byte(`{"leaseMs":90000,"heartbeatMs":30000,"vaspId":"7"}`))
	if err != nil || l.Heartbeat().Seconds() != 30 || l.Duration().Seconds() != 90 || l.VASPID != 7 {
		t.Errorf("ParseLease = %+v, %v", l, err)
	}
	for _, given := range []string{
		`{}`, `{"leaseMs":90000,"heartbeatMs":30000}`, `{"leaseMs":90000,"heartbeatMs":0,"vaspId":"7"}`, `{"leaseMs":90000,"heartbeatMs":90000,"vaspId":"7"}`,
		`{"leaseMs":90000,"heartbeatMs":-1,"vaspId":"7"}`, `{"leaseMs":9e15,"heartbeatMs":8e15,"vaspId":"7"}`, `{"leaseMs":90000,"heartbeatMs":30000,"vaspId":"7","x":1}`,
		`{"leaseMs":900000000,"heartbeatMs":30000,"vaspId":"7"}`,
	} {
		if l, err := relay.ParseLease([]byte(given)); err == nil {
			t.Errorf("ParseLease(%s) = %+v, want refusal", given, l)
		}
	}
}

// Nothing that prints things prints a secret (attack L1).
func TestASecretIsNotPrinted(t *testing.T) {
	const secret = "the secret itself"
	type holder struct {
		Open   relay.Secret
		hidden relay.Secret
	}
	k := relay.Key{Access: "a", Secret: relay.NewSecret(secret)}
	h := holder{k.Secret, k.Secret}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", k.Secret, "key", k, "pointer", &h)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T %[1]v"} {
		for _, v := range []any{k.Secret, &k.Secret, k, &k, h, &h, []relay.Key{k}, map[string]relay.Secret{"x": k.Secret}} {
			log.WriteString(fmt.Sprintf(verb, v))
		}
	}
	log.WriteString(text(t, k))
	log.WriteString(text(t, h))
	for _, shown := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), "116 104 101"} {
		if strings.Contains(log.String(), shown) {
			t.Errorf("printed as %q", shown)
		}
	}
	if k.Secret.Reveal() != secret || (relay.Secret{}).Reveal() != "" {
		t.Error("Reveal does not reveal")
	}
}

func FuzzParseRegistration(f *testing.F) {
	f.Add(text(f, registration))
	f.Add(`{"publicEndpoint":"https://a/%2e","version":"\ud800","suites":[""],"identity":"=","instance":"0"}`)
	f.Add(`{"version":"1","version":"2"}`)
	f.Fuzz(func(t *testing.T, given string) {
		r, err := relay.ParseRegistration([]byte(given))
		if err != nil {
			return
		}
		again, err := relay.ParseRegistration([]byte(text(t, r)))
		if err != nil || !cmp.Equal(r, again) {
			t.Fatalf("%q reads as %+v, which reads as %+v, %v", given, r, again, err)
		}
		if u, err := relay.ParseEndpoint(r.PublicEndpoint); err != nil || u.Scheme != "https" || u.Hostname() == "" {
			t.Fatalf("endpoint %q", r.PublicEndpoint)
		}
	})
}

func FuzzParseDirectory(f *testing.F) {
	f.Add(`{"vasps":[{"health":"UP","vaspId":"1","identity":"YQ==","suites":["x"],"isAlliance":true}]}`)
	f.Add(`{"vasps":[{},{}]}`)
	f.Fuzz(func(t *testing.T, given string) {
		d, err := relay.ParseDirectory([]byte(given))
		if err != nil {
			return
		}
		if again, err := relay.ParseDirectory([]byte(text(t, d))); err != nil || len(again.VASPs) != len(d.VASPs) {
			t.Fatalf("%q reads as %+v, which reads as %+v, %v", given, d, again, err)
		}
	})
}

func FuzzParseEndpoint(f *testing.F) {
	for _, seed := range []string{"https://a.example/b", "https://[::1]:1", "https://a/%2e%2e", "https://a\\b/", "https://a/?#"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		u, err := relay.ParseEndpoint(given)
		if err != nil {
			return
		}
		again, err := relay.ParseEndpoint(u.String())
		if err != nil || again.String() != u.String() {
			t.Fatalf("%q reads as %q, which reads as %v, %v", given, u, again, err)
		}
	})
}

// What central says in a lease, an enclave in a health report.
func FuzzParseAnswers(f *testing.F) {
	f.Add(`{"leaseMs":90000,"heartbeatMs":30000,"vaspId":"7"}`)
	f.Add(`{"status":"UP","version":"1","instance":"x","more":[]}`)
	f.Fuzz(func(t *testing.T, given string) {
		if l, err := relay.ParseLease([]byte(given)); err == nil && (l.Heartbeat() <= 0 || l.Duration() <= l.Heartbeat() || l.VASPID == 0) {
			t.Fatalf("%q reads as %+v", given, l)
		}
		if h, err := relay.ParseHealth([]byte(given)); (h == nil) == (err == nil) {
			t.Fatalf("ParseHealth(%q) = %v, %v", given, h, err)
		}
	})
}
