package proxy_test

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// Callbacks that the backend refuses for ever do not hold up the others,
// however many they are.
func TestRefusedCallbacksHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		verified(w)
		refused := map[string]bool{}
		w.A.Backend.OnCallback(func([]byte) error {
			return &vasp.Error{API: "callback", Problem: vasp.Status, Code: 400}
		})
		for range 40 {
			refused[verify(t, w, request(w))] = true
		}
		w.Await("all 40 were refused once", func() bool { return len(w.A.Backend.Callbacks()) >= 40 })
		w.A.Backend.OnCallback(func(body []byte) error {
			for id := range refused {
				if bytes.Contains(body, []byte(id)) {
					return &vasp.Error{API: "callback", Problem: vasp.Status, Code: 400}
				}
			}
			return nil
		})
		for range 30 {
			id := verify(t, w, request(w))
			w.Await("the next callback arrives", func() bool { return called(w.A, id) == 1 })
		}
	})
}
