package sandbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// The guide is docs/integrate.md; where its second part begins, one needs a
// place for a backend of one's own.
const (
	guide      = "../../docs/integrate.md"
	ownBackend = "## Put a backend of your own behind Bravo"
)

// step is a block that the guide says to type, and what it shows as the answer.
type step struct {
	line           int // in the guide
	script, answer string
	isJSON         bool
}

var fenced = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// steps are those of a part of the guide, in order.
func steps(t *testing.T, text string) (all []step) {
	t.Helper()
	for _, at := range fenced.FindAllStringSubmatchIndex(text, -1) {
		kind, body := text[at[2]:at[3]], text[at[4]:at[5]]
		switch kind {
		case "sh":
			all = append(all, step{line: strings.Count(text[:at[0]], "\n") + 1, script: body})
		case "json", "text":
			if len(all) == 0 || all[len(all)-1].answer != "" {
				t.Fatalf("the guide shows an answer to nothing:\n%s", body)
			}
			all[len(all)-1].answer, all[len(all)-1].isJSON = body, kind == "json"
		default:
			if strings.Contains(body, "curl") {
				t.Errorf("a block with curl is not marked sh, so nobody runs it:\n%s", body)
			}
		}
	}
	return all
}

// follow types a part of the guide into one shell, with the addresses that the
// reader sees in place of the guide's, and compares what is answered.
func follow(t *testing.T, dir, text string, addresses map[string]string) {
	t.Helper()
	all := steps(t, text)
	const mark = "=== next step ==="
	var script strings.Builder
	for _, s := range all {
		typed := s.script
		for written, real := range addresses {
			typed = strings.ReplaceAll(typed, written, real)
		}
		fmt.Fprintf(&script, "%s\necho; echo '%s'\n", typed, mark)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-e", "-u")
	shell.Dir, shell.Stdin = dir, strings.NewReader(script.String())
	out, err := shell.Output()
	said := strings.Split(string(out), mark+"\n")
	if err != nil || len(said) != len(all)+1 {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		t.Fatalf("the guide ended in step %d of %d: %v\n%s", len(said), len(all), err, out)
	}
	for i, s := range all {
		got := strings.TrimSpace(said[i])
		if s.isJSON {
			var g, w any
			if err := errors.Join(json.Unmarshal([]byte(got), &g), json.Unmarshal([]byte(s.answer), &w)); err != nil {
				t.Errorf("step at line %d: %v: %s", s.line, err, got)
			}
			if diff := cmp.Diff(usual(w), usual(g)); diff != "" {
				t.Errorf("step at line %d answers (-guide +enclave):\n%s", s.line, diff)
			}
		} else if want := strings.TrimSpace(s.answer); got != want {
			t.Errorf("step at line %d answers %q, the guide says %q", s.line, got, want)
		}
	}
}

// usual puts a word in the place of ids and times, which differ each time.
func usual(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = usual(v[name])
		}
	case []any:
		for i := range v {
			v[i] = usual(v[i])
		}
	case string:
		if isTime(v) {
			return "a time"
		}
		if regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(v) {
			return "a UUID"
		}
	}
	return v
}

// Everything the guide tells a backend's engineer to type works, and is
// answered as the guide shows.
func TestTheGuideIsTrue(t *testing.T) {
	curls, own, found := strings.Cut(string(read(t, guide)), ownBackend)
	if !found {
		t.Fatalf("the guide has no part %q", ownBackend)
	}
	dir := t.TempDir() // the reader's
	t.Run("with pretended backends", func(t *testing.T) {
		a := start(t, sandbox.Options{})
		follow(t, dir, curls, map[string]string{
			"http://127.0.0.2:21117": a.VASPs[0].API, "http://127.0.0.3:21117": a.VASPs[1].API,
			"http://127.0.0.5:8081": a.VASPs[0].RobotURL, "http://127.0.0.6:8081": a.VASPs[1].RobotURL,
		})
	})
	t.Run("with a backend of one's own", func(t *testing.T) {
		above := strings.Repeat("\n", strings.Count(curls, "\n")) // so that lines are the guide's
		follow(t, dir, above+own, withTheExample(t))
	})
}

