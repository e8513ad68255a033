package deploytest

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unit is what a unit file says: its lines NAME=value, in order.
type unit struct {
	text  string
	lines [][2]string
}

func readUnit(t *testing.T, name string) unit {
	t.Helper()
	content, err := os.ReadFile(deploy + "/systemd/" + name + ".service")
	if err != nil {
		t.Fatal(err)
	}
	u := unit{text: string(content)}
	for line := range strings.Lines(u.text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			u.lines = append(u.lines, [2]string{name, value})
		}
	}
	return u
}

func (u unit) all(name string) []string {
	var list []string
	for _, l := range u.lines {
		if l[0] == name {
			list = append(list, l[1])
		}
	}
	return list
}

// settings are the program's that a unit sets. What a unit sets for Go is not
// among them: how it ends when it gives up, see TestUnitsUnderSystemd.
func (u unit) settings(t *testing.T) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, line := range u.all("Environment") {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	if env["GOTRACEBACK"] != "crash" {
		t.Errorf("GOTRACEBACK is %q: a crash looks like wrong settings", env["GOTRACEBACK"])
	}
	delete(env, "GOTRACEBACK")
	return env
}

// The units are right and tight, as systemd itself judges.
func TestUnits(t *testing.T) {
	for _, program := range []string{"enclave", "central"} {
		t.Run(program, func(t *testing.T) {
			u := readUnit(t, program)
			installed := "/usr/local/bin/" + program
			if !strings.Contains(u.text, "ExecStart="+installed+" run ") {
				t.Fatalf("it starts %q", u.all("ExecStart"))
			}
			path := filepath.Join(t.TempDir(), program+".service")
			write(t, path, strings.ReplaceAll(u.text, installed, filepath.Join(programs, program)))
			if out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
			// 1.5 of 10 at most.
			out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=15", path).CombinedOutput()
			if err != nil {
				t.Errorf("systemd-analyze security: %v\n%s", err, out)
			}
			if level := regexp.MustCompile(`Overall exposure level for [^\n]*`).Find(out); level == nil {
				t.Errorf("no exposure level in\n%s", out)
			} else {
				t.Logf("%s", level)
			}
			if got := u.all("RestartPreventExitStatus"); !slices.Equal(got, []string{"2"}) {
				t.Errorf("wrong settings are tried again: %q", got)
			}
		})
	}
}

// A unit that is wrong is found, so the test above can fail.
func TestUnitsAreJudged(t *testing.T) {
	u := readUnit(t, "enclave")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"misspelt": strings.Replace(u.text, "ProtectHome=yes", "ProtectHomes=yes", 1),
		"missing":  u.text,
	} {
		path := filepath.Join(dir, name+".service")
		write(t, path, text)
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err == nil && len(out) == 0 {
			t.Errorf("%s passes", name)
		}
	}
	loose := filepath.Join(dir, "loose.service")
	write(t, loose, regexp.MustCompile(`(?m)^(SystemCallFilter|Protect\w+|CapabilityBoundingSet)=.*\n`).ReplaceAllString(u.text, ""))
	if err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=15", loose).Run(); err == nil {
		t.Error("a loose unit passes")
	}
}

// What the enclave's unit sets, together with the env file of the papers, is
// what the enclave starts with.
func TestUnitsEnvironment(t *testing.T) {
	u := readUnit(t, "enclave")
	env, files := map[string]string{}, map[string]string{}
	for name, value := range u.settings(t) {
		env[name] = strings.Replace(value, "%d", "/run/credentials/enclave.service", 1)
	}
	for _, line := range u.all("LoadCredential") {
		name, source, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(source, "/etc/enclave/") {
			t.Errorf("credential %s comes from %s", name, source)
		}
		files["/run/credentials/enclave.service/"+name] = ""
	}
	checkSettings(t, "enclave", env)
	for name, value := range env {
		if strings.HasPrefix(value, "/run/credentials/") {
			if _, ok := files[value]; !ok {
				t.Errorf("%s is %s, which is no credential of the unit", name, value)
			}
		}
	}
	for _, line := range envOfThePage(t) {
		name, value, ok := strings.Cut(line, "=")
		if _, twice := env[name]; !ok || twice {
			t.Errorf("docs/deploy.md: %q is no setting, or the unit's own", line)
		}
		env[name] = value
		if strings.HasPrefix(value, "/etc/enclave/") {
			files[value] = ""
		}
	}
	checkConfig(t, "enclave", env, files, hostOf(t, env["VEGA_ENCLAVE_PUBLIC_ENDPOINT"]))

	central := readUnit(t, "central").settings(t)
	checkSettings(t, "central", central)
	if got := slices.Collect(maps.Values(central)); !slices.Equal(got, []string{"/var/lib/central/state.json"}) {
		t.Errorf("central's unit sets %q", got)
	}
}

// envOfThePage are the lines of /etc/enclave/env in docs/deploy.md.
func envOfThePage(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "<!-- env file of the unit -->\n```\n")
	text, _, closed := strings.Cut(rest, "\n```")
	if !found || !closed {
		t.Fatal("docs/deploy.md has no env file of the unit")
	}
	return strings.Split(text, "\n")
}

// Stopping takes what the programs' defaults say, and the units give more.
func TestUnitsWaitForTheDrain(t *testing.T) {
	for program, prefix := range map[string]string{"enclave": "VEGA", "central": "CENTRAL"} {
		help, err := exec.Command(filepath.Join(programs, program), "run", "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		var drain int64
		for _, name := range []string{"_SHUTDOWN_DELAY_MS", "_SHUTDOWN_GRACE_MS"} {
			m := regexp.MustCompile(`(?s)  ` + prefix + name + `\n.*?default ([0-9]+)\)`).FindSubmatch(help)
			if m == nil {
				t.Fatalf("%s tells no default of %s%s", program, prefix, name)
			}
			drain += number(t, string(m[1]))
		}
		stop := readUnit(t, program).all("TimeoutStopSec")
		if len(stop) != 1 || number(t, stop[0])*1000 <= drain {
			t.Errorf("%s is killed after %q s; stopping takes %d ms", program, stop, drain)
		}
	}
}
