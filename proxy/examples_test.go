package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi/openapitest"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Every example in both documents happens: each request is sent to a world in
// which the answer beside it is the one to come, and each call at a backend is
// heard and answered as its document shows. Ids and times differ.
func TestEveryExampleHappens(t *testing.T) {
	heard := &hearing{examples: map[string]bool{}}
	done := 0
	for _, o := range openapitest.Enclave().Operations {
		if len(allExamples(o)) == 0 {
			continue
		}
		t.Run(o.ID, func(t *testing.T) {
			s := newScene(t, heard)
			sent := map[string]bool{}
			for _, status := range slices.Sorted(maps.Keys(o.Responses)) {
				for _, name := range slices.Sorted(maps.Keys(o.Responses[status].Examples)) {
					t.Run(fmt.Sprintf("%d %s", status, name), func(t *testing.T) {
						sent[s.play(t, o, status, name)] = true
					})
					done++
				}
			}
			for name := range allExamples(o) {
				if !sent[name] {
					t.Errorf("%s: no answer belongs to the request %q", o.ID, name)
				}
			}
			s.settle()
		})
	}
	t.Run("what only the VASP API shows", func(t *testing.T) {
		s := newScene(t, heard)
		s.transfer(t, "failed")
		s.transfer(t, "denied")
		s.settle()
	})
	if done < 60 {
		t.Errorf("%d examples of the Enclave API, want at least 60", done)
	}
	for _, o := range openapitest.VASP().Operations {
		for name := range o.Body.Examples {
			if !heard.examples[o.ID+"/"+name] {
				t.Errorf("no backend heard and answered %s as in the example %q", o.ID, name)
			}
		}
		for name := range o.Responses[http.StatusOK].Examples {
			if _, ok := o.Body.Examples[name]; !ok {
				t.Errorf("%s: no request belongs to the answer %q", o.ID, name)
			}
		}
	}
}

// allExamples are the names of an operation's request examples, "" for a
// request without any.
func allExamples(o *openapitest.Operation) map[string]bool {
	names := map[string]bool{}
	for _, p := range o.Parameters {
		for name := range p.Examples {
			names[name] = true
		}
	}
	if o.Body != nil {
		for name := range o.Body.Examples {
			names[name] = true
		}
	}
	answers := 0
	for _, r := range o.Responses {
		answers += len(r.Examples)
	}
	if len(names) == 0 && answers > 0 {
		names[""] = true
	}
	return names
}

// documented is the verification that the documents' examples are about.
const documented = "6c0b5e52-8f6c-4b8a-9d0b-7a1c3f5e2d94"

// scene is a world of the two VASPs of the examples, whose backends are
// servers that answer by the document.
type scene struct {
	*proxytest.World
	t       *testing.T
	heard   *hearing
	history map[identity.VASPID]*closable
	answers map[string]string // of backends: example by path; "" fails
	id      string            // what documented stands for
	mu      sync.Mutex
}

var legalNames = map[identity.VASPID]string{proxytest.IDOfA: "Alpha Exchange Ltd", proxytest.IDOfB: "Bravo Coin Ltd"}

