package central_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/central"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/edgetest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

func TestAnEnvelopeIsRelayed(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	w.beta.mustRegister()
	for from, to := range map[*party]*party{w.alpha: w.beta, w.beta: w.alpha} {
		envelope := "an envelope \x00\xff from " + from.id.String()
		if got, want := from.deliver(to.id, envelope), fmt.Sprintf("to %s: %s", to.id, envelope); got != want {
			t.Errorf("VASP %s to VASP %s: %q, want %q", from.id, to.id, got, want)
		}
	}
	if got, want := w.alpha.deliver(w.alpha.id, "to itself"), "to 101: to itself"; got != want {
		t.Errorf("a VASP to itself: %q, want %q", got, want)
	}
	if got := w.count("central_exchange_duration_seconds", "ok"); got != 3 {
		t.Errorf("exchanges counted ok: %v, want 3", got)
	}
}

// Nothing of an envelope is kept, logged or counted by anything but its size
// (attack L1).
func TestNothingOfAnEnvelopeIsKept(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state.json")
	w := newWorld(t, func(w *world) { w.config.StateFile = state })
	w.alpha.mustRegister()
	w.beta.mustRegister()
	const marker = "Marker Exampleson"
	w.beta.behave(func(p *party) {
		p.message = func(rw http.ResponseWriter, _ *http.Request, _ *relay.Verified) {
			rw.Header().Set("Content-Type", relay.MediaType)
			fmt.Fprint(rw, marker)
		}
	})
	if got := w.alpha.deliver(w.beta.id, marker); got != marker {
		t.Fatal(got)
	}
	w.beta.behave(func(p *party) {
		p.message = func(rw http.ResponseWriter, _ *http.Request, _ *relay.Verified) { http.Error(rw, marker, 500) }
	})
	w.alpha.deliver(w.beta.id, marker)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	kept, err := read(state)
	if err != nil {
		t.Fatal(err)
	}
	families, _ := w.registry.Gather()
	for place, text := range map[string]string{"log": w.log.String(), "state file": kept, "metrics": fmt.Sprint(families)} {
		if strings.Contains(text, marker) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(marker))) {
			t.Errorf("the %s holds what was relayed:\n%s", place, text)
		}
		if !strings.Contains(text, "101") && place != "metrics" {
			t.Errorf("the %s does not even name the member: %s", place, text)
		}
	}
}

func TestARecordHoldsEverything(t *testing.T) {
	record := new(lockedBuffer)
	w := newWorld(t, func(w *world) { w.config.Record = record })
	w.alpha.mustRegister()
	w.beta.mustRegister()
	w.alpha.deliver(w.beta.id, "question")
	w.beta.stop()
	w.alpha.deliver(w.beta.id, "again")
	type line struct {
		Time, From, To string
		Bytes, Reply   []byte
	}
	var got []line
	for text := range strings.Lines(record.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if _, err := time.Parse(time.RFC3339, l.Time); err != nil {
			t.Error(err)
		}
		l.Time = ""
		got = append(got, l)
	}
	want := []line{
		{From: "101", To: "102", Bytes: []byte("question"), Reply: []byte("to 102: question")},
		{From: "101", To: "102", Bytes: []byte("again")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A caller that is at no member's address gets no certificate; with a member's
// address and another's key it gets no further than 401 or 403 (attack N2).
func TestWhoGetsIn(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	addr := strings.TrimSuffix(strings.TrimPrefix(w.endpoint, "https://"), "/alliance")
	for _, stranger := range []string{"127.0.0.9", "127.0.0.6", "127.0.0.1"} { // .6 is the member that is not active
		dialer := &tls.Dialer{
			NetDialer: &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(stranger), 0))},
			Config: &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
				t.Errorf("%s was shown a certificate", stranger)
				return nil
			}},
		}
		if conn, err := dialer.DialContext(t.Context(), "tcp", addr); err == nil {
			conn.Close()
			t.Errorf("the handshake of %s succeeded", stranger)
		}
	}
	w.eventually("three refusals counted", func() bool { return w.count("central_refused_connections_total", "stranger") == 3 })

	wrongSecret := relay.Key{Access: w.alpha.keys[0].Access, Secret: relay.NewSecret("not the secret of alpha")}
	gone := relay.Key{Access: "key-104-0", Secret: relay.NewSecret("secret key 0 of VASP 104")}
	for name, c := range map[string]struct {
		key     relay.Key
		address string
		want    string
	}{
		"its second key":            {w.alpha.keys[1], w.alpha.address, "404 UNKNOWN-VASP"},
		"wrong secret":              {wrongSecret, w.alpha.address, "401 UNAUTHENTICATED"},
		"key of a member gone":      {gone, w.alpha.address, "401 UNAUTHENTICATED"},
		"at beta's address":         {w.alpha.keys[0], w.beta.address, "403 FORBIDDEN"},
		"beta's key from alpha's":   {w.beta.keys[0], w.alpha.address, "403 FORBIDDEN"},
		"wrong secret, wrong place": {wrongSecret, w.beta.address, "401 UNAUTHENTICATED"},
	} {
		_, err := w.alpha.clientWith(c.key, c.address).Deliver(t.Context(), 999, nil)
		if got := said("", err); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		for what, call := range map[string]func(*relay.Client) error{
			"register":  func(c *relay.Client) error { _, err := c.Register(t.Context(), w.alpha.registration()); return err },
			"directory": func(c *relay.Client) error { _, err := c.Directory(t.Context()); return err },
		} {
			if got := said("", call(w.alpha.clientWith(c.key, c.address))); name != "its second key" && got != c.want {
				t.Errorf("%s, %s: %s, want %s", name, what, got, c.want)
			}
		}
	}
	if got := w.count("central_forbidden_total", ""); got != 6 {
		t.Errorf("forbidden counted %v times, want 6", got)
	}
	if got := w.count("central_relay_refused_total", "signature"); got != 6 {
		t.Errorf("wrong signatures counted %v times, want 6", got)
	}
	if got := w.count("central_relay_refused_total", "unknown-key"); got != 3 {
		t.Errorf("unknown keys counted %v times, want 3", got)
	}
}

