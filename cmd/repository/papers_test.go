package repository_test

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/cmd/centralcmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/robotcmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

var update = flag.Bool("update", false, "write the tables of settings into the papers")

const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The papers' tables of settings are the ones that the code has.
func TestPapersHoldTheSettings(t *testing.T) {
	for _, p := range []struct {
		page, mark string
		settings   any
		write      func(io.Writer, any) error
	}{
		{"README.md", "settings met at first", new(enclavecmd.Settings), settings.WriteFirst},
		{"docs/settings.md", "settings", new(enclavecmd.Settings), settings.WriteMarkdown},
		{"docs/operations.md", "settings of central", new(centralcmd.Settings), settings.WriteMarkdown},
		{"docs/operations.md", "settings of robotvasp", new(robotcmd.Settings), settings.WriteMarkdown},
	} {
		var table bytes.Buffer
		if err := p.write(&table, p.settings); err != nil {
			t.Fatal(err)
		}
		begin, end := "<!-- "+p.mark+": written by go test ./cmd/repository -update -->\n", "<!-- end of "+p.mark+" -->"
		text := read(t, p.page)
		before, rest, found := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no place for the %s", p.page, p.mark)
		}
		want := before + begin + "\n" + table.String() + "\n" + end + after
		if *update {
			if err := os.WriteFile(filepath.Join(root, p.page), []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(want, text); diff != "" {
			t.Errorf("%s: run go test ./cmd/repository -update (-want +got):\n%s", p.page, diff)
		}
	}
}

// papers lists every page that is meant for people.
func papers(t *testing.T) []string {
	t.Helper()
	var pages []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata"):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".md"):
			page, err := filepath.Rel(root, path)
			pages = append(pages, page)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

func TestLinksBetweenPapersLeadSomewhere(t *testing.T) {
	for _, page := range papers(t) {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			target := filepath.Join(root, filepath.Dir(page), match[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, match[1], err)
			}
		}
	}
}

var makeTarget = regexp.MustCompile("(?m)(?:^|`)make ([a-z]+)")

// A command that a page tells the reader to type is there.
func TestPapersNameTargetsThatMakeKnows(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, page := range papers(t) {
		for _, match := range makeTarget.FindAllStringSubmatch(read(t, page), -1) {
			if !strings.Contains(makefile, "\n"+match[1]+":") {
				t.Errorf("%s says make %s, which the Makefile does not know", page, match[1])
			}
		}
	}
}

func TestEveryDependencyHasItsReason(t *testing.T) {
	page := read(t, "docs/dependencies.md")
	out, err := exec.Command("go", "list", "-C", root, "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(out))
	if !slices.Contains(modules, "go.etcd.io/bbolt") {
		t.Fatalf("go list gave %q, which cannot be all", modules)
	}
	for _, module := range modules {
		if !strings.Contains(page, "`"+module+"`") {
			t.Errorf("docs/dependencies.md does not say why %s is needed", module)
		}
	}
}

func TestEveryPackageHasItsSentence(t *testing.T) {
	page := read(t, "docs/architecture.md")
	for _, p := range list(t, root) {
		path := p.relative(p.ImportPath)
		if strings.Contains(path, "/internal/") {
			path = path[:strings.Index(path, "/internal/")] + "/internal/..."
		}
		if !strings.Contains(page, "`"+path+"`") && !strings.Contains(page, "**"+path+"**") {
			t.Errorf("docs/architecture.md has no sentence on %s", path)
		}
	}
}
