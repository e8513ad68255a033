package keysource

import (
	"context"
	"errors"
	"net/url"

	"github.com/vasp-enclave/vasp-enclave/plugins"
)

// Wrap asks the decrypt API of deploy/decryptapi, at the https URL of its wrap
// endpoint, for a value that it will decrypt for an instance: of a new key that
// nobody but the HSM has seen, or, when key is not nil, of that one. The call
// is an operator's: it proves who asks as a call for a key does, and an
// enclave's own proof is not enough for it.
func Wrap(ctx context.Context, endpoint string, call plugins.KeyCall, instance string, key []byte) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("must be https://host/path, without user, query and fragment")
	}
	d := &decryptAPI{endpoint: u, call: call}
	text, err := d.post(ctx, struct {
		Instance string `json:"instance"`
		Key      []byte `json:"key,omitempty"` // base64
	}{instance, key})
	if err != nil {
		return "", err
	}
	var a struct {
		InputKey string `json:"inputKey"`
	}
	if err := unmarshal(text, &a); err != nil {
		return "", err
	}
	if a.InputKey == "" {
		return "", errors.New("the answer has no inputKey: is it the wrap endpoint?")
	}
	return a.InputKey, nil
}
