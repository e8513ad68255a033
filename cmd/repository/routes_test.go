package repository_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each listener of enclave and central is made of edge.Routes, which the
// matrix of routes and credentials in cmd/sandbox asks for. A mux of another
// kind would be one that it does not know.
func TestEveryMuxIsMadeOfRoutes(t *testing.T) {
	mux := regexp.MustCompile(`\bhttp\.(NewServeMux|ServeMux\{|Handle\(|HandleFunc\()`)
	made := 0
	for _, dir := range []string{"proxy", "cmd/enclavecmd", "cmd/centralcmd", "cmd/life", "cmd/reload"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			base := filepath.Base(filepath.Dir(path))
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(base, "test") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil || !mux.Match(text) {
				return err
			}
			if strings.HasSuffix(filepath.ToSlash(path), "proxy/edge/routes.go") {
				made++
				return nil
			}
			t.Errorf("%s makes a mux of its own; use edge.Routes, and name its patterns in Routes", path)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if made != 1 {
		t.Errorf("proxy/edge/routes.go was seen %d times", made)
	}
}
