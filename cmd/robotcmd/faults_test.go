package robotcmd_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/robotcmd"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// known are the faults that the robot says it knows.
type known struct{ Fault, APIs, What string }

func faultsOf(t *testing.T, robot string) (all []known, planted []json.RawMessage) {
	t.Helper()
	var answer struct {
		Planted []json.RawMessage
		Known   []known
	}
	_, got := get(t, robot+"/v1.0/faults")
	if err := json.Unmarshal(got, &answer); err != nil || len(answer.Known) == 0 {
		t.Fatalf("GET /v1.0/faults = %s, %v", got, err)
	}
	return answer.Known, answer.Planted
}

func get(t *testing.T, url string, header ...string) (int, []byte) {
	t.Helper()
	return send(t, http.MethodGet, url, "", header...)
}

func send(t *testing.T, method, url, body string, header ...string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func plant(t *testing.T, robot, body string) {
	t.Helper()
	if status, answer := send(t, http.MethodPost, robot+"/v1.0/faults", body); status != 200 {
		t.Fatalf("POST /v1.0/faults %s = %d %s", body, status, answer)
	}
}

// questions are a path and a body for each API.
var questions = map[string][2]string{
	"user":        {"/verify/user", userBody("ACCOUNT_NUMBER,NATURAL_PERSON_NAME", person("Roe", "Ann", "1980-01-02", "Seoul"), taylor, person("Robbins", "Taylor"))},
	"account":     {"/verify/account", accountBody("ETH", "", taylor, "")},
	"transaction": {"/verify/tx", `{"verificationUuid":"3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11"}`},
	"callback":    {"/callback", `{"callbackType":"TX_REPORT","data":{"verificationUuid":"3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11","txHash":"0x1"}}`},
}

// wire is what came over a connection, up to 17 MiB of it.
type wire struct {
	bytes []byte
	err   error // of reading, nil when the other side closed in order
	resp  *http.Response
	body  []byte
	bad   error // of reading it as HTTP
}

// dial asks a robot over a socket of our own. within ends the reading; it is
// for what does not end by itself.
func dial(t *testing.T, robot, api string, within time.Duration) (w wire) {
	t.Helper()
	q := questions[api]
	c := open(t, robot, q[0], q[1])
	defer c.Close()
	if within > 0 {
		c.SetReadDeadline(time.Now().Add(within))
	}
	w.bytes, w.err = io.ReadAll(io.LimitReader(c, 17<<20))
	if w.resp, w.bad = http.ReadResponse(bufio.NewReader(bytes.NewReader(w.bytes)), nil); w.bad == nil {
		w.body, w.bad = io.ReadAll(w.resp.Body)
	}
	return w
}

// open sends a request and gives the connection to read the answer of.
func open(t *testing.T, robot, path, body string) net.Conn {
	t.Helper()
	host := strings.TrimPrefix(robot, "http://")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", path, host, len(body), body)
	return c
}

// told is the JSON object of an answer.
func (w wire) told(t *testing.T) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(w.body, &o); err != nil || w.bad != nil || w.resp.StatusCode != 200 {
		t.Fatalf("got %.300q, %v, %v; want 200 and an object", w.bytes, w.bad, err)
	}
	return o
}

func beneficiaryOf(t *testing.T, w wire) string {
	t.Helper()
	ivms, _ := w.told(t)["ivms101"].(map[string]any)
	text, _ := json.Marshal(ivms["beneficiary"])
	return string(text)
}

// expectation judges what a fault did; right is the answer without it.
type expectation func(t *testing.T, w wire, right []byte)

func statusOf(code int) expectation {
	return func(t *testing.T, w wire, _ []byte) {
		if w.bad != nil || w.resp.StatusCode != code {
			t.Errorf("got %.200q, want status %d", w.bytes, code)
		}
	}
}

// bodyIs expects 200 and a body made of the right one.
func bodyIs(want func(right string) string) expectation {
	return func(t *testing.T, w wire, right []byte) {
		if w.bad != nil || w.resp.StatusCode != 200 || string(w.body) != want(string(right)) {
			t.Errorf("got %.300q, %v, want body %.300q", w.bytes, w.bad, want(string(right)))
		}
	}
}

// badJSON expects 200 and a body that holds a text and is no JSON object.
func badJSON(holds string) expectation {
	return func(t *testing.T, w wire, right []byte) {
		var o map[string]any
		if w.bad != nil || w.resp.StatusCode != 200 || !bytes.Contains(w.body, []byte(holds)) || json.Unmarshal(w.body, &o) == nil {
			t.Errorf("got %.300q, %v, want a body with %q that is no JSON object", w.bytes, w.bad, holds)
		}
	}
}

