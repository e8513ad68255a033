package bolt_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

func init() { children["upgrade"] = upgradeAndSaySo }

// upgradeAndSaySo is a child that upgrades a file, and says on standard output
// how many batches it has committed.
func upgradeAndSaySo(path string) error {
	kek, err := atrest.NewKEK(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		done, err := bolt.UpgradeSome(bolt.Options{Path: path, KEK: kek}, 1)
		if done || err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// fileOfVersion1 makes a closed file of so many rows as a program of before
// would have.
func fileOfVersion1(t *testing.T, rows int) (path string) {
	t.Helper()
	path = newPath(t)
	db := mustOpen(t, options(t, path))
	fillChapters(t, db, rows)
	if err := db.Downgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	return path
}

func schemaOf(t *testing.T, path string) (schema string) {
	t.Helper()
	edit(t, path, func(tx *bbolt.Tx) error {
		schema = string(tx.Bucket([]byte("meta")).Get([]byte("schema")))
		return nil
	})
	return schema
}

// wantUpgraded opens a file that has Row(0) to Row(n-1) and wants it whole.
func wantUpgraded(t *testing.T, path string, n int) {
	t.Helper()
	db := mustOpen(t, options(t, path))
	defer mustClose(t, db)
	if err := db.Check(t.Context()); err != nil {
		t.Fatalf("Check: %v", err)
	}
	for _, f := range []storage.Filter{{Limit: 3}, {Result: storage.Denied, Symbol: "btc", Limit: 3}} {
		want := 0
		for i := range n {
			if asks(f, storagetest.Row(i)) {
				want++
			}
		}
		if _, count, err := db.List(t.Context(), f); count != want || err != nil {
			t.Errorf("List(%+v) counts %d, %v, want %d", f, count, err, want)
		}
	}
	mustApply(t, db, &storage.Change{Verification: storagetest.Row(n)})
	if _, count, err := db.List(t.Context(), storage.Filter{Limit: 1}); count != n+1 || err != nil {
		t.Errorf("List counts %d, %v, want %d with a new row", count, err, n+1)
	}
	copied := newPath(t) // the file itself is open
	writeFile(t, copied, readFile(t, path))
	if schema := schemaOf(t, copied); schema != "vasp-enclave/history/3" {
		t.Errorf("schema is %q", schema)
	}
}

// An upgrade that ended between two commits goes on from there, and in
// between no program of before opens the file.
func TestAnUpgradeGoesOn(t *testing.T) {
	const rows = 2*bolt.UpgradeBatch + 300
	path := fileOfVersion1(t, rows)
	if schema := schemaOf(t, path); schema != "vasp-enclave/history/1" {
		t.Fatalf("schema is %q: this test tests nothing", schema)
	}
	for batch := range 2 {
		done, err := bolt.UpgradeSome(options(t, path), 1)
		if done || err != nil {
			t.Fatalf("batch %d: done is %v, %v", batch, done, err)
		}
		if schema := schemaOf(t, path); schema != "vasp-enclave/history/1to2" {
			t.Errorf("after batch %d: schema is %q, which a program of before might open", batch, schema)
		}
	}
	keys, _ := cells(t, path, "chapters")
	if len(keys) != 2*bolt.UpgradeBatch/256 {
		t.Errorf("%d chapters half way, want what two batches make", len(keys))
	}
	wantUpgraded(t, path, rows)
}

func TestAnEmptyFileIsUpgraded(t *testing.T) { wantUpgraded(t, fileOfVersion1(t, 0), 0) }

// S7: an upgrade that is killed at any moment, twice, goes on at the next start.
func TestAnUpgradeKilledAtAnyMoment(t *testing.T) {
	const rows = 4 * bolt.UpgradeBatch
	before := readFile(t, fileOfVersion1(t, rows))
	half, few := 0, short(3, 60)
	for round := 0; round < few || round < 10*few && half == 0; round++ { // a busy machine may be killed too early to have begun
		path := newPath(t)
		writeFile(t, path, before)
		for range 2 {
			killUpgrade(t, path, rand.IntN(3))
			if schemaOf(t, path) == "vasp-enclave/history/1to2" {
				half++
			}
		}
		wantUpgraded(t, path, rows)
	}
	t.Logf("%d times the upgrade was killed half way", half)
	if half == 0 {
		t.Error("no kill was half way: this test tests nothing")
	}
}

// killUpgrade kills a child some time after so many of its commits.
func killUpgrade(t *testing.T, path string, commits int) {
	t.Helper()
	c := child("upgrade", path)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range commits {
		lines.Scan()
	}
	timer := time.AfterFunc(time.Duration(rand.IntN(50))*time.Millisecond, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	for lines.Scan() {
		if _, err := strconv.Atoi(lines.Text()); err != nil {
			t.Errorf("the child says %q", lines.Text())
		}
	}
	_ = c.Wait()
}

// A row that was lost before the upgrade is missed after it.
func TestAnUpgradeDoesNotHideALostRow(t *testing.T) {
	path := fileOfVersion1(t, 10)
	keys, _ := cells(t, path, "verifications")
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("verifications")).Delete(keys[3]) })
	db := mustOpen(t, options(t, path))
	for _, f := range []storage.Filter{{}, {Sent: true, Limit: 1}} {
		if _, count, err := db.List(t.Context(), f); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("List(%+v) counts %d, %v, want ErrCorrupt", f, count, err)
		}
	}
}

// A row that does not open is nobody's reason to refuse the others: lists
// count it, and fail where they should show it, as before the upgrade.
func TestAnUpgradePassesDamagedRows(t *testing.T) {
	const rows = 10
	for name, at := range map[string]int{"sealed": -1, "header": 20} {
		t.Run(name, func(t *testing.T) {
			path := fileOfVersion1(t, rows)
			keys, values := cells(t, path, "verifications")
			damaged := bytes.Clone(values[3])
			damaged[(len(damaged)+at)%len(damaged)] ^= 1
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("verifications")).Put(keys[3], damaged) })
			db := mustOpen(t, options(t, path))
			if _, count, err := db.List(t.Context(), storage.Filter{Limit: 5}); count != rows || err != nil {
				t.Errorf("List counts %d, %v, want all rows", count, err)
			}
			for _, f := range []storage.Filter{{}, {Limit: 5, Offset: 5}} {
				if _, _, err := db.List(t.Context(), f); !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("List(%+v): %v, want ErrCorrupt", f, err)
				}
			}
			if err := db.Check(t.Context()); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Check: %v, want ErrCorrupt", err)
			}
			f := storage.Filter{Result: storagetest.Row(3).Result, Limit: 1, Offset: 1}
			if _, count, err := db.List(t.Context(), f); name == "sealed" && (count != 1 || err != nil) {
				t.Errorf("List(%+v) counts %d, %v, want what the header says", f, count, err)
			}
			mustApply(t, db, &storage.Change{Verification: storagetest.Row(rows)})
		})
	}
}
