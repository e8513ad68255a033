package robotcmd

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// catalogue is every fault, grouped by what goes wrong. The names are for
// users' tests to rely on.
var catalogue = append(statusFaults(),
	fault{name: "redirect", what: "answers 307 and leads to " + redirected + " of the robot, which shows in /requests who followed", do: func(s *scene) {
		s.before()
		s.w.Header().Set("Location", redirected)
		reply(s.w, http.StatusTemporaryRedirect, s.right)
	}},

	// Time.
	fault{name: "slow", what: "waits delayMs and gives the right answer", waits: 10 * time.Second, do: func(s *scene) {
		s.before()
		s.answer(s.right)
	}},
	fault{name: "slow-body", what: "gives the right head at once and the body after delayMs", waits: 10 * time.Second, do: func(s *scene) {
		s.head(len(s.right))
		if !s.pause(s.delay) {
			cut()
		}
		s.w.Write(s.right)
	}},
	fault{name: "slow-drip", what: "gives the right answer, a byte each delayMs", waits: time.Second, do: func(s *scene) {
		s.head(len(s.right))
		for i := range s.right {
			if !s.pause(s.delay) || !s.write(s.right[i:i+1]) {
				cut()
			}
		}
	}},
	fault{name: "hang", what: "takes the request and never answers", do: func(s *scene) {
		s.forever()
		cut()
	}},
	fault{name: "stall", what: "gives half of the right answer, and then nothing without an end", do: func(s *scene) {
		s.before()
		s.head(len(s.right))
		if s.write(s.half()) {
			s.forever()
		}
		cut()
	}},

	// The connection.
	fault{name: "cut", what: "takes the request and closes the connection without an answer", do: func(s *scene) {
		s.before()
		cut()
	}},
	fault{name: "reset", what: "takes the request and resets the connection", do: raw(func(s *scene, c net.Conn) {
		if tcp := underTLS(c); tcp != nil {
			tcp.SetLinger(0)
		}
	})},
	fault{name: "half", what: "announces the right answer, gives half of it and closes the connection", do: func(s *scene) {
		s.before()
		s.head(len(s.right))
		s.write(s.half())
		cut()
	}},
	fault{name: "no-http", what: "answers in something that is not HTTP", do: rawText("SSH-2.0-robot\r\n\r\n")},
	fault{name: "half-head", what: "closes the connection inside the head of the answer", do: rawText("HTTP/1.1 200 OK\r\nContent-Ty")},
	fault{name: "two-lengths", what: "says two different lengths of the body in the head", do: rawText("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}")},
	fault{name: "endless-head", what: "gives headers without an end", do: raw(func(s *scene, c net.Conn) {
		s.until(c, []byte("HTTP/1.1 200 OK\r\n"), []byte("X-More: "+strings.Repeat("x", 4<<10)+"\r\n"))
	})},
	fault{name: "endless", what: "gives a body without an end, in chunks", do: func(s *scene) {
		s.before()
		s.w.Header().Set("Content-Type", "application/json")
		for block := bytes.Repeat([]byte(" "), 64<<10); s.write(block) && !s.over(); {
		}
		cut()
	}},
	fault{name: "huge", what: "gives the right answer with 16 MiB more of it", do: spoiled(func(s *scene, right map[string]any) {
		right["padding"] = strings.Repeat("x", 16<<20)
	})},
	fault{name: "huge-length", what: "announces 1 TiB, gives the right answer and closes the connection", do: func(s *scene) {
		s.before()
		s.head(1 << 40)
		s.write(s.right)
		cut()
	}},

	// The text.
	fault{name: "empty", what: "answers 200 without a body", do: textOf(func(*scene) string { return "" })},
	fault{name: "garbage", what: "gives random-looking bytes as JSON", do: textOf(func(*scene) string { return "\x00\xff\x1f\x8b garbage \xfe\x00" })},
	fault{name: "not-json", what: "gives a page of HTML", do: func(s *scene) {
		s.before()
		s.page(http.StatusOK, "text/html; charset=utf-8", "<!doctype html><title>Maintenance</title><p>Back soon.")
	}},
	fault{name: "wrong-type", what: "gives the right answer as text/html", do: func(s *scene) {
		s.before()
		s.page(s.status, "text/html; charset=utf-8", string(s.right))
	}},
	fault{name: "half-json", what: "gives the first half of the right answer as if it were whole", do: textOf(func(s *scene) string { return string(s.half()) })},
	fault{name: "null", what: "answers null", do: textOf(func(*scene) string { return "null" })},
	fault{name: "array", what: "gives the right answer inside an array", do: textOf(func(s *scene) string { return "[" + string(s.right) + "]" })},
	fault{name: "two-values", what: "gives the right answer twice, one after the other", do: textOf(func(s *scene) string { return string(s.right) + string(s.right) })},
	fault{name: "duplicate-keys", what: "gives every member of the right answer twice", do: textOf(func(s *scene) string {
		return strings.TrimSuffix(string(s.right), "}") + "," + strings.TrimPrefix(string(s.right), "{")
	})},
	fault{name: "deep", what: "gives the right answer with 100,000 arrays inside each other", do: textOf(func(s *scene) string {
		return s.with(`"deep":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000))
	})},
	fault{name: "many-members", what: "gives the right answer with 50,000 members more", do: textOf(func(s *scene) string {
		var more strings.Builder
		for i := range 50_000 {
			fmt.Fprintf(&more, `,"m%d":1`, i)
		}
		return s.with(more.String()[1:])
	})},
	fault{name: "bad-utf8", what: "gives the right answer with a text that is not UTF-8", do: textOf(func(s *scene) string { return s.with("\"note\":\"\xff\xfe\"") })},
	fault{name: "nul", what: "gives the right answer with a NUL character in a text", do: textOf(func(s *scene) string { return s.with(`"note":"\u0000"`) })},
	fault{name: "bom", what: "gives the right answer behind a byte order mark", do: textOf(func(s *scene) string { return "\ufeff" + string(s.right) })},
	fault{name: "gzip", what: "gives the right answer compressed, though nobody asked", do: func(s *scene) {
		s.before()
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		z.Write(s.right)
		z.Close()
		s.w.Header().Set("Content-Encoding", "gzip")
		reply(s.w, s.status, packed.Bytes())
	}},

	// The meaning.
	fault{name: "missing-fields", what: "answers an object without members", do: textOf(func(*scene) string { return "{}" })},
	fault{name: "wrong-kinds", what: "gives every member of the right answer as a number", do: spoiled(func(_ *scene, right map[string]any) {
		for name := range right {
			right[name] = 7
		}
	})},
	fault{name: "wrong-value", what: "answers with a result that the contract does not have", do: spoiled(func(_ *scene, right map[string]any) {
		for _, name := range []string{"result", "accountVerificationResult", "transactionStatus"} {
			if _, there := right[name]; there {
				right[name] = "MAYBE"
			}
		}
	})},
	fault{name: "long-text", what: "gives the right answer with 100,000 characters in each text that is free", apis: []string{apiUser, apiAccount, apiTransaction}, do: spoiled(func(s *scene, right map[string]any) {
		names := []string{"reason", "message"}
		if s.api == apiTransaction {
			names = []string{"txHash", "vout"}
		}
		for _, name := range names {
			right[name] = strings.Repeat("x", 100_000)
		}
	})},
	fault{name: "unknown-fields", what: "gives the right answer with members that the contract does not have, as it may", do: textOf(func(s *scene) string {
		return s.with(`"newer":{"than":["the","contract"]},"version2":2`)
	})},
	fault{name: "error-result", what: "answers ERROR, UNDEFINED-ERROR", apis: []string{apiUser}, do: textOf(func(*scene) string {
		return `{"result":"ERROR","reason":"UNDEFINED-ERROR","message":"A fault was planted.","version":"1.0"}`
	})},
	fault{name: "no-ivms", what: "gives the right answer without the beneficiary", apis: []string{apiUser}, do: spoiled(func(_ *scene, right map[string]any) {
		delete(right, "ivms101")
	})},
	fault{name: "wrong-account", what: "tells another account than the one that was asked for", apis: []string{apiUser}, do: spoiled(func(_ *scene, right map[string]any) {
		to := toldBeneficiary(right)
		to["accountNumber"] = []any{"another-account"}
	})},
	fault{name: "wrong-name", what: "tells another name than the beneficiary's", apis: []string{apiUser}, do: spoiled(func(_ *scene, right map[string]any) {
		toldBeneficiary(right)["beneficiaryPersons"] = []any{unasked(`{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Another","secondaryIdentifier":"Person","nameIdentifierType":"LEGL"}]}}}`)}
	})},
	fault{name: "extra-data", what: "tells personal data that nobody asked for; its texts begin with `unasked`", apis: []string{apiUser}, do: spoiled(func(_ *scene, right map[string]any) {
		to := toldBeneficiary(right)
		persons, _ := to["beneficiaryPersons"].([]any)
		for _, p := range persons {
			addTo(p, unasked(unaskedPerson))
		}
		to["beneficiaryPersons"] = append(persons, unasked(unaskedPerson))
	})},
	fault{name: "wrong-uuid", what: "answers about another verification", apis: []string{apiTransaction}, do: spoiled(func(_ *scene, right map[string]any) {
		right["verificationUuid"] = "00000000-0000-4000-8000-000000000000"
	})},
	fault{name: "result-false", what: `answers 200 and {"result":false}`, apis: []string{apiCallback}, do: textOf(func(*scene) string { return `{"result":false}` })},
)

// redirected is the path to which the fault `redirect` leads.
const redirected = "/redirected"

// statusFaults answer with a status, and mostly with an error's body.
func statusFaults() (list []fault) {
	for _, code := range []int{201, 204, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504} {
		f := fault{name: strconv.Itoa(code), what: "answers " + strconv.Itoa(code) + " " + http.StatusText(code)}
		switch {
		case code == http.StatusCreated:
			f.what += ", with the right body"
			f.do = func(s *scene) { s.before(); reply(s.w, code, s.right) }
		case code == http.StatusNoContent:
			f.what += ", without a body"
			f.do = func(s *scene) { s.before(); s.w.WriteHeader(code) }
		default:
			f.do = func(s *scene) { s.before(); refuse(s.w, code, "PLANTED", "A fault was planted.") }
		}
		list = append(list, f)
	}
	return list
}

// scene is one request whose answer goes wrong.
type scene struct {
	w      http.ResponseWriter
	r      *http.Request
	api    string
	status int    // of the right answer
	right  []byte // the right answer, a JSON object
	delay  time.Duration
	ending <-chan struct{} // closed when the program ends
}

// cut ends the request and its connection.
func cut() { panic(http.ErrAbortHandler) }

// pause waits; false when nobody waits for the answer any more.
func (s *scene) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.r.Context().Done():
	case <-s.ending:
	}
	return false
}

