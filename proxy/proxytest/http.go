package proxytest

import (
	"bytes"
	"net/http"
	"net/http/httptest"

	"github.com/vasp-enclave/vasp-enclave/proxy"
)

func post(e *proxy.Enclave, message []byte) (int, []byte) {
	w := httptest.NewRecorder()
	e.ServeMessage(w, httptest.NewRequest(http.MethodPost, "/relay/v1/messages", bytes.NewReader(message)))
	return w.Code, w.Body.Bytes()
}

// Call is a request of the party's backend to its enclave.
func (p *Party) Call(method, path string, body []byte) (status int, answer []byte) {
	p.world.t.Helper()
	w := httptest.NewRecorder()
	p.Enclave.API("").ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
	return w.Code, w.Body.Bytes()
}
