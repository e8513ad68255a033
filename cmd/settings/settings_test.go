package settings_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// sample has one field of each kind.
type sample struct {
	Port  int              `env:"VEGA_SERVER_PORT" envDefault:"21117" range:"0-65535" group:"Server" doc:"Port to listen on."`
	Admin settings.Listen  `env:"VEGA_ADMIN_LISTEN" envDefault:"127.0.0.1:21118" doc:"Where to listen for probes."`
	Loud  bool             `env:"VEGA_LOUD" doc:"Whether to log more."`
	API   settings.URL     `env:"VEGA_API_ENDPOINT" required:"true" group:"Alliance" doc:"Base URL of the central server."`
	Key   settings.Secret  `env:"VEGA_SECRET_KEY" required:"true" secret:"true" doc:"Secret shown once in the console."`
	Trust string           `env:"VEGA_PEER_TRUST" envDefault:"tofu" oneof:"tofu|verified" doc:"Which peers to talk to: those seen once, or those compared by a person as well, which takes a telephone call."`
	Mode  string           `env:"VEGA_MODE" envDefault:"TR" unset:"assuming TR" doc:"What this program does."`
	Path  settings.URL     `env:"VEGA_ACCOUNT_API_PATH" alias:"VEGA_ADDRESS_API_PATH" group:"Backend" doc:"Where to ask about an account."`
	TTL   settings.Millis  `env:"VEGA_PUBLIC_KEY_TTL" envDefault:"1800000" min:"600000" doc:"How long a key is kept, in ms."`
	From  settings.Address `env:"VEGA_SOURCE_ADDRESS" doc:"Local address of outgoing connections."`
}

func (*sample) Refused() []settings.Refusal {
	return []settings.Refusal{{Names: []string{"VEGA_DB_CLIENT", "VEGA_DB_HOST"}, Instead: "set VEGA_DB_FILE."}}
}

// needed is what a sample cannot do without.
var needed = []string{"VEGA_API_ENDPOINT=https://central.example", "VEGA_SECRET_KEY=hunter2"}

func load(t *testing.T, environ ...string) (sample, []string, error) {
	t.Helper()
	var s sample
	warnings, err := settings.Load("VEGA_", &s, append(environ, needed...))
	return s, warnings, err
}

func TestLoadFillsDefaultsAndValues(t *testing.T) {
	s, _, err := load(t, "VEGA_LOUD=true", "VEGA_ADMIN_LISTEN=:9000", "VEGA_SOURCE_ADDRESS=127.0.0.2", "VEGA_SERVER_PORT=")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.TrimSpace(fmt.Sprintln(s.Port, s.Admin, s.Loud, s.API, s.Key.Reveal(), s.Trust, s.TTL.Duration(), s.From, s.Path.IsSet()))
	want := "21117 :9000 true https://central.example hunter2 tofu 30m0s 127.0.0.2 false"
	if got != want {
		t.Errorf("Load = %s, want %s", got, want)
	}
}

func TestLoadReportsEverythingAtOnce(t *testing.T) {
	var s sample
	_, err := settings.Load("VEGA_", &s, []string{
		"VEGA_SERVER_PORT=port-value", "VEGA_LOUD=loud-value", "VEGA_PEER_TRUST=trust-value", "VEGA_PUBLIC_KEY_TTL=30m",
		"VEGA_API_ENDPOINT=https://user:url-value@central", "VEGA_ADMIN_LISTEN=localhost:80", "VEGA_SOURCE_ADDRESS=name-value",
		"VEGA_DB_HOST=host-value", "VEGA_DB_CLIENT=pg-value",
	})
	want := []string{
		"VEGA_SECRET_KEY is not set: Secret shown once in the console. It may also be in the file that VEGA_SECRET_KEY_FILE names.",
		"VEGA_DB_CLIENT, VEGA_DB_HOST: set VEGA_DB_FILE.",
		"VEGA_SERVER_PORT: must be a whole number",
		"VEGA_ADMIN_LISTEN: must name its host by IP address, not by name",
		"VEGA_LOUD: must be true or false",
		"VEGA_API_ENDPOINT: must not hold a user name or password: take them out of the URL",
		"VEGA_PUBLIC_KEY_TTL: must be a whole number of milliseconds",
		"VEGA_SOURCE_ADDRESS: must be an IP address, not a name, without a port",
		"VEGA_PEER_TRUST: must be one of tofu, verified",
	}
	if diff := cmp.Diff(want, strings.Split(fmt.Sprint(err), "\n")); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if strings.Contains(err.Error(), "-value") {
		t.Errorf("an error shows a value: %v", err)
	}
}

