package sandbox_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// The doctor finds nothing to mend where all is well, and where it is not says
// what to do: each of the mistakes a newcomer makes.
func TestTheDoctor(t *testing.T) {
	a := start(t, sandbox.Options{})
	v := a.VASPs[0]
	examine := func(changes ...string) (int, string) {
		t.Helper()
		env := slices.Clone(v.Enclave.Env)
		for _, change := range changes {
			name, _, _ := strings.Cut(change, "=")
			env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		}
		return run(t, v.Enclave.Path, append(env, changes...), "doctor")
	}
	code, said := examine()
	for _, want := range []string{"settings", "enclave", "key", "disk", "allowlist", "certificate", "clock", "central", "endpoint"} {
		if !strings.Contains(said, "\nok    "+want) && !strings.HasPrefix(said, "ok    "+want) {
			t.Errorf("of %s nothing good is said", want)
		}
	}
	for _, want := range []string{"runs and is ready", "gives the one that the running history is under", "says that our enclave is up", "takes our requests; 1 VASPs", "within 5 s", "warn  backend      can be reached; whether it takes the token"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if code != 0 || t.Failed() {
		t.Fatalf("all is well, and it says, with exit code %d:\n%s", code, said)
	}
	t.Log("\n" + said)
	empty := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(empty, []byte("# nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		changes []string
		want    []string
	}{
		{[]string{"VEGA_VASP_ID=1"}, []string{"FAIL  central", "must be the id that goes with VEGA_ALLIANCE_ACCESS_KEY"}},
		{[]string{"VEGA_ALLIANCE_SECRET_KEY_FILE=", "VEGA_ALLIANCE_SECRET_KEY=0123456789abcdef"}, []string{"FAIL  central", "look at VEGA_ALLIANCE_ACCESS_KEY"}},
		{[]string{"VEGA_ENCRYPTION_KEY_BASE64_FILE=", "VEGA_ENCRYPTION_KEY_BASE64=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, []string{"FAIL  key", "the next start would fail"}},
		{[]string{"VEGA_SOURCE_ADDRESS=127.0.0.77"}, []string{"FAIL  central", "VEGA_SOURCE_ADDRESS"}},
		{[]string{"VEGA_API_ROOTS_FILE="}, []string{"FAIL  central", "VEGA_API_ROOTS_FILE"}},
		{[]string{"VEGA_CENTRAL_ALLOWLIST=192.0.2.1"}, []string{"warn  allowlist", "none is an address of"}},
		{[]string{"VEGA_CENTRAL_ALLOWLIST=", "VEGA_CENTRAL_ALLOWLIST_FILE=" + empty}, []string{"FAIL  allowlist", "nobody may connect"}},
		{[]string{"VEGA_VERIFICATION_API_PATH=http://127.0.0.1:1/x"}, []string{"FAIL  backend", "connection refused"}},
		{[]string{"VEGA_DATABASE_FILE=/none/enclave.db"}, []string{"FAIL  disk", "there is no directory /none"}},
		{[]string{"VEGA_ENCLAVE_PUBLIC_ENDPOINT=https://127.0.0.2:1"}, []string{"FAIL  endpoint", "must lead to VEGA_PUBLIC_LISTEN"}},
		{[]string{"VEGA_ADMIN_LISTEN=127.0.0.1:1"}, []string{"warn  enclave", "does not run, or has another VEGA_ADMIN_LISTEN", "has not noticed yet"}},
		{[]string{"VEGA_REDIS_URL=redis://127.0.0.1:1"}, []string{"warn  redis", "kept in process"}},
		{[]string{"VEGA_LOG_LEVL=debug"}, []string{"FAIL  settings", "did you mean VEGA_LOG_LEVEL?"}},
		{[]string{"VEGA_API_ENDPOINT=http://central.example"}, []string{"FAIL  settings", "VEGA_API_ENDPOINT: must begin with https://"}},
	} {
		code, said := examine(c.changes...)
		for _, want := range c.want {
			if !strings.Contains(said, want) {
				t.Errorf("%q: it does not say %q:\n%s", c.changes, want, said)
			}
		}
		if fails := strings.HasPrefix(c.want[0], "FAIL"); (code == 1) != fails {
			t.Errorf("%q: exit code %d", c.changes, code)
		}
		if strings.Contains(said, "0123456789abcdef") || strings.Contains(said, v.SecretKey) {
			t.Errorf("%q: it shows the secret", c.changes)
		}
	}
	if err := a.Central.Stop(); err != nil {
		t.Fatal(err)
	}
	if code, said := examine(); code != 1 || !strings.Contains(said, "is central there") {
		t.Errorf("without central: exit %d\n%s", code, said)
	}
}

// Of an automatic certificate the doctor says until when the running enclave
// shows it, and when there is none yet.
func TestTheDoctorLooksAtAnAutomaticCertificate(t *testing.T) {
	a := start(t, sandbox.Options{ACME: pebbleProgram(t)})
	v := a.VASPs[0]
	eventually(t, time.Minute, "there is a certificate", func() bool {
		_, said := run(t, v.Enclave.Path, v.Enclave.Env, "doctor")
		return strings.Contains(said, "ok    certificate  ends on ")
	})
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, said := run(t, v.Enclave.Path, v.Enclave.Env, "doctor"); !strings.Contains(said, "the running enclave tells") {
		t.Errorf("of one that does not run:\n%s", said)
	}
	v.Enclave.Env = append(v.Enclave.Env, "VEGA_ACME_DIRECTORY=https://127.0.0.1:1/directory", "VEGA_ACME_STORAGE="+t.TempDir())
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, said := run(t, v.Enclave.Path, v.Enclave.Env, "doctor"); code != 1 || !strings.Contains(said, "FAIL  certificate  automatic, and 127.0.0.1 has issued none yet") {
		t.Errorf("without one: exit %d\n%s", code, said)
	}
}

// A backend that refuses the token is found without its being asked anything.
func TestTheDoctorFindsAWrongToken(t *testing.T) {
	a := start(t, sandbox.Options{})
	v := a.VASPs[0]
	backend := refusing(t)
	env := append(slices.Clone(v.Enclave.Env), "VEGA_VERIFICATION_API_PATH="+backend+"/401", "VEGA_VERIFICATION_ACCOUNT_API_PATH="+backend+"/302", "VEGA_VERIFICATION_AUTHORIZATION_TOKEN_FILE=", "VEGA_VERIFICATION_AUTHORIZATION_TOKEN=hunter2")
	code, said := run(t, v.Enclave.Path, env, "doctor")
	good := append(slices.Clone(v.Enclave.Env), "VEGA_VERIFICATION_API_PATH="+backend+"/200", "VEGA_VERIFICATION_ACCOUNT_API_PATH="+backend+"/400",
		"VEGA_VERIFICATION_TRANSACTION_API_PATH=", "VEGA_VERIFICATION_CALLBACK_API_PATH=")
	if _, said := run(t, v.Enclave.Path, good, "doctor"); !strings.Contains(said, "ok    backend      can be reached, and does not refuse the token") {
		t.Errorf("of a backend that takes it:\n%s", said)
	}
	if code != 1 || !strings.Contains(said, "refuses the token with 401") || !strings.Contains(said, "answers with a redirect (302)") || strings.Contains(said, "hunter2") {
		t.Errorf("exit %d\n%s", code, said)
	}
}

// refusing is a backend that answers with the number of its path, and takes
// nothing but a GET.
func refusing(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.ContentLength > 0 {
			t.Errorf("the backend is asked %s with %d bytes", r.Method, r.ContentLength)
		}
		code, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(max(code, 200))
	}))
	t.Cleanup(s.Close)
	return s.URL
}
