package bolt_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

func entry(verb string) storage.AuditEntry {
	return storage.AuditEntry{Time: noon, Actor: "operator", Verb: verb, Outcome: "ok"}
}

func mustStatus(tb testing.TB, db *bolt.DB) *storage.KeyStatus {
	tb.Helper()
	status, err := db.KeyStatus(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return status
}

// awaitRotation waits until no data key is being replaced.
func awaitRotation(tb testing.TB, db *bolt.DB) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		r := mustStatus(tb, db).Rotation
		if r == nil {
			return
		}
		if r.Problem != "" || time.Now().After(deadline) {
			tb.Fatalf("the rotation does not end: %+v", r)
		}
		time.Sleep(time.Millisecond)
	}
}

// awaitStatus waits for something of the rotation that is under way.
func awaitStatus(tb testing.TB, db *bolt.DB, what string, is func(*storage.Rotation) bool) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		r := mustStatus(tb, db).Rotation
		switch {
		case r == nil:
			tb.Fatalf("no rotation is under way any more, and never: %s", what)
		case is(r):
			return
		case time.Now().After(deadline):
			tb.Fatalf("never: %s: %+v", what, r)
		}
	}
}

// sealedUnder counts the values of a closed file by the key that sealed them.
func sealedUnder(tb testing.TB, path string) (numbered map[uint32]int, unnumbered int) {
	tb.Helper()
	numbered = map[uint32]int{}
	edit(tb, path, func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			if strings.HasPrefix(string(name), "by_") || string(name) == "receipts_by_expiry" {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				if string(name) == "meta" && (string(k) == "schema" || string(k) == "keyring") {
					return nil
				}
				number, has, err := bolt.KeyOf(string(name), k, v)
				if has {
					numbered[number]++
				} else {
					unnumbered++
				}
				return err
			})
		})
	})
	return numbered, unnumbered
}

func TestTheKEKIsRotated(t *testing.T) {
	path, want := sampleFile(t)
	o := options(t, path)
	next := testKEK(t, 2)
	db := mustOpen(t, o)
	if err := db.RotateKEK(t.Context(), o.KEK, entry("again")); err == nil {
		t.Error("rotated to the same key")
	}
	if err := db.RotateKEK(t.Context(), next, entry("kek")); err != nil {
		t.Fatal(err)
	}
	if got := mustStatus(t, db).KEK; got != next.ID() {
		t.Errorf("the record is under %s, want %s", got, next.ID())
	}
	mustApply(t, db, &storage.Change{Verification: newPeriodRow(100)}) // writes the record again
	mustClose(t, db)
	before := footprintOf(t, path)
	if _, err := bolt.Open(o); !errors.Is(err, atrest.ErrWrongKEK) {
		t.Errorf("with the old key: %v, want ErrWrongKEK", err)
	}
	wantUntouched(t, path, before)
	for name, o := range map[string]bolt.Options{
		"the new key":              {KEK: next},
		"the new one as the other": {KEK: o.KEK, Others: []*atrest.KEK{testKEK(t, 3), next}},
	} {
		o.Path, o.Now = path, func() time.Time { return noon }
		db = mustOpen(t, o)
		if got := mustStatus(t, db).KEK; got != next.ID() {
			t.Errorf("%s: the record is under %s, want %s", name, got, next.ID())
		}
		if err := db.Check(t.Context()); err != nil {
			t.Errorf("%s: Check: %v", name, err)
		}
		got, errs := readSample(db)
		if len(errs) > 0 || len(got.Rows) != len(want.Rows)+1 || got.Audit[len(got.Audit)-1].Verb != "kek" {
			t.Errorf("%s: %d rows, %v, the last entry is %+v", name, len(got.Rows), errs, got.Audit[len(got.Audit)-1])
		}
		mustClose(t, db)
	}
}

// newPeriodRow is a row of a period of its own.
func newPeriodRow(n int) *storage.Verification {
	v := storagetest.Row(n)
	v.CreatedAt = v.CreatedAt.AddDate(2, 0, 0)
	return v
}

