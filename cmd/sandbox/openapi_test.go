package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi/openapitest"
)

// documented fails every call to an enclave's API that is not in the API's
// document: any answer, and a request that succeeds.
type documented struct{ next http.RoundTripper }

var held atomic.Int64 // calls that were held against the document

func (d documented) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := d.next.RoundTrip(r)
	if err != nil || !strings.HasPrefix(r.URL.Path, "/v1/") {
		return response, err
	}
	answer, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close(), d.check(r, response, answer)); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(answer))
	return response, nil
}

func (d documented) check(r *http.Request, response *http.Response, answer []byte) error {
	held.Add(1)
	target := r.URL.RequestURI()
	if err := openapitest.Enclave().Answer(r.Method, target, response.StatusCode, response.Header, answer); err != nil {
		return fmt.Errorf("an answer is not in the document: %w", err)
	}
	if response.StatusCode != http.StatusOK || r.GetBody == nil {
		return nil
	}
	sent, err := r.GetBody()
	if err != nil {
		return err
	}
	body, err := io.ReadAll(sent)
	if err != nil {
		return err
	}
	return openapitest.Enclave().Request(r.Method, target, body)
}

// What a tool fetches from a running enclave is the documents; and the calls
// of these tests are held against them.
func TestARunningEnclaveServesItsDocuments(t *testing.T) {
	a := start(t, sandbox.Options{})
	base := a.VASPs[0].API
	for path, want := range map[string][]byte{openapi.EnclavePath: openapi.Enclave, openapi.VASPPath: openapi.VASP} {
		status, got, err := sandbox.Call(t.Context(), http.MethodGet, base+path, nil)
		if err != nil || status != http.StatusOK || !bytes.Equal(got, want) {
			t.Errorf("GET %s = %d, %d bytes, %v", path, status, len(got), err)
		}
	}
	before := held.Load()
	if _, _, err := sandbox.Call(t.Context(), http.MethodGet, base+"/v1/vasps/self", nil); err != nil || held.Load() == before {
		t.Errorf("a call is not held against the document: %v", err)
	}
}
