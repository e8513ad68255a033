package repository_test

import (
	"bytes"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/centralcmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/robotcmd"
	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
)

// typists are the tests that type what the papers tell to type, by the papers.
var typists = map[string]string{
	"CONTRIBUTING.md":             ".ci/run",
	"README.md":                   "cmd/sandbox/demo_test.go",
	"docs/integrate.md":           "cmd/sandbox/integrate_test.go",
	"docs/robot.md":               "cmd/sandbox/integrate_test.go",
	"docs/operations.md":          "cmd/sandbox/byhand_test.go",
	"docs/operations/*.md":        "cmd/sandbox/chapters_linux_test.go",
	"docs/settings/*.md":          "cmd/sandbox/chapters_linux_test.go",
	"docs/runbooks/*.md":          "cmd/sandbox/chapters_linux_test.go",
	"deploy/decryptapi/README.md": "cmd/sandbox/chapters_linux_test.go",
}

// notTyped are marks of blocks for machines that no test has.
var notTyped = []string{"kubernetes", "compose", "systemd", "registry", "image"}

var (
	block   = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$")
	command = regexp.MustCompile(`(?m)^ *(?:[A-Z_]+=\S+ )*(?:bin/|/usr/local/bin/)?(enclave|central|robotvasp|curl|openssl|make|kubectl|helm|docker|systemctl|journalctl|redis-server|promtool|prometheus|apt-get|decryptapi|softhsm2-util)(?: |$)`)
	inline  = regexp.MustCompile("`(enclave|central|robotvasp) ([a-z][^`]*)`")
)

// What a paper tells to type stands in blocks marked sh, and a test types those
// of its page. Blocks for machines that no test has are marked as such.
func TestEveryCommandIsTyped(t *testing.T) {
	typed, elsewhere := 0, 0
	for _, page := range papers(t) {
		for _, b := range block.FindAllStringSubmatch(read(t, page), -1) {
			lines := len(command.FindAllString(b[2], -1))
			switch {
			case isTyped(b[1]):
				if typist(page) == "" {
					t.Errorf("%s has a block marked sh, and no test that types it:\n%s", page, b[2])
				}
				typed += lines
			case slices.Contains(notTyped, b[1]):
				elsewhere += lines
			case lines > 0:
				t.Errorf("%s tells to type what no test types: mark the block sh\n%s", page, b[2])
			}
		}
	}
	t.Logf("%d commands of the papers are typed; %d are for machines that tests do not have", typed, elsewhere)
	if typed < 170 {
		t.Errorf("only %d commands are typed", typed)
	}
	for _, test := range typists {
		read(t, test) // it is there
	}
}

// isTyped tells a block that a test types. A demo the test starts itself, and
// what is marked ci every run of .ci/run types.
func isTyped(mark string) bool { return mark == "sh" || mark == "demo" || mark == "ci" }

func typist(page string) string {
	for pattern, test := range typists {
		if ok, _ := filepath.Match(pattern, filepath.ToSlash(page)); ok {
			return test
		}
	}
	return ""
}

// A command that a sentence names is one that the program has, with the flags it
// has, and one that some paper's block types.
func TestEveryCommandThatASentenceNamesIsThere(t *testing.T) {
	typed := make(map[string]bool)
	for _, page := range papers(t) {
		for _, b := range block.FindAllStringSubmatch(read(t, page), -1) {
			for line := range strings.Lines(b[2]) {
				for program := range programs {
					if _, after, found := strings.Cut(strings.ReplaceAll(" "+line, "bin/", " "), " "+program+" "); found && isTyped(b[1]) {
						path, _ := helpOf(program, after)
						typed[path] = true
					}
				}
			}
		}
	}
	named := 0
	for _, page := range papers(t) {
		for _, m := range inline.FindAllStringSubmatch(read(t, page), -1) {
			if isSentence(m[2]) {
				continue
			}
			named++
			path, help := helpOf(m[1], m[2])
			if first := strings.Fields(m[2])[0]; !strings.Contains(path, " "+first) {
				t.Errorf("%s names `%s %s`, which is no command", page, m[1], m[2])
				continue
			}
			for _, flag := range longFlag.FindAllString(m[2], -1) {
				if !strings.Contains(help+" --help", flag) {
					t.Errorf("%s names `%s %s`, which has no %s", page, m[1], m[2], flag)
				}
			}
			if !strings.Contains(help, path+" [command]") && !typed[path] {
				t.Errorf("%s names %s, which no paper types", page, path)
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d commands are named", named)
	}
}

var (
	longFlag = regexp.MustCompile(`--[a-z][a-z-]+`)
	usage    = regexp.MustCompile(`(?m)^Usage:\n  ([a-z][a-z0-9 -]*[a-z0-9])`)
	programs = map[string]func(args []string, out io.Writer){
		"enclave":   func(args []string, out io.Writer) { enclavecmd.Main(standard.Catalog(), args, nil, out, out) },
		"central":   func(args []string, out io.Writer) { centralcmd.Main(args, nil, out, out) },
		"robotvasp": func(args []string, out io.Writer) { robotcmd.Main(args, nil, out, out) },
	}
)

// helpOf is the help of the command that a line calls, and its words.
func helpOf(program, line string) (path, help string) {
	line, _, _ = strings.Cut(line, " --")
	line, _, _ = strings.Cut(line, ";")
	var out bytes.Buffer
	programs[program](append(strings.Fields(line), "--help"), &out)
	if m := usage.FindStringSubmatch(out.String()); m != nil {
		path, _, _ = strings.Cut(m[1], " --")
	}
	return path, out.String()
}

// isSentence tells a line of a log that begins with a program's name.
func isSentence(text string) bool {
	for _, word := range []string{"ready", "answered", "cannot", "did", "does", "gave", "knows", "shows"} {
		if strings.HasPrefix(text, word) {
			return true
		}
	}
	return false
}