// Every value comes to lie under a new key, as it was, and the old keys go.
func TestDataKeysAreReplaced(t *testing.T) {
	path, want := sampleFile(t)
	db := mustOpen(t, options(t, path))
	db.RotateAtOnce()
	before := mustStatus(t, db).Keys
	old, err := db.RotateData(t.Context(), storage.DataScope{All: true}, entry("begin"), entry("end"))
	if err != nil || len(old) != len(before)-2 {
		t.Fatalf("RotateData = %v, %v, want all but index and wrap of %+v", old, err, before)
	}
	mustApply(t, db, &storage.Change{Verification: storagetest.Row(100)})
	awaitRotation(t, db)
	for _, k := range mustStatus(t, db).Keys {
		if slices.Contains(old, k.ID) || !k.Current {
			t.Errorf("key %+v is there still", k)
		}
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	mustClose(t, db)
	numbered, unnumbered := sealedUnder(t, path)
	if unnumbered != 0 || len(numbered) != len(old) {
		t.Errorf("values by key are %v and %d without a number", numbered, unnumbered)
	}
	for _, id := range old {
		if numbered[id] != 0 {
			t.Errorf("%d values are under the old key %d", numbered[id], id)
		}
	}
	db = mustOpen(t, options(t, path))
	got, errs := readSample(db)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	log := got.Audit[len(want.Audit):]
	if len(log) != 2 || log[0].Verb != "begin" || log[1].Verb != "end" {
		t.Errorf("audit entries are %+v", log)
	}
	got.Audit = got.Audit[:len(want.Audit)]
	got.Rows = slices.DeleteFunc(got.Rows, func(v *storage.Verification) bool { return v.UUID == storagetest.RowID(100) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the file holds has changed (-before +after):\n%s", diff)
	}
	if _, err := db.RotateData(t.Context(), storage.DataScope{Period: noon.AddDate(9, 0, 0)}, entry("begin"), entry("end")); err == nil {
		t.Error("the key of a period that has none was replaced")
	}
}

// By default the keys that values are still sealed under are replaced, and of
// a period only that of this one.
func TestTheScopeOfARotation(t *testing.T) {
	path, _ := sampleFile(t)
	o := options(t, path)
	now := noon.AddDate(0, 1, 0) // the sample's first period is over
	o.Now = func() time.Time { return now }
	db := mustOpen(t, o)
	db.RotateAtOnce()
	running := map[uint32]bool{}
	var past storage.DataKey
	for _, k := range mustStatus(t, db).Keys {
		switch {
		case k.Purpose == "private" || k.Purpose == "personal" && k.To.After(now):
			running[k.ID] = true
		case k.Purpose == "personal":
			past = k
		}
	}
	for name, c := range map[string]struct {
		scope storage.DataScope
		want  map[uint32]bool
	}{
		"running": {storage.DataScope{}, running},
		"period":  {storage.DataScope{Period: past.From}, map[uint32]bool{past.ID: true}},
	} {
		old, err := db.RotateData(t.Context(), c.scope, entry("begin"), entry("end"))
		if err != nil || len(old) != len(c.want) {
			t.Errorf("%s: RotateData = %v, %v, want %v", name, old, err, c.want)
		}
		awaitRotation(t, db)
		for _, id := range old {
			if !c.want[id] {
				t.Errorf("%s: key %d was replaced, want %v", name, id, c.want)
			}
		}
		if err := db.Check(t.Context()); err != nil {
			t.Errorf("%s: Check: %v", name, err)
		}
	}
}

// A file from before keys had numbers: its values name none until they are
// moved.
func TestKeysOfAFrozenFileAreReplaced(t *testing.T) {
	path := newPath(t)
	writeFile(t, path, unzip(t, frozenFile("2")))
	db := mustOpen(t, frozenOptions(t, path))
	db.RotateAtOnce()
	if _, err := db.RotateData(t.Context(), storage.DataScope{All: true}, entry("begin"), entry("end")); err != nil {
		t.Fatal(err)
	}
	awaitRotation(t, db)
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	got, errs := readSample(db)
	for _, err := range errs {
		if !errors.Is(err, storage.ErrNotFound) {
			t.Error(err)
		}
	}
	got.Audit = got.Audit[:len(got.Audit)-2]
	if !contains(tree(t, text(got)), tree(t, string(readFile(t, frozenContent("2"))))) {
		t.Errorf("the frozen file reads as\n%s", text(got))
	}
	mustClose(t, db)
	if numbered, unnumbered := sealedUnder(t, path); unnumbered != 0 {
		t.Errorf("%d values name no key, others are under %v", unnumbered, numbered)
	}
}

// A value that lies under an old key behind the place that the rotation has
// come to is found before that key is deleted.
func TestAValueUnderAnOldKeyIsFound(t *testing.T) {
	path, want := sampleFile(t)
	keys, values := cells(t, path, "verifications")
	db := mustOpen(t, options(t, path))
	db.RotateNever()
	if _, err := db.RotateData(t.Context(), storage.DataScope{All: true}, entry("begin"), entry("end")); err != nil {
		t.Fatal(err)
	}
	awaitStatus(t, db, "a value is moved", func(r *storage.Rotation) bool { return r.Moved > 0 })
	if _, err := db.RotateData(t.Context(), storage.DataScope{All: true}, entry("begin"), entry("end")); !errors.Is(err, storage.ErrRotating) {
		t.Errorf("a second rotation at once: %v, want ErrRotating", err)
	}
	mustClose(t, db)
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("verifications")).Put(keys[1], values[1]) })
	db = mustOpen(t, options(t, path))
	awaitRotation(t, db)
	mustClose(t, db)
	db = mustOpen(t, options(t, path)) // no old key is in memory
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if got, errs := readSample(db); len(errs) > 0 || text(got.Rows) != text(want.Rows) {
		t.Errorf("rows are not as they were: %v", errs)
	}
}

