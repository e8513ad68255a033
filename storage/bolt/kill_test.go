package bolt_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

var kills = flag.Int("kills", short(10, 200), "how often TestKilledAtAnyMoment kills the writer")

const (
	writers     = 16
	rowsAKill   = 100_000 // numbers of rows that one child may use
	startNumber = "BOLT_TEST_START"
)

// killRow is row n in one of its two versions. The first has an outbox entry,
// the second, which is written with the entry's deletion, has none.
func killRow(n int) *storage.Verification {
	v := storagetest.Row(n)
	v.Result, v.Message = storage.Wait, strings.Repeat(strconv.Itoa(n), 200)
	return v
}

// writeForEver is the child: it says on standard output what is acknowledged.
func writeForEver(path string) error {
	db, err := openInChild(path)
	if err != nil {
		return err
	}
	start, err := strconv.Atoi(os.Getenv(startNumber))
	if err != nil {
		return err
	}
	failed := make(chan error)
	for w := range writers {
		go func() {
			for n := start + w; ; n += writers {
				if err := writeTwice(db, n); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

func writeTwice(db *bolt.DB, n int) error {
	v := killRow(n)
	e := &storage.OutboxEntry{Kind: storage.ToBackend, UUID: v.UUID, Originating: v.Originating, Created: v.CreatedAt}
	audit := []storage.AuditEntry{{Time: v.CreatedAt, Verb: "write", Object: v.UUID.String()}}
	if err := db.Apply(background, &storage.Change{Verification: v, Outbox: []*storage.OutboxEntry{e}, Audit: audit}); err != nil {
		return err
	}
	fmt.Printf("%d 1\n", n) // one write, which a pipe keeps together
	v.Result = storage.Verified
	if err := db.Apply(background, &storage.Change{Verification: v, DropOutbox: []uint64{e.Seq}, Audit: audit}); err != nil {
		return err
	}
	fmt.Printf("%d 2\n", n)
	return nil
}

// S7: a program killed at any moment has lost nothing that it acknowledged,
// and written no change by half.
func TestKilledAtAnyMoment(t *testing.T) {
	path := newPath(t)
	var ledgers []map[int]uint64 // of each child: row number, last version that was acknowledged
	changes, acknowledged := 0, 0
	for round := range *kills {
		ledger := runAndKill(t, path, round)
		ledgers, acknowledged = append(ledgers, ledger), acknowledged+len(ledger)
		db := mustOpen(t, options(t, path))
		if err := db.Check(t.Context()); err != nil {
			t.Fatalf("round %d: Check: %v", round, err)
		}
		changes += checkLedger(t, db, ledger, round*rowsAKill)
		checkAudit(t, db, changes)
		mustClose(t, db)
		if t.Failed() {
			t.FailNow()
		}
	}
	db := mustOpen(t, options(t, path))
	for round, ledger := range ledgers { // the later kills have not harmed the earlier rows
		checkLedger(t, db, ledger, round*rowsAKill)
	}
	t.Logf("%d kills, %d rows acknowledged", *kills, acknowledged)
	if acknowledged == 0 {
		t.Error("nothing was acknowledged: this test tests nothing")
	}
}

// Killed while it makes the file, a program leaves none or a whole one.
func TestKilledWhileCreating(t *testing.T) {
	made := 0
	for range *kills {
		path := newPath(t)
		c := child("write", path)
		c.Env = append(c.Env, startNumber+"=0")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(rand.IntN(40))*time.Millisecond, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		if _, err := os.Stat(path); err == nil {
			made++
		}
		db := mustOpen(t, options(t, path))
		if err := db.Check(t.Context()); err != nil {
			t.Errorf("Check: %v", err)
		}
		mustClose(t, db)
	}
	t.Logf("%d kills, %d files had been made", *kills, made)
}

// runAndKill kills a child some time after it has started; every other one
// after its first acknowledgement.
func runAndKill(t *testing.T, path string, round int) map[int]uint64 {
	t.Helper()
	ledger := map[int]uint64{}
	c := child("write", path)
	c.Env = append(c.Env, startNumber+"="+strconv.Itoa(round*rowsAKill))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	delay := time.Duration(20+rand.IntN(150)) * time.Millisecond
	if round%2 == 1 {
		lines.Scan()
		note(t, ledger, lines.Text())
	}
	timer := time.AfterFunc(delay, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	for lines.Scan() {
		note(t, ledger, lines.Text())
	}
	if err := c.Wait(); err == nil || c.ProcessState.Exited() {
		t.Fatalf("round %d: the writer ended by itself: %v", round, err)
	}
	return ledger
}

// note reads one acknowledgement. Anything else is the child's error.
func note(t *testing.T, ledger map[int]uint64, line string) {
	t.Helper()
	var n int
	var version uint64
	if _, err := fmt.Sscanf(line, "%d %d", &n, &version); err != nil {
		t.Errorf("the writer says %q", line)
		return
	}
	ledger[n] = max(ledger[n], version)
}

// checkLedger wants every acknowledged version, or the next, of which the
// acknowledgement did not come through; and whole changes only. It says how
// many changes a child made whose rows begin at start.
func checkLedger(t *testing.T, db *bolt.DB, ledger map[int]uint64, start int) (changes int) {
	t.Helper()
	last := start
	for n := range ledger {
		last = max(last, n)
	}
	waiting := outboxIDs(t, db)
	for n := start; n <= last+2*writers; n++ {
		changes += int(checkRow(t, db, n, ledger[n], waiting))
	}
	return changes
}

func outboxIDs(t *testing.T, db *bolt.DB) map[uuid.UUID]bool {
	t.Helper()
	entries, err := db.Outbox(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[uuid.UUID]bool{}
	for _, e := range entries {
		ids[e.UUID] = true
	}
	return ids
}

// checkRow gives the version that row n has, 0 for none.
func checkRow(t *testing.T, db *bolt.DB, n int, acknowledged uint64, waiting map[uuid.UUID]bool) uint64 {
	t.Helper()
	want := killRow(n)
	got, err := db.Verification(t.Context(), want.Originating, want.UUID)
	if errors.Is(err, storage.ErrNotFound) && acknowledged == 0 {
		return 0
	}
	if err != nil || got.Version < acknowledged || got.Version > 2 {
		t.Errorf("row %d: %+v, %v, acknowledged was version %d", n, got, err, acknowledged)
		return 0
	}
	if want.Record, want.Version = got.Record, got.Version; want.Version == 2 {
		want.Result = storage.Verified
	}
	if text(got) != text(want) {
		t.Errorf("row %d (-want +got):\n%s", n, cmp.Diff(want, got))
	}
	if waiting[want.UUID] != (want.Version == 1) {
		t.Errorf("row %d of version %d: outbox entry is %v", n, want.Version, waiting[want.UUID])
	}
	return got.Version
}

func checkAudit(t *testing.T, db *bolt.DB, changes int) {
	t.Helper()
	if log, err := db.Audit(t.Context(), 1, 0); err != nil || len(log) != changes {
		t.Errorf("%d audit entries, %v, for %d changes", len(log), err, changes)
	}
}
