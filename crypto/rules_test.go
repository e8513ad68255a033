package crypto_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sources gives every Go file below crypto that is no test.
func sources(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestEveryPurposeIsInTheFormat(t *testing.T) {
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	purpose := regexp.MustCompile(`vasp-enclave/v1/[a-z0-9-]+`)
	for _, source := range sources(t) {
		for _, p := range purpose.FindAllString(source, -1) {
			used[p] = true
		}
	}
	written := map[string]bool{}
	for _, p := range purpose.FindAllString(string(b), -1) {
		written[p] = true
		if !used[p] {
			t.Errorf("FORMAT.md names %s, which no code uses", p)
		}
	}
	for p := range used {
		if !written[p] {
			t.Errorf("%s is used and not named in FORMAT.md", p)
		}
	}
}

// Keys that everybody can read, and raw key bytes, stay where they are meant
// to be: Tink takes raw bytes in one place, and that place has two callers,
// the KEK and keys derived from a seed.
func TestRawKeyBytesEnterInOnePlace(t *testing.T) {
	allowed := map[string][]string{
		`insecuresecretdataaccess"`:   {"internal/rawkey/rawkey.go"},
		`crypto/internal/rawkey"`:     {"atrest/kek.go", "envelope/derive.go"},
		`crypto/internal/insecure"`:   nil,
		`insecurecleartextkeyset"`:    nil,
		`tink-go/v2/testing`:          nil,
		`tink-go/v2/testkeyset"`:      nil,
		`tink-go/v2/signature/subtle`: nil,
	}
	found := map[string]bool{}
	for path, source := range sources(t) {
		path = filepath.ToSlash(path)
		if strings.HasPrefix(path, "internal/insecure/") {
			continue // imported by tests only, as the third row says
		}
		for imported, places := range allowed {
			if !strings.Contains(source, imported) {
				continue
			}
			found[path] = true
			if !slices.Contains(places, path) {
				t.Errorf("%s imports %s", path, strings.TrimSuffix(imported, `"`))
			}
		}
	}
	for _, places := range allowed {
		for _, path := range places {
			if !found[path] {
				t.Errorf("%s, where raw key bytes were let in, does not import them", path)
			}
		}
	}
}
