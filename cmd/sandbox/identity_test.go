package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
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
		if code, said := operate(t, v, "identity", "show", "--json"); code != 0 || !json.Valid([]byte(said)) || !strings.Contains(said, `"vaspId": "`+v.ID+`"`) || !strings.Contains(said, `"statements": 2`) {
			t.Errorf("identity show --json: exit %d, said %q", code, said)
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
	a := start(t, sandbox.Options{Record: true})
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
	alarm := sample(metrics(t, alpha.Metrics), `enclave_peer_pin_events_total{event="peer.change-pending"}`)
	if !bytes.Contains(read(t, alpha.Enclave.Log), []byte("shows another identity without continuity")) || alarm != "1" {
		t.Errorf("no alarm: counted %q", alarm)
	}
	before := relayedBy(t, a)
	if _, err := alpha.Verify(t.Context(), sandbox.Request(bravo.ID)); err == nil || !strings.Contains(err.Error(), "COUNTERPARTY-NOT-TRUSTED") {
		t.Errorf("a verification with a counterparty on hold = %v", err)
	}
	if n := relayedBy(t, a) - before; n != 0 {
		t.Errorf("%d messages left for a counterparty on hold", n)
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

// An identity that was replaced on purpose reaches central though the enclave
// dies before it could say so, and central is away: it starts as always. Then
// an operator who cannot compare accepts it, and only the one that he saw.
func TestAReplacedIdentityOutlivesACrash(t *testing.T) {
	a := start(t, sandbox.Options{})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	verifyOnce(t, alpha, bravo)
	if err := a.Central.Stop(); err != nil {
		t.Fatal(err)
	}
	if code, said := operate(t, bravo, "identity", "new", "--replace"); code != 0 {
		t.Fatalf("identity new: exit %d, said %q", code, said)
	}
	if err := bravo.Enclave.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*sandbox.Program{a.Central, bravo.Enclave} {
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Minute, "alpha holds bravo", func() bool {
		_, _ = alpha.Directory(t.Context())
		return show(t, alpha, bravo).State == "change_pending"
	})
	held := show(t, alpha, bravo)
	code, said := operate(t, alpha, "peers", "show", bravo.ID)
	command := "enclave peers accept " + bravo.ID + " " + held.AcceptableFingerprint
	if code != 0 || held.AcceptableFingerprint == "" || held.AcceptableFingerprint == held.Fingerprint || !strings.Contains(said, command) {
		t.Errorf("peers show: exit %d, said %q, want %q", code, said, command)
	}
	accept := func(digits string) (int, string) {
		return operate(t, alpha, append([]string{"peers", "accept", bravo.ID}, strings.Fields(digits)...)...)
	}
	for digits, sentence := range map[string]string{"": "say which identity", held.Fingerprint: "not the fingerprint"} {
		if code, said := accept(digits); code == 0 || !strings.Contains(said, sentence) {
			t.Errorf("peers accept %s: exit %d, said %q", digits, code, said)
		}
	}
	if code, said := accept(held.AcceptableFingerprint); code != 0 || !strings.Contains(said, "tofu") {
		t.Fatalf("peers accept: exit %d, said %q", code, said)
	}
	verifyOnce(t, alpha, bravo)
	// It is done, and no later start says it again.
	if err := bravo.Enclave.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := bravo.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifyOnce(t, bravo, alpha)
	if n := bytes.Count(read(t, a.Central.Log), []byte("replaced its identity without continuity")); n != 1 {
		t.Errorf("central took %d replacements, want 1", n)
	}
}

// Verifications of every key type that are under way when we rotate our
// identity end as they would have, also when the enclave dies in between.
func TestVerificationsOutliveARotation(t *testing.T) {
	a := start(t, sandbox.Options{})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	verifyOnce(t, alpha, bravo)
	if err := bravo.Enclave.Stop(); err != nil { // so that they wait
		t.Fatal(err)
	}
	var ids []string
	for _, keyType := range []string{"PerVasp", "PerAddress", "PerVerification"} {
		accepted, err := alpha.Verify(t.Context(), bytes.Replace(sandbox.Request(bravo.ID), []byte("PerVasp"), []byte(keyType), 1))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, accepted.VerificationUUID)
	}
	if code, said := operate(t, alpha, "identity", "rotate"); code != 0 {
		t.Fatalf("identity rotate: exit %d, said %q", code, said)
	}
	if err := alpha.Enclave.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*sandbox.Program{alpha.Enclave, bravo.Enclave} {
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		callback, err := alpha.AwaitCallback(t.Context(), id)
		if err != nil || !strings.Contains(callback, `"VERIFIED"`) {
			t.Errorf("callback %s, %v", callback, err)
		}
	}
}