// Recorded on the wire and sent again, bent, or sent back: 401, and counted.
func TestRequestsTamperedWithOnTheWay(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	w.beta.mustRegister()
	transport := relay.NewTransport(w.authority.Pool(), netip.MustParseAddr(w.alpha.address))
	defer transport.CloseIdleConnections()
	send := func(direction relay.Direction, bend func(*http.Request)) (first, again int) {
		signer, err := relay.NewSigner(w.alpha.keys[0], direction)
		if err != nil {
			t.Fatal(err)
		}
		body := []byte("envelope")
		var header http.Header
		once := func() int {
			r, err := http.NewRequestWithContext(t.Context(), "POST", w.endpoint+relay.MessagesPath, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if header == nil {
				r.Header.Set("Content-Type", relay.MediaType)
				if err := signer.Sign(r, relay.MessagesPath, w.beta.id.String(), body); err != nil {
					t.Fatal(err)
				}
				header = r.Header
			}
			r.Header = header.Clone()
			bend(r)
			response, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			_, _ = io.Copy(io.Discard, response.Body)
			return response.StatusCode
		}
		return once(), once()
	}
	for name, c := range map[string]struct {
		direction relay.Direction
		bend      func(*http.Request)
		first     int
		again     int
		reason    string
	}{
		"replayed":          {relay.EnclaveToCentral, func(*http.Request) {}, 200, 401, "replay"},
		"reflected":         {relay.CentralToEnclave, func(*http.Request) {}, 401, 401, "direction"},
		"another recipient": {relay.EnclaveToCentral, func(r *http.Request) { r.Header.Set("Relay-Recipient", "101") }, 401, 401, "signature"},
		"another body": {relay.EnclaveToCentral, func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("envelopf")), 8
		}, 401, 401, "digest"},
		"another path": {relay.EnclaveToCentral, func(r *http.Request) { r.URL.Path = "/alliance" + relay.DirectoryPath }, 401, 401, "signature"},
		"base cut off": {relay.EnclaveToCentral, func(r *http.Request) { r.URL.Path = relay.MessagesPath }, 200, 401, "replay"},
		"with a query": {relay.EnclaveToCentral, func(r *http.Request) { r.URL.RawQuery = "x=1" }, 401, 401, "malformed"},
	} {
		before := w.count("central_relay_refused_total", c.reason)
		first, again := send(c.direction, c.bend)
		counted := w.count("central_relay_refused_total", c.reason) - before
		want := 1.0
		if c.first == 401 {
			want = 2
		}
		if first != c.first || again != c.again || counted != want {
			t.Errorf("%s: %d, again %d, %v counted as %s; want %d, %d, %v", name, first, again, counted, c.reason, c.first, c.again, want)
		}
	}
	// The clocks differ by more than a minute.
	w.offset.Store(int64(62 * time.Second))
	if first, _ := send(relay.EnclaveToCentral, func(*http.Request) {}); first != 401 || w.count("central_relay_refused_total", "stale") != 2 {
		t.Errorf("stale: %d, counted %v", first, w.count("central_relay_refused_total", "stale"))
	}
}

