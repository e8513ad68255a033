package repository_test

import (
	"bytes"
	"flag"
	"fmt"
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

// The papers' tables of settings are the ones that the code has: those one meets
// first, a page for each group of the enclave's, and those of the other programs.
func TestPapersHoldTheSettings(t *testing.T) {
	hold(t, "README.md", "settings met at first", written(t, settings.WriteFirst, new(enclavecmd.Settings)))
	hold(t, "docs/operations/central.md", "settings of central", written(t, settings.WriteMarkdown, new(centralcmd.Settings)))
	hold(t, "docs/robot.md", "settings of robotvasp", written(t, settings.WriteMarkdown, new(robotcmd.Settings)))
	var index strings.Builder
	for _, group := range settings.Groups(new(enclavecmd.Settings)) {
		page := "settings/" + strings.ReplaceAll(strings.ToLower(group.Name), " ", "-") + ".md"
		hold(t, "docs/"+page, "settings", group.Table())
		fmt.Fprintf(&index, "- [%s](%s):", group.Name, page)
		for i, s := range group.Settings {
			if i > 0 {
				index.WriteByte(',')
			}
			fmt.Fprintf(&index, " `%s`", s.Name)
		}
		index.WriteByte('\n')
	}
	hold(t, "docs/settings.md", "settings", index.String())
}

func written(t *testing.T, write func(io.Writer, any) error, settings any) string {
	t.Helper()
	var table bytes.Buffer
	if err := write(&table, settings); err != nil {
		t.Fatal(err)
	}
	return table.String()
}

// hold wants a page to have a text between its marks, or writes it there.
func hold(t *testing.T, page, mark, text string) {
	t.Helper()
	begin, end := "<!-- "+mark+": written by go test ./cmd/repository -update -->\n", "<!-- end of "+mark+" -->"
	is := read(t, page)
	before, rest, found := strings.Cut(is, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the %s", page, mark)
	}
	want := before + begin + "\n" + text + "\n" + end + after
	if *update {
		if err := os.WriteFile(filepath.Join(root, page), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, is); diff != "" {
		t.Errorf("%s: run go test ./cmd/repository -update (-want +got):\n%s", page, diff)
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

var (
	link    = regexp.MustCompile(`\]\(([^)#:\s]*)(#[^)\s]*)?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// places are what a link may point to in a page, as GitHub names them.
func places(t *testing.T, page string) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	for _, h := range heading.FindAllStringSubmatch(fence.ReplaceAllString(read(t, page), ""), -1) {
		all["#"+strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return all
}

func TestLinksBetweenPapersLeadSomewhere(t *testing.T) {
	links := 0
	for _, page := range papers(t) {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			path, place := match[1], match[2]
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			links++
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", page, path, err)
			} else if place != "" && strings.HasSuffix(target, ".md") && !places(t, target)[place] {
				t.Errorf("%s links to %s, which has no %s", page, target, place)
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links", links)
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
