package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// What the backend reads of the history is in the audit log, with ids and
// numbers and no filter; when it cannot be written there, nothing is shown, and
// what does not touch the history is answered all the same (attack G1).
func TestReadsAreAudited(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	broken := breaking(w.A)
	reads, lists := len(audited(t, w.A, audit.Read)), len(audited(t, w.A, audit.List))
	paths := map[string]bool{
		"/v1/verifications/" + id: true, "/v1/verifications": true, "/v1/verifications?beneficiaryAccount=bc1qsecret": true,
		"/v1/vasps": false, "/v1/vasps/self": false, "/healthcheck": false,
	}
	for path := range paths {
		ask(t, w.A, http.MethodGet, path, nil)
	}
	if status, _ := w.A.Call(http.MethodGet, "/v1/verifications/00000000-0000-4000-8000-000000000000", nil); status != http.StatusNotFound {
		t.Errorf("an unknown one = %d", status)
	}
	now := audited(t, w.A, audit.Read)
	if len(now) != reads+1 || now[reads].Object != id || now[reads].Actor != audit.Backend || now[reads].Outcome != audit.OK {
		t.Errorf("of one row read, the entries %+v", now[reads:])
	}
	now = audited(t, w.A, audit.List)
	if len(now) != lists+2 {
		t.Errorf("of two lists, %d entries", len(now)-lists)
	}
	for _, e := range now {
		if e.Object != "" || e.Reason != "0" && e.Reason != "1" {
			t.Errorf("a list's entry says %q %q", e.Object, e.Reason)
		}
	}
	broken.fail(storage.ErrReadOnly)
	for path, touches := range paths {
		status, answer := w.A.Call(http.MethodGet, path, nil)
		want := http.StatusOK
		if touches {
			want = http.StatusServiceUnavailable
		}
		if status != want || touches && (!contains(answer, `"STORAGE-UNAVAILABLE"`) || contains(answer, id)) {
			t.Errorf("%s without an entry = %d %s, want %d", path, status, answer, want)
		}
	}
	broken.fail(nil)
	ask(t, w.A, http.MethodGet, "/v1/verifications/"+id, nil)
}

// One line of each party tells of an exchange, and both name the verification
// and the other one.
func TestBothPartiesLogTheSameID(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	for name, p := range map[string][2]*proxytest.Party{"outbound": {w.A, w.B}, "inbound": {w.B, w.A}} {
		found := 0
		for line := range strings.Lines(p[0].Log.String()) {
			if strings.Contains(line, `"direction":"`+name+`","message":"verification-request","vasp":"`+p[1].ID.String()+`"`) && strings.Contains(line, `"verification":"`+id+`"`) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s: %d lines name the verification", name, found)
		}
	}
}