// before is the delay in front of a fault that has no other use for it.
func (s *scene) before() {
	if s.delay > 0 && !s.pause(s.delay) {
		cut()
	}
}

// forever waits until whoever asked leaves, or the program ends.
func (s *scene) forever() {
	select {
	case <-s.r.Context().Done():
	case <-s.ending:
	}
}

// over says whether nobody waits any more.
func (s *scene) over() bool {
	select {
	case <-s.r.Context().Done():
		return true
	case <-s.ending:
		return true
	default:
		return false
	}
}

// patience is how long one write may wait for a reader that does not read.
const patience = 3 * time.Second

// write sends at once; false when nobody reads.
func (s *scene) write(b []byte) bool {
	control := http.NewResponseController(s.w)
	control.SetWriteDeadline(time.Now().Add(patience))
	defer control.SetWriteDeadline(time.Time{}) // the connection may go on
	_, err := s.w.Write(b)
	return err == nil && control.Flush() == nil
}

func (s *scene) half() []byte { return s.right[:len(s.right)/2] }

// head sends the head of an answer of a length.
func (s *scene) head(length int) {
	s.w.Header().Set("Content-Type", "application/json")
	s.w.Header().Set("Content-Length", strconv.Itoa(length))
	s.w.WriteHeader(s.status)
	http.NewResponseController(s.w).Flush()
}

