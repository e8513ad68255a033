package central_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/central"
)

// A state file that cannot be read stays as it is; one that can loses just the
// identity that was to be forgotten.
func FuzzStateFile(f *testing.F) {
	f.Add(`{"version":1,"members":{"7":{"registration":{"publicEndpoint":"https://a","version":"1","suites":["x"],"identity":"YQ==","instance":"i"},"accessKey":"k","updatedAt":"2026-01-02T03:04:05Z","leaseUntil":"2026-01-02T03:04:05Z"}}}`)
	f.Add(`{"version":1,"members":{"7":{},"8":{}}}`)
	f.Add(`{"version":1,"members":{"7":{},"7":{}}}`)
	f.Add(`{"version":1,"members":{"07":{}}}`)
	f.Add(`{"version":1}`)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "state.json")
		write(t, path, text)
		err := central.ForgetIdentity(path, 7)
		after, readErr := read(path)
		switch {
		case readErr != nil:
			t.Fatal(readErr)
		case err != nil && after != text:
			t.Fatalf("%q was refused with %v and changed to %q", text, err, after)
		case err != nil:
			return
		}
		if err := central.ForgetIdentity(path, 7); err == nil || !strings.Contains(err.Error(), "holds no identity") {
			t.Fatalf("%q became %q, and forgetting again says %v", text, after, err)
		}
	})
}