func newScene(t *testing.T, heard *hearing) *scene {
	s := &scene{t: t, heard: heard, history: map[identity.VASPID]*closable{}, id: documented, answers: map[string]string{
		"/verify/account": "with-name", "/verify/user": "verified", "/verify/tx": "confirmed", "/callback": "verified",
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.World = proxytest.NewWorld(t, func(c *proxy.Config) {
		client, err := vasp.New(vasp.Config{
			Account: server.URL + "/verify/account", Verification: server.URL + "/verify/user",
			Transaction: server.URL + "/verify/tx", Callback: server.URL + "/callback",
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		s.history[c.Self] = &closable{History: c.History}
		c.Backend, c.History = client, s.history[c.Self]
		c.VASPIVMS101 = fmt.Appendf(nil, `{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":%q,"legalPersonNameIdentifierType":"LEGL"}]}}}`, legalNames[c.Self])
	})
	return s
}

// answer has every backend answer a path by an example; "" has it fail.
func (s *scene) answer(path, example string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = example
}

// is lets documented stand for another verification.
func (s *scene) is(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
}

func (s *scene) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	if err := openapitest.VASP().Request(r.Method, r.URL.Path, body); err != nil {
		s.t.Errorf("a backend hears what is not in the document: %v", err)
	}
	s.mu.Lock()
	example, id := s.answers[r.URL.Path], s.id
	s.mu.Unlock()
	if example == "" {
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	}
	o := operationAt(openapitest.VASP(), r.URL.Path)
	answer := strings.ReplaceAll(encoded(s.t, o.Responses[http.StatusOK].Examples[example]), documented, id)
	s.heard.note(o, example, body)
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, answer)
}

func operationAt(d *openapitest.Document, path string) *openapitest.Operation {
	i := slices.IndexFunc(d.Operations, func(o *openapitest.Operation) bool { return o.Path == path })
	return d.Operations[i]
}

// hearing is which examples of the VASP API were heard, and answered.
type hearing struct {
	mu       sync.Mutex
	examples map[string]bool
}

// note compares what was heard with the examples. All callbacks have the same
// answer, so any of them may be heard; a question's answer is the one beside.
func (h *hearing) note(o *openapitest.Operation, answered string, body []byte) {
	var got any
	if json.Unmarshal(body, &got) != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, example := range o.Body.Examples {
		if (name == answered || o.ID == "callback") && cmp.Equal(normal(got), normal(plain(example))) {
			h.examples[o.ID+"/"+name] = true
		}
	}
}

// transfer is a verification from A that B's backend answers by an example,
// brought to its end.
func (s *scene) transfer(t *testing.T, answered string) {
	t.Helper()
	s.answer("/verify/user", answered)
	s.is(s.verify(t))
	s.Await("the verification ends", func() bool {
		_, answer := s.A.Call(http.MethodGet, "/v1/verifications/"+s.id, nil)
		return !contains(answer, `"WAIT"`)
	})
	s.settle()
}

// verify sends the documented verification.
func (s *scene) verify(t *testing.T) string {
	t.Helper()
	o := operation(t, "verify")
	return ask(t, s.A, o.Method, o.Path, []byte(encoded(t, o.Body.Examples["accepted"])))["verificationUuid"].(string)
}

// settle waits until nothing is to be delivered.
func (s *scene) settle() {
	s.Await("everything is delivered", func() bool {
		a, errA := s.A.History.Outbox(context.Background())
		b, errB := s.B.History.Outbox(context.Background())
		return errA == nil && errB == nil && len(a)+len(b) == 0
	})
}

func operation(t *testing.T, id string) *openapitest.Operation {
	t.Helper()
	for _, o := range openapitest.Enclave().Operations {
		if o.ID == id {
			return o
		}
	}
	t.Fatalf("no operation %s", id)
	return nil
}

// plot is how an example's answer comes about.
type plot struct {
	ask   string                       // the request's example; "": the one of the answer's name, or the first that succeeds
	byB   bool                         // B's backend asks, not A's
	given func(*testing.T, *scene)     // what is the case before
	until string                       // in the answer, when it takes a moment to come
	edit  func(*http.Request, *string) // a change of the request, and of its body
	token string                       // what the enclave asks for
}

// plots are those of examples that need more than their request, by operation
// and example or, for answers that many operations share, by example alone.
var plots = map[string]plot{
	"directory/of-one-protocol": {until: "Bravo Coin", given: func(_ *testing.T, s *scene) {
		s.Central.EditDirectory(func(d *relay.Directory) {
			a, b := &d.VASPs[0], &d.VASPs[1]
			a.VASPName, a.LegalName, a.Jurisdiction, a.Country, a.CountryCode = "Alpha Exchange", "Alpha Exchange Ltd", "Singapore", "Singapore", "SG"
			b.VASPName, b.Health, b.LegalName, b.LicensedStatus = "Bravo Coin", relay.Down, "", ""
			other := *b
			other.VASPID, other.Protocol = 7, "CODE"
			d.VASPs = append(d.VASPs, other)
		})
	}},
	"checkAccount/verified":            {given: accountAnswered("with-name")},
	"checkAccount/denied":              {given: accountAnswered("account-alone")},
	"history/one-sent":                 {given: transferred("verified")},
	"verification/verified":            {given: transferred("verified")},
	"verification/waiting":             {given: waiting},
	"verification/denied-and-reported": {given: deniedAndReported},
	"reportTransaction/reported":       {given: transferred("verified")},
	"reportTransaction/of-a-received":  {byB: true, given: transferred("verified")},
	"reportError/reported":             {given: transferred("verified")},
	"inquire/confirmed":                {byB: true, given: statusTold("confirmed")},
	"inquire/pending":                  {byB: true, given: statusTold("pending")},
	"inquire/of-a-sent":                {given: transferred("verified")},
	"inquire/no-usable-answer":         {byB: true, given: statusTold("")},
	"inquire/blocked":                  {byB: true, given: both(transferred("verified"), blocked)},
	"inquire/late":                     {byB: true, given: both(transferred("verified"), answersLate)},
	"inquire/tampered":                 {byB: true, given: both(transferred("verified"), tampered)},
	"inquire/central-away":             {byB: true, given: both(transferred("verified"), centralAway)},
	"inquire/history-closed":           {byB: true, given: both(transferred("verified"), historyClosed)},

	"blocked":        {given: blocked},
	"late":           {given: answersLate},
	"tampered":       {given: tampered},
	"central-away":   {given: centralAway},
	"history-closed": {given: historyClosed},
	"no-token":       {token: "a token"},
	"too-large":      {edit: func(_ *http.Request, body *string) { *body += strings.Repeat(" ", proxy.MaxRequest) }},
	"compressed":     {edit: func(r *http.Request, _ *string) { r.Header.Set("Content-Encoding", "gzip") }},
}

func both(first, then func(*testing.T, *scene)) func(*testing.T, *scene) {
	return func(t *testing.T, s *scene) { first(t, s); then(t, s) }
}

func accountAnswered(example string) func(*testing.T, *scene) {
	return func(_ *testing.T, s *scene) { s.answer("/verify/account", example) }
}

func transferred(answered string) func(*testing.T, *scene) {
	return func(t *testing.T, s *scene) { s.transfer(t, answered) }
}

func statusTold(example string) func(*testing.T, *scene) {
	return func(t *testing.T, s *scene) { s.transfer(t, "verified"); s.answer("/verify/tx", example) }
}

func waiting(t *testing.T, s *scene) {
	centralAway(t, s)
	s.is(s.verify(t))
}

func deniedAndReported(t *testing.T, s *scene) {
	s.transfer(t, "denied")
	o := operation(t, "reportTransaction")
	ask(t, s.A, o.Method, o.Path, []byte(strings.ReplaceAll(encoded(t, o.Body.Examples["reported"]), documented, s.id)))
}

func blocked(t *testing.T, s *scene) {
	ask(t, s.A, http.MethodPost, "/v1/verifications/account", accountTo(s.B.ID)) // so that they have met
	for p, other := range map[*proxytest.Party]*proxytest.Party{s.A: s.B, s.B: s.A} {
		if _, err := p.Enclave.BlockPeer(t.Context(), other.ID, "tester"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := p.Enclave.AcceptPeer(context.Background(), other.ID, identity.FingerprintDigits(other.Signer.Public()), "tester"); err != nil {
				t.Error(err)
			}
		})
	}
}

func answersLate(t *testing.T, s *scene) {
	s.Central.Tamper(func(_, _ identity.VASPID, _ []byte) ([]byte, error) {
		return nil, &relay.Error{Code: relay.CodeTimeout, Status: http.StatusGatewayTimeout}
	})
	t.Cleanup(func() { s.Central.Tamper(nil) })
}

func tampered(t *testing.T, s *scene) {
	s.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		changed := bytes.Clone(reply)
		changed[len(changed)-1] ^= 1
		return changed, nil
	})
	t.Cleanup(func() { s.Central.TamperReply(nil) })
}