// Central's errors, each with what brings it about.
func TestErrorsOnTheWay(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.config.RelayTimeout = 250 * time.Millisecond
		w.config.Members = w.members("  connections: ['102']\n") // gamma deals with beta only
	})
	w.alpha.mustRegister()
	reply := func(status int, media, body string) func(http.ResponseWriter, *http.Request, *relay.Verified) {
		return func(rw http.ResponseWriter, _ *http.Request, _ *relay.Verified) {
			rw.Header().Set("Content-Type", media)
			rw.WriteHeader(status)
			fmt.Fprint(rw, body)
		}
	}
	if got, want := w.alpha.deliver(w.beta.id, "x"), "503 RECIPIENT-DOWN"; got != want {
		t.Errorf("to one that never registered: %s, want %s", got, want)
	}
	if got, want := w.beta.deliver(w.alpha.id, "x"), "412 NOT-REGISTERED"; got != want {
		t.Errorf("from one that never registered: %s, want %s", got, want)
	}
	w.beta.mustRegister()
	w.gamma.mustRegister()
	for id, want := range map[identity.VASPID]string{999: "404 UNKNOWN-VASP", 104: "404 UNKNOWN-VASP", 103: "404 UNKNOWN-VASP", 102: "to 102: x"} {
		if got := w.alpha.deliver(id, "x"); got != want {
			t.Errorf("alpha to %d: %s, want %s", id, got, want)
		}
	}
	for id, want := range map[identity.VASPID]string{101: "404 UNKNOWN-VASP", 102: "to 102: x", 103: "to 103: x"} {
		if got := w.gamma.deliver(id, "x"); got != want {
			t.Errorf("gamma to %d: %s, want %s", id, got, want)
		}
	}
	tooLong := strings.Repeat("x", relay.MaxMessage+1)
	for want, message := range map[string]func(http.ResponseWriter, *http.Request, *relay.Verified){
		"504 RECIPIENT-TIMEOUT":      func(_ http.ResponseWriter, r *http.Request, _ *relay.Verified) { <-r.Context().Done() },
		"429 BUSY":                   reply(429, "application/json", `{}`),
		"503 RECIPIENT-DOWN":         reply(503, "application/json", `{}`),
		"502 RECIPIENT-UNREACHABLE":  reply(401, "application/json", `{"code":"UNAUTHENTICATED"}`),
		"502 RECIPIENT-UNREACHABLE ": reply(200, "text/html", `<html>`),
		"502 RECIPIENT-UNREACHABLE'": reply(307, relay.MediaType, ``),
		"502 RECIPIENT-UNREACHABLE.": reply(200, relay.MediaType, tooLong),
		"502 RECIPIENT-UNREACHABLE,": func(http.ResponseWriter, *http.Request, *relay.Verified) { panic(http.ErrAbortHandler) },
	} {
		w.beta.behave(func(p *party) { p.message = message })
		if got, want := w.alpha.deliver(w.beta.id, "x"), strings.TrimRight(want, " '.,"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	w.beta.stop()
	if got, want := w.alpha.deliver(w.beta.id, "x"), "502 RECIPIENT-UNREACHABLE"; got != want {
		t.Errorf("to one that was killed: %s, want %s", got, want)
	}
	if got, want := w.alpha.deliver(w.beta.id, tooLong), "413 TOO-LARGE"; got != want {
		t.Errorf("too large: %s, want %s", got, want)
	}
}

// A recipient that asks for time gets it: the sender hears how long to wait.
func TestRetryAfterReachesTheSender(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	w.beta.mustRegister()
	for header, want := range map[string]time.Duration{
		"": 0, "1": time.Second, "7": 7 * time.Second, "86400": 30 * time.Second, "-1": 0, "soon": 0, "Thu, 26 Nov 2026 08:00:00 GMT": 0,
	} {
		for _, status := range []int{429, 503} {
			w.beta.behave(func(p *party) {
				p.message = func(rw http.ResponseWriter, _ *http.Request, _ *relay.Verified) {
					rw.Header().Set("Retry-After", header)
					relay.WriteError(rw, status, "ANYTHING", "Later.")
				}
			})
			_, err := w.alpha.client.Deliver(t.Context(), w.beta.id, []byte("x"))
			var refused *relay.Error
			if !errors.As(err, &refused) || refused.Status != status || refused.RetryAfter != want || !refused.Retryable {
				t.Errorf("Retry-After %q with %d: %+v, want %s", header, status, refused, want)
			}
		}
	}
}

func TestRequestsThatAreNoMessages(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	signer, err := relay.NewSigner(w.alpha.keys[0], relay.EnclaveToCentral)
	if err != nil {
		t.Fatal(err)
	}
	base, err := relay.ParseEndpoint(w.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := relay.NewTransport(w.authority.Pool(), netip.MustParseAddr(w.alpha.address))
	defer transport.CloseIdleConnections()
	endpoint := relay.Endpoint{Base: base, Signer: signer, Transport: transport}
	for name, c := range map[string]struct {
		call   relay.Call
		status int
		want   string
	}{
		"to central":      {relay.Call{Method: "POST", Path: relay.MessagesPath, Recipient: "0", MediaType: relay.MediaType}, 400, "INVALID-RECIPIENT"},
		"to a name":       {relay.Call{Method: "POST", Path: relay.MessagesPath, Recipient: "beta", MediaType: relay.MediaType}, 400, "INVALID-RECIPIENT"},
		"to 007":          {relay.Call{Method: "POST", Path: relay.MessagesPath, Recipient: "007", MediaType: relay.MediaType}, 400, "INVALID-RECIPIENT"},
		"as JSON":         {relay.Call{Method: "POST", Path: relay.MessagesPath, Recipient: "102", MediaType: "application/json"}, 400, "INVALID-CONTENT-TYPE"},
		"bad JSON":        {relay.Call{Method: "PUT", Path: relay.RegisterPath, Recipient: "0", Body: []byte("{")}, 400, "INVALID-REGISTRATION"},
		"plain http":      {relay.Call{Method: "PUT", Path: relay.RegisterPath, Recipient: "0", Body: []byte(`{"publicEndpoint":"http://a"}`)}, 400, "INVALID-PUBLIC-ENDPOINT"},
		"no such path":    {relay.Call{Method: "GET", Path: "/relay/v2/vasps", Recipient: "0"}, 404, ""},
		"no such method":  {relay.Call{Method: "DELETE", Path: relay.RegisterPath, Recipient: "0"}, 405, ""},
		"not the backend": {relay.Call{Method: "GET", Path: "/metrics", Recipient: "0"}, 404, ""},
	} {
		c.call.MaxReply = 4096
		reply, err := endpoint.Do(t.Context(), c.call)
		if err != nil || reply.Status != c.status || !strings.Contains(string(reply.Body), c.want) {
			t.Errorf("%s: %+v, %v; want %d %s", name, reply, err, c.status, c.want)
		}
	}
}

func TestARecipientTakesOnlySoMuchAtOnce(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.MaxExchanges = 2 })
	w.alpha.mustRegister()
	w.beta.mustRegister()
	arrived, release := make(chan struct{}), make(chan struct{})
	w.beta.behave(func(p *party) {
		p.message = func(rw http.ResponseWriter, r *http.Request, v *relay.Verified) {
			arrived <- struct{}{}
			<-release
			echo(rw, r, v)
		}
	})
	answers := make(chan string, 2)
	for range 2 {
		go func() { answers <- w.alpha.deliver(w.beta.id, "x") }()
		<-arrived
	}
	if got, want := w.alpha.deliver(w.beta.id, "x"), "429 BUSY"; got != want {
		t.Errorf("the third at once: %s, want %s", got, want)
	}
	if got, want := w.alpha.deliver(w.alpha.id, "x"), "to 101: x"; got != want {
		t.Errorf("meanwhile to another: %s, want %s", got, want)
	}
	close(release)
	for range 2 {
		if got := <-answers; got != "to 102: x" {
			t.Errorf("one of the two: %s", got)
		}
	}
}

