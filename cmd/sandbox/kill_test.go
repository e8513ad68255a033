package sandbox_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// Any program may die by SIGKILL in the middle of running verifications:
// after it is started again, every acknowledged one reaches its final state
// and its callback (S7, K13, V3).
func TestEveryAcknowledgedVerificationSurvivesTheDeathOfAnyProgram(t *testing.T) {
	rounds := 1
	if torture() {
		rounds = 20
	}
	originator := func(a *sandbox.Alliance) *sandbox.Program { return a.VASPs[0].Enclave }
	beneficiary := func(a *sandbox.Alliance) *sandbox.Program { return a.VASPs[1].Enclave }
	for _, c := range []struct {
		victim, keyType string
		pick            func(*sandbox.Alliance) *sandbox.Program
	}{
		{"central", "PerVasp", func(a *sandbox.Alliance) *sandbox.Program { return a.Central }},
		{"backend of the beneficiary", "PerVasp", func(a *sandbox.Alliance) *sandbox.Program { return a.VASPs[1].Robot }},
		{"backend of the originator", "PerVasp", func(a *sandbox.Alliance) *sandbox.Program { return a.VASPs[0].Robot }},
		{"enclave of the originator", "PerVasp", originator},
		{"enclave of the originator", "PerAddress", originator},
		{"enclave of the originator", "PerVerification", originator},
		{"enclave of the beneficiary", "PerVasp", beneficiary},
		{"enclave of the beneficiary", "PerAddress", beneficiary},
		{"enclave of the beneficiary", "PerVerification", beneficiary},
	} {
		for round := range rounds {
			t.Run(fmt.Sprintf("%s/%s/%d", c.victim, c.keyType, round), func(t *testing.T) { surviveDeath(t, c.keyType, c.pick) })
		}
	}
}

const running = 200 // verifications

func surviveDeath(t *testing.T, keyType string, pick func(*sandbox.Alliance) *sandbox.Program) {
	// The beneficiary's backend takes its time, so that many are under way.
	a := prepare(t, sandbox.Options{Robot: []string{"ROBOT_DELAY_MS=100"}})
	sender, victim := a.VASPs[0], pick(a)
	told := newBackend(t)
	own := victim == sender.Robot // its own memory dies with it: count what it was told elsewhere
	if !own {
		sender.Enclave.Env = append(sender.Enclave.Env, "VEGA_VERIFICATION_CALLBACK_API_PATH="+told.url)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	acknowledged := send(t, a, keyType, func(done int) {
		if done == running/2 {
			if err := victim.Kill(); err != nil {
				t.Error(err)
			}
			time.Sleep(300 * time.Millisecond) // dead for a while
			if err := victim.Start(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	if len(acknowledged) != running {
		t.Fatalf("only %d verifications were acknowledged", len(acknowledged))
	}
	eventually(t, time.Minute, "every acknowledged verification has its final state", func() bool {
		for _, id := range acknowledged {
			row, err := sender.Row(t.Context(), id)
			if err != nil || row.Result == "WAIT" {
				return false
			}
		}
		return true
	})
	eventually(t, time.Minute, "every final state was called back", func() bool {
		if own {
			return sample(metrics(t, sender.Metrics), `enclave_outbox_entries{destination="backend"}`) == "0"
		}
		for _, id := range acknowledged {
			if len(told.results(id)) == 0 {
				return false
			}
		}
		return true
	})
	results := map[string]int{}
	for _, id := range acknowledged {
		row, err := sender.Row(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		results[row.Result+"/"+row.Reason]++
		for _, result := range told.results(id) {
			if result != row.Result {
				t.Errorf("verification %s is %s and the backend was told %s", id, row.Result, result)
			}
		}
	}
	t.Logf("%d acknowledged: %v", len(acknowledged), results)
	// Asked once, unless the enclave that asks died while it did, or the
	// backend itself, which then does not remember.
	if victim != a.VASPs[1].Enclave && victim != a.VASPs[1].Robot {
		asked, err := a.VASPs[1].TimesAsked(t.Context(), "/verify/user")
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range acknowledged {
			if asked[id] != 1 {
				t.Errorf("the beneficiary's backend was asked %d times about %s", asked[id], id)
			}
		}
	}
	// A backend that dies with a question in its hands may have acted on it
	// and is not asked again; every other death costs time only.
	unanswered := 0
	if victim == a.VASPs[1].Robot {
		unanswered = results["ERROR/UNDEFINED-ERROR"]
	}
	if results["VERIFIED/OK"]+unanswered != len(acknowledged) || results["VERIFIED/OK"] < running/3 {
		t.Errorf("results are %v", results)
	}
}

// send posts verifications from many hands and gives the ids that were
// acknowledged. After each, it calls progress with their number so far, one
// at a time.
func send(t *testing.T, a *sandbox.Alliance, keyType string, progress func(done int)) []string {
	t.Helper()
	body := bytes.Replace(sandbox.Request(a.VASPs[1].ID), []byte("PerVasp"), []byte(keyType), 1)
	var mu, turn sync.Mutex
	var acknowledged []string
	var hands sync.WaitGroup
	for range 20 {
		hands.Go(func() {
			for range running / 20 {
				time.Sleep(20 * time.Millisecond) // so that they are under way together, at every stage
				accepted, err := a.VASPs[0].Verify(t.Context(), body)
				for err != nil && t.Context().Err() == nil { // nobody there; it was not acknowledged
					time.Sleep(50 * time.Millisecond)
					accepted, err = a.VASPs[0].Verify(t.Context(), body)
				}
				mu.Lock()
				acknowledged = append(acknowledged, accepted.VerificationUUID)
				done := len(acknowledged)
				mu.Unlock()
				turn.Lock()
				progress(done)
				turn.Unlock()
			}
		})
	}
	hands.Wait()
	return acknowledged
}
