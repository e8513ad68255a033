package sandbox_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// verifyOnce is one verification that must end as VERIFIED.
func verifyOnce(t *testing.T, from, to *sandbox.VASP) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	accepted, err := from.Verify(ctx, sandbox.Request(to.ID))
	if err != nil {
		t.Fatal(err)
	}
	callback, err := from.AwaitCallback(ctx, accepted.VerificationUUID)
	if err != nil || !strings.Contains(callback, `"VERIFIED"`) {
		t.Fatalf("callback %s, %v", callback, err)
	}
}

// A rotated identity is signed for by the old one: counterparties follow in
// both directions without an operator, and over a restart (K1, K7).
func TestCounterpartiesFollowARotatedIdentity(t *testing.T) {
	a := start(t, sandbox.Options{})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	verifyOnce(t, alpha, bravo)
	before := show(t, alpha, bravo).SafetyNumber
	for _, v := range []*sandbox.VASP{bravo, alpha} {
		if code, said := operate(t, v, "identity", "rotate"); code != 0 || !strings.Contains(said, "statements   2") {
			t.Fatalf("identity rotate: exit %d, said %q", code, said)
		}
		verifyOnce(t, alpha, bravo)
		verifyOnce(t, bravo, alpha)
	}
	after := show(t, alpha, bravo)
	if after.SafetyNumber == before || after.SafetyNumber != show(t, bravo, alpha).SafetyNumber || after.State != "tofu" {
		t.Errorf("peer is %+v, safety number before %s", after, before)
	}
	if err := bravo.Enclave.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := bravo.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifyOnce(t, alpha, bravo)
}

// After an identity is lost for good, the enclave does not start until its
// operator says so, and no counterparty exchanges anything with the new one
// until its operator has accepted it (K1, K3).
func TestALostIdentityIsReplacedOnPurpose(t *testing.T) {
	a := start(t, sandbox.Options{})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	verifyOnce(t, alpha, bravo)
	if err := bravo.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(bravo.Database, bravo.Database+".lost"); err != nil {
		t.Fatal(err)
	}
	code, said := run(t, bravo.Enclave.Path, bravo.Enclave.Env, "run")
	if code == 0 || !strings.Contains(said, "--replace-identity") {
		t.Fatalf("with another identity: exit %d, said %q", code, said)
	}
	bravo.Enclave.Args = append(bravo.Enclave.Args, "--replace-identity")
	if err := bravo.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "alpha holds bravo", func() bool {
		_, _ = alpha.Directory(t.Context()) // a fresh directory is compared with the pins
		return show(t, alpha, bravo).State == "change_pending"
	})
	if _, err := alpha.Verify(t.Context(), sandbox.Request(bravo.ID)); err == nil || !strings.Contains(err.Error(), "COUNTERPARTY-NOT-TRUSTED") {
		t.Errorf("a verification with a counterparty on hold = %v", err)
	}
	digits := show(t, bravo, alpha).SafetyNumber
	if got := show(t, alpha, bravo); got.PendingSafetyNumber != digits {
		t.Errorf("safety numbers are %q and %q", got.PendingSafetyNumber, digits)
	}
	if code, said := operate(t, alpha, append([]string{"peers", "verify", bravo.ID}, strings.Fields(digits)...)...); code != 0 || !strings.Contains(said, "verified") {
		t.Fatalf("peers verify: exit %d, said %q", code, said)
	}
	verifyOnce(t, alpha, bravo)
}
