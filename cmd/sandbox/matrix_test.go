package sandbox_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/centralcmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// credentials are the states that a caller may be in.
var credentials = []string{
	"none", "wrong token", "token", "token as basic", "signed", "signed long ago", "signed by another key", "reflected", "says admin", "says loopback",
}

// statuses are what a route answers, by the caller's credentials; otherwise
// is for those that are not named. 401 and 404 are refusals; each 2xx here is
// one that is meant.
type statuses struct {
	otherwise int
	by        map[string]int
}

func always(status int) statuses { return statuses{otherwise: status} }

func only(credential string, status, otherwise int) statuses {
	return statuses{otherwise, map[string]int{credential: status}}
}

// unsignedToo is for the health check of the public listener: 200 without any
// signature, and 401 with one that is not right.
var unsignedToo = statuses{200, map[string]int{"signed long ago": 401, "signed by another key": 401, "reflected": 401}}

// The table: every route of every listener with what it answers to an empty
// body. A route that is not in it fails the test.
var matrix = map[string]map[string]statuses{
	"enclave backend": {
		"GET /healthcheck":                  always(200),
		"GET /openapi.json":                 always(200),
		"GET /openapi-vasp.json":            always(200),
		"GET /v1/vasps/self":                only("token", 200, 401),
		"GET /v1/vasps":                     only("token", 200, 401),
		"POST /v1/verifications/account":    only("token", 400, 401),
		"POST /v1/verifications":            only("token", 400, 401),
		"GET /v1/verifications":             only("token", 200, 401),
		"GET /v1/verifications/{uuid}":      only("token", 404, 401),
		"POST /v1/verifications/tx":         only("token", 400, 401),
		"POST /v1/verifications/error":      only("token", 400, 401),
		"POST /v1/verifications/tx/inquiry": only("token", 400, 401),
	},
	"enclave public": {
		"POST /relay/v1/messages": only("signed", 400, 401),
		"GET /healthcheck":        unsignedToo,
	},
	"enclave metrics": {"GET /metrics": always(200)},
	"enclave admin":   {"GET /livez": always(200), "GET /readyz": always(200), "GET /startupz": always(200)},
	// Who may open the socket file is the operator: the file system says so,
	// and no credential is asked.
	"enclave operator": {
		"GET /identity":           always(200),
		"GET /peers":              always(200),
		"GET /peers/{id}":         always(200),
		"GET /peers/{id}/history": always(200),
		"POST /peers/{id}/verify": always(400), // without digits
		"POST /peers/{id}/accept": always(400),
		"POST /peers/{id}/block":  always(200),
		"POST /identity/rotate":   always(200),
		"POST /identity/replace":  always(200),
	},
	"central public": {
		"POST /relay/v1/messages":     only("signed", 400, 401),
		"PUT /relay/v1/enclaves/self": only("signed", 400, 401),
		"GET /relay/v1/vasps":         only("signed", 200, 401),
	},
	"central metrics": {"GET /metrics": always(200), "GET /livez": always(200), "GET /readyz": always(200), "GET /startupz": always(200)},
}

// elsewhere is what a listener answers to the routes of the others.
var elsewhere = map[string]statuses{
	"enclave backend":  always(404),
	"enclave public":   always(404),
	"enclave metrics":  always(404),
	"enclave admin":    always(404),
	"enclave operator": always(404),
	"central public":   only("signed", 404, 401),
	"central metrics":  always(404),
}

// door is how to reach one listener.
type door struct {
	name      string
	base      string
	client    *http.Client
	direction relay.Direction // of what it wants signed; "" for none
	recipient string
}

// Every route that the programs have, at every listener, with every kind of
// credentials: each answers what the table says, and to nobody else a 2xx
// (target 47).
func TestEveryRouteAtEveryListenerWithEveryCredential(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	file := filepath.Join(a.Dir, "alpha.env")
	v.Enclave.Args = []string{"run", "--env-file", file}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	const token = "the right token"
	if err := os.WriteFile(file, []byte("VEGA_SERVER_TOKEN="+strings.ReplaceAll(token, " ", "-")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Enclave.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the token is asked for", func() bool {
		status, _, err := sandbox.Call(t.Context(), http.MethodGet, v.API+"/v1/vasps/self", nil)
		return err == nil && status == http.StatusUnauthorized
	})
	doors := []door{
		{"enclave backend", v.API, plain(nil), relay.CentralToEnclave, v.ID},
		{"enclave public", v.PublicEndpoint, secure(a, "127.0.0.4"), relay.CentralToEnclave, v.ID},
		{"enclave metrics", v.Metrics, plain(nil), relay.CentralToEnclave, v.ID},
		{"enclave admin", v.Admin, plain(nil), relay.CentralToEnclave, v.ID},
		{"central public", a.CentralEndpoint, secure(a, v.Address.String()), relay.EnclaveToCentral, relay.ToCentral},
		{"central metrics", a.CentralMetrics, plain(nil), relay.EnclaveToCentral, relay.ToCentral},
		{"enclave operator", "http://socket", plain(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", v.OperatorSocket)
		}), relay.CentralToEnclave, v.ID}, // last: it changes identities
	}
	registered := routesOfThePrograms()
	inTheTable(t, doors, registered)
	asked := 0
	for _, d := range doors {
		t.Cleanup(d.client.CloseIdleConnections)
		for _, route := range everyRoute(registered) {
			for _, c := range credentials {
				want := expected(d.name, route, c)
				got, body := d.ask(t, v, route, c, strings.ReplaceAll(token, " ", "-"), a.VASPs[1].ID)
				if got != want && !(want == http.StatusNotFound && got == http.StatusMethodNotAllowed) {
					t.Errorf("%s: %s with credentials %q = %d, want %d: %.200s", d.name, route, c, got, want, body)
				}
				asked++
			}
		}
	}
	t.Logf("%d requests: %d routes, %d listeners, %d kinds of credentials", asked, len(everyRoute(registered)), len(doors), len(credentials))
	for _, d := range doors[1:2] {
		stranger := secure(a, "127.0.0.9")
		for _, route := range everyRoute(registered) {
			method, path, _ := strings.Cut(route, " ")
			r, err := http.NewRequestWithContext(t.Context(), method, d.base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if response, err := stranger.Do(r); err == nil {
				response.Body.Close()
				t.Errorf("%s: a stranger was answered %d to %s", d.name, response.StatusCode, route)
			}
		}
	}
}

