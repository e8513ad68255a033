package bolt_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// year is a history of so many rows that spread over a year: 60
// counterparties, one of which has three in ten of the rows; 40 symbols on 12
// networks, of which the first few have most; an account with a thousandth of
// the rows; and transactions that are reported for up to four rows.
type year struct {
	rows  int
	facts []fact // in the order of time
}

// fact is what a filter asks of a row, to count by another way.
type fact struct {
	created                     int64 // milliseconds
	result                      storage.Result
	sent                        bool
	opposite                    identity.VASPID
	symbol, network, hash, from int
}

const few = 10 // rows on a page

var yearBegins = time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)

func newYear(rows int) *year {
	y := &year{rows: rows, facts: make([]fact, rows)}
	r := rand.New(rand.NewPCG(2026, 11))
	step := int64(365*24*time.Hour/time.Millisecond) / int64(rows)
	for n := range y.facts {
		f := &y.facts[n]
		f.created = yearBegins.UnixMilli() + int64(n)*step + r.Int64N(step)
		f.result = storage.Verified
		if p := r.IntN(100); p >= 88 {
			f.result = []storage.Result{storage.Denied, storage.Denied, storage.Denied, storage.Error, storage.Unknown, storage.TransferError}[p%6]
		}
		f.sent = r.IntN(2) == 0
		if f.opposite = 1; r.IntN(10) >= 3 {
			f.opposite = identity.VASPID(2 + r.IntN(59))
		}
		f.symbol = min(int(r.ExpFloat64()*4), 39)
		f.network = f.symbol % 12
		if f.hash = -1; f.result == storage.Verified {
			f.hash = n / (1 + n%4)
		}
		if f.from = r.IntN(rows); r.IntN(1000) == 0 {
			f.from = -1
		}
	}
	y.facts[rows/2].symbol, y.facts[rows/3].symbol = 99, 99 // which is rare
	return y
}

func (f *fact) row(n int) *storage.Verification {
	v := benchRow(n)
	v.CreatedAt = time.UnixMilli(f.created).UTC()
	v.Result, v.Sent, v.Received = f.result, f.sent, !f.sent
	v.Originating, v.Beneficiary = f.opposite, 4711
	if v.Sent {
		v.Originating, v.Beneficiary = 4711, f.opposite
	}
	v.Asset.Symbol, v.Asset.Network = symbolOf(f.symbol), networkOf(f.network)
	v.OriginatorAccount = accountOf(f.from)
	if v.TxHash = ""; f.hash >= 0 {
		v.TxHash = hashOf(f.hash)
	}
	return v
}

func symbolOf(n int) string  { return fmt.Sprintf("SYM%d", n) }
func networkOf(n int) string { return fmt.Sprintf("Network %d", n) }
func accountOf(n int) string { return fmt.Sprintf("bc1q%036d", n) }
func hashOf(n int) string    { return fmt.Sprintf("%064x", n) }

// count counts by the facts.
func (y *year) count(is func(*fact) bool) (n int) {
	for i := range y.facts {
		if is(&y.facts[i]) {
			n++
		}
	}
	return n
}

// write makes the file, as fast as it can.
func (y *year) write(tb testing.TB, path string) {
	tb.Helper()
	db := mustOpen(tb, options(tb, path))
	db.NoSync()
	const batch = 10_000
	for from := 0; from < y.rows; from += batch {
		var rows []*storage.Verification
		for n := from; n < min(from+batch, y.rows); n++ {
			rows = append(rows, y.facts[n].row(n))
		}
		if err := db.InsertTogether(tb.Context(), rows); err != nil {
			tb.Fatal(err)
		}
	}
	mustClose(tb, db)
}

func day(n int) time.Time { return yearBegins.AddDate(0, 0, n) }

// question is one kind of list that people ask for.
type question struct {
	name   string
	filter storage.Filter
	is     func(*fact) bool
	tagged bool // an index leads to the rows
}

