package sandbox_test

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/centralcmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// entrance is one line of the table of who may pass where: a route of the code
// on the listener that serves it. On every other listener it is refused to
// everybody.
type entrance struct {
	door, route string
	to          func(credentials) bool // who passes
	status      int                    // of an answer to one who passed, with the body {}
}

// started is the status of what is done in the background: 200, or 400 while it
// is being done already.
const started = -1

func (e entrance) answers(status int) bool {
	if e.status == started {
		return status == http.StatusOK || status == http.StatusBadRequest
	}
	return status == e.status
}

// entrances is the whole table. A route that is new in the code fails
// TestEveryRouteOnEveryListenerWithEveryCredential until it has its line here.
var entrances = []entrance{
	{"enclave backend", "GET /healthcheck", anyone, 200},
	{"enclave backend", "GET /openapi.json", anyone, 200},
	{"enclave backend", "GET /openapi-vasp.json", anyone, 200},
	{"enclave backend", "GET /v1/vasps/self", theBackend, 200},
	{"enclave backend", "GET /v1/vasps", theBackend, 200},
	{"enclave backend", "GET /v1/verifications", theBackend, 200},
	{"enclave backend", "GET /v1/verifications/{uuid}", theBackend, 200},
	{"enclave backend", "POST /v1/verifications", theBackend, 400},
	{"enclave backend", "POST /v1/verifications/account", theBackend, 400},
	{"enclave backend", "POST /v1/verifications/tx", theBackend, 400},
	{"enclave backend", "POST /v1/verifications/error", theBackend, 400},
	{"enclave backend", "POST /v1/verifications/tx/inquiry", theBackend, 400},

	{"enclave public", "POST /relay/v1/messages", signers(relay.CentralToEnclave), 400},
	{"enclave public", "GET /healthcheck", unsignedOr(signers(relay.CentralToEnclave)), 200},

	{"enclave metrics", "GET /metrics", anyone, 200},
	{"enclave admin", "GET /livez", anyone, 200},
	{"enclave admin", "GET /readyz", anyone, 200},
	{"enclave admin", "GET /startupz", anyone, 200},

	{"central public", "POST /relay/v1/messages", signers(relay.EnclaveToCentral), 400},
	{"central public", "PUT /relay/v1/enclaves/self", signers(relay.EnclaveToCentral), 400},
	{"central public", "GET /relay/v1/vasps", signers(relay.EnclaveToCentral), 200},

	{"central metrics", "GET /metrics", anyone, 200},
	{"central metrics", "GET /livez", anyone, 200},
	{"central metrics", "GET /readyz", anyone, 200},
	{"central metrics", "GET /startupz", anyone, 200},

	// Who may open the socket's file may do all of it.
	{"enclave operator", "GET /identity", anyone, 200},
	{"enclave operator", "POST /identity/rotate", anyone, 200},
	{"enclave operator", "POST /identity/replace", anyone, 200},
	{"enclave operator", "GET /peers", anyone, 200},
	{"enclave operator", "GET /peers/{id}", anyone, 200},
	{"enclave operator", "GET /peers/{id}/history", anyone, 200},
	{"enclave operator", "POST /peers/{id}/verify", anyone, 400},
	{"enclave operator", "POST /peers/{id}/accept", anyone, 400},
	{"enclave operator", "POST /peers/{id}/block", anyone, 200},
	{"enclave operator", "POST /backup", anyone, 200},
	{"enclave operator", "POST /check", anyone, 200},
	{"enclave operator", "GET /audit", anyone, 200},
	{"enclave operator", "POST /audit/checkpoint", anyone, 200},
	{"enclave operator", "GET /keys", anyone, 200},
	{"enclave operator", "POST /keys/kek", anyone, 400},
	{"enclave operator", "POST /keys/data", anyone, started},
	{"enclave operator", "GET /history", anyone, 200},
	{"enclave operator", "GET /history/export", anyone, 200},
	{"enclave operator", "GET /history/holds", anyone, 200},
	{"enclave operator", "POST /history/holds", anyone, 400},
	{"enclave operator", "POST /history/holds/release", anyone, 400},
	{"enclave operator", "GET /history/{uuid}", anyone, 200},
	{"enclave operator", "POST /history/{uuid}/erase", anyone, 400},
	{"enclave operator", "POST /history/{uuid}/hold", anyone, 400},
	{"enclave operator", "POST /history/{uuid}/release", anyone, 400},
}

// nowhere are paths that no listener has, as a debugging server or a careless
// catch-all would.
var nowhere = []string{"GET /", "GET /debug/pprof/", "GET /debug/vars", "POST /v1/", "POST /relay/v1/", "GET /admin"}

