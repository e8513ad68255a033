package bolt_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// agedRow is row n, created so many days before noon, with a final result.
func agedRow(n, days int) *storage.Verification {
	v := storagetest.Row(n)
	v.CreatedAt = noon.AddDate(0, 0, -days).Add(time.Duration(n) * time.Second)
	v.Result = storage.Verified
	return v
}

func swept(rows int) storage.AuditEntry { return entry(fmt.Sprintf("erased %d", rows)) }

func periodEntry(verb string) func(from, to time.Time) storage.AuditEntry {
	return func(from, _ time.Time) storage.AuditEntry { return entry(verb + " " + from.Format(time.DateOnly)) }
}

func mustErase(t *testing.T, db *bolt.DB, before time.Time) storage.Swept {
	t.Helper()
	s, err := db.EraseBefore(t.Context(), before, swept)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustShred(t *testing.T, db *bolt.DB, before time.Time) int {
	t.Helper()
	n, err := db.Shred(t.Context(), before, periodEntry("shred"), periodEntry("rekey"))
	if err != nil {
		t.Fatal(err)
	}
	awaitRotation(t, db)
	return n
}

func find(t *testing.T, db *bolt.DB, v *storage.Verification) error {
	t.Helper()
	_, err := db.Verification(t.Context(), v.Originating, v.UUID)
	return err
}

func verbs(t *testing.T, db *bolt.DB) (all []string) {
	t.Helper()
	log, err := db.Audit(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range log {
		all = append(all, e.Verb)
	}
	return all
}

// Old rows go, in several commits, with their indexes and what of them waits
// to be delivered; younger ones, held ones and those under way stay, and so
// does every receipt (contract 9.4, attack K4).
func TestOldRowsAreErased(t *testing.T) {
	const rows = 300
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	var all []*storage.Verification
	for n := range rows {
		v := agedRow(n, 1+n%2*200) // every other one is old
		if n == 7 {
			v.Result = storage.Wait
		}
		all = append(all, v)
		c := &storage.Change{Verification: v, Outbox: []*storage.OutboxEntry{{Kind: storage.ToBackend, UUID: v.UUID, Originating: v.Originating, Created: noon}}}
		if n < 4 {
			c.Receipt = &storage.Receipt{Originating: v.Originating, UUID: v.UUID, Expires: noon.Add(time.Hour)}
		}
		mustApply(t, db, c)
	}
	held := all[1]
	if err := db.PutHold(t.Context(), &storage.Hold{UUID: held.UUID, Originating: held.Originating, Reason: "CASE-1", By: "ops", Since: noon}, entry("hold")); err != nil {
		t.Fatal(err)
	}
	got := mustErase(t, db, noon.AddDate(0, 0, -100))
	if want := (storage.Swept{Erased: rows/2 - 2, Held: 1, Waiting: 1}); got != want {
		t.Errorf("EraseBefore = %+v, want %+v", got, want)
	}
	if got := strings.Join(verbs(t, db), ","); got != "hold,erased 128,erased 20" {
		t.Errorf("audit entries are %s", got)
	}
	stay := 0
	for n, v := range all {
		err := find(t, db, v)
		if stays := n%2 == 0 || n == 1 || n == 7; stays != (err == nil) || !stays && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("row %d: %v", n, err)
		} else if stays {
			stay++
		}
	}
	if waiting, err := db.Outbox(t.Context()); len(waiting) != stay || err != nil {
		t.Errorf("%d outbox entries, %v, want those of %d rows", len(waiting), err, stay)
	}
	for n := range 4 {
		if _, err := db.Receipt(t.Context(), all[n].Originating, all[n].UUID); err != nil {
			t.Errorf("receipt of row %d: %v", n, err)
		}
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if got := mustErase(t, db, time.Time{}); got != (storage.Swept{}) {
		t.Errorf("EraseBefore no time = %+v", got)
	}
	// A hold ends, of a row and of a period.
	if err := db.PutHold(t.Context(), &storage.Hold{From: held.CreatedAt, Reason: "CASE-2", Since: noon}, entry("hold")); err != nil {
		t.Fatal(err)
	}
	if err := db.DropHold(t.Context(), &storage.Hold{UUID: held.UUID, Originating: held.Originating}, entry("release")); err != nil {
		t.Fatal(err)
	}
	if got := mustErase(t, db, noon.AddDate(0, 0, -100)); got.Erased != 0 || got.Held == 0 {
		t.Errorf("in a held period: EraseBefore = %+v", got)
	}
	holds, err := db.Holds(t.Context())
	if err != nil || len(holds) != 1 || holds[0].From.After(held.CreatedAt) || !holds[0].To.After(held.CreatedAt) || holds[0].Reason != "CASE-2" {
		t.Errorf("Holds = %+v, %v", holds, err)
	}
	if err := db.DropHold(t.Context(), &storage.Hold{From: held.CreatedAt}, entry("release")); err != nil {
		t.Fatal(err)
	}
	if got := mustErase(t, db, noon.AddDate(0, 0, -100)); got.Erased != 1 {
		t.Errorf("after the release: EraseBefore = %+v", got)
	}
	if err := db.DropHold(t.Context(), &storage.Hold{From: held.CreatedAt}, entry("release")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("release again: %v, want ErrNotFound", err)
	}
	if err := db.PutHold(t.Context(), &storage.Hold{UUID: held.UUID, Originating: held.Originating, Since: noon}, entry("hold")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("hold of an erased row: %v, want ErrNotFound", err)
	}
}

// A row that does not open keeps no other from being erased.
func TestADamagedRowDoesNotStopTheSweep(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	for n := range 5 {
		mustApply(t, db, &storage.Change{Verification: agedRow(n, 200)})
	}
	mustClose(t, db)
	keys, values := cells(t, path, "verifications")
	bad := bytes.Clone(values[1])
	bad[len(bad)-1] ^= 1
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("verifications")).Put(keys[1], bad) })
	db = mustOpen(t, options(t, path))
	if got, want := mustErase(t, db, noon), (storage.Swept{Erased: 4, Damaged: 1}); got != want {
		t.Errorf("EraseBefore = %+v, want %+v", got, want)
	}
}