// memberIs expects an object in which a member has a value.
func memberIs(name string, want any) expectation {
	return func(t *testing.T, w wire, _ []byte) {
		if got := w.told(t)[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// noEnd expects that nothing more came, and that nobody closed.
func noEnd(begins func(right string) string) expectation {
	return func(t *testing.T, w wire, right []byte) {
		var timeout net.Error
		if !errors.As(w.err, &timeout) || !timeout.Timeout() || !bytes.HasSuffix(w.bytes, []byte(begins(string(right)))) {
			t.Errorf("got %.300q and %v, want it to end in %.100q and to go on", w.bytes, w.err, begins(string(right)))
		}
	}
}

// torn expects an answer that HTTP cannot read to its end.
func torn(holds func(right string) string) expectation {
	return func(t *testing.T, w wire, right []byte) {
		if w.bad == nil || !bytes.HasSuffix(w.bytes, []byte(holds(string(right)))) {
			t.Errorf("got %.300q, want it torn after %.100q", w.bytes, holds(string(right)))
		}
	}
}

func half(s string) string              { return s[:len(s)/2] }
func nothing(string) string             { return "" }
func just(s string) func(string) string { return func(string) string { return s } }

// expectations holds one for each fault there is.
func expectations() map[string]expectation {
	all := map[string]expectation{
		"redirect": func(t *testing.T, w wire, _ []byte) {
			if w.bad != nil || w.resp.StatusCode != 307 || w.resp.Header.Get("Location") != "/redirected" {
				t.Errorf("got %.300q, want a redirect", w.bytes)
			}
		},
		"slow":      bodyIs(func(right string) string { return right }),
		"slow-body": bodyIs(func(right string) string { return right }),
		"slow-drip": bodyIs(func(right string) string { return right }),
		"hang":      noEnd(nothing),
		"stall":     noEnd(half),
		"cut":       torn(nothing),
		"reset": func(t *testing.T, w wire, _ []byte) {
			if w.err == nil || len(w.bytes) > 0 || !strings.Contains(w.err.Error(), "reset") {
				t.Errorf("got %.300q, %v, want a reset", w.bytes, w.err)
			}
		},
		"half":         torn(half),
		"no-http":      torn(just("SSH-2.0-robot\r\n\r\n")),
		"half-head":    torn(just("Content-Ty")),
		"two-lengths":  torn(just("{}")),
		"endless-head": func(t *testing.T, w wire, _ []byte) { want17MiB(t, w, "X-More: x") },
		"endless":      func(t *testing.T, w wire, _ []byte) { want17MiB(t, w, "Transfer-Encoding: chunked") },
		"huge": func(t *testing.T, w wire, _ []byte) {
			if padding, _ := w.told(t)["padding"].(string); len(padding) != 16<<20 {
				t.Errorf("got %d bytes more, want 16 MiB", len(padding))
			}
		},
		"huge-length": func(t *testing.T, w wire, right []byte) {
			torn(func(right string) string { return right })(t, w, right)
			if w.resp == nil || w.resp.ContentLength != 1<<40 {
				t.Errorf("got %.300q, want a length of 1 TiB", w.bytes)
			}
		},
		"empty":   bodyIs(nothing),
		"garbage": badJSON("garbage"),
		"not-json": func(t *testing.T, w wire, right []byte) {
			badJSON("<!doctype html>")(t, w, right)
			wantType(t, w, "text/html; charset=utf-8")
		},
		"wrong-type": func(t *testing.T, w wire, right []byte) {
			bodyIs(func(right string) string { return right })(t, w, right)
			wantType(t, w, "text/html; charset=utf-8")
		},
		"half-json":      bodyIs(half),
		"null":           bodyIs(just("null")),
		"array":          bodyIs(func(right string) string { return "[" + right + "]" }),
		"two-values":     bodyIs(func(right string) string { return right + right }),
		"duplicate-keys": bodyIs(func(right string) string { return right[:len(right)-1] + "," + right[1:] }),
		"deep":           badJSON(strings.Repeat("[", 100_000)),
		"many-members": func(t *testing.T, w wire, _ []byte) {
			if n := len(w.told(t)); n < 50_000 {
				t.Errorf("got %d members, want 50,000", n)
			}
		},
		"bad-utf8": func(t *testing.T, w wire, _ []byte) {
			if !bytes.Contains(w.body, []byte("\xff\xfe")) {
				t.Errorf("got %.300q, want bytes that are not UTF-8", w.body)
			}
		},
		"nul": memberIs("note", "\x00"),
		"bom": bodyIs(func(right string) string { return "\ufeff" + right }),
		"gzip": func(t *testing.T, w wire, right []byte) {
			z, err := gzip.NewReader(bytes.NewReader(w.body))
			if err != nil || w.resp.Header.Get("Content-Encoding") != "gzip" {
				t.Fatalf("got %.300q, want gzip", w.bytes)
			}
			if plain, err := io.ReadAll(z); err != nil || !bytes.Equal(plain, right) {
				t.Errorf("unpacked %q, %v, want %q", plain, err, right)
			}
		},
		"missing-fields": bodyIs(just("{}")),
		"wrong-kinds":    memberIs("result", 7.0),
		"wrong-value":    memberIs("result", "MAYBE"),
		"long-text":      memberIs("reason", strings.Repeat("x", 100_000)),
		"unknown-fields": memberIs("version2", 2.0),
		"error-result":   memberIs("result", "ERROR"),
		"no-ivms":        memberIs("ivms101", nil),
		"wrong-account": func(t *testing.T, w wire, _ []byte) {
			if got := beneficiaryOf(t, w); !strings.Contains(got, `"accountNumber":["another-account"]`) || !strings.Contains(got, "Robbins") {
				t.Errorf("told %s, want another account of the same person", got)
			}
		},
		"wrong-name": func(t *testing.T, w wire, _ []byte) {
			if got := beneficiaryOf(t, w); !strings.Contains(got, taylor) || strings.Contains(got, "Robbins") {
				t.Errorf("told %s, want another person of the same account", got)
			}
		},
		"extra-data": func(t *testing.T, w wire, _ []byte) {
			got := beneficiaryOf(t, w)
			for _, part := range []string{"Robbins", taylor, "unasked-surname", "unasked-local", "unasked-passport", "unasked-street", "unasked-customer", "unasked-place", "unasked-member"} {
				if !strings.Contains(got, part) {
					t.Errorf("told %s, want %s in it", got, part)
				}
			}
			if n := strings.Count(got, "unasked-passport"); n != 2 {
				t.Errorf("told of %d persons more than asked, want the customer and one more", n)
			}
		},
		"wrong-uuid":   memberIs("verificationUuid", "00000000-0000-4000-8000-000000000000"),
		"result-false": bodyIs(just(`{"result":false}`)),
	}
	for _, code := range []int{201, 204, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504} {
		all[strconv.Itoa(code)] = statusOf(code)
	}
	return all
}

func want17MiB(t *testing.T, w wire, holds string) {
	t.Helper()
	if len(w.bytes) != 17<<20 || !bytes.Contains(w.bytes[:1<<10], []byte(holds)) {
		t.Errorf("got %d bytes, %.200q, want 17 MiB and more", len(w.bytes), w.bytes)
	}
}

func wantType(t *testing.T, w wire, want string) {
	t.Helper()
	if got := w.resp.Header.Get("Content-Type"); got != want {
		t.Errorf("type is %q, want %q", got, want)
	}
}

// Every fault that the robot knows goes wrong on the wire as it says, and is
// gone after its time.
func TestEveryFaultGoesWrongOnTheWire(t *testing.T) {
	robot := start(t)
	all, _ := faultsOf(t, robot)
	wants := expectations()
	for _, f := range all {
		want := wants[f.Fault]
		if want == nil {
			t.Errorf("no test says what %s does", f.Fault)
			continue
		}
		delete(wants, f.Fault)
		t.Run(f.Fault, func(t *testing.T) {
			api := "user"
			if f.APIs != "all" && !strings.Contains(f.APIs, "user") {
				api = f.APIs
			}
			right := dial(t, robot, api, 0).body
			within := time.Duration(0)
			if f.Fault == "hang" || f.Fault == "stall" {
				within = 50 * time.Millisecond
			}
			plant(t, robot, fmt.Sprintf(`{"api":%q,"fault":%q,"times":1,"delayMs":0}`, api, f.Fault))
			want(t, dial(t, robot, api, within), right)
			if again := dial(t, robot, api, 0); !bytes.Equal(again.body, right) || again.resp.StatusCode != 200 {
				t.Errorf("after the fault the answer is %.300q, want %.300q", again.bytes, right)
			}
		})
	}
	for name := range wants {
		t.Errorf("the robot does not know %s", name)
	}
}

// What each fault is to the client that an enclave uses: a failure, or an
// answer that it must judge itself.
func TestAnEnclaveSurvivesEveryFault(t *testing.T) {
	robot := start(t)
	all, _ := faultsOf(t, robot)
	c, err := vasp.New(vasp.Config{Account: robot + "/verify/account", Verification: robot + "/verify/user", Transaction: robot + "/verify/tx", Callback: robot + "/callback"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	calls := map[string]func(context.Context) error{
		"user": func(ctx context.Context) error { _, err := c.VerifyUser(ctx, []byte(questions["user"][1])); return err },
		"account": func(ctx context.Context) error {
			_, err := c.VerifyAccount(ctx, []byte(questions["account"][1]))
			return err
		},
		"transaction": func(ctx context.Context) error {
			_, err := c.TransactionStatus(ctx, []byte(questions["transaction"][1]))
			return err
		},
		"callback": func(ctx context.Context) error { return c.Callback(ctx, []byte(questions["callback"][1])) },
	}
	harmless := strings.Fields("slow slow-body slow-drip unknown-fields error-result no-ivms wrong-account wrong-name extra-data wrong-uuid")
	for _, f := range all {
		for api, call := range calls {
			if f.APIs != "all" && !strings.Contains(f.APIs, api) {
				continue
			}
			plant(t, robot, fmt.Sprintf(`{"api":%q,"fault":%q,"times":1,"delayMs":0}`, api, f.Fault))
			ctx, cancel := context.WithCancel(t.Context())
			if f.Fault == "hang" || f.Fault == "stall" {
				ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
			}
			err := call(ctx)
			cancel()
			if (err == nil) != slices.Contains(harmless, f.Fault) {
				t.Errorf("%s of %s = %v", f.Fault, api, err)
			}
			if _, left := faultsOf(t, robot); len(left) != 0 {
				t.Fatalf("after %s of %s there is %s left", f.Fault, api, left)
			}
		}
	}
	if strayed := show[seen](t, robot+"/requests"); slices.ContainsFunc(strayed, func(s seen) bool { return s.Path == "/redirected" }) {
		t.Error("the client followed a redirect")
	}
}

// Whoever follows the redirect is seen.
func TestRedirectedIsSeen(t *testing.T) {
	robot := start(t, "ROBOT_TOKEN=s3cret")
	plant(t, robot, `{"api":"account","fault":"redirect"}`)
	ask(t, robot+"/verify/account", questions["account"][1], "Authorization", "Bearer s3cret")
	got := show[seen](t, robot+"/requests")
	if len(got) != 2 || got[1].Path != "/redirected" || got[1].Authorization != "Authorization: Bearer [masked]" || string(got[1].Body) != questions["account"][1] {
		t.Errorf("/requests shows %+v, want the second at /redirected", got)
	}
}

func TestFaultsAreCountedAndQueued(t *testing.T) {
	robot := start(t, "ROBOT_FAULTS=user:500:2, *:slow:1:0,callback:404")
	answers := func(api string) (all []int) {
		for range 4 {
			all = append(all, dial(t, robot, api, 0).resp.StatusCode)
		}
		return all
	}
	if got := answers("user"); !slices.Equal(got, []int{500, 500, 200, 200}) {
		t.Errorf("user answered %v, want 500 twice", got)
	}
	if _, planted := faultsOf(t, robot); len(planted) != 1 || string(planted[0]) != `{"api":"callback","fault":"404","delayMs":0}` {
		t.Errorf("planted is %s, want the callback's alone", planted)
	}
	if got := answers("callback"); !slices.Equal(got, []int{404, 404, 404, 404}) {
		t.Errorf("callback answered %v, want 404 always", got)
	}
	plant(t, robot, `{"api":"*","fault":"wrong-account","times":1}`)
	plant(t, robot, `{"api":"account","fault":"503","times":1}`)
	if got := answers("account"); !slices.Equal(got, []int{503, 200, 200, 200}) {
		t.Errorf("account answered %v, want what is for all to pass it by when it is for users only", got)
	}
	if status, _ := send(t, http.MethodDelete, robot+"/v1.0/faults", ""); status != 200 {
		t.Errorf("DELETE /v1.0/faults = %d", status)
	}
	if got := answers("callback"); !slices.Equal(got, []int{200, 200, 200, 200}) {
		t.Errorf("callback answered %v after everything was removed", got)
	}
}

// The answer was made and meant: what a callback told is known although its
// sender saw a failure.
func TestAFaultComesAfterTheDeed(t *testing.T) {
	robot := start(t)
	plant(t, robot, `{"api":"callback","fault":"cut","times":1}`)
	dial(t, robot, "callback", 0)
	if got := show[json.RawMessage](t, robot+"/callbacks"); len(got) != 1 {
		t.Errorf("/callbacks shows %d, want 1", len(got))
	}
}

func TestSlowWaits(t *testing.T) {
	robot := start(t)
	for _, name := range []string{"slow", "slow-body", "503"} {
		plant(t, robot, `{"api":"user","fault":"`+name+`","times":1,"delayMs":40}`)
		begun := time.Now()
		dial(t, robot, "user", 0)
		if took := time.Since(begun); took < 40*time.Millisecond {
			t.Errorf("%s answered after %s, want 40 ms at least", name, took)
		}
	}
}

// What never ends by itself ends with the robot, while somebody still waits.
func TestFaultsEndWithTheRobot(t *testing.T) {
	for _, name := range []string{"hang", "stall", "slow", "slow-drip", "endless", "endless-head"} {
		t.Run(name, func(t *testing.T) {
			var c net.Conn
			read := make(chan struct{})
			t.Cleanup(func() { c.Close(); <-read }) // after the robot's end, for which start's cleanup waits
			robot := start(t)
			plant(t, robot, `{"api":"account","fault":"`+name+`","delayMs":`+map[bool]string{true: "0", false: "3600000"}[strings.HasPrefix(name, "endless")]+`}`)
			c = open(t, robot, questions["account"][0], questions["account"][1])
			go func() { defer close(read); io.Copy(io.Discard, c) }()
			for len(show[seen](t, robot+"/requests")) == 0 {
			}
		})
	}
}

func TestFaultsThatCannotBeAreRefused(t *testing.T) {
	robot := start(t)
	for _, c := range []struct{ body, code, says string }{
		{`{"fault":"500"}`, "MISSING-API", "api"},
		{`{"api":"users","fault":"500"}`, "INVALID-API", "user, account, transaction, callback"},
		{`{"api":"user"}`, "MISSING-FAULT", "fault"},
		{`{"api":"user","fault":"501"}`, "INVALID-FAULT", "GET /v1.0/faults"},
		{`{"api":"callback","fault":"wrong-account"}`, "INVALID-API", "for user"},
		{`{"api":"user","fault":"500","times":-1}`, "INVALID-TIMES", "times"},
		{`{"api":"user","fault":"500","delayMs":-1}`, "INVALID-DELAY-MS", "delayMs"},
		{`{"api":"user","fault":"500","delayMs":9000000000000000000}`, "INVALID-DELAY-MS", "delayMs"},
		{`{"api":"user","fault":"500","delay":1}`, "INVALID-JSON", "/delay: unknown member"},
		{`[]`, "INVALID-JSON", "object"},
		{``, "INVALID-JSON", "refused"},
	} {
		status, got := ask(t, robot+"/v1.0/faults", c.body)
		if status != 400 || got["code"] != c.code || !strings.Contains(fmt.Sprint(got["message"]), c.says) {
			t.Errorf("%s = %d %v, want %s and %q", c.body, status, got, c.code, c.says)
		}
	}
	for _, plan := range []string{"500", "user:", "user:500:x", "user:500:1:x", "user:500:1:1:1", "user:500,", "user:500:0:-1", "nobody:500"} {
		var errs bytes.Buffer
		if code := robotcmd.Main([]string{"run"}, []string{"ROBOT_FAULTS=" + plan}, io.Discard, &errs); code != 2 || !strings.Contains(errs.String(), "ROBOT_FAULTS") {
			t.Errorf("ROBOT_FAULTS=%s: Main = %d %q, want 2", plan, code, errs.String())
		}
	}
	if _, planted := faultsOf(t, robot); len(planted) != 0 {
		t.Errorf("planted is %s, want nothing", planted)
	}
}

// The command, the API and the page list the same faults.
func TestFaultsAreListedEverywhere(t *testing.T) {
	var out bytes.Buffer
	if code := robotcmd.Main([]string{"faults"}, nil, &out, io.Discard); code != 0 {
		t.Fatalf("Main = %d, want 0", code)
	}
	page, err := os.ReadFile("../../docs/robot.md")
	if err != nil {
		t.Fatal(err)
	}
	all, _ := faultsOf(t, start(t))
	for _, f := range all {
		if line := fmt.Sprintf("| `%s` | %s | %s |\n", f.Fault, f.APIs, f.What); !bytes.Contains(page, []byte(line)) {
			t.Errorf("docs/robot.md lacks the line\n%s", line)
		}
		if !strings.Contains(out.String(), "\n"+f.Fault+" ") || !strings.Contains(out.String(), f.What) {
			t.Errorf("robotvasp faults does not list %s", f.Fault)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != len(all)+1 || len(all) < 30 {
		t.Errorf("robotvasp faults lists %d lines, want %d and one", n, len(all))
	}
}