// credentials are what a caller shows that somebody might go by.
type credentials struct {
	name     string
	stranger bool                        // comes from an address on no list
	bearer   bool                        // the backend's token, where it belongs
	unsigned bool                        // no signature of the wire, not even a bad one
	signed   relay.Direction             // a right signature of this direction; "": none
	replayed bool                        // the same request was made just before
	show     func(*http.Request, []byte) // puts them into a request with this body
}

func anyone(credentials) bool       { return true }
func theBackend(c credentials) bool { return c.bearer }

func signers(d relay.Direction) func(credentials) bool {
	return func(c credentials) bool { return c.signed == d }
}

func unsignedOr(signed func(credentials) bool) func(credentials) bool {
	return func(c credentials) bool { return c.unsigned || signed(c) }
}

// signature is a signature of the wire, and what is wrong with it. It is made
// as WIRE.md says and not by the code under test, which signs nothing wrong.
type signature struct {
	access, secret     string
	direction          relay.Direction
	age                time.Duration
	recipient          string // as signed
	delivered          string // as sent, "" for the same
	method, path, body string // as signed, "" for those of the request
}

func (s signature) show(r *http.Request, body []byte) {
	method, path := r.Method, r.URL.Path
	if s.method != "" {
		method = s.method
	}
	if s.path != "" {
		path = s.path
	}
	if s.body != "" {
		body = []byte(s.body)
	}
	sum, nonce := sha256.Sum256(body), make([]byte, 32)
	_, _ = rand.Read(nonce)
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	params := fmt.Sprintf(`("@method" "@path" "content-digest" "relay-recipient");created=%d;nonce="%s";keyid="%s";tag="%s"`,
		time.Now().Add(-s.age).Unix(), base64.StdEncoding.EncodeToString(nonce), s.access, s.direction)
	key, err := hkdf.Key(sha256.New, []byte(s.secret), nil, "vasp-enclave/v1/relay/"+string(s.direction), 32)
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "\"@method\": %s\n\"@path\": %s\n\"content-digest\": %s\n\"relay-recipient\": %s\n\"@signature-params\": %s",
		method, path, digest, s.recipient, params)
	if s.delivered == "" {
		s.delivered = s.recipient
	}
	r.Header.Set("Content-Digest", digest)
	r.Header.Set("Relay-Recipient", s.delivered)
	r.Header.Set("Signature-Input", "relay="+params)
	r.Header.Set("Signature", "relay=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":")
}

func header(fields ...string) func(*http.Request, []byte) {
	return func(r *http.Request, _ []byte) {
		for i := 0; i < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
	}
}

