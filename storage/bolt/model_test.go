package bolt_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

// fill draws all that may change in a row.
func fill(rt *rapid.T, v *storage.Verification) {
	v.Sent, v.Received = rapid.Bool().Draw(rt, "sent"), rapid.Bool().Draw(rt, "received")
	v.Result = storage.Result(rapid.IntRange(1, 7).Draw(rt, "result"))
	v.Reason, v.Message = words.Draw(rt, "reason"), words.Draw(rt, "message")
	v.KeyType = identity.KeyType(rapid.IntRange(0, 3).Draw(rt, "key type"))
	v.Asset = storage.Asset{Symbol: words.Draw(rt, "symbol"), Network: words.Draw(rt, "network"), Amount: words.Draw(rt, "amount")}
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
		Originating: 7, Beneficiary: identity.VASPID(rapid.Uint64().Draw(rt, "beneficiary VASP")),
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
	for _, f := range []storage.Filter{{}, {TxHash: "one"}, {OriginatorAccount: "b"}, {Result: storage.Denied, Sent: true}, {TxHash: "two", OriginatorAccount: "a"}} {
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

func (m *machine) lists(f storage.Filter) error {
	var want []*storage.Verification
	for _, v := range m.rows {
		if (f.TxHash == "" || f.TxHash == v.TxHash) && (f.OriginatorAccount == "" || f.OriginatorAccount == v.OriginatorAccount) &&
			(f.Result == 0 || f.Result == v.Result) && (!f.Sent || v.Sent) {
			want = append(want, v)
		}
	}
	slices.SortFunc(want, func(a, b *storage.Verification) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return int(b.Record) - int(a.Record)
	})
	rows, count, err := m.db.List(m.kekFor.Context(), f)
	if err != nil || count != len(want) || !cmp.Equal(rows, want) {
		return fmt.Errorf("List(%+v): %d, %v (-want +got):\n%s", f, count, err, cmp.Diff(want, rows))
	}
	return nil
}