// A sender that no longer waits frees the recipient, too.
func TestTheSendersCancellationIsPassedOn(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.RelayTimeout = time.Hour })
	w.alpha.mustRegister()
	w.beta.mustRegister()
	arrived, gone := make(chan struct{}), make(chan struct{})
	w.beta.behave(func(p *party) {
		p.message = func(_ http.ResponseWriter, r *http.Request, _ *relay.Verified) {
			close(arrived)
			<-r.Context().Done()
			close(gone)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, err := w.alpha.client.Deliver(ctx, w.beta.id, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Deliver = %v", err)
	}
	w.eventually("the recipient notices", func() bool {
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
	w.eventually("counted as canceled", func() bool { return w.count("central_exchange_duration_seconds", "canceled") == 1 })
}

func TestTheLeaseEnds(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Lease, w.config.Heartbeat = 30*time.Second, 10*time.Second })
	w.alpha.mustRegister()
	w.beta.mustRegister()
	if m, _ := w.alpha.sees(w.beta.id); m.Health != relay.Up {
		t.Errorf("beta is %s at first", m.Health)
	}
	w.offset.Store(int64(20 * time.Second))
	w.alpha.mustRegister() // a heartbeat
	w.offset.Store(int64(40 * time.Second))
	if m, _ := w.alpha.sees(w.beta.id); m.Health != relay.Down || m.VASPStatus != relay.StatusMember {
		t.Errorf("beta is %s, %s, ten seconds after its lease", m.Health, m.VASPStatus)
	}
	if got, want := w.alpha.deliver(w.beta.id, "x"), "503 RECIPIENT-DOWN"; got != want {
		t.Errorf("to beta: %s, want %s", got, want)
	}
	if got, want := w.beta.deliver(w.alpha.id, "x"), "412 NOT-REGISTERED"; got != want {
		t.Errorf("from beta: %s, want %s", got, want)
	}
	w.beta.mustRegister()
	if got, want := w.alpha.deliver(w.beta.id, "x"), "to 102: x"; got != want {
		t.Errorf("after beta registered again: %s, want %s", got, want)
	}
	lease, err := w.beta.client.Register(t.Context(), w.beta.registration())
	if want := (&relay.Lease{LeaseMs: 30000, HeartbeatMs: 10000, VASPID: 102}); err != nil || !cmp.Equal(lease, want) {
		t.Errorf("lease %+v, %v; want %+v", lease, err, want)
	}
}

func TestDirectory(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Members = w.members("  connections: ['102']\n") })
	w.beta.mustRegister()
	d, err := w.beta.client.Directory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.VASPs {
		if d.VASPs[i].VASPID == w.beta.id {
			if updated, err := time.Parse(time.RFC3339, d.VASPs[i].UpdatedAt); err != nil || time.Since(updated) > time.Hour {
				t.Errorf("beta updatedAt %s", d.VASPs[i].UpdatedAt)
			}
			d.VASPs[i].UpdatedAt = ""
		}
	}
	member := func(id identity.VASPID) relay.Member {
		return relay.Member{
			Health: "DOWN", VASPID: id, VASPName: "VASP " + id.String(), LegalName: "Ltd " + id.String(), Jurisdiction: "Singapore", IsAlliance: true,
			Country: "Singapore", CountryCode: "SG", Protocol: "VERIFYVASP", LicensedStatus: "Regulated", VASPStatus: "VERIFIED",
			CreatedAt: "2024-01-02T03:04:05.678Z", UpdatedAt: "2024-01-02T03:04:05.678Z",
		}
	}
	beta := member(102)
	beta.Health, beta.VASPStatus, beta.UpdatedAt = "UP", "VERIFIED-MEMBER", ""
	beta.Identity, beta.Suites, beta.EnclaveVersion = base64.StdEncoding.EncodeToString(w.beta.chain), []string{"x-wing", "x25519"}, "1.2.3"
	if diff := cmp.Diff([]relay.Member{member(101), beta, member(103)}, d.VASPs); diff != "" {
		t.Error(diff)
	}
	if _, ok := w.alpha.sees(103); ok {
		t.Error("alpha sees gamma, which does not want to deal with it")
	}
	if _, ok := w.gamma.sees(101); ok {
		t.Error("gamma sees alpha, which it does not want to deal with")
	}
	if _, ok := w.gamma.sees(103); !ok {
		t.Error("gamma does not see itself")
	}
}