func (s *scene) answer(body []byte) { reply(s.w, s.status, body) }

func (s *scene) page(status int, kind, body string) {
	s.w.Header().Set("Content-Type", kind)
	s.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	s.w.WriteHeader(status)
	io.WriteString(s.w, body)
}

// with is the right answer with more members.
func (s *scene) with(members string) string {
	return strings.TrimSuffix(string(s.right), "}") + "," + members + "}"
}

// textOf makes a fault that gives a text as JSON.
func textOf(make func(*scene) string) func(*scene) {
	return func(s *scene) {
		s.before()
		s.answer([]byte(make(s)))
	}
}

// spoiled makes a fault that changes the right answer's members.
func spoiled(change func(*scene, map[string]any)) func(*scene) {
	return textOf(func(s *scene) string {
		right := map[string]any{}
		if json.Unmarshal(s.right, &right) != nil {
			return "{}"
		}
		change(s, right)
		text, _ := json.Marshal(right)
		return string(text)
	})
}

// raw makes a fault that has the connection to itself, and closes it.
func raw(do func(*scene, net.Conn)) func(*scene) {
	return func(s *scene) {
		s.before()
		c, _, err := http.NewResponseController(s.w).Hijack()
		if err != nil {
			cut()
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		do(s, c)
	}
}

func rawText(text string) func(*scene) {
	return raw(func(_ *scene, c net.Conn) { io.WriteString(c, text) })
}

// until sends a text, and then another again and again, until nobody reads or
// the program ends.
func (s *scene) until(c net.Conn, begin, again []byte) {
	for text := begin; ; text = again {
		select {
		case <-s.ending:
			return
		default:
		}
		c.SetWriteDeadline(time.Now().Add(patience))
		if _, err := c.Write(text); err != nil {
			return
		}
	}
}

// underTLS is the TCP connection of c, nil when there is none.
func underTLS(c net.Conn) *net.TCPConn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	tcp, _ := c.(*net.TCPConn)
	return tcp
}

