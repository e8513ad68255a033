package main

import (
	"bytes"
	"crypto/hpke"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// A key is made in the token, leaves it wrapped, and comes back as the
// contract has it; one that was there before comes back as it was.
func TestAWrappedKeyComesBack(t *testing.T) {
	w := newWorld(t).start()
	value := w.wrapped("alpha")
	status, answer := w.post("/v1/decrypt", secret("alpha"), map[string]any{"inputKey": value})
	first, err := base64.StdEncoding.DecodeString(answer["outputKey"])
	if status != http.StatusOK || err != nil || len(first) != 32 || len(answer) != 1 {
		t.Fatalf("status %d, %d bytes, %v", status, len(first), err)
	}
	if _, again := w.post("/v1/decrypt", secret("alpha"), map[string]any{"inputKey": value}); again["outputKey"] != answer["outputKey"] {
		t.Error("the same value gave another key")
	}
	if _, other := w.post("/v1/decrypt", secret("alpha"), map[string]any{"inputKey": w.wrapped("alpha")}); other["outputKey"] == answer["outputKey"] {
		t.Error("two values that were made have one key")
	}
	own := random(t, 32)
	_, made := w.post("/v1/wrap", secret("operator"), map[string]any{"instance": "alpha", "key": base64.StdEncoding.EncodeToString(own)})
	if _, answer := w.post("/v1/decrypt", secret("alpha"), map[string]any{"inputKey": made["inputKey"]}); answer["outputKey"] != base64.StdEncoding.EncodeToString(own) {
		t.Error("a key of our own did not come back")
	}
}

// Every use is a line of the log that says who, whose, with which key and what
// became of it; no key, token or value is in any.
func TestEveryUseIsLogged(t *testing.T) {
	w := newWorld(t).start()
	value := w.wrapped("alpha")
	_, answer := w.post("/v1/decrypt", secret("alpha"), map[string]any{"inputKey": value})
	w.post("/v1/decrypt", secret("bravo"), map[string]any{"inputKey": value})
	w.post("/v1/decrypt", secret("nobody"), map[string]any{"inputKey": value})
	want := []map[string]any{
		{"msg": "wrap", "outcome": "ok", "caller": "operator", "instance": "alpha", "key": w.config.Keys[0]},
		{"msg": "unwrap", "outcome": "ok", "caller": "alpha", "instance": "alpha", "key": w.config.Keys[0]},
		{"msg": "unwrap", "outcome": "not-allowed", "caller": "bravo", "instance": "alpha", "key": w.config.Keys[0]},
		{"msg": "unwrap", "outcome": "no-caller"},
	}
	got := w.log.records(t)
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), w.log)
	}
	for i := range want {
		for name, value := range want[i] {
			if got[i][name] != value {
				t.Errorf("line %d: %s is %v, want %v", i+1, name, got[i][name], value)
			}
		}
		if got[i]["time"] == nil || got[i]["remote"] == nil {
			t.Errorf("line %d has no time or no remote address", i+1)
		}
	}
	for name, secret := range map[string]string{"key": answer["outputKey"], "value": value, "token": "hunter2", "PIN": pin} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log shows the %s", name)
		}
	}
}

// Who shows nothing, something wrong, or the right thing for something else
// gets no key (S5).
func TestWrongCallersGetNothing(t *testing.T) {
	w := newWorld(t).start()
	alpha, bravo := w.wrapped("alpha"), w.wrapped("bravo")
	unwrap := func(value string) map[string]any { return map[string]any{"inputKey": value} }
	wrap := map[string]any{"instance": "alpha"}
	for name, c := range map[string]struct {
		path, token string
		body        any
		want        int
	}{
		"no token":                      {"/v1/decrypt", "", unwrap(alpha), 401},
		"a wrong token":                 {"/v1/decrypt", secret("Alpha"), unwrap(alpha), 401},
		"a longer token":                {"/v1/decrypt", secret("alpha") + "x", unwrap(alpha), 401},
		"half a token":                  {"/v1/decrypt", secret("alpha")[:20], unwrap(alpha), 401},
		"another instance's value":      {"/v1/decrypt", secret("alpha"), unwrap(bravo), 403},
		"our value, another's identity": {"/v1/decrypt", secret("bravo"), unwrap(alpha), 403},
		"the operator unwraps":          {"/v1/decrypt", secret("operator"), unwrap(alpha), 403},
		"an enclave wraps":              {"/v1/wrap", secret("alpha"), wrap, 403},
		"nobody wraps":                  {"/v1/wrap", "", wrap, 401},
		"wraps for a third":             {"/v1/wrap", secret("operator"), map[string]any{"instance": "charlie"}, 403},
		"the key itself":                {"/v1/decrypt", secret("alpha"), unwrap(base64.StdEncoding.EncodeToString(make([]byte, 32))), 400},
	} {
		status, answer := w.post(c.path, c.token, c.body)
		if status != c.want || answer["error"] == "" || len(answer) != 1 {
			t.Errorf("%s: status %d, %v, want %d and no key", name, status, answer, c.want)
		}
	}
	_, foreign := w.post("/v1/decrypt", secret("alpha"), unwrap(bravo))
	broken, err := base64.StdEncoding.DecodeString(alpha)
	if err != nil {
		t.Fatal(err)
	}
	broken[len(broken)-1] ^= 1
	if _, own := w.post("/v1/decrypt", secret("alpha"), unwrap(base64.StdEncoding.EncodeToString(broken))); own["error"] != foreign["error"] {
		t.Errorf("another's value is %q and a broken one %q: the answers tell them apart", foreign["error"], own["error"])
	}
}

