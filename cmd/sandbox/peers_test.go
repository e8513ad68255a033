package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

type peer struct {
	State, Fingerprint, SafetyNumber, PendingSafetyNumber, AcceptableFingerprint string
}

// operate runs one of the operator's commands beside a running enclave.
func operate(t *testing.T, v *sandbox.VASP, args ...string) (code int, said string) {
	t.Helper()
	return run(t, v.Enclave.Path, v.Enclave.Env, args...)
}

func show(t *testing.T, v, other *sandbox.VASP) peer {
	t.Helper()
	code, said := operate(t, v, "peers", "show", other.ID, "--json")
	var p peer
	if err := json.Unmarshal([]byte(said), &p); code != 0 || err != nil {
		t.Fatalf("peers show: exit %d, said %q", code, said)
	}
	return p
}

// relayedBy counts what central relayed so far, of whatever type.
func relayedBy(t *testing.T, a *sandbox.Alliance) int {
	t.Helper()
	return bytes.Count(read(t, a.Record), []byte("\n"))
}

// Two operators see the same safety number and make each other verified; under
// VEGA_PEER_TRUST=verified nothing is exchanged before (K1).
func TestTwoOperatorsVerifyEachOther(t *testing.T) {
	a := start(t, sandbox.Options{Record: true, Enclave: []string{"VEGA_PEER_TRUST=verified"}})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	if _, err := alpha.Verify(t.Context(), sandbox.Request(bravo.ID)); err == nil || !strings.Contains(err.Error(), "COUNTERPARTY-NOT-TRUSTED") {
		t.Errorf("a verification with an unverified peer = %v, want COUNTERPARTY-NOT-TRUSTED", err)
	}
	if asked, err := bravo.LastAsked(t.Context(), "/verify/user"); err == nil {
		t.Fatalf("an unverified peer's request reached the backend: %v", asked)
	}
	if n := relayedBy(t, a); n != 0 {
		t.Errorf("%d messages left for an unverified peer", n)
	}
	atAlpha, atBravo := show(t, alpha, bravo), show(t, bravo, alpha)
	if atAlpha.SafetyNumber != atBravo.SafetyNumber || len(strings.Fields(atAlpha.SafetyNumber)) != 24 {
		t.Fatalf("safety numbers are %q and %q, want the same 24 groups", atAlpha.SafetyNumber, atBravo.SafetyNumber)
	}
	if atAlpha.State != "tofu" {
		t.Errorf("state is %q, want tofu", atAlpha.State)
	}
	wrong := strings.Replace(atAlpha.SafetyNumber, atAlpha.SafetyNumber[:1], string('0'+(atAlpha.SafetyNumber[0]-'0'+1)%10), 1)
	if code, said := operate(t, alpha, "peers", "verify", bravo.ID, wrong); code == 0 || !strings.Contains(said, "not the safety number") {
		t.Errorf("wrong digits: exit %d, said %q", code, said)
	}
	for v, other := range map[*sandbox.VASP]*sandbox.VASP{alpha: bravo, bravo: alpha} {
		args := append([]string{"peers", "verify", other.ID}, strings.Fields(atAlpha.SafetyNumber)...)
		if code, said := operate(t, v, args...); code != 0 || !strings.Contains(said, "verified") {
			t.Fatalf("peers verify: exit %d, said %q", code, said)
		}
	}
	for v, other := range map[*sandbox.VASP]*sandbox.VASP{alpha: bravo, bravo: alpha} {
		if p := show(t, v, other); p.State != "verified" || p.SafetyNumber != atAlpha.SafetyNumber {
			t.Errorf("after verify the peer is %+v", p)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	accepted, err := alpha.Verify(ctx, sandbox.Request(bravo.ID))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alpha.AwaitCallback(ctx, accepted.VerificationUUID); err != nil {
		t.Errorf("a verification with a verified peer: %v", err)
	}
	if code, said := operate(t, alpha, "peers", "history", bravo.ID); code != 0 || !strings.Contains(said, "peer.verify") || !strings.Contains(said, "uid ") {
		t.Errorf("peers history: exit %d, said %q", code, said)
	}
	if code, said := operate(t, alpha, "peers", "list"); code != 0 || !strings.Contains(said, bravo.ID) || !strings.Contains(said, "verified") {
		t.Errorf("peers list: exit %d, said %q", code, said)
	}
	// Blocked, nothing more goes through, at once.
	if code, said := operate(t, bravo, "peers", "block", alpha.ID); code != 0 || !strings.Contains(said, "blocked") {
		t.Errorf("peers block: exit %d, said %q", code, said)
	}
	before := sumOf(metrics(t, bravo.Metrics), `enclave_refused_total{reason="pin"}`)
	if _, err := alpha.Verify(t.Context(), sandbox.Request(bravo.ID)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the blocked peer's envelope is refused and counted", func() bool {
		return sumOf(metrics(t, bravo.Metrics), `enclave_refused_total{reason="pin"}`) > before
	})
}

// The operator's commands say what is wrong when no enclave runs.
func TestOperatorsCommandsNeedARunningEnclave(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	if code, said := operate(t, a.VASPs[0], "peers", "list"); code == 0 || !strings.Contains(said, "no enclave is running here") {
		t.Errorf("exit %d, said %q", code, said)
	}
}