func TestHealthIsPolled(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.PollEvery = 5 * time.Millisecond })
	w.alpha.mustRegister()
	w.beta.mustRegister()
	is := func(health string) func() bool {
		return func() bool { m, _ := w.alpha.sees(w.beta.id); return m.Health == health }
	}
	w.eventually("beta is polled up", func() bool { return w.count("central_health_polls_total", "up") > 0 })
	if !is(relay.Up)() {
		t.Error("beta is not up")
	}
	for name, health := range map[string]http.HandlerFunc{
		"unavailable": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"draining":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"DOWN"}`) },
		"no report":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `ok`) },
		"endless":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
		"another": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"status":"UP","instance":%q}`, uuid.NewString())
		},
	} {
		w.beta.behave(func(p *party) { p.health = health })
		w.eventually(name+": beta is down", is(relay.Down))
		w.beta.behave(func(p *party) { p.health = nil })
		w.eventually(name+": beta is up again", is(relay.Up))
	}
	for _, why := range []string{"it answers with status 503", "it says that it is not up", "another instance answers"} {
		w.eventually("the log says "+why, func() bool { return strings.Contains(w.log.String(), why) })
	}
	w.beta.stop()
	w.eventually("beta was killed and is down", is(relay.Down))
	w.eventually("the log says why", func() bool { return strings.Contains(w.log.String(), "poll=unreachable err=") })
	if got := w.count("central_members", "UP") + w.count("central_members", "DOWN"); got != 3 {
		t.Errorf("members counted: %v, want the 3 active ones", got)
	}
}