func (y *year) questions() []question {
	within := func(f *fact, from, to time.Time) bool {
		return f.created >= from.UnixMilli() && f.created < to.UnixMilli()
	}
	first, next, monthLater := day(200), day(201), day(230)
	account, hash := accountOf(-1), y.facts[y.rows/2+1].hash
	for n := y.rows / 2; hash < 0; n++ {
		hash = y.facts[n].hash
	}
	return []question{
		{"everything", storage.Filter{}, func(*fact) bool { return true }, false},
		{"one day", storage.Filter{From: first, To: next}, func(f *fact) bool { return within(f, first, next) }, false},
		{"one month", storage.Filter{From: first, To: monthLater}, func(f *fact) bool { return within(f, first, monthLater) }, false},
		{"all before a day", storage.Filter{To: first}, func(f *fact) bool { return f.created < first.UnixMilli() }, false},
		{"account with a thousandth", storage.Filter{OriginatorAccount: account}, func(f *fact) bool { return f.from == -1 }, true},
		{"account of one row", storage.Filter{BeneficiaryAccount: benchRow(7).BeneficiaryAccount}, func(f *fact) bool { return f == &y.facts[7] }, true},
		{"account and result", storage.Filter{OriginatorAccount: account, Result: storage.Denied}, func(f *fact) bool { return f.from == -1 && f.result == storage.Denied }, true},
		{"transaction hash", storage.Filter{TxHash: hashOf(hash)}, func(f *fact) bool { return f.hash == hash }, true},
		{"transaction hash and account", storage.Filter{TxHash: hashOf(hash), OriginatorAccount: account}, func(f *fact) bool { return f.hash == hash && f.from == -1 }, true},
		{"counterparty with three in ten", storage.Filter{Opposite: 1}, func(f *fact) bool { return f.opposite == 1 }, false},
		{"another counterparty", storage.Filter{Opposite: 30}, func(f *fact) bool { return f.opposite == 30 }, false},
		{"unknown counterparty", storage.Filter{Opposite: 5000}, func(*fact) bool { return false }, false},
		{"result VERIFIED", storage.Filter{Result: storage.Verified}, func(f *fact) bool { return f.result == storage.Verified }, false},
		{"result ERROR", storage.Filter{Result: storage.Error}, func(f *fact) bool { return f.result == storage.Error }, false},
		{"result WAIT, none", storage.Filter{Result: storage.Wait}, func(*fact) bool { return false }, false},
		{"action SEND", storage.Filter{Sent: true}, func(f *fact) bool { return f.sent }, false},
		{"counterparty, result, SEND", storage.Filter{Opposite: 1, Result: storage.Denied, Sent: true}, func(f *fact) bool { return f.opposite == 1 && f.result == storage.Denied && f.sent }, false},
		{"counterparty, result, month", storage.Filter{Opposite: 1, Result: storage.Denied, From: first, To: monthLater}, func(f *fact) bool {
			return f.opposite == 1 && f.result == storage.Denied && within(f, first, monthLater)
		}, false},
		{"frequent symbol", storage.Filter{Symbol: "sym0"}, func(f *fact) bool { return f.symbol == 0 }, false},
		{"symbol of two rows", storage.Filter{Symbol: "sym99"}, func(f *fact) bool { return f.symbol == 99 }, false},
		{"network", storage.Filter{Network: "network 3"}, func(f *fact) bool { return f.network == 3 }, false},
		{"symbol, network, counterparty", storage.Filter{Symbol: "SYM2", Network: "NETWORK 2", Opposite: 30}, func(f *fact) bool { return f.symbol == 2 && f.network == 2 && f.opposite == 30 }, false},
	}
}

