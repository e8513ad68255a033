package repository_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi"
)

// docs/contract.md says of every point of the contract what became of it, and
// which test holds that. The table cannot fall behind: whatever the API's
// documents, the settings and the enums have must be in it.
func TestEveryPointOfTheContractHasATest(t *testing.T) {
	rows, problems := conformance(read(t, "docs/contract.md"), vocabulary(t), testSources(t))
	for _, problem := range problems {
		t.Error("docs/contract.md: " + problem)
	}
	tests := map[string]bool{}
	for _, r := range rows {
		for _, test := range r.tests {
			tests[test] = true
		}
	}
	t.Logf("%d rows, held by %d tests", len(rows), len(tests))
}

// The test above must be able to fail.
func TestGapsOfTheContractsTableAreReported(t *testing.T) {
	page, words, sources := read(t, "docs/contract.md"), vocabulary(t), testSources(t)
	for name, c := range map[string]struct{ old, new, want string }{
		"a row without a test":       {"| `TestContractSelfAndHealth` |", "| |", "names no test"},
		"a test that is not there":   {"`TestContractSelfAndHealth`", "`TestContractSelfAndWealth`", "TestContractSelfAndWealth does not exist"},
		"a subtest that is not":      {"`TestContractErrorReport/TRANSFER_ERROR`", "`TestContractErrorReport/TRANSFERRED`", "TestContractErrorReport has no TRANSFERRED"},
		"a state that is none":       {"| done. Not older", "| perhaps. Not older", "is neither done"},
		"an endpoint that is missed": {"`POST /v1/verifications/tx/inquiry`", "an inquiry", "`POST /v1/verifications/tx/inquiry` is in no row"},
		"a field":                    {"`ivms101OriginatingVasp`", "one more", "`ivms101OriginatingVasp` is in no row"},
		"a filter":                   {"`oppositeVaspId`", "another", "`oppositeVaspId` is in no row"},
		"a result":                   {"`TRANSFER_ERROR`", "x", "`TRANSFER_ERROR` is in no row"},
		"a reason":                   {"`UNVERIFIED-KYC`", "KYC", "`UNVERIFIED-KYC` is in no row"},
		"a status":                   {"`WAIT-CONFIRM`", "waiting", "`WAIT-CONFIRM` is in no row"},
		"an error code":              {"`OUTBOX-FULL`", "full", "`OUTBOX-FULL` is in no row"},
		"a status of HTTP":           {"415 `", "`", "`415` is in no row"},
		"a variable":                 {"`VEGA_PUBLIC_KEY_TTL`", "a TTL", "`VEGA_PUBLIC_KEY_TTL` is in no row"},
		"a former variable":          {"`VEGA_VERIFICATION_ADDRESS_API_PATH`", "an alias", "`VEGA_VERIFICATION_ADDRESS_API_PATH` is in no row"},
		"a refused variable":         {"`VEGA_DATABASE_SSL_CIPHER`", "ciphers", "`VEGA_DATABASE_SSL_CIPHER` is in no row"},
		"a code of stripping":        {"`BRANCH_OFFICE_GEOGRAPHIC_ADDRESS`", "branches", "`BRANCH_OFFICE_GEOGRAPHIC_ADDRESS` is in no row"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.ReplaceAll(page, c.old, c.new)
			if changed == page {
				t.Fatalf("the page has no %q", c.old)
			}
			_, problems := conformance(changed, words, sources)
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("without %s the problems are %q, want one that says %q", c.old, problems, c.want)
			}
		})
	}
}

// point is one row of the table: what it is about, what became of it, and the
// tests that hold it.
type point struct {
	item, state string
	tests       []string
}