// Central keeps the first identity and follows only its own successors
// (attacks K1, K12).
func TestAnIdentityIsKept(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state.json")
	w := newWorld(t, func(w *world) { w.config.StateFile = state })
	w.alpha.mustRegister()
	first, oldSigner := w.alpha.chain, w.alpha.signer
	next, other := newIdentity(t, w.alpha.id)
	_, foreign := newIdentity(t, w.beta.id)
	extended, err := identity.ExtendChain(first, oldSigner, next, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	try := func(chain []byte) string {
		w.alpha.behave(func(p *party) { p.chain = chain })
		return said("ok", w.alpha.register())
	}
	bent := slices.Clone(first)
	bent[len(bent)-1] ^= 1
	for _, c := range []struct {
		name, want string
		chain      []byte
	}{
		{"another identity", "409 IDENTITY-CONFLICT", other},
		{"another VASP's", "400 INVALID-IDENTITY", foreign},
		{"bent", "400 INVALID-IDENTITY", bent},
		{"no chain", "400 INVALID-IDENTITY", []byte("x")},
		{"the same", "ok", first},
		{"its successor", "ok", extended},
		{"the one before again", "409 IDENTITY-CONFLICT", first},
		{"the successor again", "ok", extended},
	} {
		if got := try(c.chain); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if m, _ := w.beta.sees(w.alpha.id); m.Identity != base64.StdEncoding.EncodeToString(extended) {
		t.Error("the directory does not show the successor")
	}

	if err := central.ForgetIdentity(state, w.alpha.id); err == nil || !strings.Contains(err.Error(), "another central uses it") {
		t.Errorf("ForgetIdentity under a running central: %v", err)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if got, want := try(other), "409 IDENTITY-CONFLICT"; got != want {
		t.Errorf("another identity after a restart: %s, want %s", got, want)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if err := central.ForgetIdentity(state, 999); err == nil || !strings.Contains(err.Error(), "holds no identity of VASP 999") {
		t.Errorf("ForgetIdentity of a stranger: %v", err)
	}
	if err := central.ForgetIdentity(state, w.alpha.id); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if got := try(other); got != "ok" {
		t.Errorf("another identity after the first was forgotten: %s", got)
	}
}

// restart starts central again on what it left behind.
func (w *world) restart() {
	w.t.Helper()
	w.registry = prometheus.NewRegistry()
	w.config.Metrics = w.registry
	w.start()
}

// One VASP, one enclave; but one that was killed must not wait for its own
// lease.
func TestASecondInstanceIsRefusedUnlessTheFirstIsGone(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	first := w.alpha.registration()
	second := first
	second.Instance, second.PublicEndpoint = uuid.NewString(), "https://127.0.0.3:1/elsewhere"
	register := func(r relay.Registration) string {
		_, err := w.alpha.client.Register(t.Context(), r)
		return said("ok", err)
	}
	if got, want := register(second), "409 INSTANCE-CONFLICT"; got != want {
		t.Errorf("a second enclave beside a live one: %s, want %s", got, want)
	}
	if got := register(first); got != "ok" {
		t.Errorf("the first one's heartbeat after that: %s", got)
	}

	// Killed and started again at the same place: whoever answers there now is
	// the new one.
	w.alpha.behave(func(p *party) { p.instance = uuid.NewString() })
	if got := register(w.alpha.registration()); got != "ok" {
		t.Errorf("the enclave after a restart: %s", got)
	}
	if got, want := register(first), "409 INSTANCE-CONFLICT"; got != want {
		t.Errorf("the one before: %s, want %s", got, want)
	}

	// Killed for good: nobody answers.
	w.alpha.stop()
	if got := register(second); got != "ok" {
		t.Errorf("another one after the first is gone: %s", got)
	}
}

// A restarted enclave that answers but is not ready is no reason to keep the
// new one waiting.
func TestAnInstanceThatAnswersBadlyIsGone(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	w.alpha.behave(func(p *party) {
		p.instance, p.health = uuid.NewString(), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }
	})
	w.alpha.mustRegister()
}

// Killed at any moment, central comes back knowing who its members' enclaves
// are and where: the file alone is enough.
func TestACentralThatWasKilledComesBack(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, func(w *world) { w.config.StateFile = filepath.Join(dir, "state.json") })
	w.alpha.mustRegister()
	w.beta.mustRegister()
	kept, err := read(w.config.StateFile) // what a killed process leaves: nothing is written at its end
	if err != nil {
		t.Fatal(err)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w.config.StateFile = filepath.Join(dir, "copy.json")
	write(t, w.config.StateFile, kept)
	w.restart()
	if got, want := w.alpha.deliver(w.beta.id, "x"), "to 102: x"; got != want {
		t.Errorf("right after the restart: %s, want %s", got, want)
	}
	if m, _ := w.alpha.sees(w.beta.id); m.Health != relay.Up || m.Identity == "" {
		t.Errorf("right after the restart alpha sees %+v", m)
	}
	w.eventually("both are polled", func() bool { return w.count("central_health_polls_total", "up") == 2 })
}

func TestLeasesReachTheFileAtTheEnd(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.config.StateFile = filepath.Join(t.TempDir(), "state.json")
		w.config.Lease, w.config.Heartbeat = 30*time.Second, 10*time.Second
	})
	w.alpha.mustRegister()
	w.offset.Store(int64(25 * time.Second))
	w.alpha.mustRegister() // a heartbeat: in memory first
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w.offset.Store(int64(45 * time.Second))
	w.restart()
	if m, _ := w.alpha.sees(w.alpha.id); m.Health != relay.Up {
		t.Errorf("alpha is %s: the heartbeat's lease was lost", m.Health)
	}
}

func TestAStateThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, func(w *world) { w.config.StateFile = filepath.Join(dir, "state.json") })
	w.alpha.mustRegister()
	try := func(file string) error {
		c := w.config
		c.StateFile, c.Metrics = file, nil
		s, err := central.New(t.Context(), c)
		if err == nil {
			s.Close()
		}
		return err
	}
	if err := try(w.config.StateFile); err == nil || !strings.Contains(err.Error(), "another central uses it") {
		t.Errorf("a second central: %v", err)
	}
	good, err := read(w.config.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	for want, text := range map[string]string{
		"damaged":                  good[:len(good)/2],
		"damaged: json":            strings.Replace(good, `"version"`, `"vErsion"`, 1),
		"has version 2":            strings.Replace(good, `"version": 1`, `"version": 2`, 1),
		"must begin with https://": strings.Replace(good, "https://", "http://", 1),
	} {
		file := filepath.Join(dir, "bad.json")
		write(t, file, text)
		if err := try(file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "state") {
			t.Errorf("New = %v, want %q", err, want)
		}
		if now, _ := read(file); now != text {
			t.Errorf("%s: the file was changed", want)
		}
	}
	if err := try(filepath.Join(dir, "no", "such", "folder.json")); err == nil {
		t.Error("a state file in no folder was accepted")
	}
	if err := try(""); err != nil {
		t.Errorf("without a state file: %v", err)
	}
}