// routesOfThePrograms asks the code itself.
func routesOfThePrograms() map[string][]string {
	all := map[string][]string{}
	for name, routes := range enclavecmd.Routes() {
		all["enclave "+name] = routes
	}
	for name, routes := range centralcmd.Routes() {
		all["central "+name] = routes
	}
	return all
}

// inTheTable wants each listener among the doors, each of its routes in the
// table, and nothing else there.
func inTheTable(t *testing.T, doors []door, registered map[string][]string) {
	t.Helper()
	for name, routes := range registered {
		if !slices.ContainsFunc(doors, func(d door) bool { return d.name == name }) {
			t.Errorf("listener %q is not asked: add it to the doors", name)
		}
		for _, route := range routes {
			if _, found := matrix[name][route]; !found {
				t.Errorf("%s: route %q is not in the table: say what it answers to whom", name, route)
			}
		}
		for route := range matrix[name] {
			if !slices.Contains(routes, route) {
				t.Errorf("%s: the table has %q, which is no route", name, route)
			}
		}
	}
}

func everyRoute(registered map[string][]string) (all []string) {
	for _, routes := range registered {
		all = append(all, routes...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func expected(name, route, credential string) int {
	s, own := matrix[name][route]
	if !own {
		s = elsewhere[name]
	}
	if status, named := s.by[credential]; named {
		return status
	}
	return s.otherwise
}

func plain(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: dial}}
}

func secure(a *sandbox.Alliance, address string) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
			return from(address).DialContext(ctx, network, host)
		},
		TLSClientConfig: &tls.Config{RootCAs: a.Roots},
	}}
}

// ask makes one request with an empty body.
func (d *door) ask(t *testing.T, v *sandbox.VASP, route, credential, token, peer string) (status int, body string) {
	t.Helper()
	method, path, _ := strings.Cut(route, " ")
	path = strings.NewReplacer("{uuid}", "3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11", "{id}", peer).Replace(path)
	r, err := http.NewRequestWithContext(t.Context(), method, d.base+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	d.present(t, r, path, credential, token, v)
	response, err := d.client.Do(r)
	if err != nil {
		t.Fatalf("%s: %s with credentials %q: %v", d.name, route, credential, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// present gives a request its credentials.
func (d *door) present(t *testing.T, r *http.Request, path, credential, token string, v *sandbox.VASP) {
	t.Helper()
	if path == relay.MessagesPath {
		r.Header.Set("Content-Type", relay.MediaType)
	}
	sign := func(secret string, direction relay.Direction) {
		signer, err := relay.NewSigner(relay.Key{Access: v.AccessKey, Secret: relay.NewSecret(secret)}, direction)
		if err == nil {
			err = signer.Sign(r, path, d.recipient, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	other := relay.CentralToEnclave
	if d.direction == other {
		other = relay.EnclaveToCentral
	}
	switch credential {
	case "none":
	case "wrong token":
		r.Header.Set("Authorization", "Bearer another")
	case "token":
		r.Header.Set("Authorization", "Bearer "+token)
	case "token as basic":
		r.SetBasicAuth("Bearer", token)
	case "signed":
		sign(v.SecretKey, d.direction)
	case "signed long ago":
		synctest.Test(t, func(*testing.T) { sign(v.SecretKey, d.direction) }) // where it is the year 2000
	case "signed by another key":
		sign(strings.Repeat("0", 64), d.direction)
	case "reflected":
		sign(v.SecretKey, other)
	case "says admin":
		for _, name := range []string{"X-Admin", "X-Original-User", "X-Remote-User", "X-Authenticated", "Remote-User", "X-Internal"} {
			r.Header.Set(name, "admin")
		}
		r.Header.Set("X-Original-URL", "/healthcheck")
		r.Header.Set("X-Rewrite-URL", "/healthcheck")
		r.Header.Set("X-HTTP-Method-Override", "GET")
		r.Header.Set("Cookie", "admin=true")
	case "says loopback":
		for _, name := range []string{"X-Forwarded-For", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP"} {
			r.Header.Set(name, "127.0.0.1")
		}
		r.Header.Set("Forwarded", "for=127.0.0.1;by=127.0.0.1")
	default:
		panic(fmt.Sprintf("no such credentials: %s", credential))
	}
}