// All that docs/robot.md tells to type works, in its order: no call is refused.
func TestTheRobotsPageIsTrue(t *testing.T) {
	a := start(t, sandbox.Options{})
	var script strings.Builder
	script.WriteString("set -euo pipefail\ncurl() { command curl --fail-with-body \"$@\"; echo; }\n")
	for _, s := range steps(t, string(read(t, "../../docs/robot.md"))) {
		script.WriteString(s.script)
	}
	typed := strings.NewReplacer("127.0.0.5:8081", strings.TrimPrefix(a.VASPs[0].RobotURL, "http://"), "127.0.0.6:8081", strings.TrimPrefix(a.VASPs[1].RobotURL, "http://")).Replace(script.String())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash")
	shell.WaitDelay = time.Second
	shell.Dir, shell.Stdin = t.TempDir(), strings.NewReader(typed)
	shell.Env = append(os.Environ(), "PATH="+filepath.Dir(built.Robot)+string(filepath.ListSeparator)+os.Getenv("PATH"))
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	says(t, string(out), "VERIFIED", "BLACKLISTED", "wrong-account", "balance")
}

// withTheExample runs the demo that leaves a place for a backend, and the
// example in it, by the line that the demo prints.
func withTheExample(t *testing.T) (addresses map[string]string) {
	t.Helper()
	demo := exec.Command(built.Enclave, "demo", "--own-backend", "--keep", "--dir", t.TempDir())
	pipe, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = demo.Process.Signal(syscall.SIGINT)
		if err := demo.Wait(); err != nil {
			t.Errorf("the demo ended with %v", err)
		}
	})
	var line, alpha string
	for lines := bufio.NewScanner(pipe); line == "" && lines.Scan(); {
		text := strings.TrimSpace(lines.Text())
		if url, ok := strings.CutPrefix(text, "curl -s "); ok && strings.HasSuffix(url, "/v1/vasps") {
			alpha = strings.TrimSuffix(url, "/v1/vasps")
		}
		if strings.HasPrefix(text, "BACKEND_LISTEN=") {
			line = text
		}
	}
	go func() { _, _ = io.Copy(io.Discard, pipe) }()
	settings, command, found := strings.Cut(line, " go run -C ")
	if !found || alpha == "" {
		t.Fatalf("the demo does not say how to start a backend: %q", line)
	}
	example := runExample(t, strings.Fields(command)[0], strings.Fields(settings))
	return map[string]string{
		"http://127.0.0.2:21117": alpha, "http://127.0.0.6:8081": "http://" + example["BACKEND_LISTEN"],
		"/path/that/was/printed/bravo-backend.token": example["BACKEND_TOKEN_FILE"],
	}
}

// runExample builds a program of a folder of the repository, which is a module
// of its own, and runs it with some settings.
func runExample(t *testing.T, folder string, env []string) (settings map[string]string) {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "backend"), ".")
	build.Dir, build.Env = filepath.Join("../..", folder), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", folder, err, out)
	}
	p := &sandbox.Program{Name: "the example", Path: filepath.Join(dir, "backend"), Env: env, Log: filepath.Join(dir, "log"), ReadyLine: "backend ready"}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		for _, name := range slices.Concat(sandbox.PersonalData, []string{"MINA", "Mina", "Busan"}) {
			if strings.Contains(string(read(t, p.Log)), name) {
				t.Errorf("the example's log holds personal data")
			}
		}
	})
	settings = map[string]string{}
	for _, setting := range env {
		name, value, _ := strings.Cut(setting, "=")
		settings[name] = value
	}
	if got := slices.Sorted(maps.Keys(settings)); !slices.Equal(got, []string{"BACKEND_ENCLAVE", "BACKEND_LISTEN", "BACKEND_TOKEN_FILE"}) {
		t.Fatalf("the demo gives the settings %q", got)
	}
	return settings
}