// One row is erased on request, with a proof: the hash of what was stored.
func TestOneRowIsErased(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	v, waits := agedRow(1, 2), agedRow(2, 2)
	waits.Result = storage.Wait
	mustApply(t, db, &storage.Change{Verification: v, Outbox: []*storage.OutboxEntry{{Kind: storage.ToBackend, UUID: v.UUID, Originating: v.Originating, Created: noon}}})
	mustApply(t, db, &storage.Change{Verification: waits})
	_, values := cellsOf(t, path, "verifications")
	var hash [32]byte
	erase := func(v *storage.Verification) error {
		return db.Erase(t.Context(), v.Originating, v.UUID, func(h [32]byte) storage.AuditEntry { hash = h; return entry("erase") })
	}
	if err := erase(waits); !errors.Is(err, storage.ErrUnderWay) {
		t.Errorf("a row under way: %v, want ErrUnderWay", err)
	}
	hold := &storage.Hold{UUID: v.UUID, Originating: v.Originating, Since: noon}
	if err := db.PutHold(t.Context(), hold, entry("hold")); err != nil {
		t.Fatal(err)
	}
	if err := erase(v); !errors.Is(err, storage.ErrHeld) {
		t.Errorf("a held row: %v, want ErrHeld", err)
	}
	if err := db.DropHold(t.Context(), hold, entry("release")); err != nil {
		t.Fatal(err)
	}
	if err := erase(v); err != nil {
		t.Fatal(err)
	}
	if hash != sha256.Sum256(values[0]) {
		t.Error("the proof is not the hash of what was stored")
	}
	if err := erase(v); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("again: %v, want ErrNotFound", err)
	}
	if waiting, err := db.Outbox(t.Context()); len(waiting) != 0 || err != nil {
		t.Errorf("%d outbox entries, %v, are left of it", len(waiting), err)
	}
	v.Reason = "LATE" // somebody who had read it
	if err := db.Apply(t.Context(), &storage.Change{Verification: v}); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a change of the erased row: %v, want ErrConflict", err)
	}
	if got := verbs(t, db); got[len(got)-1] != "erase" {
		t.Errorf("audit entries are %v", got)
	}
}

