package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