func centralAway(t *testing.T, s *scene) {
	s.Central.Down(true)
	t.Cleanup(func() { s.Central.Down(false) })
}

func historyClosed(t *testing.T, s *scene) {
	for _, h := range s.history {
		h.closed.Store(true)
		t.Cleanup(func() { h.closed.Store(false) })
	}
}

// play sends the request that belongs to an answer's example, compares the
// answer, and says which example was sent.
func (s *scene) play(t *testing.T, o *openapitest.Operation, status int, name string) (sent string) {
	p, ok := plots[o.ID+"/"+name]
	if !ok {
		p = plots[name]
	}
	sent = p.ask
	if names := allExamples(o); sent == "" && names[name] {
		sent = name
	} else if sent == "" {
		sent = s.usual(o)
	}
	if p.given != nil {
		p.given(t, s)
	}
	from := s.A
	if p.byB {
		from = s.B
	}
	var got *httptest.ResponseRecorder
	s.Await("the answer comes", func() bool {
		r, body := s.request(t, o, sent, p)
		got = from.Serve(p.token, r, body)
		return strings.Contains(got.Body.String(), p.until)
	})
	var answer any
	if err := json.Unmarshal(got.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%d %s: %v", got.Code, got.Body, err)
	}
	if got.Code != status {
		t.Fatalf("%d %s, want %d", got.Code, got.Body, status)
	}
	if diff := cmp.Diff(normal(plain(o.Responses[status].Examples[name])), normal(answer)); diff != "" {
		t.Errorf("the answer is not the example (-example +answer):\n%s", diff)
	}
	return sent
}

// usual is the first request example that succeeds, "" when none is needed.
func (s *scene) usual(o *openapitest.Operation) string {
	for _, name := range slices.Sorted(maps.Keys(o.Responses[http.StatusOK].Examples)) {
		if allExamples(o)[name] {
			return name
		}
	}
	return ""
}