// A value that does not open keeps its key from being deleted, and the
// operator is told.
func TestADamagedValueKeepsItsKey(t *testing.T) {
	path, _ := sampleFile(t)
	keys, values := cells(t, path, "verifications")
	bad := bytes.Clone(values[2])
	bad[len(bad)-1] ^= 1
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("verifications")).Put(keys[2], bad) })
	db := mustOpen(t, options(t, path))
	db.RotateAtOnce()
	old, err := db.RotateData(t.Context(), storage.DataScope{All: true}, entry("begin"), entry("end"))
	if err != nil {
		t.Fatal(err)
	}
	awaitStatus(t, db, "the problem is told", func(r *storage.Rotation) bool { return r.Problem != "" })
	for _, id := range old {
		if !slices.ContainsFunc(mustStatus(t, db).Keys, func(k storage.DataKey) bool { return k.ID == id }) {
			t.Errorf("the old key %d is gone", id)
		}
	}
	mustApply(t, db, &storage.Change{Verification: storagetest.Row(100)}) // it serves
}

func init() { children["rotate"] = rotateForEver }

// keksInTurn is how many key-encryption keys the child takes in turn.
const keksInTurn = 5

// rotateForEver is a child that writes, and replaces all keys all the time.
func rotateForEver(path string) error {
	var keks []*atrest.KEK
	for n := range byte(keksInTurn) {
		kek, err := atrest.NewKEK(bytes.Repeat([]byte{1 + n}, 32))
		if err != nil {
			return err
		}
		keks = append(keks, kek)
	}
	db, err := bolt.Open(bolt.Options{Path: path, KEK: keks[0], Others: keks[1:], Now: func() time.Time { return noon }})
	if err != nil {
		return err
	}
	db.RotateAtOnce()
	failed := make(chan error, writers+1)
	go func() { failed <- rotateAll(db, keks) }()
	var start int
	if _, err := fmt.Sscan(os.Getenv(startNumber), &start); err != nil {
		return err
	}
	for w := range 4 {
		go func() {
			for n := start + w; ; n += 4 {
				if err := writeTwice(db, n); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

func rotateAll(db *bolt.DB, keks []*atrest.KEK) error {
	for n := 0; ; n++ {
		status, err := db.KeyStatus(background)
		if err != nil {
			return err
		}
		if status.Rotation != nil && status.Rotation.Problem != "" {
			return errors.New(status.Rotation.Problem)
		}
		if status.Rotation == nil {
			if _, err := db.RotateData(background, storage.DataScope{All: true}, entry("begin"), entry("end")); err != nil {
				return err
			}
		}
		at := slices.IndexFunc(keks, func(k *atrest.KEK) bool { return k.ID() == status.KEK })
		if err := db.RotateKEK(background, keks[(at+1)%len(keks)], entry("kek")); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func readLedger(t *testing.T, out io.Reader, ledger map[int]uint64) {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		note(t, ledger, lines.Text())
	}
}

// checkRows wants every acknowledged row in its version or the next.
func checkRows(t *testing.T, db *bolt.DB, ledger map[int]uint64, start int) {
	t.Helper()
	waiting := outboxIDs(t, db)
	for n, version := range ledger {
		if n >= start {
			checkRow(t, db, n, version, waiting)
		}
	}
}

// S4, S7: a program that is killed at any moment while it replaces its keys
// has lost nothing, and the rotation goes on at the next start.
func TestRotationsKilledAtAnyMoment(t *testing.T) {
	path := newPath(t)
	mustClose(t, mustOpen(t, options(t, path)))
	var others []*atrest.KEK
	for n := range byte(keksInTurn) {
		others = append(others, testKEK(t, 1+n))
	}
	open := func() *bolt.DB {
		o := options(t, path)
		o.Others = others
		db := mustOpen(t, o)
		db.RotateAtOnce()
		return db
	}
	interrupted, rows := 0, 0
	few := short(6, 50)
	for round := 0; round < few || round < 10*few && (rows == 0 || interrupted == 0); round++ { // a busy machine may be killed too early to have begun
		ledger := map[int]uint64{}
		c := child("rotate", path)
		c.Env = append(c.Env, fmt.Sprintf("%s=%d", startNumber, round*rowsAKill))
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(40+rand.IntN(250))*time.Millisecond, func() { _ = c.Process.Kill() })
		readLedger(t, out, ledger)
		timer.Stop()
		if err := c.Wait(); err == nil || c.ProcessState.Exited() {
			t.Fatalf("round %d: the child ended by itself: %v", round, err)
		}
		db := open()
		if mustStatus(t, db).Rotation != nil {
			interrupted++
		}
		awaitRotation(t, db)
		if err := db.Check(t.Context()); err != nil {
			t.Fatalf("round %d: Check: %v", round, err)
		}
		rows += len(ledger)
		checkRows(t, db, ledger, round*rowsAKill)
		alive := map[uint32]bool{}
		for _, k := range mustStatus(t, db).Keys {
			alive[k.ID] = true
		}
		mustClose(t, db)
		if numbered, _ := sealedUnder(t, path); true {
			for id := range numbered {
				if !alive[id] {
					t.Errorf("round %d: values are under key %d, which is gone", round, id)
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d rows, %d kills were in the middle of a rotation", rows, interrupted)
	if rows == 0 || interrupted == 0 {
		t.Error("nothing was written, or no rotation interrupted: this test tests nothing")
	}
}

// Who has begun to read when a key is deleted sees nothing of it; it is gone
// from memory when nobody can have, and from the file at once.
func TestReadersDoNotMissADeletedKey(t *testing.T) {
	path, want := sampleFile(t)
	db := mustOpen(t, options(t, path))
	db.RotateAtOnce()
	err := db.ReadAround(want.Rows[0], func() {
		if _, err := db.RotateData(t.Context(), storage.DataScope{All: true}, entry("begin"), entry("end")); err != nil {
			t.Error(err)
		}
		awaitRotation(t, db)
		if _, err := db.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Errorf("a reading that had begun: %v", err)
	}
}
