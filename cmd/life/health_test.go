package life_test

import (
	"bytes"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
)

// The probe of a container finds the program wherever its setting lets it
// listen, and says what it heard.
func TestHealthCommandAsksThisMachine(t *testing.T) {
	readiness := new(life.Readiness)
	readiness.Started()
	work := readiness.Require("work", "not now")
	plain, secret := httptest.NewServer(readiness.Routes().Handler()), httptest.NewTLSServer(readiness.Routes().Handler())
	defer plain.Close()
	defer secret.Close()
	port := func(s *httptest.Server) string {
		_, port, err := net.SplitHostPort(s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	ask := func(p life.Probes, flags ...string) (string, error) {
		var out bytes.Buffer
		c := life.HealthCommand("program", func() (life.Probes, error) { return p, nil })
		c.SetArgs(flags)
		c.SetOut(&out)
		c.SilenceUsage, c.SilenceErrors = true, true
		err := c.Execute()
		return strings.TrimSpace(out.String()), err
	}
	for _, p := range []life.Probes{
		{Listen: plain.Listener.Addr().String()}, {Listen: ":" + port(plain)}, {Listen: "0.0.0.0:" + port(plain)},
		{Listen: ":" + port(secret), TLS: true},
	} {
		work.Holds()
		if said, err := ask(p); said != "ready" || err != nil {
			t.Errorf("%+v: %q, %v", p, said, err)
		}
		work.Fails("not now")
		if said, err := ask(p); said != "" || err == nil || !strings.Contains(err.Error(), "not ready: status 503") {
			t.Errorf("%+v, not ready: %q, %v", p, said, err)
		}
		for flag, want := range map[string]string{"--live": "alive", "--startup": "started"} {
			if said, err := ask(p, flag); said != want || err != nil {
				t.Errorf("%+v %s: %q, %v", p, flag, said, err)
			}
		}
	}
	if _, err := ask(life.Probes{Listen: plain.Listener.Addr().String()}, "--live", "--startup"); err == nil || !strings.Contains(err.Error(), "two questions") {
		t.Errorf("two questions: %v", err)
	}
	plain.Close()
	if _, err := ask(life.Probes{Listen: plain.Listener.Addr().String(), Else: "it is elsewhere"}); err == nil || !strings.Contains(err.Error(), "not alive, or it is elsewhere") {
		t.Errorf("nobody there: %v", err)
	}
}
