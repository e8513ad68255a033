package settings_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

func TestParseEnvFile(t *testing.T) {
	file := "\ufeff; the sample file's way\r\n# the other way\n\nA=1\r\n  B_2 = x = y ; not a comment \nC=\nd=https://h/#frag"
	got, err := settings.ParseEnvFile(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"A=1", "B_2=x = y ; not a comment", "C=", "d=https://h/#frag"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseEnvFile (-want +got):\n%s", diff)
	}
}

func TestParseEnvFileNamesTheLine(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"no equals sign": {"A=1\nhunter2\n", "env file, line 2: not of the form NAME=value"},
		"bad name":       {"\nexport A=hunter2\n", "env file, line 2: the name before = must be letters, digits and _"},
		"no name":        {"=hunter2", "env file, line 1: the name before = must be letters, digits and _"},
		"quotes":         {"A=\"hunter2\"", "env file, line 1: take the quotes around the value of A away"},
		"twice":          {"A=1\n;\nA=hunter2", "env file, line 3: A was set on line 1 already"},
		"NUL":            {"A=hunter2\x00", "env file, line 1: the value of A has a control character or is not UTF-8"},
		"not UTF-8":      {"A=hunter2\xff", "env file, line 1: the value of A has a control character or is not UTF-8"},
	} {
		if _, err := settings.ParseEnvFile(strings.NewReader(c.file)); err == nil || err.Error() != c.want {
			t.Errorf("%s: ParseEnvFile = %v, want %s", name, err, c.want)
		}
	}
	for name, file := range map[string]string{"long line": "A=" + strings.Repeat("x", settings.MaxEnvFile), "many lines": strings.Repeat("\n", settings.MaxEnvFile+1)} {
		if _, err := settings.ParseEnvFile(strings.NewReader(file)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseEnvFile(f *testing.F) {
	for _, seed := range []string{"", "A=1\n", "; c\nA=1\r\nB = 2\n", "A=\"1\"", "A", "=", "\ufeffA=1", "A=\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file string) {
		environ, err := settings.ParseEnvFile(strings.NewReader(file))
		if err != nil {
			return
		}
		again, err := settings.ParseEnvFile(strings.NewReader(strings.Join(environ, "\n")))
		if err != nil {
			t.Fatalf("what was read does not read again: %v", err)
		}
		if diff := cmp.Diff(environ, again); diff != "" {
			t.Errorf("read again (-first +second):\n%s", diff)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add("21117", "https://central.example", "127.0.0.1:1", "600000", "127.0.0.2")
	f.Add("tcp://10.0.0.1:1", "https://u:p@h?x#y", "[::1%lo]:0", "-1", "::1")
	f.Fuzz(func(t *testing.T, port, url, listen, ttl, from string) {
		var s sample
		_, err := settings.Load("VEGA_", &s, []string{
			"VEGA_SERVER_PORT=" + port, "VEGA_API_ENDPOINT=" + url, "VEGA_ADMIN_LISTEN=" + listen,
			"VEGA_PUBLIC_KEY_TTL=" + ttl, "VEGA_SOURCE_ADDRESS=" + from, "VEGA_SECRET_KEY=s",
		})
		if err == nil && (s.Port < 0 || s.Port > 65535 || s.TTL.Duration() < 0 || s.API.URL().Hostname() == "") {
			t.Errorf("Load accepted %+v", s)
		}
	})
}
