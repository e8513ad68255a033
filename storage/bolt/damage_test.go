package bolt_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

var (
	flips    = flag.Int("flips", short(300, 20_000), "how many single-bit damages TestFlippedBits tries")
	flipSeed = flag.Uint64("flipseed", 2, "and which ones")
)

// flipsAtOnce is how many one process tries: a store whose page panicked stays
// open until its program has stopped, and takes a megabyte with it.
const flipsAtOnce = 1000

// short is the size of a storm in make test, or its long form in make torture.
func short(standard, torture int) int {
	if os.Getenv("TORTURE") != "" {
		return torture
	}
	return standard
}

// openForged opens a file that is not as the store wrote it.
func openForged(t *testing.T, path string) (*bolt.DB, error) {
	t.Helper()
	db, err := bolt.Open(options(t, path))
	if err == nil {
		t.Cleanup(func() { _ = db.Close() })
	}
	return db, err
}

// wantSubset fails when something was read that was never written. What is
// missing is for the errors to say.
func wantSubset(t *testing.T, got, want sample) {
	t.Helper()
	subset(t, "row", got.Rows, want.Rows)
	subset(t, "outbox entry", got.Outbox, want.Outbox)
	subset(t, "receipt", got.Receipts, want.Receipts)
	subset(t, "peer", got.Peers, want.Peers)
	subset(t, "own key", got.Keys, want.Keys)
	subset(t, "audit entry", got.Audit, want.Audit)
	if got.Identity != nil && !cmp.Equal(got.Identity, want.Identity) {
		t.Errorf("identity is %+v, want %+v", got.Identity, want.Identity)
	}
	if got.Directory != nil && !bytes.Equal(got.Directory, want.Directory) {
		t.Errorf("directory is %q, want %q", got.Directory, want.Directory)
	}
}

