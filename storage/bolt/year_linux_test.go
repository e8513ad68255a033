package bolt_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// written is how many bytes this process has handed to write calls.
func written(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(text[strings.Index(string(text), "wchar: "):]), "wchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// quarter is what a commit of a new row cost on average in a part of the year.
type quarter struct {
	commits int
	bytes   int64
	cpu     time.Duration
	size    int64 // of the file at its end
}

func (q quarter) perCommit() (bytes int64, cpu time.Duration) {
	return q.bytes / int64(q.commits), q.cpu / time.Duration(q.commits)
}

// A year of rows that come in and are erased again after thirty days, every
// hour: what a commit writes, and the file, stay what they were when the first
// rows had gone.
func TestCommitsStayCheapOverAYear(t *testing.T) {
	perHour := short(1, 12)
	now := noon
	o := options(t, newPath(t))
	o.Now = func() time.Time { return now }
	db := mustOpen(t, o)
	db.NoSync()
	quarters := make([]quarter, 8)
	n := 0
	const hours = 365 * 24
	for hour := range hours {
		q := &quarters[hour*len(quarters)/hours]
		bytes, cpu := written(t), cpuTime(t)
		for range perHour {
			v := benchRow(n)
			v.UUID[0], v.UUID[1], v.UUID[2], v.UUID[3] = byte(n), byte(n>>8), byte(n>>16), 1
			v.CreatedAt, v.Result = now.Add(time.Duration(n%3600)*time.Second), storage.Verified
			mustApply(t, db, &storage.Change{Verification: v, Audit: []storage.AuditEntry{entry("accept")}})
			n++
		}
		q.bytes, q.cpu, q.commits = q.bytes+written(t)-bytes, q.cpu+cpuTime(t)-cpu, q.commits+perHour
		now = now.Add(time.Hour)
		retainOnce(t, db, now.AddDate(0, 0, -30))
		q.size = db.Size()
	}
	for i, q := range quarters {
		bytes, cpu := q.perCommit()
		t.Logf("part %d of the year: %d commits of %d bytes and %v each; the file has %d kB", i+1, q.commits, bytes, cpu.Round(time.Microsecond), q.size>>10)
	}
	steady, last := quarters[1], quarters[len(quarters)-1] // the first has not erased anything yet
	before, _ := steady.perCommit()
	after, _ := last.perCommit()
	if after > before*5/4 {
		t.Errorf("a commit wrote %d bytes early in the year and %d at its end", before, after)
	}
	if _, count, err := db.List(t.Context(), storage.Filter{Limit: 1}); err != nil || count > 31*24*perHour {
		t.Errorf("%d rows are left, %v", count, err)
	}
	periods := 0
	for _, k := range mustStatus(t, db).Keys {
		if k.Purpose == "personal" {
			periods++
		}
	}
	if periods > 3 {
		t.Errorf("%d periods have a key", periods)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func retainOnce(t *testing.T, db *bolt.DB, before time.Time) {
	t.Helper()
	if _, err := db.EraseBefore(t.Context(), before, swept); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Shred(t.Context(), before, periodEntry("shred"), periodEntry("rekey")); err != nil {
		t.Fatal(err)
	}
}
