package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// withCustody gives a party the operator's commands about keys and history.
func withCustody(c *proxy.Config) { c.Custody = c.History.(*bolt.DB) }

func operator(t *testing.T, p *proxytest.Party, method, path, body string) (status int, said string) {
	t.Helper()
	h := p.Enclave.Operator(p.History, p.History.Keys().PrivateAEAD(), func(*http.Request) string { return "uid 7" })
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// K4: a verification that was erased is not asked about a second time, neither
// in the envelope that brought it nor in a new one, as long as one may come.
func TestARepeatAfterErasureAsksNobody(t *testing.T) {
	w := proxytest.NewWorld(t)
	w.B.Stop()
	w.B.Tweak(withCustody)
	w.B.Start()
	verified(w)
	id := uuid.New()
	sealed := question(w, id)
	if _, reply := w.Central.Send(w.B.ID, sealed); proxytest.TypeOf(reply) != envelope.VerificationAnswer {
		t.Fatalf("answered with a %s", proxytest.TypeOf(reply))
	}
	if status, said := operator(t, w.B, "POST", "/history/"+id.String()+"/erase", `{"reason":"GDPR-1"}`); status != http.StatusOK || !strings.Contains(said, "sha256:") {
		t.Fatalf("erase: %d %s", status, said)
	}
	for _, again := range [][]byte{sealed, question(w, id)} {
		if _, reply := w.Central.Send(w.B.ID, again); wordOf(w.B, reply) != "ENVELOPE-REJECTED" {
			t.Errorf("answered %s, want ENVELOPE-REJECTED: BUSY would have it asked again", wordOf(w.B, reply))
		}
	}
	w.B.Stop()
	w.B.Start()
	if _, reply := w.Central.Send(w.B.ID, question(w, id)); wordOf(w.B, reply) != "ENVELOPE-REJECTED" {
		t.Errorf("after a restart answered %s, want ENVELOPE-REJECTED", wordOf(w.B, reply))
	}
	if n := len(w.B.Backend.Asked()); n != 1 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// What is refused to an operator says why, and changes nothing.
func TestCustodyCommandsAreChecked(t *testing.T) {
	w := proxytest.NewWorld(t)
	if status, _ := operator(t, w.B, "GET", "/keys", ""); status != http.StatusNotFound {
		t.Errorf("without a store that has them: status %d, want 404", status)
	}
	w.B.Stop()
	w.B.Tweak(withCustody)
	w.B.Start()
	id := uuid.NewString()
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/keys/kek", `{"value":"x"}`, "reads no other key"},
		{"POST", "/keys/data", `{"period":"March"}`, "YYYY-MM-DD"},
		{"POST", "/keys/data", `{"period":"1999-01-01"}`, "no data key for that period"},
		{"POST", "/keys/data", `{"all":`, "cannot be read"},
		{"GET", "/history/" + id, "", "not found"},
		{"GET", "/history/nonsense", "", "named by its UUID"},
		{"POST", "/history/" + id + "/erase", `{"reason":"GDPR-1"}`, "not found"},
		{"POST", "/history/" + id + "/erase", `{}`, "reason must be a code"},
		{"POST", "/history/holds", `{"reason":"CASE-1"}`, "YYYY-MM-DD"},
		{"POST", "/history/holds/release", `{"period":"2026-01-01"}`, "no such hold"},
		{"GET", "/history/export?formats=xml", "", "formats are jsonl and csv"},
		{"GET", "/history/export?result=MAYBE", "", "`result` should be"},
	} {
		if status, said := operator(t, w.B, c.method, c.path, c.body); status < 400 || !strings.Contains(said, c.want) {
			t.Errorf("%s %s %s: %d %s, want %q", c.method, c.path, c.body, status, said, c.want)
		}
	}
}

// Nothing is erased unless it is asked for, and then what is older.
func TestRetentionErasesWhatIsOlder(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	var ids []uuid.UUID
	for range 3 {
		id := uuid.New()
		ids = append(ids, id)
		if _, reply := w.Central.Send(w.B.ID, question(w, id)); proxytest.TypeOf(reply) != envelope.VerificationAnswer {
			t.Fatalf("answered with a %s", proxytest.TypeOf(reply))
		}
	}
	for _, c := range []struct {
		keep, ahead time.Duration
		want        int
	}{{24 * time.Hour, 0, 3}, {0, 900 * 24 * time.Hour, 3}, {24 * time.Hour, 0, 0}} { // time goes on from one to the next
		w.B.Stop()
		w.B.Tweak(withCustody, func(config *proxy.Config) {
			config.Retention = c.keep
			now := config.Now
			config.Now = func() time.Time { return now().Add(c.ahead) }
		})
		w.B.Start()
		if err := w.B.Enclave.RetainOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		left := 0
		for _, id := range ids {
			if _, err := w.B.History.Lookup(t.Context(), id); err == nil {
				left++
			}
		}
		if left != c.want {
			t.Errorf("kept for %v, after %v: %d of 3 are left, want %d", c.keep, c.ahead, left, c.want)
		}
	}
}
