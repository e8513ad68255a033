package repository_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every attack on keys (K) and by oracles (O) is covered by a test that names
// it, or listed as open; the list, the tests and the threat model agree. What
// is open is printed, also when it is but a part.
func TestEveryAttackHasATest(t *testing.T) {
	listed, told := listedAttacks(t), toldAttacks(t)
	named, functions := namedAttacks(t)
	if len(listed) != 14+5 {
		t.Errorf("docs/attacks.txt lists %d attacks, want K1 to K14 and O1 to O5", len(listed))
	}
	ids := slices.Concat(slices.Collect(maps.Keys(listed)), slices.Collect(maps.Keys(told)), slices.Collect(maps.Keys(named)))
	slices.SortFunc(ids, byNumber)
	for _, id := range slices.Compact(ids) {
		row, inPaper := told[id]
		why, isListed := listed[id]
		switch tests := named[id]; {
		case !isListed || !inPaper:
			t.Errorf("%s is missing in docs/attacks.txt or in docs/threat-model.md; tests that name it: %q", id, tests)
		case why == "" && len(tests) == 0:
			t.Errorf("%s is listed as covered, and no test names it", id)
		case why != "" && len(tests) > 0:
			t.Errorf("%s is listed as open, and %s names it", id, tests[0])
		case why != "" && row.open == "":
			t.Errorf("%s is listed as open, and docs/threat-model.md has it as covered", id)
		case why != "":
			fmt.Printf("open: %s %s\n", id, why)
		case row.open != "":
			fmt.Printf("open in part: %s %s\n", id, row.open)
		}
		for _, test := range row.tests {
			if !functions[test] {
				t.Errorf("docs/threat-model.md shows %s by %s, which does not exist", id, test)
			}
		}
	}
}

// byNumber sorts K2 before K10.
func byNumber(a, b string) int {
	if a[0] != b[0] || len(a) == len(b) {
		return strings.Compare(a, b)
	}
	return len(a) - len(b)
}

// listedAttacks reads the list: why an attack is open, "" for a covered one.
func listedAttacks(t *testing.T) map[string]string {
	t.Helper()
	listed := map[string]string{}
	for line := range strings.Lines(read(t, "docs/attacks.txt")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		_, twice := listed[words[0]]
		switch {
		case twice:
			t.Errorf("docs/attacks.txt lists %s twice", words[0])
		case len(words) == 2 && words[1] == "covered":
			listed[words[0]] = ""
		case len(words) > 2 && words[1] == "open":
			listed[words[0]] = strings.Join(words[2:], " ")
		default:
			t.Errorf("docs/attacks.txt: %q is neither covered nor open with a reason", line)
		}
	}
	return listed
}

// toldAttack is a row of the threat model: what it says is open, and the tests
// it says show the rest.
type toldAttack struct {
	open  string
	tests []string
}

var (
	attackID = regexp.MustCompile(`\b[KO][0-9]+\b`)
	rowOf    = regexp.MustCompile(`(?m)^\| ([KO][0-9]+) \|[^|]*\|([^|]*)\|([^|]*)\|$`)
	openPart = regexp.MustCompile(`[^.:;]*(?:[:;] *)?\*\*(?:open|not yet)\*\*[^.;]*`)
	testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]*)`")
)

func toldAttacks(t *testing.T) map[string]toldAttack {
	t.Helper()
	told := map[string]toldAttack{}
	for _, row := range rowOf.FindAllStringSubmatch(read(t, "docs/threat-model.md"), -1) {
		var a toldAttack
		for _, part := range openPart.FindAllString(row[2], -1) {
			a.open += strings.TrimSpace(strings.ReplaceAll(part, "**", "")) + "; "
		}
		a.open = strings.TrimSuffix(a.open, "; ")
		for _, test := range testName.FindAllStringSubmatch(row[3], -1) {
			a.tests = append(a.tests, test[1])
		}
		told[row[1]] = a
	}
	return told
}

// namedAttacks gives the tests whose comments name an attack, and all tests.
func namedAttacks(t *testing.T) (named map[string][]string, functions map[string]bool) {
	t.Helper()
	named, functions = map[string][]string{}, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") && !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			functions[f.Name.Name] = true
			for _, id := range attackID.FindAllString(f.Doc.Text(), -1) {
				named[id] = append(named[id], f.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return named, functions
}