// cellsOf reads a file that is open from a copy.
func cellsOf(t *testing.T, path, bucket string) (keys, values [][]byte) {
	t.Helper()
	copied := newPath(t)
	writeFile(t, copied, readFile(t, path))
	return cells(t, copied, bucket)
}

// agedFile has rows of some months, the backup of it, and the time before
// which all but the last month's are erased.
func agedFile(t *testing.T, o bolt.Options) (all []*storage.Verification, backup []byte, before time.Time) {
	t.Helper()
	db := mustOpen(t, o)
	for n := range 40 {
		v := agedRow(n, n/10*35+1) // of four periods
		all = append(all, v)
		mustApply(t, db, &storage.Change{Verification: v, Audit: []storage.AuditEntry{entry("accept")}})
	}
	stream := mustBackup(t, db)
	mustClose(t, db)
	o.Path = newPath(t)
	if _, err := bolt.Restore(t.Context(), bytes.NewReader(stream), o); err != nil {
		t.Fatal(err)
	}
	return all, readFile(t, o.Path), noon.AddDate(0, 0, -34)
}

// withKeysOf puts another file's keyring record into a backup: what is opened
// with a new keyring.
func withKeysOf(t *testing.T, backup []byte, path string) (mixed string) {
	t.Helper()
	keys, values := cellsOf(t, path, "meta")
	mixed = newPath(t)
	writeFile(t, mixed, backup)
	for i, key := range keys {
		if string(key) == "keyring" {
			edit(t, mixed, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put(key, values[i]) })
		}
	}
	return mixed
}