func TestLoadRefusesOutOfRange(t *testing.T) {
	for _, port := range []string{"-1", "65536", "99999999999999999999", "1.5", " 80"} {
		if _, _, err := load(t, "VEGA_SERVER_PORT="+port); err == nil {
			t.Errorf("VEGA_SERVER_PORT=%s was accepted", port)
		}
	}
	for _, ms := range []string{"-1", "9223372036855", "1e6", "5s"} {
		if _, _, err := load(t, "VEGA_PUBLIC_KEY_TTL="+ms); err == nil {
			t.Errorf("VEGA_PUBLIC_KEY_TTL=%s was accepted", ms)
		}
	}
}

func TestLoadWarns(t *testing.T) {
	for name, c := range map[string]struct{ variable, want string }{
		"below minimum": {"VEGA_PUBLIC_KEY_TTL=1", "VEGA_PUBLIC_KEY_TTL is below its minimum: using 600000"},
		"old name":      {"VEGA_ADDRESS_API_PATH=https://b", "VEGA_ADDRESS_API_PATH is now called VEGA_ACCOUNT_API_PATH: rename it"},
		"typo":          {"VEGA_SERVER_PROT=1", "VEGA_SERVER_PROT is not a setting of this program: did you mean VEGA_SERVER_PORT?"},
		"stranger":      {"VEGA_COFFEE_STRENGTH=1", "VEGA_COFFEE_STRENGTH is not a setting of this program"},
	} {
		s, warnings, err := load(t, c.variable, "VEGA_MODE=TR")
		if err != nil || len(warnings) != 1 || warnings[0] != c.want {
			t.Errorf("%s: Load warned %q, %v, want %q", name, warnings, err, c.want)
		}
		if s.TTL.Duration() < 10*time.Minute {
			t.Errorf("%s: TTL = %s, want 10 minutes at least", name, s.TTL.Duration())
		}
		if (name == "old name") != s.Path.IsSet() {
			t.Errorf("%s: Path = %q", name, s.Path)
		}
	}
	if _, warnings, _ := load(t); len(warnings) != 1 || warnings[0] != "VEGA_MODE is not set: assuming TR" {
		t.Errorf("unset: Load warned %q", warnings)
	}
}

func TestLoadRefusesTwoNamesThatDiffer(t *testing.T) {
	_, _, err := load(t, "VEGA_ACCOUNT_API_PATH=https://a", "VEGA_ADDRESS_API_PATH=https://b")
	if err == nil || !strings.Contains(err.Error(), "remove VEGA_ADDRESS_API_PATH") {
		t.Errorf("Load = %v, want advice to remove the old name", err)
	}
	if _, _, err := load(t, "VEGA_ACCOUNT_API_PATH=https://a", "VEGA_ADDRESS_API_PATH=https://a"); err != nil {
		t.Errorf("Load with equal values = %v", err)
	}
}

func TestServiceLinksAreNotUnknown(t *testing.T) {
	links := []string{
		"VEGA_ENCLAVE_SERVICE_HOST=10.0.0.1", "VEGA_ENCLAVE_SERVICE_PORT=443", "VEGA_ENCLAVE_SERVICE_PORT_HTTPS=443",
		"VEGA_ENCLAVE_PORT=tcp://10.0.0.1:443", "VEGA_ENCLAVE_PORT_443_TCP=tcp://10.0.0.1:443",
		"VEGA_ENCLAVE_PORT_443_TCP_ADDR=10.0.0.1", "VEGA_ENCLAVE_PORT_443_TCP_PORT=443", "VEGA_ENCLAVE_PORT_443_TCP_PROTO=tcp",
	}
	if got := settings.Unknown("VEGA_", new(sample), append(links, "OTHER_THING=1")); len(got) > 0 {
		t.Errorf("Unknown = %v, want none", got)
	}
	if got := settings.Unknown("VEGA_", new(sample), []string{"VEGA_METRIC_PORT=9464"}); len(got) != 1 {
		t.Errorf("Unknown = %v, want the port that is no link", got)
	}
}

// A service named vega-server makes Kubernetes set a variable that is ours.
func TestServiceLinkInOurVariableSaysSo(t *testing.T) {
	_, _, err := load(t, "VEGA_SERVER_PORT=tcp://10.0.0.1:21117")
	if err == nil || !strings.Contains(err.Error(), "a service named vega-server") {
		t.Errorf("Load = %v, want the service's name", err)
	}
}

func TestSecretFromFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for text, want := range map[string]string{"hunter3\n": "hunter3", "hunter3\r\n": "hunter3", "hunter3 \n\n": "hunter3 \n", "hunter3": "hunter3"} {
		var s sample
		_, err := settings.Load("VEGA_", &s, []string{needed[0], "VEGA_SECRET_KEY=", "VEGA_SECRET_KEY_FILE=" + write("good", text)})
		if err != nil || s.Key.Reveal() != want || !s.Key.FromFile() {
			t.Errorf("file %q: Load = %q, %v, want %q from a file", text, s.Key.Reveal(), err, want)
		}
	}
	for name, environ := range map[string][]string{
		"both":    {needed[1], "VEGA_SECRET_KEY_FILE=" + write("both", "hunter2")},
		"empty":   {"VEGA_SECRET_KEY_FILE=" + write("empty", "\n")},
		"absent":  {"VEGA_SECRET_KEY_FILE=" + filepath.Join(dir, "absent")},
		"too big": {"VEGA_SECRET_KEY_FILE=" + write("big", strings.Repeat("hunter2", 1<<14))},
	} {
		var s sample
		_, err := settings.Load("VEGA_", &s, append(environ, needed[0]))
		if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), "VEGA_SECRET_KEY_FILE") || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: Load = %v, want one error that names the variable and no secret", name, err)
		}
	}
}