// allCredentials is every state of them: none, right, and wrong in each way.
func allCredentials(a *sandbox.Alliance, token string) []credentials {
	v, other := a.VASPs[0], a.VASPs[1]
	proxied := header("X-Forwarded-For", "127.0.0.4", "X-Real-Ip", "127.0.0.1", "Forwarded", "for=127.0.0.4", "X-Forwarded-User", "admin",
		"X-Forwarded-Host", "localhost", "X-Remote-User", "root", "X-Admin", "true", "X-Original-Url", "/metrics", "X-Http-Method-Override", "GET")
	all := []credentials{
		{name: "none", show: header()},
		{name: "wrong bearer", show: header("Authorization", "Bearer wrong")},
		{name: "empty bearer", show: header("Authorization", "Bearer ")},
		{name: "beginning of the backend's token", show: header("Authorization", "Bearer "+token[:len(token)-1])},
		{name: "backend's token", bearer: true, show: header("Authorization", "Bearer "+token)},
		{name: "token of the VASP's API", show: header("Authorization", "Bearer "+v.Token)},
		{name: "alliance key as bearer", show: header("Authorization", "Bearer "+v.SecretKey)},
		{name: "backend's token without scheme", show: header("Authorization", token)},
		{name: "backend's token, basic", show: func(r *http.Request, _ []byte) { r.SetBasicAuth("Bearer", token) }},
		{name: "backend's token in other headers", show: header("X-Api-Key", token, "X-Auth-Token", token, "Proxy-Authorization", "Bearer "+token)},
		{name: "backend's token in a cookie", show: header("Cookie", "token="+token+"; Authorization=Bearer "+token)},
		{name: "backend's token in the query", show: func(r *http.Request, _ []byte) { r.URL.RawQuery = "access_token=" + token + "&token=" + token }},
		{name: "headers of a proxy and an administrator", show: proxied},
	}
	for i := range all {
		all[i].unsigned = true
	}
	stranger := func(name string, c credentials) {
		c.name, c.stranger = "a stranger, "+name, true
		all = append(all, c)
	}
	stranger("none", credentials{unsigned: true, show: header()})
	stranger("backend's token", credentials{unsigned: true, bearer: true, show: header("Authorization", "Bearer "+token)})
	stranger("headers of a proxy", credentials{unsigned: true, show: proxied})
	for _, d := range []struct {
		from, back relay.Direction
		to, other  string
	}{
		{relay.CentralToEnclave, relay.EnclaveToCentral, v.ID, other.ID},
		{relay.EnclaveToCentral, relay.CentralToEnclave, other.ID, v.ID},
	} {
		good := signature{access: v.AccessKey, secret: v.SecretKey, direction: d.from, recipient: d.to}
		right := credentials{name: "signed " + string(d.from), signed: d.from, show: good.show}
		all = append(all, right, credentials{name: right.name + ", replayed", replayed: true, show: good.show})
		stranger(right.name, right)
		// An enclave takes what is for itself; central takes what is for anybody.
		elsewhere := good
		elsewhere.recipient = d.other
		forAnother := credentials{name: right.name + ", for another recipient", show: elsewhere.show}
		if d.from == relay.EnclaveToCentral {
			forAnother.signed = d.from
		}
		all = append(all, forAnother)
		for name, spoil := range map[string]func(*signature){
			"expired":                        func(s *signature) { s.age = 90 * time.Second },
			"from the future":                func(s *signature) { s.age = -90 * time.Second },
			"wrong secret":                   func(s *signature) { s.secret = other.SecretKey },
			"unknown key":                    func(s *signature) { s.access = "nobody" },
			"key of another member":          func(s *signature) { s.access, s.secret, s.recipient = other.AccessKey, other.SecretKey, d.other },
			"recipient changed":              func(s *signature) { s.delivered = d.other },
			"body changed":                   func(s *signature) { s.body = "another" },
			"path changed":                   func(s *signature) { s.path = "/another" },
			"method changed":                 func(s *signature) { s.method = http.MethodPatch },
			"tag of the other direction":     nil,
			"backend's token for the secret": func(s *signature) { s.secret = token },
		} {
			c := credentials{name: right.name + ", " + name}
			s := good
			if spoil == nil { // the right key of one direction under the name of the other
				c.show = func(r *http.Request, body []byte) {
					s.show(r, body)
					r.Header.Set("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), string(d.from), string(d.back), 1))
				}
			} else {
				spoil(&s)
				c.show = s.show
			}
			all = append(all, c)
		}
	}
	return all
}

// door is one listener.
type door struct {
	base   string
	listed bool // only addresses on a list complete a handshake
}

// operatorHost stands for the operator's socket in a URL.
const operatorHost = "operator"

func doors(a *sandbox.Alliance) map[string]door {
	v := a.VASPs[0]
	return map[string]door{
		"enclave backend":  {v.API, false},
		"enclave public":   {v.PublicEndpoint, true},
		"enclave metrics":  {v.Metrics, false},
		"enclave admin":    {v.Admin, false},
		"enclave operator": {"http://" + operatorHost, false},
		"central public":   {a.CentralEndpoint, true},
		"central metrics":  {a.CentralMetrics, false},
	}
}

// listed are addresses that central takes for the enclave and the enclave for
// central, one for each state of credentials: an address has 1,000 wrong
// signatures, then it is told 429, whatever it asks for.
const listed = "127.0.1.0/24"

// callers makes a client for each state of credentials, from an address that
// is listed or, for a stranger, from one that is not.
func callers(t *testing.T, a *sandbox.Alliance, shown []credentials) []*http.Client {
	if len(shown) > 250 {
		t.Fatalf("%d states of credentials have too few addresses in %s", len(shown), listed)
	}
	all := make([]*http.Client, len(shown))
	for i, c := range shown {
		address := fmt.Sprintf("127.0.1.%d", i+1)
		if c.stranger {
			address = "127.0.0.9"
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Roots}, DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
			if host == operatorHost+":80" {
				return new(net.Dialer).DialContext(ctx, "unix", a.VASPs[0].OperatorSocket)
			}
			return from(address).DialContext(ctx, network, host)
		}}
		t.Cleanup(transport.CloseIdleConnections)
		all[i] = &http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return all
}

