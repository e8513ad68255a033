package keysource

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/vasp-enclave/vasp-enclave/plugins"
)

// rawSize is the length of a key file that holds the key's bytes themselves.
const rawSize = 32

// maxFile bounds what is read of a key file, in bytes.
const maxFile = 4 << 10

// File is "file:/path" or "file:path": a file with the key's 32 raw bytes, or
// with base64 text.
func File(_ context.Context, u *url.URL) (plugins.KeySource, error) {
	path := u.Path
	if path == "" {
		path = u.Opaque
	}
	if path == "" || u.Host != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("must be file:/path/to/key, without host and query")
	}
	return file(path), nil
}

type file string

func (f file) Key(_ context.Context, configured string) ([]byte, error) {
	if configured != "" {
		return nil, errors.New("names a file, and VEGA_ENCRYPTION_KEY_BASE64 is set too: unset one of the two")
	}
	b, err := f.read()
	if err != nil {
		return nil, err
	}
	// Text first: a key that is too short, in base64, may be 32 letters long.
	if key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b))); err == nil {
		return key, nil
	}
	if len(b) == rawSize {
		return b, nil
	}
	return nil, fmt.Errorf("file %s holds neither %d bytes nor base64", string(f), rawSize)
}

func (f file) read() ([]byte, error) {
	r, err := os.Open(string(f))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxFile))
}
