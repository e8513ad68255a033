package settings_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

// What the file says counts more than the environment, is read anew each time,
// and is wrong with its name and line.
func TestSource(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := append([]string{"VEGA_ADMIN_LISTEN=:1", "VEGA_LOUD=true"}, needed...)
	from := settings.Source{Own: slices.Clip(own), File: file}
	for _, address := range []string{":2", ":3"} {
		write("VEGA_ADMIN_LISTEN=" + address + "\n")
		var s sample
		if _, err := from.Load("VEGA_", &s); err != nil || string(s.Admin) != address || !s.Loud {
			t.Errorf("Load = %v, admin %s and loud %t", err, s.Admin, s.Loud)
		}
	}
	write("\nVEGA_ADMIN_LISTEN\n")
	if _, err := from.Environ(); err == nil || !strings.HasPrefix(err.Error(), "--env-file "+file+": ") || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a bad line: %v", err)
	}
	from.File += ".gone"
	if _, err := from.Load("VEGA_", new(sample)); err == nil || !strings.Contains(err.Error(), "--env-file: ") || !strings.Contains(err.Error(), "name a file") {
		t.Errorf("no file: %v", err)
	}
}

// What Load warns about, Judge refuses, and says it once.
func TestJudge(t *testing.T) {
	from := settings.Source{Own: append([]string{"VEGA_ADMIN_LISTN=:1"}, needed...)}
	loaded, err := from.Load("VEGA_", new(sample))
	if err != nil {
		t.Fatal(err)
	}
	warnings, unknown, err := from.Judge("VEGA_", new(sample))
	if err != nil || unknown == nil || !strings.Contains(unknown.Error(), "VEGA_ADMIN_LISTN is not a setting of this program: did you mean VEGA_ADMIN_LISTEN?") {
		t.Errorf("Judge = %v, %v", unknown, err)
	}
	if len(warnings) != len(loaded)-1 || slices.Contains(warnings, unknown.Error()) {
		t.Errorf("it warns of %q, Load of %q", warnings, loaded)
	}
}

// A warning is news until it was given, and again after it was not true.
func TestNews(t *testing.T) {
	var n settings.News
	for _, step := range []struct{ warnings, want string }{{"a b", "a b"}, {"a b", ""}, {"b c", "c"}, {"a", "a"}, {"", ""}, {"a", "a"}} {
		if got := strings.Join(n.Of(strings.Fields(step.warnings)), " "); got != step.want {
			t.Errorf("of %q, %q is news, want %q", step.warnings, got, step.want)
		}
	}
}
