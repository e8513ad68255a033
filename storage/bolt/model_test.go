package bolt_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// machine runs an engine beside what it should be: a map and a list.
type machine struct {
	path   string
	db     *bolt.DB
	kekFor *testing.T

	rows   map[uuid.UUID]*storage.Verification
	outbox []*storage.OutboxEntry
	audits int
}

// Any run of changes, conflicts and restarts leaves the rows and the outbox
// as the model has them.
func TestAnyRunOfChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "run")
		if err != nil {
			rt.Fatal(err)
		}
		m := &machine{path: filepath.Join(dir, "history.db"), kekFor: t, rows: map[uuid.UUID]*storage.Verification{}}
		m.reopen(rt)
		defer func() { _ = m.db.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"":        m.same,
			"insert":  m.insert,
			"update":  m.update,
			"stale":   m.stale,
			"deliver": m.deliver,
			"forget":  m.forget,
			"restart": m.reopen,
		})
	})
}

func (m *machine) reopen(rt *rapid.T) {
	if m.db != nil {
		if err := m.db.Close(); err != nil {
			rt.Fatal(err)
		}
	}
	db, err := bolt.Open(options(m.kekFor, m.path))
	if err != nil {
		rt.Fatal(err)
	}
	m.db = db
}

func (m *machine) apply(rt *rapid.T, c *storage.Change, want error) {
	c.Audit = []storage.AuditEntry{{Time: noon, Verb: "change"}}
	if err := m.db.Apply(m.kekFor.Context(), c); !errors.Is(err, want) || want == nil && err != nil {
		rt.Fatalf("Apply: %v, want %v", err, want)
	} else if err == nil {
		m.audits++
	}
}

var (
	bytesOrNil = rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) []byte {
		if len(b) > 20 {
			return nil
		}
		return b
	})
	words   = rapid.StringN(0, 10, 30)
	someDay = rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.IntRange(0, 3).Draw(t, "none") == 0 {
			return time.Time{}
		}
		return noon.Add(time.Duration(rapid.IntRange(0, 100*24*3600*1000).Draw(t, "ms")) * time.Millisecond)
	})
)

// symbols are of all that strings.EqualFold has to say of text.
var symbols = rapid.SampledFrom([]string{"", "BTC", "btc", "K", "\u212a", "k", "\u03c3", "\u03c2", "\u03a3", "\u00df", "ss", "I", "\u0131", "\u01c5"})

// fill draws all that may change in a row.
func fill(rt *rapid.T, v *storage.Verification) {
	v.Sent, v.Received = rapid.Bool().Draw(rt, "sent"), rapid.Bool().Draw(rt, "received")
	v.Result = storage.Result(rapid.IntRange(1, 7).Draw(rt, "result"))
	v.Reason, v.Message = words.Draw(rt, "reason"), words.Draw(rt, "message")
	v.KeyType = identity.KeyType(rapid.IntRange(0, 3).Draw(rt, "key type"))
	v.Asset = storage.Asset{Symbol: symbols.Draw(rt, "symbol"), Network: symbols.Draw(rt, "network"), Amount: words.Draw(rt, "amount")}
	v.TxHash = rapid.SampledFrom([]string{"", "one", "two"}).Draw(rt, "hash")
	v.OriginatorAccount = rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "originator")
	v.BeneficiaryAccount = words.Draw(rt, "beneficiary")
	v.IVMS101 = storage.Parts{
		Originator: bytesOrNil.Draw(rt, "part 1"), OriginatingVASP: bytesOrNil.Draw(rt, "part 2"),
		Beneficiary: bytesOrNil.Draw(rt, "part 3"), BeneficiaryVASP: bytesOrNil.Draw(rt, "part 4"),
	}
	v.Answer = bytesOrNil.Draw(rt, "answer")
	v.VerifiedAt, v.OrderedAt, v.Deadline = someDay.Draw(rt, "verified"), someDay.Draw(rt, "ordered"), someDay.Draw(rt, "deadline")
}

func (m *machine) insert(rt *rapid.T) {
	v := &storage.Verification{
		UUID:        uuid.UUID{byte(rapid.IntRange(1, 30).Draw(rt, "uuid"))},
		Originating: 7, Beneficiary: identity.VASPID(rapid.Uint64Range(6, 9).Draw(rt, "beneficiary VASP")),
		CreatedAt: noon.Add(time.Duration(rapid.IntRange(0, 1<<32).Draw(rt, "created")) * time.Millisecond),
	}
	fill(rt, v)
	e := &storage.OutboxEntry{Kind: storage.ToBackend, UUID: v.UUID, Originating: 7, Body: bytesOrNil.Draw(rt, "body"), Created: v.CreatedAt, Deadline: someDay.Draw(rt, "entry deadline")}
	c := &storage.Change{Verification: v, Outbox: []*storage.OutboxEntry{e}}
	if m.rows[v.UUID] != nil {
		m.apply(rt, c, storage.ErrConflict)
		return
	}
	m.apply(rt, c, nil)
	m.rows[v.UUID] = v
	m.outbox = append(m.outbox, e)
}

func (m *machine) some(rt *rapid.T) *storage.Verification {
	if len(m.rows) == 0 {
		m.insert(rt)
	}
	ids := slices.SortedFunc(maps.Keys(m.rows), func(a, b uuid.UUID) int { return int(a[0]) - int(b[0]) })
	v := *m.rows[rapid.SampledFrom(ids).Draw(rt, "row")]
	return &v
}

func (m *machine) update(rt *rapid.T) {
	v := m.some(rt)
	fill(rt, v)
	m.apply(rt, &storage.Change{Verification: v}, nil)
	m.rows[v.UUID] = v
}