// list puts the listed addresses on both lists, before the start.
func list(t *testing.T, a *sandbox.Alliance) {
	t.Helper()
	v, file := a.VASPs[0], filepath.Join(a.Dir, "members.yaml")
	own := fmt.Sprintf("allow: [%q]", v.Address)
	text := strings.Replace(string(read(t, file)), own, fmt.Sprintf("allow: [%q, %q]", v.Address, listed), 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	v.Enclave.Env = append(v.Enclave.Env, "VEGA_CENTRAL_ALLOWLIST=127.0.0.4,"+listed)
}

// ask makes one request and gives the status of its answer.
func (d door) ask(ctx context.Context, client *http.Client, method, path string, c credentials) (status int, err error) {
	var body []byte
	if method != http.MethodGet {
		body = []byte("{}")
	}
	r, err := http.NewRequestWithContext(ctx, method, d.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	c.show(r, body)
	if c.replayed {
		if _, err := post(client, r.Clone(ctx), body); err != nil {
			return 0, err
		}
	}
	return post(client, r, body)
}

// post sends a request and reads the answer.
func post(client *http.Client, r *http.Request, body []byte) (status int, err error) {
	r.Body = io.NopCloser(bytes.NewReader(body))
	response, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// refusals are the answers to one who may not pass.
var refusals = []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusMisdirectedRequest}

// coded are the routes of the code, each by its listener.
func coded() map[entranceKey]bool {
	all := map[entranceKey]bool{}
	for program, listeners := range map[string]map[string][]string{"enclave": enclavecmd.Routes(), "central": centralcmd.Routes()} {
		for listener, routes := range listeners {
			for _, route := range routes {
				all[entranceKey{program + " " + listener, route}] = true
			}
		}
	}
	return all
}

type entranceKey struct{ door, route string }

// table is entrances, of which each is a route of the code and each such route
// one.
func table(t *testing.T, doors map[string]door) map[entranceKey]entrance {
	t.Helper()
	routes, all := coded(), map[entranceKey]entrance{}
	for _, e := range entrances {
		key := entranceKey{e.door, e.route}
		if _, twice := all[key]; twice || !routes[key] || slices.Contains(refusals, e.status) {
			t.Errorf("the table's line %s on %s is no route of the code, or there twice, or its answer is a refusal", e.route, e.door)
		}
		all[key] = e
	}
	for key := range routes {
		if _, ok := all[key]; !ok {
			t.Errorf("%s on %s is a new route: say in entrances who may pass", key.route, key.door)
		}
		if _, ok := doors[key.door]; !ok {
			t.Errorf("%s is a new listener: say in doors how it is reached", key.door)
		}
	}
	return all
}

// Every route of the code is tried on every listener of an enclave and of
// central, with every credential, right and wrong in each way: it is answered
// where and to whom the table says, and refused everywhere else (N3, G2, G3).
func TestEveryRouteOnEveryListenerWithEveryCredential(t *testing.T) {
	const token = "the-token-of-the-backend-0123456789"
	a := prepare(t, sandbox.Options{})
	list(t, a)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := a.VASPs[0]
	accepted, err := v.Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, a, []string{accepted.VerificationUUID})
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	v.Enclave.Env = append(v.Enclave.Env, "VEGA_SERVER_TOKEN="+token)
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if mode := lstat(t, v.OperatorSocket).Mode(); mode != fs.ModeSocket|0o600 {
		t.Errorf("the operator's socket is %s, want a socket that its user alone may open", mode)
	}
	all := doors(a)
	lines := table(t, all)
	if t.Failed() {
		return
	}
	asked := slices.Clone(nowhere)
	for key := range lines {
		asked = append(asked, key.route)
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	fill := strings.NewReplacer("{uuid}", accepted.VerificationUUID, "{id}", a.VASPs[1].ID)
	shown := allCredentials(a, token)
	clients := callers(t, a, shown)
	tried, passed := 0, 0
	for _, name := range []string{
		"enclave backend", "enclave public", "enclave metrics", "enclave admin", "central public", "central metrics",
		"enclave operator", // last, since it changes who the enclave is
	} {
		d := all[name]
		for i, c := range shown {
			for _, route := range asked {
				method, path, _ := strings.Cut(route, " ")
				status, err := d.ask(t.Context(), clients[i], method, fill.Replace(path), c)
				line, ok := lines[entranceKey{name, route}]
				tried++
				switch {
				case d.listed && c.stranger:
					if err == nil {
						t.Errorf("%s on %s, %s: answered %d, want no handshake", route, name, c.name, status)
					}
				case err != nil:
					t.Fatalf("%s on %s, %s: no answer: %v", route, name, c.name, err)
				case ok && line.to(c):
					passed++
					if !line.answers(status) {
						t.Errorf("%s on %s, %s: answered %d, want %d", route, name, c.name, status, line.status)
					}
				case !slices.Contains(refusals, status):
					t.Errorf("%s on %s, %s: answered %d, want it refused", route, name, c.name, status)
				}
			}
		}
	}
	t.Logf("%d combinations of %d paths, %d listeners and %d credentials; %d were to pass", tried, len(asked), len(all), len(shown), passed)
}

func lstat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
