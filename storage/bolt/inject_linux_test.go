package bolt_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

func init() { children["write one by one"] = writeOneByOne }

const oneByOne = 60 // rows, of two commits each

// writeOneByOne is the child that strace watches: one change after the other,
// each told on standard output as it ended, and on after an error.
func writeOneByOne(path string) error {
	db, err := openInChild(path)
	if err != nil {
		return fmt.Errorf("open: %s", strings.ReplaceAll(err.Error(), "\n", "; ")) // calls of two threads may have failed
	}
	for n := range oneByOne {
		v := killRow(n)
		e := &storage.OutboxEntry{Kind: storage.ToBackend, UUID: v.UUID, Originating: v.Originating, Created: v.CreatedAt}
		audit := []storage.AuditEntry{{Time: v.CreatedAt, Verb: "write", Object: v.UUID.String()}}
		if !tell(n, 1, db.Apply(background, &storage.Change{Verification: v, Outbox: []*storage.OutboxEntry{e}, Audit: audit})) {
			continue
		}
		v.Result = storage.Verified
		tell(n, 2, db.Apply(background, &storage.Change{Verification: v, DropOutbox: []uint64{e.Seq}, Audit: audit}))
	}
	return nil
}

// tell says in one write how change version of row n ended.
func tell(n, version int, err error) (ok bool) {
	how := "ok"
	switch {
	case errors.Is(err, storage.ErrFailed):
		how = "failed"
	case errors.Is(err, storage.ErrReadOnly):
		how = "full"
	case err != nil:
		how = "other: " + err.Error()
	}
	fmt.Printf("%d %d %s\n", n, version, how)
	return err == nil
}

// strace runs the child under strace with more options, over the file.
func strace(t *testing.T, path string, options ...string) (said []byte) {
	t.Helper()
	c := exec.Command("strace", append(append([]string{"-f", "-qq"}, options...), os.Args[0], path)...)
	c.Env = append(os.Environ(), childVariable+"=write one by one")
	var out, wrong bytes.Buffer
	c.Stdout, c.Stderr = &out, &wrong
	if err := c.Run(); err != nil && c.ProcessState.ExitCode() != 1 {
		t.Fatalf("strace: %v: %s", err, wrong.Bytes())
	}
	return out.Bytes()
}

// S7, H2: the n-th write, sync, extension, linking of the file fails with EIO or
// ENOSPC. After a commit that failed nothing is acknowledged any more; a full
// disk has written nothing of what it refused; and what was acknowledged at
// any time is there when the file is opened again.
func TestTheNthSystemCallFails(t *testing.T) {
	calls := map[string][]int{ // which one fails, counted in each thread
		"pwrite64": {1, 2, 3, 7, 20, 90}, "fdatasync": {1, 2, 3, 8, 30}, "fsync": {1, 2, 3}, "ftruncate": {1, 2, 3}, "linkat": {1},
	}
	if short(0, 1) == 1 {
		for call := range calls {
			calls[call] = nil
			for n := range 150 {
				calls[call] = append(calls[call], n+1)
			}
		}
	}
	ended := map[string]int{}
	for call, nth := range calls {
		for _, n := range nth {
			for _, errno := range []string{"EIO", "ENOSPC"} {
				for _, made := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%d/%s/made=%v", call, n, errno, made), func(t *testing.T) {
						path := newPath(t)
						if made {
							mustClose(t, mustOpen(t, options(t, path)))
						}
						said := strace(t, path, "-o", os.DevNull, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", call, errno, n))
						ended[afterInjection(t, path, said)]++
					})
				}
			}
		}
	}
	t.Logf("how they ended: %v", ended)
	if ended["failed"] == 0 || ended["full"] == 0 || ended["not made"] == 0 {
		t.Errorf("ends are %v: not every kind of failure was tried", ended)
	}
}

// afterInjection checks what the child said, and the file it left, and gives
// the worst that it said.
func afterInjection(t *testing.T, path string, said []byte) (end string) {
	t.Helper()
	end = "ok"
	last := map[int]uint64{} // by row, the version acknowledged last
	refused := map[int]uint64{}
	for lines := bufio.NewScanner(bytes.NewReader(said)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "open: ") {
			end = "not made"
			continue
		}
		var n int
		var version uint64
		var how string
		if _, err := fmt.Sscanf(line, "%d %d %s", &n, &version, &how); err != nil {
			t.Fatalf("the child says %q", line)
		}
		switch {
		case how == "ok" && end == "failed":
			t.Errorf("row %d was acknowledged after a commit had failed", n)
		case how == "ok":
			last[n] = version
		case how == "full" && end != "failed":
			refused[n], end = version, "full"
		case how == "failed":
			end = "failed"
		default:
			t.Errorf("%q after %q", line, end)
		}
	}
	db := mustOpen(t, options(t, path))
	defer mustClose(t, db)
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	checkAcknowledged(t, db, last)
	for n, version := range refused {
		row := killRow(n)
		if got, err := db.Verification(t.Context(), row.Originating, row.UUID); err == nil && got.Version >= version {
			t.Errorf("row %d has version %d, which was refused for want of room", n, got.Version)
		}
	}
	return end
}

// checkAcknowledged wants every row whole, and in the version acknowledged last or the next.
func checkAcknowledged(t *testing.T, db *bolt.DB, last map[int]uint64) {
	t.Helper()
	waiting := outboxIDs(t, db)
	for n := range oneByOne {
		if got := checkRow(t, db, n, last[n], waiting); got > last[n]+1 {
			t.Errorf("row %d has version %d, acknowledged was %d", n, got, last[n])
		}
	}
}