func (m *machine) stale(rt *rapid.T) {
	v := m.some(rt)
	v.Version += rapid.SampledFrom([]uint64{1, 2, ^uint64(0)}).Draw(rt, "off")
	m.apply(rt, &storage.Change{Verification: v, DropOutbox: m.numbers()}, storage.ErrConflict)
}

// forget deletes a row, as retention will.
func (m *machine) forget(rt *rapid.T) {
	v := m.some(rt)
	if err := m.db.DropRow(m.kekFor.Context(), v); err != nil {
		rt.Fatal(err)
	}
	delete(m.rows, v.UUID)
}

func (m *machine) numbers() (all []uint64) {
	for _, e := range m.outbox {
		all = append(all, e.Seq)
	}
	return all
}

func (m *machine) deliver(rt *rapid.T) {
	if len(m.outbox) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.outbox)-1).Draw(rt, "entry")
	m.apply(rt, &storage.Change{DropOutbox: []uint64{m.outbox[i].Seq}}, nil)
	m.outbox = slices.Delete(m.outbox, i, i+1)
}

// same compares everything that can be read.
func (m *machine) same(rt *rapid.T) {
	ctx := m.kekFor.Context()
	for _, v := range m.rows {
		if got, err := m.db.Verification(ctx, v.Originating, v.UUID); err != nil || !cmp.Equal(got, v) {
			rt.Fatalf("Verification: %v (-want +got):\n%s", err, cmp.Diff(v, got))
		}
	}
	entries, err := m.db.Outbox(ctx)
	if err != nil || len(entries)+len(m.outbox) > 0 && !cmp.Equal(entries, m.outbox) {
		rt.Fatalf("Outbox: %v (-want +got):\n%s", err, cmp.Diff(m.outbox, entries))
	}
	for _, f := range []storage.Filter{{}, {TxHash: "one"}, {OriginatorAccount: "b"}, {Result: storage.Denied, Sent: true}, {TxHash: "two", OriginatorAccount: "a"}, someFilter(rt, m.created()), someFilter(rt, m.created())} {
		if err := m.lists(f); err != nil {
			rt.Fatal(err)
		}
	}
	if log, err := m.db.Audit(ctx, 1, 0); err != nil || len(log) != m.audits {
		rt.Fatalf("Audit: %d entries, %v, want %d", len(log), err, m.audits)
	}
	if err := m.db.Check(ctx); err != nil {
		rt.Fatal(err)
	}
}

// created are the times of the rows, where filters have their edges.
func (m *machine) created() []time.Time {
	all := []time.Time{{}}
	for _, v := range m.rows {
		all = append(all, v.CreatedAt, v.CreatedAt.Add(time.Millisecond))
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// someFilter asks mostly for one or two things.
func someFilter(rt *rapid.T, times []time.Time) (f storage.Filter) {
	for _, what := range rapid.SliceOfN(rapid.IntRange(0, 10), 0, 4).Draw(rt, "what") {
		switch what {
		case 0:
			f.From = rapid.SampledFrom(times).Draw(rt, "from")
		case 1:
			f.To = rapid.SampledFrom(times).Draw(rt, "to")
		case 2:
			f.Symbol = symbols.Draw(rt, "symbol")
		case 3:
			f.Network = symbols.Draw(rt, "network")
		case 4:
			f.TxHash = rapid.SampledFrom([]string{"", "one", "two"}).Draw(rt, "hash")
		case 5:
			f.Result = storage.Result(rapid.IntRange(1, 7).Draw(rt, "result"))
		case 6:
			f.Sent = true
		case 7:
			f.Received = true
		case 8:
			f.Opposite = identity.VASPID(rapid.Uint64Range(6, 9).Draw(rt, "opposite"))
		case 9:
			f.OriginatorAccount = rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "originator")
		case 10:
			f.Offset, f.Limit = rapid.IntRange(0, 8).Draw(rt, "offset"), rapid.IntRange(0, 4).Draw(rt, "limit")
		}
	}
	return f
}

// asks is what a filter means, without the page.
func asks(f storage.Filter, v *storage.Verification) bool {
	opposite := v.Originating
	if v.Sent {
		opposite = v.Beneficiary
	}
	return (f.From.IsZero() || !v.CreatedAt.Before(f.From)) && (f.To.IsZero() || v.CreatedAt.Before(f.To)) &&
		(f.Symbol == "" || strings.EqualFold(f.Symbol, v.Asset.Symbol)) && (f.Network == "" || strings.EqualFold(f.Network, v.Asset.Network)) &&
		(f.TxHash == "" || f.TxHash == v.TxHash) && (f.OriginatorAccount == "" || f.OriginatorAccount == v.OriginatorAccount) &&
		(f.BeneficiaryAccount == "" || f.BeneficiaryAccount == v.BeneficiaryAccount) &&
		(f.Result == 0 || f.Result == v.Result) && (!f.Sent || v.Sent) && (!f.Received || v.Received) && (f.Opposite == 0 || f.Opposite == opposite)
}

// page is what List gives of the rows that match.
func page[T any](f storage.Filter, rows []T) []T {
	rows = rows[min(f.Offset, len(rows)):]
	if f.Limit > 0 {
		rows = rows[:min(f.Limit, len(rows))]
	}
	return rows
}

func (m *machine) lists(f storage.Filter) error {
	var all []*storage.Verification
	for _, v := range m.rows {
		if asks(f, v) {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b *storage.Verification) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return int(b.Record) - int(a.Record)
	})
	rows, count, err := m.db.List(m.kekFor.Context(), f)
	if want := page(f, all); err != nil || count != len(all) || len(rows)+len(want) > 0 && !cmp.Equal(rows, want) {
		return fmt.Errorf("List(%+v): %d of %d, %v (-want +got):\n%s", f, count, len(all), err, cmp.Diff(want, rows))
	}
	return nil
}