func TestSecretPrintsNowhere(t *testing.T) {
	secret := settings.NewSecret("hunter2")
	type inner struct{ hidden settings.Secret }
	values := []any{secret, &secret, []settings.Secret{secret}, map[string]any{"k": secret}, inner{secret}, &inner{secret}, struct{ Key settings.Secret }{secret}}
	var b bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%w"} {
			fmt.Fprintf(&b, verb, v)
		}
		fmt.Fprintln(&b, v)
		_ = json.NewEncoder(&b).Encode(v)
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v)
	}
	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2"), fmt.Sprint([]byte("hunter2"))} {
		if strings.Contains(b.String(), form) {
			t.Errorf("output holds the secret as %s:\n%s", form, b.String())
		}
	}
	if fmt.Sprint(secret) != settings.Redacted || fmt.Sprint(settings.Secret{}) != "" {
		t.Errorf("Sprint = %v and %v", secret, settings.Secret{})
	}
}

func TestReferenceIsGolden(t *testing.T) {
	s, _, err := load(t, "VEGA_LOUD=true")
	if err != nil {
		t.Fatal(err)
	}
	for file, write := range map[string]func(*bytes.Buffer) error{
		"help.txt":      func(b *bytes.Buffer) error { return settings.WriteHelp(b, new(sample)) },
		"table.md":      func(b *bytes.Buffer) error { return settings.WriteMarkdown(b, new(sample)) },
		"effective.env": func(b *bytes.Buffer) error { return settings.WriteEffective(b, &s) },
	} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		golden(t, file, got.Bytes())
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// What WriteEffective writes can be read again, apart from the secrets.
func TestEffectiveIsAnEnvFile(t *testing.T) {
	s, _, _ := load(t, "VEGA_SOURCE_ADDRESS=127.0.0.2")
	var b bytes.Buffer
	if err := settings.WriteEffective(&b, &s); err != nil {
		t.Fatal(err)
	}
	environ, err := settings.ParseEnvFile(&b)
	if err != nil {
		t.Fatal(err)
	}
	var again sample
	if _, err := settings.Load("VEGA_", &again, append(environ, needed[1])); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(again) != fmt.Sprint(s) {
		t.Errorf("loaded again: %v, want %v", again, s)
	}
}

func TestDescribePanicsOnWrongTags(t *testing.T) {
	for name, into := range map[string]any{
		"no pointer": sample{},
		"no doc": &struct {
			A string `env:"A"`
		}{},
		"open secret": &struct {
			A string `env:"A" secret:"true" doc:"A."`
		}{},
		"odd type": &struct {
			A float64 `env:"A" doc:"A."`
		}{},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: Describe did not panic", name)
				}
			}()
			settings.Describe(into)
		}()
	}
}

func TestListen(t *testing.T) {
	for text, loopback := range map[string]bool{"127.0.0.1:80": true, "127.9.9.9:0": true, "[::1]:80": true, "[::ffff:127.0.0.1]:1": true, ":80": false, "0.0.0.0:80": false, "10.0.0.1:80": false} {
		var l settings.Listen
		if err := l.UnmarshalText([]byte(text)); err != nil || l.Loopback() != loopback {
			t.Errorf("Listen %s: loopback %t, %v, want %t", text, l.Loopback(), err, loopback)
		}
	}
	for pair, want := range map[[2]string]bool{
		{":80", "127.0.0.1:80"}: true, {"127.0.0.1:80", "127.0.0.1:80"}: true, {"0.0.0.0:80", "127.0.0.1:80"}: true, {"[::]:80", "127.0.0.1:80"}: true, {"0.0.0.0:80", ":80"}: true,
		{":80", "127.0.0.1:81"}: false, {"127.0.0.1:80", "127.0.0.2:80"}: false, {"0.0.0.0:80", "[::1]:80"}: false, {":0", ":0"}: false, {"", ":80"}: false,
	} {
		if settings.Overlap(pair[0], pair[1]) != want || settings.Overlap(pair[1], pair[0]) != want {
			t.Errorf("Overlap of %q is not %t", pair, want)
		}
	}
	for _, text := range []string{"80", "localhost:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:080", "127.0.0.1:http", "::1:80"} {
		if err := new(settings.Listen).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("Listen %s was accepted", text)
		}
	}
}