// When the disk takes no identity, the enclave must not believe it is kept.
func TestARegistrationThatCannotBeKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world) { w.config.StateFile = filepath.Join(dir, "state.json") })
	w.alpha.mustRegister()
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	if got, want := said("ok", w.beta.register()), "500 INTERNAL-ERROR"; got != want {
		t.Errorf("register without a disk: %s, want %s", got, want)
	}
	if m, _ := w.alpha.sees(w.beta.id); m.VASPStatus != relay.StatusVerified {
		t.Error("beta counts as registered")
	}
	if err := os.Rename(dir+".gone", dir); err != nil {
		t.Fatal(err)
	}
	w.alpha.behave(func(p *party) { p.instance = uuid.NewString() })
	w.alpha.mustRegister() // writes the file
	if kept, err := read(w.config.StateFile); err != nil || strings.Contains(kept, `"102"`) {
		t.Errorf("beta, whose registration failed, is kept: %v, %s", err, kept)
	}
	w.beta.mustRegister()
}

// During a change of keys the enclave may know the new pair only: central
// answers with the pair that was used last.
func TestCentralUsesTheKeyThatTheEnclaveUses(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	for i, k := range w.beta.keys {
		if _, err := w.beta.clientWith(k, w.beta.address).Register(t.Context(), w.beta.registration()); err != nil {
			t.Fatal(err)
		}
		used := make(chan string, 1)
		w.beta.behave(func(p *party) {
			p.message = func(rw http.ResponseWriter, r *http.Request, v *relay.Verified) { used <- v.AccessKey; echo(rw, r, v) }
		})
		w.alpha.deliver(w.beta.id, "x")
		if got := <-used; got != k.Access {
			t.Errorf("after registering with pair %d central used %s", i+1, got)
		}
	}
}