func subset[T any](t *testing.T, what string, got, want []T) {
	t.Helper()
	known := map[string]bool{}
	for _, one := range want {
		known[text(one)] = true
	}
	for _, one := range got {
		if !known[text(one)] {
			t.Errorf("%s was never written: %s", what, text(one))
		}
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// S8: whichever bit of the file is flipped, nothing untrue is read, and
// nothing that is missing is missed in silence; also when the store goes on
// writing to the damaged file.
func TestFlippedBits(t *testing.T) {
	if *flips > flipsAtOnce {
		flipInProcesses(t)
		return
	}
	path, want := sampleFile(t)
	whole := readFile(t, path)
	var used int64
	edit(t, path, func(tx *bbolt.Tx) error { used = tx.Size(); return nil })
	whole = whole[:used] // the rest was never written
	random := rand.New(rand.NewPCG(1, *flipSeed))
	damaged := newPath(t)
	harmless := 0
	for range *flips {
		at, bit := random.Int64N(used), byte(1)<<random.IntN(8)
		whole[at] ^= bit
		writeFile(t, damaged, whole)
		whole[at] ^= bit
		if readDamaged(t, damaged, want) {
			harmless++
		}
		if t.Failed() {
			t.Fatalf("bit %08b of byte %d", bit, at)
		}
	}
	t.Logf("%d flips, %d of them of no consequence", *flips, harmless)
	if harmless == *flips {
		t.Error("no flip had any consequence: this test tests nothing")
	}
}

// flipInProcesses tries as many, some at a time.
func flipInProcesses(t *testing.T) {
	for seed := uint64(0); seed < uint64(*flips/flipsAtOnce); seed++ {
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFlippedBits$", "-test.v", fmt.Sprintf("-flips=%d", flipsAtOnce), fmt.Sprintf("-flipseed=%d", 100+seed))
		out, err := command.CombinedOutput()
		if err != nil || !strings.Contains(string(out), fmt.Sprintf("%d flips", flipsAtOnce)) {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Log(strings.TrimSpace(string(out)))
	}
}

// readDamaged reads, writes and reads again, and says whether all was well.
func readDamaged(t *testing.T, path string, want sample) (harmless bool) {
	t.Helper()
	db, err := bolt.Open(options(t, path))
	if err != nil {
		return false
	}
	defer db.Close()
	harmless = readAndCompare(t, db, want)
	v := storagetest.Row(sampleRows + 1)
	if err := db.Apply(t.Context(), &storage.Change{Verification: v, Outbox: []*storage.OutboxEntry{{Kind: storage.ToBackend, UUID: v.UUID, Created: noon}}}); err != nil {
		return false
	}
	got, errs := readSample(db)
	want.Rows = append(slices.Clone(want.Rows), v)
	entries, err := db.Outbox(t.Context())
	if err == nil {
		want.Outbox = append(slices.Clone(want.Outbox), entries[len(entries)-1])
	}
	wantSubset(t, got, want)
	return harmless && len(errs) == 0
}

func readAndCompare(t *testing.T, db *bolt.DB, want sample) (harmless bool) {
	t.Helper()
	got, errs := readSample(db)
	wantSubset(t, got, want)
	checked := db.Check(t.Context())
	byNames := readByNames(t, db, want)
	err := errors.Join(append(append(errs, byNames...), checked)...)
	if err == nil && text(got) != text(want) {
		t.Errorf("read without an error, and different (-want +got):\n%s", cmp.Diff(want, got))
	}
	return err == nil
}

// readByNames reads the rows by every other way.
func readByNames(t *testing.T, db *bolt.DB, want sample) (errs []error) {
	t.Helper()
	var all []*storage.Verification
	for _, v := range want.Rows {
		got, err := db.Verification(t.Context(), v.Originating, v.UUID)
		if err == nil && text(got) != text(v) {
			t.Errorf("Verification gives another row (-want +got):\n%s", cmp.Diff(v, got))
		}
		rows, err2 := db.Lookup(t.Context(), v.UUID)
		listed, count, err3 := db.List(t.Context(), storage.Filter{OriginatorAccount: v.OriginatorAccount, TxHash: v.TxHash})
		if err3 == nil && count != len(listed) {
			t.Errorf("List counts %d and gives %d", count, len(listed))
		}
		all = append(append(all, rows...), listed...)
		errs = append(errs, err, err2, err3)
	}
	subset(t, "row", all, want.Rows)
	return errs
}

// A head page that does not check out would make bbolt go back by a commit.
func TestADamagedHeadPageIsNotAStepBack(t *testing.T) {
	path, _ := sampleFile(t)
	whole := readFile(t, path)
	for page := range 2 {
		for at := 16; at < 16+64; at++ {
			whole[page*4096+at] ^= 0x10
			writeFile(t, path, whole)
			whole[page*4096+at] ^= 0x10
			before := footprintOf(t, path)
			db, err := bolt.Open(options(t, path))
			if err == nil || !strings.Contains(err.Error(), "head page") {
				t.Errorf("byte %d of page %d damaged: Open: %v", at, page, err)
			}
			if err == nil {
				mustClose(t, db)
			}
			wantUntouched(t, path, before)
		}
	}
}

// A wrong list of free pages would make the next commit write over rows.
func TestADamagedListOfFreePages(t *testing.T) {
	path, _ := sampleFile(t)
	whole := readFile(t, path)
	list := whole[freelistPage(whole)*4096:]
	for name, damage := range map[string]func(list []byte){
		"another page":         func(list []byte) { list[0] ^= 1 },
		"another kind":         func(list []byte) { list[8] ^= 1 },
		"more than fit":        func(list []byte) { list[11] = 0xf0 },
		"longer than the file": func(list []byte) { list[14] = 0xff },
		"a page twice":         func(list []byte) { copy(list[16:24], list[24:32]) },
		"a head page":          func(list []byte) { clear(list[16:24]) },
		"beyond the file":      func(list []byte) { list[16+3] = 0x7f },
	} {
		kept := bytes.Clone(list[:4096])
		damage(list)
		writeFile(t, path, whole)
		copy(list, kept)
		before := footprintOf(t, path)
		db, err := bolt.Open(options(t, path))
		if err == nil || !strings.Contains(err.Error(), "list of free pages") {
			t.Errorf("%s: Open: %v", name, err)
		}
		if err == nil {
			mustClose(t, db)
		}
		wantUntouched(t, path, before)
	}
}

// freelistPage finds the list that the last commit wrote.
func freelistPage(file []byte) (page uint64) {
	var newest uint64
	for head := range 2 {
		m := file[head*4096+16:]
		if tx := binary.NativeEndian.Uint64(m[48:]); tx >= newest {
			newest, page = tx, binary.NativeEndian.Uint64(m[32:])
		}
	}
	return page
}

// S8: a page that says that a value goes on beyond the end of the file would
// be a SIGBUS, which ends a program.
func TestAValueThatReachesBeyondTheFile(t *testing.T) {
	path, _ := sampleFile(t)
	whole := readFile(t, path)
	_, values := cells(t, path, "verifications")
	damaged := 0
	for page := 2 * 4096; page < len(whole); page += 4096 {
		damaged += stretch(whole[page:], values)
	}
	if damaged < sampleRows {
		t.Fatalf("%d of %d values were found", damaged, sampleRows)
	}
	writeFile(t, path, whole)
	db := mustOpen(t, options(t, path))
	v := storagetest.Row(1)
	if _, err := db.Verification(t.Context(), v.Originating, v.UUID); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Verification: %v, want ErrCorrupt", err)
	}
	if _, _, err := db.List(t.Context(), storage.Filter{}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("List: %v, want ErrCorrupt", err)
	}
	if _, err := db.Outbox(t.Context()); err != nil {
		t.Errorf("Outbox, which is whole: %v", err)
	}
}

// stretch gives those of the values that a leaf page holds 256 MiB.
func stretch(page []byte, values [][]byte) (n int) {
	order := binary.NativeEndian
	if order.Uint16(page[8:]) != 2 {
		return 0
	}
	for e := range int(order.Uint16(page[10:])) {
		element := page[16+16*e:]
		at := order.Uint32(element[4:]) + order.Uint32(element[8:])
		for _, v := range values {
			if order.Uint32(element[12:]) == uint32(len(v)) && bytes.Equal(element[at:at+uint32(len(v))], v) {
				order.PutUint32(element[12:], 256<<20)
				n++
				break
			}
		}
	}
	return n
}