// S6, K11: when a period's last row is erased its key goes. Nothing of the rows
// can be read from the file, a compacted copy of it, or an old backup with the
// new keyring, and the audit log holds.
func TestAPeriodIsShredded(t *testing.T) {
	o := options(t, newPath(t))
	all, backup, before := agedFile(t, o)
	db := mustOpen(t, o)
	if n := mustShred(t, db, before); n != 0 {
		t.Errorf("%d periods with rows were shredded", n)
	}
	if got := mustErase(t, db, before); got.Erased != 30 {
		t.Fatalf("EraseBefore = %+v, want 30 rows erased", got)
	}
	if n := mustShred(t, db, before); n < 3 {
		t.Errorf("%d periods were shredded, want at least 3", n)
	}
	// The old KEK goes, and with it the record of the keys as it was, in free
	// pages and in backups.
	next := testKEK(t, 2)
	if err := db.RotateKEK(t.Context(), next, entry("kek")); err != nil {
		t.Fatal(err)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if log, err := db.Audit(t.Context(), 1, 0); err != nil || !strings.HasPrefix(log[len(log)-2].Verb, "shred ") {
		t.Errorf("the audit log: %v", err)
	}
	mustClose(t, db)
	compacted := bolt.Options{Path: newPath(t), KEK: next, Now: o.Now}
	writeFile(t, compacted.Path, readFile(t, o.Path))
	if _, _, err := bolt.Compact(t.Context(), compacted); err != nil {
		t.Fatal(err)
	}
	old := o
	old.Path = newPath(t)
	writeFile(t, old.Path, backup)
	for name, c := range map[string]struct {
		o    bolt.Options
		want bool // the erased rows are read: this is what shredding takes away
	}{
		"the file":                       {bolt.Options{Path: o.Path, KEK: next}, false},
		"a compacted copy":               {compacted, false},
		"a backup with the new keyring":  {bolt.Options{Path: withKeysOf(t, backup, o.Path), KEK: next}, false},
		"a backup with the keys of then": {old, true},
	} {
		c.o.Now = o.Now
		if strings.HasPrefix(name, "a backup with the new") {
			// What the new keys do not open is damage: no more than the rows is looked at.
			readShredded(t, name, c.o.Path, next, all)
			continue
		}
		db := mustOpen(t, c.o)
		for n, v := range all {
			if err := find(t, db, v); (err == nil) != (n < 10 || c.want) {
				t.Errorf("%s: row %d: %v", name, n, err)
			}
		}
		mustClose(t, db)
	}
	noRecordOpens(t, o.Path, next)
	noRecordOpens(t, compacted.Path, next)
}

// readShredded tries every stored row under every key of the file.
func readShredded(t *testing.T, name, path string, kek *atrest.KEK, all []*storage.Verification) {
	t.Helper()
	db := mustOpen(t, bolt.Options{Path: path, KEK: kek, Now: func() time.Time { return noon }})
	defer mustClose(t, db)
	for n, v := range all {
		if err := find(t, db, v); (err == nil) != (n < 10) {
			t.Errorf("%s: row %d: %v", name, n, err)
		}
	}
}

// noRecordOpens looks for records of keys in all bytes of a file, free pages
// too, and wants none that opens under the present key to have the key of a
// shredded period.
func noRecordOpens(t *testing.T, path string, kek *atrest.KEK) {
	t.Helper()
	file := readFile(t, path)
	_, values := cellsOf(t, path, "meta")
	var record []byte
	for _, v := range values {
		if id, err := atrest.RecordKEK(v); err == nil && id == kek.ID() {
			record = v
		}
	}
	if record == nil {
		t.Fatal("there is no record: this test tests nothing")
	}
	found := 0
	for rest := file; ; {
		i := bytes.Index(rest, record[:15]) // format, tag, length and id of the KEK
		if i < 0 {
			break
		}
		for size := len(record) / 2; size < 3*len(record) && i+size <= len(rest); size++ {
			if keys, err := atrest.OpenRecord(kek, rest[i:i+size]); err == nil {
				found++
				for _, k := range keys.List() {
					if k.Purpose == atrest.Personal && k.Period < keys.Period(noon.AddDate(0, 0, -34)) {
						t.Errorf("a record in the file has the key of period %d", k.Period)
					}
				}
			}
		}
		rest = rest[i+1:]
	}
	if found == 0 {
		t.Error("not even the present record was found: this test tests nothing")
	}
}

// Rows that a hold keeps get a key of their own: the erased rows of their
// period cannot be read any more, and they can.
func TestHeldRowsOutliveTheirPeriod(t *testing.T) {
	o := options(t, newPath(t))
	all, backup, before := agedFile(t, o)
	held := all[25]
	db := mustOpen(t, o)
	db.RotateAtOnce()
	if err := db.PutHold(t.Context(), &storage.Hold{UUID: held.UUID, Originating: held.Originating, Since: noon}, entry("hold")); err != nil {
		t.Fatal(err)
	}
	if got := mustErase(t, db, before); got.Erased != 29 || got.Held != 1 {
		t.Fatalf("EraseBefore = %+v", got)
	}
	mustShred(t, db, before)
	if got := strings.Join(verbs(t, db), ","); strings.Count(got, "rekey ") != 2 {
		t.Errorf("audit entries are %s, want a rekey and its end", got)
	}
	mustShred(t, db, before) // what had to wait for the other key
	count := len(verbs(t, db))
	mustShred(t, db, before)
	if got := verbs(t, db); len(got) != count {
		t.Errorf("again: audit entries %v, want no other key", got[count:])
	}
	for _, k := range mustStatus(t, db).Keys {
		if k.Erased != 0 {
			t.Errorf("key %+v still opens erased rows", k)
		}
	}
	mustClose(t, db)
	db = mustOpen(t, o)
	for n, v := range all {
		if err := find(t, db, v); (err == nil) != (n < 10 || n == 25) {
			t.Errorf("row %d: %v", n, err)
		}
	}
	mixed := mustOpen(t, bolt.Options{Path: withKeysOf(t, backup, o.Path), KEK: o.KEK, Now: o.Now})
	for n, v := range all {
		if err := find(t, mixed, v); (err == nil) != (n < 10) {
			t.Errorf("in a backup with the new keyring, row %d: %v", n, err)
		}
	}
	mustClose(t, mixed)
	if err := db.DropHold(t.Context(), &storage.Hold{UUID: held.UUID, Originating: held.Originating}, entry("release")); err != nil {
		t.Fatal(err)
	}
	if got := mustErase(t, db, before); got.Erased != 1 {
		t.Errorf("after the release: EraseBefore = %+v", got)
	}
	if n := mustShred(t, db, before); n != 1 {
		t.Errorf("%d periods were shredded, want the one of the hold", n)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
}

// A period keeps its key while anything is sealed under it, and while it may
// still be added to.
func TestAPeriodInUseKeepsItsKey(t *testing.T) {
	now := noon
	o := options(t, newPath(t))
	o.Now = func() time.Time { return now }
	db := mustOpen(t, o)
	v := agedRow(1, 0)
	mustApply(t, db, &storage.Change{
		Outbox:  []*storage.OutboxEntry{{Kind: storage.ToBackend, UUID: v.UUID, Originating: v.Originating, Created: noon}},
		Receipt: &storage.Receipt{Originating: 1, UUID: v.UUID, Expires: noon.Add(time.Hour)},
	})
	keys := func() (n int) {
		for _, k := range mustStatus(t, db).Keys {
			if k.Purpose == "personal" {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		when time.Duration
		do   func()
		want int
	}{
		{0, func() {}, 1},
		{60 * 24 * time.Hour, func() {}, 1},
		{60 * 24 * time.Hour, func() { mustApply(t, db, &storage.Change{DropOutbox: []uint64{1}}) }, 1},
		{60 * 24 * time.Hour, func() {
			if n, err := db.Sweep(t.Context()); n != 1 || err != nil {
				t.Errorf("Sweep = %d, %v", n, err)
			}
		}, 0},
	} {
		now = noon.Add(c.when)
		c.do()
		mustShred(t, db, now)
		if got := keys(); got != c.want {
			t.Errorf("after %v: %d keys of periods, want %d", c.when, got, c.want)
		}
	}
	// Something of that period comes late: it gets another key.
	mustApply(t, db, &storage.Change{Verification: v})
	mustClose(t, db)
	db = mustOpen(t, o)
	if err := find(t, db, v); err != nil || keys() != 1 {
		t.Errorf("a late row: %v, %d keys of periods", err, keys())
	}
}

// Rows gives what a list gives, from the oldest, in pieces.
func TestRowsGivesWhatAListGives(t *testing.T) {
	db := mustOpen(t, options(t, newPath(t)))
	for n := range 60 {
		mustApply(t, db, &storage.Change{Verification: storagetest.Row(n)})
	}
	row := storagetest.Row(30)
	for _, f := range []storage.Filter{
		{}, {Symbol: "btc"}, {Symbol: "eth"}, {Result: storage.Denied}, {Sent: true}, {Opposite: 101}, {TxHash: row.TxHash},
		{OriginatorAccount: row.OriginatorAccount, Received: true}, {BeneficiaryAccount: row.BeneficiaryAccount},
		{From: row.CreatedAt}, {To: row.CreatedAt}, {From: row.CreatedAt, To: row.CreatedAt.Add(5 * time.Second)},
	} {
		want, _, err := db.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var got []*storage.Verification
		for place := ""; ; {
			rows, next, err := db.Rows(t.Context(), f, place, 7)
			if err != nil {
				t.Fatal(err)
			}
			got = append(rows[:len(rows):len(rows)], got...)
			reverse(got[:len(rows)])
			if place = next; place == "" {
				break
			}
		}
		if text(got) != text(want) {
			t.Errorf("%+v: %d rows, a list has %d", f, len(got), len(want))
		}
	}
}

func reverse(rows []*storage.Verification) {
	for i, j := 0, len(rows)-1; i < j; i, j = i+1, j-1 {
		rows[i], rows[j] = rows[j], rows[i]
	}
}
