package central_test

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward/outwardtest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// at is beta's registration with an endpoint elsewhere.
func (w *world) at(endpoint string) relay.Registration {
	r := w.beta.registration()
	r.PublicEndpoint = endpoint
	return r
}

// Attack N4: central gives no envelope to an enclave whose certificate is bad.
func TestBadEnclavesAreRefused(t *testing.T) {
	company := outwardtest.NewCompany(t, "127.0.0.7", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", relay.MediaType)
		io.WriteString(w, "reply")
	}))
	w := newWorld(t, func(w *world) { w.config.Roots = company.Roots })
	w.alpha.mustRegister()
	deliver := func(s *outwardtest.Server) string {
		t.Helper()
		if _, err := w.beta.client.Register(t.Context(), w.at(s.URL)); err != nil {
			t.Fatalf("%s: register: %v", s.Name, err)
		}
		return w.alpha.deliver(w.beta.id, "envelope")
	}
	for _, s := range company.Good {
		if got := deliver(s); got != "reply" {
			t.Errorf("good enclave at %s: %s", s.URL, got)
		}
	}
	for _, s := range company.Bad {
		if got := deliver(s); got != "502 RECIPIENT-UNREACHABLE" || s.Heard() != 0 {
			t.Errorf("%s: %s, and it heard %d requests", s.Name, got, s.Heard())
		}
	}
	if n := len(company.Bad); n < 30 {
		t.Errorf("%d kinds of bad certificates, want at least 30", n)
	}
}

// Attack V2: a member cannot have central call what is not public. What may be
// registered is then polled: from central's loopback address nothing leaves
// this machine.
func TestEndpointsThatAreNotPublicAreRefused(t *testing.T) {
	dns := outwardtest.NewDNS(t)
	for name, address := range map[string]string{"me.example": "127.0.0.1", "inside.example": "10.0.0.1", "metadata.example": "169.254.169.254", "wrapped.example": "64:ff9b::7f00:1"} {
		dns.Answer(name, []netip.Addr{netip.MustParseAddr(address)})
	}
	dns.Answer("mixed.example", []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("10.0.0.1")})
	dns.Answer("public.example", []netip.Addr{netip.MustParseAddr("8.8.8.8")})
	const loopback, private, never, fine = "loopback", "private", "never", "fine"
	endpoints := map[string]string{
		"https://127.0.0.1": loopback, "https://127.0.0.4:8443/x": loopback, "https://[::1]": loopback, "https://[::ffff:127.0.0.1]": loopback,
		"https://localhost": loopback, "https://me.example": loopback, "https://wrapped.example": loopback, "https://[64:ff9b::7f00:1]": loopback,
		"https://10.0.0.1": private, "https://172.16.0.1": private, "https://192.168.1.1:22": private, "https://100.64.0.1": private, "https://[fd00::1]": private,
		"https://inside.example": private, "https://mixed.example": private, "https://[2002:a00:1::1]": private,
		"https://169.254.169.254": never, "https://metadata.example": never, "https://[fd00:ec2::254]": never, "https://0.0.0.0": never, "https://[::]": never,
		"https://[fe80::1]": never, "https://224.0.0.1": never, "https://100.100.100.200": never, "https://[::ffff:169.254.169.254]": never,
		"https://public.example": fine, "https://unknown.example": fine, "https://8.8.8.8": fine, "https://[2606:4700::1111]": fine,
	}
	for _, reach := range []outward.Class{0, outward.Global | outward.Private, outward.Global | outward.Loopback, outward.Global | outward.Private | outward.Loopback} {
		w := newWorld(t, func(w *world) { w.config.Reach, w.config.Resolver = reach, dns.Resolver() })
		for endpoint, kind := range endpoints {
			_, err := w.beta.client.Register(t.Context(), w.at(endpoint))
			got, want := said("ok", err), "400 INVALID-PUBLIC-ENDPOINT"
			if kind == fine || kind == loopback && reach&outward.Loopback != 0 || kind == private && reach&outward.Private != 0 {
				want = "ok"
			}
			if got != want {
				t.Errorf("reach %d, %s: %s, want %s", reach, endpoint, got, want)
			}
		}
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		if log := w.log.String(); !strings.Contains(log, "an endpoint that central must not call") {
			t.Errorf("the log does not say that an endpoint was refused: %s", log)
		}
	}
}

// Attack V2, DNS rebinding: a name that was public when it was registered is
// judged again when it is dialled, by polls and deliveries, and so is what an
// older central wrote into its state.
func TestAnEndpointThatMovesInsideIsNotCalled(t *testing.T) {
	company := outwardtest.NewCompany(t, "127.0.0.1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", relay.MediaType)
		io.WriteString(w, "reply")
	}))
	inside := company.Good[0]
	dns := outwardtest.NewDNS(t)
	dns.Answer("moves.example", []netip.Addr{netip.MustParseAddr("8.8.8.8")}, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	state := t.TempDir() + "/state.json"
	w := newWorld(t, func(w *world) {
		w.config.Reach, w.config.Resolver, w.config.Roots, w.config.StateFile = 0, dns.Resolver(), company.Roots, state
		w.config.Members = w.members("")
	})
	w.alpha.endpoint = "https://alpha.example"
	w.alpha.mustRegister()
	moved := strings.Replace(inside.URL, "127.0.0.1", "moves.example", 1)
	if _, err := w.beta.client.Register(t.Context(), w.at(moved)); err != nil {
		t.Fatalf("register a public name: %v", err)
	}
	w.eventually("a poll", func() bool { return w.count("central_health_polls_total", "") >= 2 })
	if got := w.alpha.deliver(w.beta.id, "envelope"); got != "502 RECIPIENT-UNREACHABLE" {
		t.Errorf("deliver = %s", got)
	}
	if n := dns.Asked("moves.example"); n < 2 {
		t.Errorf("the name was resolved %d times, want once when registered and again when called", n)
	}
	if !strings.Contains(w.log.String(), outward.ErrRefused.Error()) {
		t.Error("the log does not say why")
	}
	if n := inside.Heard(); n != 0 {
		t.Errorf("the service inside heard %d requests", n)
	}
}

// An enclave may ask central for a client certificate.
func TestEnclavesSeeCentralsCertificate(t *testing.T) {
	server := outwardtest.NewGuarded(t, "127.0.0.7", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", relay.MediaType)
		io.WriteString(w, "reply")
	}))
	trust, err := outward.ReadTrust(server.Files("central", nil), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for want, trust := range map[string]*outward.Trust{"502 RECIPIENT-UNREACHABLE": nil, "reply": trust} {
		w := newWorld(t, func(w *world) { w.config.Roots, w.config.Trust = server.Roots, trust })
		w.alpha.mustRegister()
		if _, err := w.beta.client.Register(t.Context(), w.at(server.URL)); err != nil {
			t.Fatal(err)
		}
		if got := w.alpha.deliver(w.beta.id, "envelope"); got != want {
			t.Errorf("deliver = %s, want %s", got, want)
		}
	}
	if got := server.Seen(); len(got) == 0 || got[0] != "central" {
		t.Errorf("the enclave saw %q", got)
	}
}
