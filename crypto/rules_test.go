package crypto_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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
// to be.
func TestRawKeyBytesEnterInOnePlace(t *testing.T) {
	allowed := map[string]string{
		`crypto/internal/insecure"`:   "",
		`insecuresecretdataaccess"`:   "atrest/kek.go",
		`insecurecleartextkeyset"`:    "",
		`tink-go/v2/testing`:          "",
		`tink-go/v2/testkeyset"`:      "",
		`tink-go/v2/signature/subtle`: "",
	}
	for path, source := range sources(t) {
		if strings.HasPrefix(filepath.ToSlash(path), "internal/insecure/") {
			continue // imported by tests only, as the first row says
		}
		for imported, place := range allowed {
			if strings.Contains(source, imported) && filepath.ToSlash(path) != place {
				t.Errorf("%s imports %s", path, strings.TrimSuffix(imported, `"`))
			}
		}
	}
}