// A certificate counts by its authority and its name or key, with a token or
// instead of one (S5).
func TestCallersByCertificate(t *testing.T) {
	w := newWorld(t)
	pinned := certificate(t, w.ca, w.caKey, []string{"pinned.example"})
	named := certificate(t, w.ca, w.caKey, []string{"alpha.example"})
	spiffe := certificate(t, w.ca, w.caKey, []string{"spiffe://example/alpha"})
	stranger := certificate(t, w.ca, w.caKey, []string{"alpha.example.org"})
	otherCA, otherKey := authority(t)
	forged := certificate(t, otherCA, otherKey, []string{"alpha.example"})
	w.config.Callers[0].TokenFile = ""
	w.config.Callers[0].CertificateNames = []string{"alpha.example", "spiffe://example/alpha"}
	w.config.Callers[1].CertificatePins = []string{pinOf(pinned)}
	w.start()
	alpha, bravo := w.wrapped("alpha"), w.wrapped("bravo")
	for name, c := range map[string]struct {
		certificate  *tls.Certificate
		token, value string
		want         int // 0: the handshake fails
	}{
		"by name":                       {named, "", alpha, 200},
		"by URI":                        {spiffe, "", alpha, 200},
		"by name, with a foreign token": {named, "x", alpha, 200},
		"none":                          {nil, "", alpha, 401},
		"none, but the former token":    {nil, secret("alpha"), alpha, 401},
		"another name":                  {stranger, "", alpha, 401},
		"another authority":             {forged, "", alpha, 0},
		"pin and token":                 {pinned, secret("bravo"), bravo, 200},
		"token without pin":             {nil, secret("bravo"), bravo, 401},
		"token with another's pin":      {named, secret("bravo"), bravo, 403}, // it is alpha
		"pin without token":             {pinned, "", bravo, 401},
		"pin with a wrong token":        {pinned, secret("alpha"), bravo, 401},
	} {
		status, answer, err := w.postAs(c.certificate, "/v1/decrypt", c.token, map[string]any{"inputKey": c.value})
		if (err != nil) != (c.want == 0) || status != c.want || (answer["outputKey"] != "") != (c.want == 200) {
			t.Errorf("%s: status %d, %v, want %d", name, status, err, c.want)
		}
	}
}

// No bit of a value can be changed, least of all whose it is (S5).
func TestAValueIsBoundToItsInstance(t *testing.T) {
	w := newWorld(t).start()
	text := w.wrapped("alpha")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1 << (i % 8)
		v, err := parseValue(base64.StdEncoding.EncodeToString(changed))
		if err != nil {
			continue
		}
		if key, err := w.token.unwrap(v); err == nil {
			t.Errorf("with byte %d changed: %d bytes", i, len(key))
		}
	}
	stolen := bytes.Replace(raw, []byte("alpha"), []byte("bravo"), 1)
	status, answer := w.post("/v1/decrypt", secret("bravo"), map[string]any{"inputKey": base64.StdEncoding.EncodeToString(stolen)})
	if status != http.StatusForbidden || answer["outputKey"] != "" {
		t.Errorf("alpha's value under bravo's name: status %d, %v", status, answer)
	}
	if strings.Contains(w.log.String(), "opened anew") {
		t.Errorf("a bad value passes for a fault of the token:\n%s", w.log)
	}
}

