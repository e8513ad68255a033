package sandbox_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
)

// backUp takes a backup of a running enclave into a new file.
func backUp(t *testing.T, v *sandbox.VASP) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "backup")
	if code, said := operate(t, v, "backup", file); code != 0 || !strings.Contains(said, "opens with the database key") {
		t.Fatalf("backup: exit %d, said %q", code, said)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the backup has mode %v, %v, want 0600", info.Mode(), err)
	}
	return file
}

// An old backup is restored after its verifications went on elsewhere: what
// was undelivered in it is delivered again, and that is harmless, because the
// counterparty knows the verification and gives the answer it gave, without
// asking its backend (K4). Callbacks come twice. What came after the backup
// is known to the counterparty only.
func TestAnOlderBackupDeliversAgainAndDoesNoHarm(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	told := newBackend(t)
	alpha.Enclave.Env = append(alpha.Enclave.Env, "VEGA_VERIFICATION_CALLBACK_API_PATH="+told.url)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	finished := func(ids []string) func() bool {
		return func() bool {
			for _, id := range ids {
				if row, err := alpha.Row(t.Context(), id); err != nil || row.Result != "VERIFIED" {
					return false
				}
			}
			return true
		}
	}
	verified := func() (id string) {
		t.Helper()
		accepted, err := alpha.Verify(t.Context(), sandbox.Request(bravo.ID))
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "one is verified", finished([]string{accepted.VerificationUUID}))
		return accepted.VerificationUUID
	}
	verified() // both know each other's keys
	if err := bravo.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	var waiting []string
	for range 10 {
		accepted, err := alpha.Verify(t.Context(), sandbox.Request(bravo.ID))
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, accepted.VerificationUUID)
	}
	file := backUp(t, alpha)
	if code, said := operate(t, alpha, "backup", file); code == 0 || !strings.Contains(said, "replaces nothing") {
		t.Errorf("a backup over another: exit %d, said %q", code, said)
	}
	if err := bravo.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "all are verified", finished(waiting))
	later := verified()
	if code, said := operate(t, alpha, "restore", file); code == 0 || !strings.Contains(said, "not replaced") {
		t.Errorf("restore over the history: exit %d, said %q", code, said)
	}
	if err := alpha.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(alpha.Database, alpha.Database+".lost"); err != nil {
		t.Fatal(err)
	}
	code, said := operate(t, alpha, "restore", file)
	for _, want := range []string{"whole and checked", "VASP             " + alpha.ID, "verifications    11", "undelivered      10", "accept-rollback"} {
		if code != 0 || !strings.Contains(said, want) {
			t.Fatalf("restore: exit %d, said %q, want %q", code, said, want)
		}
	}
	if err := alpha.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "all are verified again", finished(waiting))
	eventually(t, time.Minute, "and called back again", func() bool {
		for _, id := range waiting {
			if len(told.results(id)) < 2 {
				return false
			}
		}
		return true
	})
	asked, err := bravo.TimesAsked(t.Context(), "/verify/user")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range waiting {
		if asked[id] != 1 {
			t.Errorf("the counterparty's backend was asked %d times about %s, want once", asked[id], id)
		}
		for _, result := range told.results(id) {
			if result != "VERIFIED" {
				t.Errorf("our backend was told %s of %s", result, id)
			}
		}
	}
	if row, err := alpha.Row(t.Context(), later); err == nil {
		t.Errorf("the verification after the backup is there: %+v", row)
	}
	if row, err := bravo.Row(t.Context(), later); err != nil || row.Result != "VERIFIED" {
		t.Errorf("the counterparty has %+v, %v", row, err)
	}
	verified()
	verifyOnce(t, bravo, alpha)
}

// A backup through a pipe is the same; one of nobody says so.
func TestABackupThroughAPipe(t *testing.T) {
	a := start(t, sandbox.Options{})
	v := a.VASPs[0]
	verifyOnce(t, v, a.VASPs[1])
	pipe := `"$0" backup - | VEGA_DATABASE_FILE="$1" "$0" restore -`
	if code, said := run(t, "/bin/sh", v.Enclave.Env, "-c", pipe, v.Enclave.Path, filepath.Join(t.TempDir(), "copy.db")); code != 0 || !strings.Contains(said, "verifications    1") {
		t.Errorf("exit %d, said %q", code, said)
	}
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b")
	if code, said := operate(t, v, "backup", file); code == 0 || !strings.Contains(said, "no enclave is running here") {
		t.Errorf("of a stopped enclave: exit %d, said %q", code, said)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 0 {
		t.Errorf("%s was left", left[0].Name())
	}
}

// An older copy of the whole history is refused at start where there is an
// anchor; the operator may accept it, which is audited (S3).
func TestAnOlderHistoryIsNoticedAtStart(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	anchor := filepath.Join(t.TempDir(), "anchor")
	alpha.Enclave.Env = append(alpha.Enclave.Env, "VEGA_DATABASE_ANCHOR_FILE="+anchor)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifyOnce(t, alpha, bravo)
	stop := func() {
		t.Helper()
		if err := alpha.Enclave.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	begin := func() {
		t.Helper()
		if err := alpha.Enclave.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	older := read(t, alpha.Database)
	begin() // with the anchor of its own stop
	verifyOnce(t, alpha, bravo)
	stop()
	if err := os.WriteFile(alpha.Database, older, 0o600); err != nil {
		t.Fatal(err)
	}
	code, said := operate(t, alpha, "run")
	if code != 2 || !strings.Contains(said, "ROLLBACK-SUSPECTED") || !strings.Contains(said, "enclave run --accept-rollback") {
		t.Fatalf("exit %d, said %q", code, said)
	}
	usual := alpha.Enclave.Args
	alpha.Enclave.Args = append(slices.Clone(usual), "--accept-rollback")
	begin()
	alpha.Enclave.Args = usual
	stop()
	begin() // and once was enough
	verifyOnce(t, alpha, bravo)
	stop()
	accepted := 0
	for _, e := range auditOf(t, alpha) {
		if e.Verb == audit.AcceptRollback && strings.Contains(e.Reason, "ROLLBACK-SUSPECTED") {
			accepted++
		}
	}
	if accepted != 1 {
		t.Errorf("%d audit entries say that a rollback was accepted, want 1", accepted)
	}
}

// A stopped history is compacted; a running one is not.
func TestCompactFromTheCommandLine(t *testing.T) {
	a := start(t, sandbox.Options{})
	v := a.VASPs[0]
	verifyOnce(t, v, a.VASPs[1])
	if code, said := operate(t, v, "db", "compact"); code != 1 || !strings.Contains(said, "another enclave has it open") {
		t.Errorf("while it runs: exit %d, said %q", code, said)
	}
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	if code, said := operate(t, v, "db", "compact"); code != 0 || !strings.Contains(said, "every value checked") {
		t.Errorf("exit %d, said %q", code, said)
	}
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifyOnce(t, v, a.VASPs[1])
}
