package sandbox_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Both enclaves are killed again and again under load, at any moment, and
// started again at once: no acknowledged verification is lost, none is half
// written, and both histories are whole in every value (S7).
func TestEnclavesAreKilledAgainAndAgainUnderLoad(t *testing.T) {
	kills := 20
	if torture() {
		kills = 200
	}
	a := start(t, sandbox.Options{})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	l := beginLoad(t, alpha, bravo)
	var ready []time.Duration
	for n := range kills {
		victim := a.VASPs[n%2].Enclave
		time.Sleep(time.Duration(100+rand.IntN(500)) * time.Millisecond)
		if err := victim.Kill(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := victim.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ready = append(ready, time.Since(begun))
	}
	acknowledged := l.end()
	slices.Sort(ready)
	p99 := ready[(len(ready)*99+99)/100-1]
	t.Logf("%d kills, %d verifications acknowledged, ready again after %s in the middle, %s at p99", kills, len(acknowledged), ready[len(ready)/2], p99)
	if torture() && p99 > 2*time.Second {
		t.Errorf("ready again after %s at p99, want under 2 s", p99)
	}
	if len(acknowledged) < kills {
		t.Errorf("only %d verifications for %d kills: this test tests little", len(acknowledged), kills)
	}
	results := map[string]int{}
	for _, id := range acknowledged {
		eventually(t, time.Minute, "verification "+id+" has its final state", func() bool {
			row, err := alpha.Row(t.Context(), id)
			return err == nil && row.Result != "WAIT"
		})
		row, err := alpha.Row(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		results[row.Result+"/"+row.Reason]++
		if there, err := bravo.Row(t.Context(), id); err != nil || there.Result != row.Result {
			t.Errorf("%s is %s here, there %+v, %v", id, row.Result, there, err)
		}
	}
	if results["VERIFIED/OK"] != len(acknowledged) {
		t.Errorf("results are %v", results)
	}
	for _, v := range a.VASPs {
		if err := v.Enclave.Stop(); err != nil {
			t.Fatal(err)
		}
		db := openHistory(t, v)
		if err := db.Check(t.Context()); err != nil {
			t.Errorf("history of %s: %v", v.Name, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// storm is a backend that asks for verifications until it is told to end.
type storm struct {
	stop  chan struct{}
	hands sync.WaitGroup
	mu    sync.Mutex
	ids   []string
}

func beginLoad(t *testing.T, from, to *sandbox.VASP) *storm {
	l := &storm{stop: make(chan struct{})}
	body := sandbox.Request(to.ID)
	for range 4 {
		l.hands.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				case <-t.Context().Done():
					return
				case <-time.After(50 * time.Millisecond):
				}
				if accepted, err := from.Verify(t.Context(), body); err == nil { // else it was not acknowledged
					l.mu.Lock()
					l.ids = append(l.ids, accepted.VerificationUUID)
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

func (l *storm) end() (acknowledged []string) {
	close(l.stop)
	l.hands.Wait()
	return l.ids
}

// auditOf is the audit log of a stopped enclave.
func auditOf(t *testing.T, v *sandbox.VASP) []storage.AuditEntry {
	t.Helper()
	db := openHistory(t, v)
	defer db.Close()
	entries, err := db.Audit(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}