// toldBeneficiary is the beneficiary of an answer, which is made when the
// answer has none.
func toldBeneficiary(right map[string]any) map[string]any {
	ivms, _ := right["ivms101"].(map[string]any)
	if ivms == nil {
		ivms = map[string]any{}
		right["ivms101"] = ivms
	}
	to, _ := ivms["beneficiary"].(map[string]any)
	if to == nil {
		to = map[string]any{}
		ivms["beneficiary"] = to
	}
	return to
}

const unaskedPerson = `{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"unasked-surname","secondaryIdentifier":"unasked-name","nameIdentifierType":"LEGL"}],` +
	`"localNameIdentifier":[{"primaryIdentifier":"unasked-local","nameIdentifierType":"LEGL"}]},` +
	`"geographicAddress":[{"addressType":"HOME","addressLine":["unasked-street 1"],"townName":"unasked-town","country":"KR"}],` +
	`"nationalIdentification":{"nationalIdentifier":"unasked-passport","nationalIdentifierType":"CCPT","countryOfIssue":"KR"},` +
	`"customerIdentification":"unasked-customer","dateAndPlaceOfBirth":{"dateOfBirth":"1901-01-01","placeOfBirth":"unasked-place"},` +
	`"countryOfResidence":"KR","nationality":"KR","unaskedMember":"unasked-member"}}`

func unasked(person string) (p map[string]any) {
	_ = json.Unmarshal([]byte(person), &p) // a constant
	return p
}

// addTo adds members to a told person, who keeps the ones they have.
func addTo(told any, more map[string]any) {
	to, _ := told.(map[string]any)
	for name, value := range more {
		mine, there := to[name]
		switch inner, nested := value.(map[string]any); {
		case to == nil:
		case !there && name != "naturalPerson":
			to[name] = value
		case nested:
			addTo(mine, inner)
		}
	}
}