// The answer can be sealed to a key of the request (S5).
func TestASealedAnswer(t *testing.T) {
	w := newWorld(t).start()
	own := random(t, 32)
	_, made := w.post("/v1/wrap", secret("operator"), map[string]any{"instance": "alpha", "key": base64.StdEncoding.EncodeToString(own)})
	recipient, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	status, answer := w.post("/v1/decrypt", secret("alpha"), map[string]any{
		"inputKey": made["inputKey"], "recipient": base64.StdEncoding.EncodeToString(recipient.PublicKey().Bytes()),
	})
	sealed, err := base64.StdEncoding.DecodeString(answer["sealedKey"])
	if status != http.StatusOK || err != nil || len(answer) != 1 {
		t.Fatalf("status %d, %v, %v", status, answer, err)
	}
	key, err := hpke.Open(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("vasp-enclave decrypt-api v1\x00"+made["inputKey"]), sealed)
	if err != nil || !bytes.Equal(key, own) {
		t.Errorf("opened %d bytes, %v", len(key), err)
	}
	if status, answer := w.post("/v1/decrypt", secret("alpha"), map[string]any{"inputKey": made["inputKey"], "recipient": "AAAA"}); status != 400 || answer["outputKey"] != "" {
		t.Errorf("a bad recipient: status %d, %v", status, answer)
	}
}

// What is no request is refused before the token is asked.
func TestOddRequestsAreRefused(t *testing.T) {
	w := newWorld(t).start()
	value := w.wrapped("alpha")
	for name, body := range map[string]string{
		"empty":            "",
		"no JSON":          "x",
		"a list":           "[]",
		"nothing in it":    "{}",
		"twice":            fmt.Sprintf(`{"inputKey":%q,"inputKey":%q}`, value, value),
		"another case":     fmt.Sprintf(`{"InputKey":%q}`, value),
		"more members":     fmt.Sprintf(`{"inputKey":%q,"x":1}`, value),
		"more behind":      fmt.Sprintf(`{"inputKey":%q}{}`, value),
		"very long":        fmt.Sprintf(`{"inputKey":%q}`, strings.Repeat("A", 9<<10)),
		"value with blank": fmt.Sprintf(`{"inputKey":%q}`, value+"\n"),
	} {
		if status, answer := w.post("/v1/decrypt", secret("alpha"), body); status != http.StatusBadRequest || answer["outputKey"] != "" {
			t.Errorf("%s: status %d, %v, want 400", name, status, answer)
		}
	}
	for name, body := range map[string]string{
		"no instance": `{}`, "odd instance": `{"instance":"a b"}`, "short key": `{"instance":"alpha","key":"AAAA"}`, "empty key": `{"instance":"alpha","key":""}`,
	} {
		if status, _ := w.post("/v1/wrap", secret("operator"), body); status != http.StatusBadRequest {
			t.Errorf("wrap, %s: status %d, want 400", name, status)
		}
	}
	for _, path := range []string{"/v1/decrypt", "/v1/wrap"} {
		response, err := w.client(nil).Get(w.url + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: status %d", path, response.StatusCode)
		}
	}
	response, err := http.Post("http"+strings.TrimPrefix(w.url, "https")+"/v1/decrypt", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("http: status %d", response.StatusCode)
	}
}

// A caller has a budget of uses, and those whom nobody knows cannot fill the
// log.
func TestUsesAreLimited(t *testing.T) {
	w := newWorld(t)
	w.config.PerMinute = 1
	w.start()
	value := w.wrapped("alpha")
	statuses := map[int]int{}
	for range burst + 2 {
		status, _ := w.post("/v1/decrypt", secret("alpha"), map[string]any{"inputKey": value})
		statuses[status]++
	}
	if statuses[200] != burst || statuses[429] != 2 {
		t.Errorf("statuses %v, want %d and then 429", statuses, burst)
	}
	if status, _ := w.post("/v1/wrap", secret("operator"), map[string]any{"instance": "bravo"}); status != 200 {
		t.Errorf("another caller: status %d", status)
	}
	for range 150 {
		if status, _ := w.post("/v1/decrypt", "", "{}"); status != 401 {
			t.Fatalf("status %d", status)
		}
	}
	if lines := strings.Count(w.log.String(), "no-caller"); lines < 10 || lines > 120 {
		t.Errorf("150 strangers have %d lines", lines)
	}
}

// A certificate that was renewed counts without a restart; one that cannot be
// read leaves the last one in use.
func TestTheCertificateIsReadAgain(t *testing.T) {
	w := newWorld(t).start()
	serial := func() string {
		t.Helper()
		response, err := w.client(nil).Get(w.url + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if body, _ := io.ReadAll(response.Body); response.StatusCode != 200 || string(body) != "ok\n" {
			t.Errorf("healthz: status %d, %q", response.StatusCode, body)
		}
		return string(response.TLS.PeerCertificates[0].Raw)
	}
	before := serial()
	w.issue("server", nil)
	renewed := serial()
	if renewed == before {
		t.Error("the renewed certificate does not count")
	}
	w.write(filepath.Base(w.config.TLSCertFile), []byte("no PEM"))
	if serial() != renewed {
		t.Error("a broken file replaced the last good certificate")
	}
}
