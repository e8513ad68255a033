package keysource_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
)

// key is 32 bytes that look like nothing else.
var key = []byte("hunter2-hunter2-hunter2-hunter2!")

// open gives what a stock build makes of a source and a configured text.
func open(t *testing.T, source, configured string) ([]byte, error) {
	t.Helper()
	s, err := standard.Catalog().KeySources.Open(t.Context(), source)
	if err != nil {
		return nil, err
	}
	return s.Key(t.Context(), configured)
}

func write(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeySourcesGiveTheKey(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(key)
	for name, c := range map[string]struct{ source, configured string }{
		"plain":        {"plain:", text},
		"raw file":     {"file:" + write(t, key), ""},
		"with slashes": {"file://" + write(t, key), ""},
		"text file":    {"file:" + write(t, []byte(text+"\n")), ""},
	} {
		if got, err := open(t, c.source, c.configured); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: Key = %d bytes, %v, want the key", name, len(got), err)
		}
	}
}

// 24 bytes in base64 are 32 letters: they must not pass for a raw key.
func TestFileDoesNotTakeShortTextForARawKey(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(key[:24])
	if got, err := open(t, "file:"+write(t, []byte(text)), ""); err != nil || len(got) != 24 {
		t.Errorf("Key = %d bytes, %v, want the 24 that the text says", len(got), err)
	}
}

func TestKeySourcesRefuseWithoutShowingTheKey(t *testing.T) {
	for name, c := range map[string]struct{ source, configured, want string }{
		"nothing configured": {"plain:", "", "is not set"},
		"not base64":         {"plain:", string(key), "is not base64"},
		"plain with a path":  {"plain:/x", "", "takes nothing behind the colon"},
		"file without path":  {"file:", "", "must be file:/path"},
		"file on a host":     {"file://host/kek", "", "must be file:/path"},
		"file and setting":   {"file:" + write(t, key), "x", "unset one of the two"},
		"absent file":        {"file:" + filepath.Join(t.TempDir(), "absent"), "", "no such file"},
		"long file":          {"file:" + write(t, bytes.Repeat(key, 1000)), "", "neither 32 bytes nor base64"},
	} {
		_, err := open(t, c.source, c.configured)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: Key = %v, want %q and no key", name, err, c.want)
		}
	}
}
