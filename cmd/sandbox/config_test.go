package sandbox_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// sumOf adds all samples of one metric on a page.
func sumOf(page, prefix string) (sum float64) {
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, prefix) {
			value, _ := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(strings.TrimSpace(line), ' '):]), 64)
			sum += value
		}
	}
	return sum
}

func grep(page, word string) (found string) {
	for line := range strings.Lines(page) {
		if strings.Contains(line, word) {
			found += line
		}
	}
	return found
}

// run runs a program to its end with an environment, and gives its exit code
// and what it said.
func run(t *testing.T, path string, env []string, args ...string) (code int, said string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), path, args...)
	command.Env = env
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	_ = command.Run()
	return command.ProcessState.ExitCode(), out.String()
}

// A wrong, short or absent database key ends the program with a word on which
// it is, and leaves the file as it was (S4, S11).
func TestAWrongDatabaseKeyEndsTheProgramAndLeavesTheFile(t *testing.T) {
	a := start(t, sandbox.Options{})
	v := a.VASPs[0]
	if _, err := v.Verify(t.Context(), sandbox.Request(a.VASPs[1].ID)); err != nil {
		t.Fatal(err)
	}
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	before := sha256.Sum256(read(t, v.Database))
	without := func(name string) (env []string) {
		for _, e := range v.Enclave.Env {
			if !strings.HasPrefix(e, name) {
				env = append(env, e)
			}
		}
		return env
	}
	const name = "VEGA_ENCRYPTION_KEY_BASE64"
	for what, c := range map[string]struct {
		env  []string
		want string
	}{
		"wrong":      {append(without(name), name+"="+base64.StdEncoding.EncodeToString(make([]byte, 32))), "wrong key-encryption key"},
		"short":      {append(without(name), name+"="+base64.StdEncoding.EncodeToString(make([]byte, 16))), "16 bytes, want 32"},
		"not base64": {append(without(name), name+"=###"), "base64"},
		"absent":     {without(name), name},
	} {
		code, said := run(t, v.Enclave.Path, c.env, "run")
		if code == 0 || !strings.Contains(said, c.want) {
			t.Errorf("%s key: exit %d, said %q, want a word about %q", what, code, said, c.want)
		}
		if sha256.Sum256(read(t, v.Database)) != before {
			t.Errorf("%s key: the file changed", what)
		}
	}
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Errorf("with the right key again: %v", err)
	}
}

// A name in an allowlist is a start-up error that says so (N2).
func TestADomainInAnAllowlistIsRefusedAtStart(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	enclave := a.VASPs[0].Enclave
	code, said := run(t, enclave.Path, append(enclave.Env, "VEGA_CENTRAL_ALLOWLIST=central.example.com"), "run")
	if code != 2 || !strings.Contains(said, "VEGA_CENTRAL_ALLOWLIST") || !strings.Contains(said, "domain") {
		t.Errorf("enclave: exit %d, said %q", code, said)
	}
	members := a.Dir + "/members.yaml"
	broken := bytes.Replace(read(t, members), []byte(`allow: ["127.0.0.2"]`), []byte(`allow: ["enclave.example.com"]`), 1)
	if err := os.WriteFile(members, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	code, said = run(t, a.Central.Path, a.Central.Env, "run")
	if code == 0 || !strings.Contains(said, "domain") || !strings.Contains(said, "15952089931162058999") {
		t.Errorf("central: exit %d, said %q", code, said)
	}
}

// A client certificate with another's key, or for servers only, is named at
// start, by enclave and central.
func TestAClientCertificateThatDoesNotFitIsRefusedAtStart(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	enclave, central := a.VASPs[0].Enclave, a.Central
	value := func(p *sandbox.Program, name string) string {
		for _, line := range p.Env {
			if found, ok := strings.CutPrefix(line, name+"="); ok {
				return found
			}
		}
		t.Fatalf("%s is not set", name)
		return ""
	}
	cert, ownKey, otherKey := value(enclave, "VEGA_TLS_CERT_FILE"), value(enclave, "VEGA_TLS_KEY_FILE"), value(central, "CENTRAL_TLS_KEY_FILE")
	for prefix, p := range map[string]*sandbox.Program{"VEGA_API_": enclave, "VEGA_VERIFICATION_": enclave, "CENTRAL_": central} {
		certSetting, keySetting := prefix+"CLIENT_CERT_FILE", prefix+"CLIENT_KEY_FILE"
		for key, want := range map[string]string{otherKey: "the key is not this certificate's", ownKey: "is for servers only"} {
			code, said := run(t, p.Path, append(p.Env, certSetting+"="+cert, keySetting+"="+key), "run")
			if code != 2 || !strings.Contains(said, certSetting+", "+keySetting+": ") || !strings.Contains(said, want) {
				t.Errorf("%s: exit %d, said %q, want %q", certSetting, code, said, want)
			}
		}
	}
}

// An unknown variable is a warning and a metric in run, and an error in
// check-config; Kubernetes' own variables are let be.
func TestAnUnknownSettingIsNoticed(t *testing.T) {
	a := prepare(t, sandbox.Options{Enclave: []string{"VEGA_PUBLIC_KEY_TLL=1", "VEGA_ENCLAVE_SERVICE_HOST=10.0.0.1"}})
	enclave := a.VASPs[0].Enclave
	code, said := run(t, enclave.Path, enclave.Env, "check-config")
	if code == 0 || !strings.Contains(said, "VEGA_PUBLIC_KEY_TLL") || !strings.Contains(said, "VEGA_PUBLIC_KEY_TTL") {
		t.Errorf("check-config: exit %d, said %q", code, said)
	}
	if strings.Contains(said, "SERVICE_HOST") {
		t.Errorf("check-config minds a service link: %q", said)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sample(metrics(t, a.VASPs[0].Metrics), "enclave_unknown_settings"); got != "1" {
		t.Errorf("enclave_unknown_settings = %q, want 1", got)
	}
	if code, said := run(t, enclave.Path, enclave.Env, "healthcheck"); code != 0 {
		t.Errorf("healthcheck: exit %d, said %q", code, said)
	}
}

// No command shows a secret.
func TestNoCommandShowsASecret(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	var said string
	for _, args := range [][]string{{"config"}, {"check-config"}, {"run", "--help"}, {"version"}} {
		code, out := run(t, v.Enclave.Path, v.Enclave.Env, args...)
		if code != 0 {
			t.Errorf("%v: exit %d, said %q", args, code, out)
		}
		said += out
	}
	for name, secret := range map[string]string{"token": v.Token, "secret key": v.SecretKey, "encryption key": v.EncryptionKey} {
		if strings.Contains(said, secret) {
			t.Errorf("the %s was shown", name)
		}
	}
	if !strings.Contains(said, fmt.Sprintf("VEGA_VASP_ID=%s", v.ID)) && !strings.Contains(said, v.ID) {
		t.Errorf("the effective settings lack the VASP id:\n%s", said)
	}
}