// Lists of a long history are right, and look at little: this bounds the
// work, and prints the times (docs/benchmarks.md).
func TestListsOfALongHistory(t *testing.T) {
	y := newYear(short(20_000, 1_000_000))
	path := newPath(t)
	begun := time.Now()
	y.write(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows, written in %v; %d bytes of file a row", y.rows, time.Since(begun).Round(time.Second), info.Size()/int64(y.rows))
	t.Logf("| list | rows | file not in memory, ms | first after a start, ms | again, ms | again, CPU ms | middle page, ms | index entries | chapters |")
	for _, q := range y.questions() {
		want := y.count(q.is)
		cold, _ := y.askAfterStart(t, path, q, want, forgetFile)
		first, work := y.askAfterStart(t, path, q, want, func(testing.TB, string) {})
		y.bounded(t, q, want, work, true)
		db := mustOpen(t, options(t, path))
		y.ask(t, db, q, q.filter, want)
		again, work := y.askOften(t, db, q, q.filter, want)
		y.bounded(t, q, want, work, false)
		middle := q.filter
		middle.Offset = want / 2
		y.ask(t, db, q, middle, want)
		deep, work := y.askOften(t, db, q, middle, want)
		y.bounded(t, q, want, work, false)
		t.Logf("| %s | %d | %s | %s | %s | %s | %s | %d | %d |", q.name, want, ms(cold), ms(first), ms(again), ms(cpuOf(t, db, q.filter)), ms(deep), work.Entries, work.Passed)
		mustClose(t, db)
	}
	db := mustOpen(t, options(t, path))
	before := heap()
	y.ask(t, db, question{name: "everything"}, storage.Filter{Result: storage.Wait, Limit: few}, 0)
	t.Logf("what a list keeps of %d chapters: %d bytes a row", db.Chapters(), (heap()-before)/int64(y.rows))
	if chapters := db.Chapters(); chapters > y.rows/200 {
		t.Errorf("%d chapters for %d rows that came in the order of time", chapters, y.rows)
	}
	if err := db.Downgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	begun = time.Now()
	db = mustOpen(t, options(t, path))
	t.Logf("upgrade from schema version 1: %v, %v for a million rows", time.Since(begun).Round(time.Millisecond), (time.Since(begun) * time.Duration(1_000_000/y.rows)).Round(time.Second))
	for _, q := range y.questions() {
		y.ask(t, db, q, q.filter, y.count(q.is))
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// ask lists ten rows and compares them with the facts.
func (y *year) ask(t *testing.T, db *bolt.DB, q question, f storage.Filter, want int) (time.Duration, bolt.Work) {
	t.Helper()
	f.Limit = few
	begun := time.Now()
	rows, count, work, err := db.ListWork(t.Context(), f)
	took := time.Since(begun)
	if err != nil || count != want || len(rows) != min(few, max(0, want-f.Offset)) {
		t.Fatalf("%s: %d rows of %d, %v, want %d", q.name, len(rows), count, err, want)
	}
	if q.is == nil {
		return took, work
	}
	skip, n := f.Offset, 0
	for i := len(y.facts) - 1; i >= 0 && n < len(rows); i-- {
		if !q.is(&y.facts[i]) {
			continue
		}
		if skip--; skip >= 0 {
			continue
		}
		want := y.facts[i].row(i)
		want.Record, want.Version = uint64(i+1), 1
		if !cmp.Equal(rows[n], want) {
			t.Fatalf("%s: row %d (-want +got):\n%s", q.name, n, cmp.Diff(want, rows[n]))
		}
		n++
	}
	return took, work
}

// cpuOf is the processor time of one list, which says more on a busy machine.
func cpuOf(t *testing.T, db *bolt.DB, f storage.Filter) time.Duration {
	t.Helper()
	times := short(2, 50)
	f.Limit = few
	begun := cpuTime(t)
	for range times {
		if _, _, err := db.List(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	return (cpuTime(t) - begun) / time.Duration(times)
}

func (y *year) askOften(t *testing.T, db *bolt.DB, q question, f storage.Filter, want int) (time.Duration, bolt.Work) {
	t.Helper()
	var all []time.Duration
	var work bolt.Work
	for range short(1, 9) {
		took, now := y.ask(t, db, q, f, want)
		all, work = append(all, took), now
	}
	slices.Sort(all)
	return all[len(all)/2], work
}

// askAfterStart opens the file anew for each of three times.
func (y *year) askAfterStart(t *testing.T, path string, q question, want int, prepare func(testing.TB, string)) (time.Duration, bolt.Work) {
	t.Helper()
	var all []time.Duration
	var work bolt.Work
	for range short(1, 3) {
		prepare(t, path)
		db := mustOpen(t, options(t, path))
		took, now := y.ask(t, db, q, q.filter, want)
		all, work = append(all, took), now
		mustClose(t, db)
	}
	slices.Sort(all)
	return all[len(all)/2], work
}

// bounded fails when a list looked at more than it must: ten rows; the
// entries of the rarest tag that it asks for, and as many leaps; chapters
// within its time only, of which none is opened again; and the single rows of
// those chapters alone that the page or a bound is in.
func (y *year) bounded(t *testing.T, q question, want int, w bolt.Work, afterStart bool) {
	t.Helper()
	from, to := int64(0), int64(1<<62)
	if !q.filter.From.IsZero() {
		from = q.filter.From.UnixMilli()
	}
	if !q.filter.To.IsZero() {
		to = q.filter.To.UnixMilli()
	}
	inTime := y.count(func(f *fact) bool { return f.created >= from && f.created < to })/256 + 3
	most := bolt.Work{Rows: few, Passed: inTime, Opened: inTime, Unpacked: 2 + few}
	if q.tagged {
		rarest := y.count(func(f *fact) bool {
			return (q.filter.TxHash == "" || f.hash >= 0 && hashOf(f.hash) == q.filter.TxHash) &&
				(q.filter.TxHash != "" || q.filter.OriginatorAccount == "" || accountOf(f.from) == q.filter.OriginatorAccount) &&
				(q.filter.BeneficiaryAccount == "" || f == &y.facts[7])
		})
		most = bolt.Work{Rows: few, Entries: 2 * (rarest + 1)}
		if q.filter.Result != 0 {
			most.Passed, most.Opened, most.Unpacked = min(rarest, inTime), min(rarest, inTime), min(rarest, inTime)
		}
	}
	if !afterStart {
		most.Opened = 0
	}
	if w.Rows > most.Rows || w.Entries > most.Entries || w.Passed > most.Passed || w.Opened > most.Opened || w.Unpacked > most.Unpacked {
		t.Errorf("%s: looked at %+v, want at most %+v", q.name, w, most)
	}
}

// A filter's text and a row's have one tag when strings.EqualFold calls them
// equal, and two when not: for every character, and the like of it.
func TestFoldIsEqualFold(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if unicode.SimpleFold(r) == r && !unicode.IsLetter(r) && r%64 != 0 {
			continue
		}
		for _, other := range []rune{unicode.SimpleFold(r), unicode.ToUpper(r), unicode.ToLower(r), r + 1} {
			a, b := "x"+string(r), "X"+string(other)
			if got, want := bolt.Fold(a) == bolt.Fold(b), strings.EqualFold(a, b); got != want {
				t.Fatalf("%q and %q: equal is %v, want %v", a, b, got, want)
			}
		}
	}
}

// Rows that come in any order of time make chapters that are in order.
func TestRowsInAnyOrder(t *testing.T) {
	db := mustOpen(t, options(t, newPath(t)))
	db.NoSync()
	const n = 3000
	random := rand.New(rand.NewPCG(3, 4))
	var rows []*storage.Verification
	for _, i := range random.Perm(n) {
		v := storagetest.Row(i)
		v.Asset.Symbol = fmt.Sprint(i) // every row is of its own kind
		rows = append(rows, v)
	}
	for batch := range slices.Chunk(rows, 700) {
		if err := db.InsertTogether(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range rows {
		if random.IntN(3) == 0 {
			v.Asset.Symbol += "b"
			mustApplyAll(t, db, v)
		}
	}
	if err := db.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(rows, func(a, b *storage.Verification) int { return b.CreatedAt.Compare(a.CreatedAt) })
	for _, f := range []storage.Filter{{}, {Symbol: "77"}, {Symbol: "77b"}, {Offset: 1000, Limit: 1000}} {
		got, _, err := db.List(t.Context(), f)
		var want []*storage.Verification
		for _, v := range rows {
			if asks(f, v) {
				want = append(want, v)
			}
		}
		if want = page(f, want); err != nil || text(got) != text(want) {
			t.Errorf("List(%+v) = %d rows, %v, want %d (-want +got):\n%s", f, len(got), err, len(want), cmp.Diff(want, got))
		}
	}
	for i, v := range rows { // and they are forgotten, the oldest last
		if err := db.DropRow(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		if left := n - i - 1; left%500 == 0 {
			if err := db.Check(t.Context()); err != nil {
				t.Fatalf("%d rows left: %v", left, err)
			}
		}
	}
	if n := db.Chapters(); n != 1 {
		t.Errorf("%d chapters of no rows, want the first", n)
	}
}

func mustApplyAll(t *testing.T, db *bolt.DB, v *storage.Verification) {
	t.Helper()
	mustApply(t, db, &storage.Change{Verification: v})
}

// Chapters that lose all their rows in one commit are dropped, whichever loses
// them first: a cursor does not pass what is dropped until it is committed.
func TestChaptersAreDroppedTogether(t *testing.T) {
	for _, order := range []string{"newest first", "oldest first"} {
		db := mustOpen(t, options(t, newPath(t)))
		y := newYear(3000)
		var rows []*storage.Verification
		for n := range y.facts {
			rows = append(rows, y.facts[n].row(n))
		}
		if err := db.InsertTogether(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		before := db.Chapters()
		gone := slices.Clone(rows[1000:])
		if order == "newest first" {
			slices.Reverse(gone)
		}
		if err := db.DropTogether(t.Context(), gone); err != nil {
			t.Fatalf("%s: %v", order, err)
		}
		_, count, err := db.List(t.Context(), storage.Filter{Limit: few})
		if err != nil || count != 1000 || db.Chapters() >= before/2 {
			t.Errorf("%s: %d rows are left in %d chapters of %d, %v, want 1000", order, count, db.Chapters(), before, err)
		}
		mustApplyAll(t, db, y.facts[2000].row(2000))
		if err := db.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", order, err)
		}
	}
}