// request is a request example, about the verification of the scene.
func (s *scene) request(t *testing.T, o *openapitest.Operation, name string, p plot) (*http.Request, []byte) {
	path, query, body := o.Path, url.Values{}, ""
	for _, parameter := range o.Parameters {
		value, ok := parameter.Examples[name]
		switch {
		case !ok:
		case parameter.In == "path":
			path = strings.ReplaceAll(path, "{"+parameter.Name+"}", fmt.Sprint(value))
		default:
			query.Set(parameter.Name, fmt.Sprint(value))
		}
	}
	if o.Body != nil {
		body = encoded(t, o.Body.Examples[name])
	}
	path, body = strings.ReplaceAll(path, documented, s.id), strings.ReplaceAll(body, documented, s.id)
	r := httptest.NewRequest(o.Method, path+"?"+query.Encode(), nil)
	if p.edit != nil {
		p.edit(r, &body)
	}
	r.Body = io.NopCloser(strings.NewReader(body))
	return r, []byte(body)
}

// normal replaces what differs from time to time, and reads strings that hold
// JSON.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		n := map[string]any{}
		for name, inner := range v {
			switch name {
			case "verificationUuid", "verificationId", "createdAt", "updatedAt", "verifiedAt", "orderedAt":
				if inner != nil {
					inner = "<" + name + ">"
				}
			}
			n[name] = normal(inner)
		}
		return n
	case []any:
		n := make([]any, len(v))
		for i := range v {
			n[i] = normal(v[i])
		}
		return n
	case string:
		var inner map[string]any
		if json.Unmarshal([]byte(v), &inner) == nil {
			return inner
		}
	}
	return v
}

// plain is a value of a document as encoding/json reads it.
func plain(v any) (p any) {
	b, _ := json.Marshal(v)
	_ = json.Unmarshal(b, &p)
	return p
}

func encoded(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// closable is a history that can be out of reach.
type closable struct {
	storage.History
	closed atomic.Bool
}

var errClosed = errors.New("the history is closed")

func (c *closable) Apply(ctx context.Context, change *storage.Change) error {
	if c.closed.Load() {
		return errClosed
	}
	return c.History.Apply(ctx, change)
}

func (c *closable) Lookup(ctx context.Context, id uuid.UUID) ([]*storage.Verification, error) {
	if c.closed.Load() {
		return nil, errClosed
	}
	return c.History.Lookup(ctx, id)
}

func (c *closable) List(ctx context.Context, f storage.Filter) ([]*storage.Verification, int, error) {
	if c.closed.Load() {
		return nil, 0, errClosed
	}
	return c.History.List(ctx, f)
}

// What paths and methods outside the document answer, as it shows it.
func TestExamplesOfNoSuchPathAndMethod(t *testing.T) {
	w := proxytest.NewWorld(t)
	for _, c := range []struct {
		method, path string
		status       int
		example      any
	}{
		{http.MethodGet, "/v2/verifications", http.StatusNotFound, openapitest.Enclave().NoSuchPath.Examples["no-such-path"]},
		{http.MethodDelete, "/v1/vasps", http.StatusMethodNotAllowed, openapitest.Enclave().NoSuchMethod.Examples["no-such-method"]},
	} {
		status, answer := w.A.Call(c.method, c.path, nil)
		if status != c.status {
			t.Errorf("%s %s = %d", c.method, c.path, status)
		}
		sameJSON(t, c.path, answer, encoded(t, c.example))
	}
}

// The document has the paths and methods of the API, and says which need the
// token.
func TestTheDocumentHasEveryRoute(t *testing.T) {
	open, closed := new(proxy.Enclave).Routes()
	documentedOpen, documentedClosed := map[string][]string{}, map[string][]string{}
	for _, o := range openapitest.Enclave().Operations {
		in := documentedOpen
		if o.Guarded {
			in = documentedClosed
		}
		in[o.Path] = append(in[o.Path], o.Method)
	}
	if diff := cmp.Diff(open, documentedOpen); diff != "" {
		t.Errorf("without a token (-API +document):\n%s", diff)
	}
	if diff := cmp.Diff(closed, documentedClosed); diff != "" {
		t.Errorf("with a token (-API +document):\n%s", diff)
	}
}

// The documents are served as they are, to whoever can connect.
func TestDocumentsAreServed(t *testing.T) {
	w := proxytest.NewWorld(t)
	for path, want := range map[string][]byte{openapi.EnclavePath: openapi.Enclave, openapi.VASPPath: openapi.VASP} {
		recorder := w.A.Serve("a token", httptest.NewRequest(http.MethodGet, path, nil), nil)
		if recorder.Code != http.StatusOK || !bytes.Equal(recorder.Body.Bytes(), want) {
			t.Errorf("GET %s = %d, %d bytes", path, recorder.Code, recorder.Body.Len())
		}
	}
}
