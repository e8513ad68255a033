package sandbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
)

// An auditor gets the log of an enclave that was killed meanwhile, and checks
// it with a program, the file and what was kept elsewhere, and nothing else.
func TestTheAuditLogIsExportedAndVerified(t *testing.T) {
	a := start(t, sandbox.Options{})
	v, dir := a.VASPs[0], t.TempDir()
	verified := func() (id string) {
		t.Helper()
		accepted, err := v.Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
		if err != nil {
			t.Fatal(err)
		}
		finish(t, a, []string{accepted.VerificationUUID})
		return accepted.VerificationUUID
	}
	first := verified()
	code, said := operate(t, v, "audit", "checkpoint")
	if code != 0 {
		t.Fatalf("checkpoint: exit %d, said %q", code, said)
	}
	kept := filepath.Join(dir, "checkpoint")
	if err := os.WriteFile(kept, []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Enclave.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := verified()
	log := filepath.Join(dir, "audit.jsonl")
	if code, said := operate(t, v, "audit", "export", log); code != 0 || !strings.Contains(said, "check them anywhere") {
		t.Fatalf("export: exit %d, said %q", code, said)
	}
	if info, err := os.Stat(log); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the export has mode %v, %v, want 0600", info.Mode(), err)
	}
	if code, said := operate(t, v, "audit", "export", log); code == 0 || !strings.Contains(said, "replaces nothing") {
		t.Errorf("an export over another: exit %d, said %q", code, said)
	}
	text := string(read(t, log))
	for _, want := range []string{first, second, audit.Accept, audit.Finish, audit.SignCheckpoint, audit.ExportAudit} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not have %s", want)
		}
	}
	_, us := operate(t, v, "identity", "show")
	fingerprint := ""
	for line := range strings.Lines(us) {
		if rest, ok := strings.CutPrefix(line, "fingerprint"); ok && fingerprint == "" {
			fingerprint = strings.TrimSpace(rest)
		}
	}
	check := func(wantCode int, want string, args ...string) {
		t.Helper()
		code, said := run(t, v.Enclave.Path, nil, append([]string{"audit", "verify"}, args...)...) // no settings
		if code != wantCode || !strings.Contains(said, want) {
			t.Errorf("verify %v: exit %d, said %q, want %d and %q", args, code, said, wantCode, want)
		}
	}
	check(0, "whole: ", log)
	check(0, "whole: ", log, "--checkpoint", kept, "--fingerprint", fingerprint)
	check(1, "another identity", log, "--fingerprint", "1"+fingerprint)
	lines := strings.SplitAfter(text, "\n")
	changed := filepath.Join(dir, "changed.jsonl")
	for want, lines := range map[string][]string{
		"no checkpoint": lines[:len(lines)-2],
		"line 3":        append(append([]string{}, lines[:2]...), lines[3:]...),
	} {
		if err := os.WriteFile(changed, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		check(1, want, changed)
	}
	tail := filepath.Join(dir, "tail.jsonl")
	if code, said := operate(t, v, "audit", "export", tail, "--from", "3"); code != 0 {
		t.Fatalf("export from 3: exit %d, said %q", code, said)
	}
	check(0, "from 3 to ", tail)
	if code, said := operate(t, v, "audit", "export", filepath.Join(dir, "x"), "--from", "100000"); code != 1 || !strings.Contains(said, "behind the last entry") {
		t.Errorf("export from behind the end: exit %d, said %q", code, said)
	}
}

// The audit log goes to its sinks while the enclave works and is killed, and
// what they have verifies. When none of them takes it, nothing is served that
// would need an entry, probes are, and all goes on by itself once one does
// (target 25).
func TestTheAuditLogIsShipped(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "worm")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "audit.jsonl")
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	v.Enclave.Env = append(v.Enclave.Env, "VEGA_AUDIT_SINKS=file:"+log)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	verify := func(want uint64) (ok bool, said string) {
		t.Helper()
		code, said := run(t, v.Enclave.Path, []string{}, "audit", "verify", "--stream", log)
		return code == 0 && strings.Contains(said, fmt.Sprintf(" to %d, ", want)), said
	}
	length := func() (n uint64) {
		t.Helper()
		code, said := operate(t, v, "audit", "checkpoint")
		var c struct{ Checkpoint struct{ Seq uint64 } }
		if err := json.Unmarshal([]byte(said), &c); code != 0 || err != nil {
			t.Fatalf("checkpoint: exit %d, %q", code, said)
		}
		return c.Checkpoint.Seq
	}
	var ids []string
	for range 3 {
		for range 5 {
			accepted, err := v.Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, accepted.VerificationUUID)
		}
		if err := v.Enclave.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := v.Enclave.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, a, ids)

	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	get := func(url string) int {
		r, err := http.Get(url)
		if err != nil {
			t.Errorf("%v", err)
			return 0
		}
		defer r.Body.Close()
		_, _ = io.Copy(io.Discard, r.Body)
		return r.StatusCode
	}
	row := v.API + "/v1/verifications/" + ids[0]
	var refused atomic.Bool
	var asking sync.WaitGroup
	for range 32 {
		asking.Go(func() {
			for i := 0; i < audit.Buffered && !refused.Load(); i++ {
				switch code := get(row); code {
				case http.StatusOK:
				case http.StatusServiceUnavailable:
					refused.Store(true)
				default:
					t.Errorf("status %d", code)
					return
				}
			}
		})
	}
	asking.Wait()
	if !refused.Load() {
		t.Fatal("with no sink, it went on and on")
	}
	if sample(metrics(t, v.Metrics), "enclave_audit_blocked") != "1" {
		t.Error("enclave_audit_blocked is not 1")
	}
	if _, err := v.Verify(t.Context(), sandbox.Request(a.VASPs[1].ID)); err == nil {
		t.Error("a verification was accepted")
	}
	if code := get(v.API + "/healthcheck"); code != http.StatusOK {
		t.Errorf("healthcheck %d", code)
	}
	if err := os.Rename(dir+".gone", dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "it serves again", func() bool { return get(row) == http.StatusOK })
	want := length()
	var said string
	eventually(t, 2*time.Minute, "the sink has all", func() (ok bool) { ok, said = verify(want); return ok })
	t.Log(said)
	if text := string(read(t, log)); strings.Contains(text, "bc1q") || !strings.Contains(text, ids[14]) {
		t.Error("the sink has an address, or lacks a verification")
	}
	lines := strings.SplitAfter(string(read(t, log)), "\n")
	if err := os.WriteFile(log+".less", []byte(strings.Join(slices.Delete(lines, len(lines)-100, len(lines)-99), "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, said := run(t, v.Enclave.Path, []string{}, "audit", "verify", "--stream", log+".less"); code != 1 {
		t.Errorf("without a line: %d %s", code, said)
	}
}