func Test200ExchangesAtOnce(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.RelayTimeout = time.Hour })
	w.alpha.mustRegister()
	w.beta.mustRegister()
	arrived, release := make(chan struct{}, 200), make(chan struct{})
	for _, p := range []*party{w.alpha, w.beta} {
		p.behave(func(p *party) {
			p.message = func(rw http.ResponseWriter, r *http.Request, v *relay.Verified) {
				if strings.HasSuffix(string(v.Body), ".0") {
					arrived <- struct{}{}
					<-release
				}
				echo(rw, r, v)
			}
		})
	}
	var all sync.WaitGroup
	for i := range 200 {
		from, to := w.alpha, w.beta
		if i%2 == 1 {
			from, to = to, from
		}
		all.Go(func() {
			for n := range 3 {
				envelope := fmt.Sprintf("%s envelope %d.%d", strings.Repeat("x", i*37), i, n)
				if got, want := from.deliver(to.id, envelope), fmt.Sprintf("to %s: %s", to.id, envelope); got != want {
					t.Errorf("exchange %d: got %.80q", i, got)
				}
			}
		})
		if i%20 == 19 { // a handshake has 5 s, which those of 200 at once may need under the race detector
			for range 20 {
				edgetest.Receive(t, arrived)
			}
		}
	}
	if got := len(arrived); got != 0 {
		t.Errorf("%d messages came twice", got)
	}
	close(release) // all 200 are under way
	all.Wait()
	if got := w.count("central_exchange_duration_seconds", "ok"); got != 600 {
		t.Errorf("%v exchanges counted, want 600", got)
	}
}

func TestAnExchangeInProgressFinishes(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	w.beta.mustRegister()
	arrived, release := make(chan struct{}), make(chan struct{})
	w.beta.behave(func(p *party) {
		p.message = func(rw http.ResponseWriter, r *http.Request, v *relay.Verified) {
			close(arrived)
			<-release
			echo(rw, r, v)
		}
	})
	answer, stopped := make(chan string, 1), make(chan error, 1)
	go func() { answer <- w.alpha.deliver(w.beta.id, "x") }()
	<-arrived
	go func() { stopped <- w.stop() }()
	w.eventually("central takes nothing new", func() bool { return w.gamma.register() != nil })
	close(release)
	if got := <-answer; got != "to 102: x" {
		t.Errorf("the exchange in progress: %s", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	w.alpha.deliver(w.beta.id, "x")
	w.eventually("alpha is polled", func() bool { return w.count("central_health_polls_total", "up") == 1 })
	if problems, err := testutil.GatherAndLint(w.registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	families, _ := w.registry.Gather()
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "central_") {
			t.Errorf("metric %s", f.GetName())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "101") || strings.Contains(l.GetValue(), "102") {
					t.Errorf("%s has a VASP in its labels", f.GetName())
				}
			}
		}
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	w := newWorld(t, nil)
	for _, path := range []string{"alliance", "/a/../b", "/a?b", "//x", "/a b"} {
		c := w.config
		c.BasePath, c.Metrics = path, nil
		if s, err := central.New(t.Context(), c); err == nil || !strings.Contains(err.Error(), "base path") {
			t.Errorf("base path %q: %v, %v", path, s, err)
		}
	}
}

func read(path string) (string, error) {
	text, err := os.ReadFile(path)
	return string(text), err
}