var (
	code      = regexp.MustCompile("`([^`]+)`")
	heldBy    = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]*)(?:/([^`]+))?`")
	stateOf   = regexp.MustCompile(`^(done|differs|not yet|not planned|ours)\b`)
	httpState = regexp.MustCompile(`\b[1-5][0-9][0-9]\b`)
)

// conformance reads the tables whose last column is "tests", and tells what is
// wrong with them. Words are what must be in their first column.
func conformance(page string, words []string, sources map[string]string) (rows []point, problems []string) {
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	said := map[string]bool{}
	for _, table := range tables(page) {
		head := table[0]
		if len(head) != 3 || head[2] != "tests" {
			continue
		}
		for _, cells := range table[1:] {
			if len(cells) != 3 {
				complain("the row %q has %d columns", cells, len(cells))
				continue
			}
			r := point{item: cells[0], state: cells[1]}
			for _, word := range code.FindAllStringSubmatch(r.item, -1) {
				said[word[1]] = true
			}
			for _, status := range httpState.FindAllString(r.item, -1) {
				said[status] = true
			}
			if head[1] == "state" && !stateOf.MatchString(r.state) {
				complain("the state of %s is neither done, differs, not yet, not planned nor ours", r.item)
			}
			for _, test := range heldBy.FindAllStringSubmatch(cells[2], -1) {
				r.tests = append(r.tests, test[1])
				source, there := sources[test[1]]
				if !there {
					complain("%s: %s does not exist", r.item, test[1])
				} else if test[2] != "" && !strings.Contains(source, test[2]) {
					complain("%s: %s has no %s", r.item, test[1], test[2])
				}
			}
			if len(r.tests) == 0 {
				complain("the row %s names no test", r.item)
			}
			rows = append(rows, r)
		}
	}
	for _, word := range words {
		if !said[word] {
			complain("`%s` is in no row", word)
		}
	}
	return rows, problems
}

// tables are the tables of a page: rows of cells, the head first.
func tables(page string) (all [][][]string) {
	var table [][]string
	for line := range strings.Lines(page + "\n") {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if len(table) > 0 {
				all, table = append(all, table), nil
			}
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if strings.Trim(cells[0], "-") != "" || cells[0] == "" {
			table = append(table, cells)
		}
	}
	return all
}

// testSources are all tests and fuzz targets of all modules, each with the
// text of the files that have one of its name.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)
	sources := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, f := range declared.FindAllSubmatch(text, -1) {
			sources[string(f[1])] += string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

// vocabulary is what the table must have: every endpoint, field, filter, enum
// value, status and code of the two documents, every reason, every code of
// stripping, and every variable that is read, renamed or refused.
func vocabulary(t *testing.T) []string {
	t.Helper()
	words := map[string]bool{}
	for _, document := range [][]byte{openapi.Enclave, openapi.VASP} {
		var d map[string]any
		if err := json.Unmarshal(document, &d); err != nil {
			t.Fatal(err)
		}
		if responses, ok := d["components"].(map[string]any)["responses"].(map[string]any); ok {
			delete(responses, "Document") // whose fields are OpenAPI's
		}
		documentWords(d, words)
	}
	var d struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(openapi.Enclave, &d); err != nil {
		t.Fatal(err)
	}
	for path, methods := range d.Paths {
		for method := range methods {
			words[strings.ToUpper(method)+" "+path] = true
		}
	}
	for _, c := range ivms101.Codes() {
		words[string(c)] = true
	}
	for _, reason := range reasons(t) {
		words[reason] = true
	}
	for _, s := range settings.Describe(new(enclavecmd.Settings)) {
		words[s.Name] = true
		for _, old := range s.Aliases {
			words[old] = true
		}
	}
	for _, refusal := range new(enclavecmd.Settings).Refused() {
		for _, name := range refusal.Names {
			words[name] = true
		}
	}
	if len(words) < 250 {
		t.Fatalf("the vocabulary has %d words, which cannot be all", len(words))
	}
	return slices.Sorted(maps.Keys(words))
}

// documentWords adds what an OpenAPI document, or a part of one, names.
func documentWords(v any, words map[string]bool) {
	add := func(v any) {
		if s, ok := v.(string); ok && s != "" {
			words[s] = true
		}
	}
	switch v := v.(type) {
	case []any:
		for _, inner := range v {
			documentWords(inner, words)
		}
	case map[string]any:
		for name, inner := range v {
			switch list := inner.(type) {
			case map[string]any:
				if name == "properties" || name == "responses" {
					for field := range list {
						if status, err := strconv.Atoi(field); name == "properties" || err == nil && status > 0 {
							words[field] = true
						}
					}
				}
			case []any:
				if name == "enum" {
					for _, value := range list {
						add(value)
					}
				}
			}
			if name == "const" {
				add(inner)
			}
			if name == "in" && inner == "query" {
				add(v["name"])
			}
			if name != "examples" && name != "example" {
				documentWords(inner, words)
			}
		}
	}
}

// reasons are the contract's reasons as package proxy has them.
func reasons(t *testing.T) (all []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "proxy/reason.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	literal := func(e ast.Expr) string {
		if name, ok := e.(*ast.Ident); ok && name.Obj != nil { // a constant of the same file
			e = name.Obj.Decl.(*ast.ValueSpec).Values[0]
		}
		text, err := strconv.Unquote(e.(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, value := range file.Scope.Lookup("reasons").Decl.(*ast.ValueSpec).Values[0].(*ast.CompositeLit).Elts {
		all = append(all, literal(value))
	}
	if len(all) < 13 {
		t.Fatalf("proxy/reason.go has the reasons %q, which cannot be all", all)
	}
	return all
}
