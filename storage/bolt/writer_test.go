package bolt_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

func rowChange(n int) *storage.Change { return &storage.Change{Verification: storagetest.Row(n)} }

// metric gives the value of a gauge, or the sum of a histogram.
func metric(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return value(f.GetMetric()[0])
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func value(m *dto.Metric) float64 {
	if m.Histogram != nil {
		return m.GetHistogram().GetSampleSum()
	}
	return m.GetGauge().GetValue()
}

// Changes that queue up while the writer is busy share one commit.
func TestWaitingChangesShareACommit(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := options(t, newPath(t))
	o.Metrics = registry
	db := mustOpen(t, o)
	var changes []*storage.Change
	for n := range 100 {
		changes = append(changes, rowChange(n))
	}
	for i, err := range db.Together(t.Context(), changes...) {
		if err != nil {
			t.Errorf("change %d: %v", i, err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "enclave_store_batch_changes" {
			if h := f.GetMetric()[0].GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() != 100 {
				t.Errorf("%d commits of %v changes, want 1 of 100", h.GetSampleCount(), h.GetSampleSum())
			}
		}
	}
}

// A change that is refused, or cannot be written, fails alone.
func TestAFailingChangeDoesNotFailItsNeighbours(t *testing.T) {
	path, _ := sampleFile(t)
	edit(t, path, breakPeer)
	db := mustOpen(t, options(t, path))
	const n = 1000
	broken := rowChange(n + 3)
	broken.Peer = &storage.Peer{VASP: 1}
	broken.Outbox = []*storage.OutboxEntry{{Kind: storage.ToBackend, Created: noon}}
	changes := []*storage.Change{rowChange(n), rowChange(n + 1), rowChange(n), broken, rowChange(n + 4), broken, rowChange(n + 5)}
	errs := db.Together(t.Context(), changes...)
	for i, want := range []error{nil, nil, storage.ErrConflict, storage.ErrCorrupt, nil, storage.ErrCorrupt, nil} {
		if !errors.Is(errs[i], want) || want == nil && errs[i] != nil {
			t.Errorf("change %d: %v, want %v", i, errs[i], want)
		}
	}
	for i, stored := range []bool{0: true, 1: true, 3: false, 4: true, 5: true} {
		v := storagetest.Row(n + i)
		got, err := db.Verification(t.Context(), v.Originating, v.UUID)
		if i == 2 {
			continue
		}
		if stored != (err == nil) || err == nil && got.Version != 1 {
			t.Errorf("row %d: stored is %v (%v), want %v", i, err == nil, err, stored)
		}
	}
	if entries, err := db.Outbox(t.Context()); err != nil || len(entries) != sampleRows-sampleRows/3 {
		t.Errorf("outbox has %d entries, %v: the failed change left one", len(entries), err)
	}
}

// What a batch entered in a chapter that the writer had open is gone with the
// batch: its rows are entered once when they are tried again, and the row that
// failed is in no list.
func TestChaptersForgetABatchThatFailed(t *testing.T) {
	path, _ := sampleFile(t)
	edit(t, path, breakPeer)
	db := mustOpen(t, options(t, path))
	const n = 1000
	mustApply(t, db, rowChange(n)) // its chapter is open now
	broken := rowChange(n + 2)
	broken.Peer = &storage.Peer{VASP: 1}
	errs := db.Together(t.Context(), rowChange(n+1), broken, rowChange(n+3))
	if errs[0] != nil || !errors.Is(errs[1], storage.ErrCorrupt) || errs[2] != nil {
		t.Errorf("changes: %v, want the second to fail", errs)
	}
	rows, count, err := db.List(t.Context(), storage.Filter{})
	if err != nil || count != len(rows) {
		t.Fatalf("list: %d of %d rows, %v", len(rows), count, err)
	}
	for i, want := range []int{1, 1, 0, 1} {
		id, got := storagetest.Row(n+i).UUID, 0
		for _, v := range rows {
			if v.UUID == id {
				got++
			}
		}
		if got != want {
			t.Errorf("row %d is listed %d times, want %d", i, got, want)
		}
	}
}

// The context bounds the wait: what is given up is not written later.
func TestAChangeGivenUpIsNotWritten(t *testing.T) {
	db := mustOpen(t, options(t, newPath(t)))
	held, release := db.Hold()
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- db.Apply(ctx, rowChange(1)) }()
	for db.Queued() == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: %v, want Canceled", err)
	}
	release()
	mustApply(t, db, rowChange(2))
	v := storagetest.Row(1)
	if _, err := db.Verification(t.Context(), v.Originating, v.UUID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the change that was given up: %v, want ErrNotFound", err)
	}
}

// Close does not leave a caller waiting, and what it did not write is said
// not to be written.
func TestCloseAnswersThoseWhoWait(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	held, release := db.Hold()
	<-held
	const waiting = 50
	ended := make(chan error, waiting)
	for n := range waiting {
		go func() { ended <- db.Apply(t.Context(), rowChange(n)) }()
	}
	for db.Queued() < waiting {
		runtime.Gosched()
	}
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	release()
	written := 0
	for range waiting {
		switch err := <-ended; {
		case err == nil:
			written++
		case !errors.Is(err, bolt.ErrClosed):
			t.Errorf("Apply: %v, want nil or ErrClosed", err)
		}
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if _, count, err := mustOpen(t, options(t, path)).List(t.Context(), storage.Filter{}); count != written || err != nil {
		t.Errorf("%d rows, %v, want the %d that were acknowledged", count, err, written)
	}
}

// Receipts are forgotten when their envelopes have expired, in time order
// and in small commits, and no other.
func TestSweepForgetsExpiredReceipts(t *testing.T) {
	now := noon
	o := options(t, newPath(t))
	o.Now = func() time.Time { return now }
	db := mustOpen(t, o)
	const n = 300
	for i := range n {
		mustApply(t, db, &storage.Change{Receipt: &storage.Receipt{Originating: 1, UUID: storagetest.RowID(i), Expires: noon.Add(time.Duration(i) * time.Minute)}})
	}
	again := &storage.Receipt{Originating: 1, UUID: storagetest.RowID(0), Expires: noon.Add(n * time.Minute)}
	mustApply(t, db, &storage.Change{Receipt: again}) // its first expiry does not count any more
	for _, c := range []struct {
		after        time.Duration
		removed, gap int // rows 1 to gap-1 are gone afterwards
	}{{0, 0, 1}, {time.Minute, 0, 1}, {time.Minute + time.Millisecond, 1, 2}, {200 * time.Minute, 198, 200}, {n*time.Minute + 1, 100, n}, {n*time.Minute + time.Second, 1, n}} {
		now = noon.Add(c.after)
		if removed, err := db.Sweep(t.Context()); removed != c.removed || err != nil {
			t.Errorf("after %v: Sweep = %d, %v, want %d", c.after, removed, err, c.removed)
		}
		for i := 1; i < n; i++ {
			_, err := db.Receipt(t.Context(), 1, storagetest.RowID(i))
			if gone := errors.Is(err, storage.ErrNotFound); gone != (i < c.gap) {
				t.Fatalf("after %v: receipt %d: %v", c.after, i, err)
			}
		}
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if _, err := db.Receipt(t.Context(), 1, again.UUID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the replaced receipt, at its end: %v, want ErrNotFound", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Sweep(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Sweep: %v, want Canceled", err)
	}
}

// The audit log is a chain: each entry names the hash of the one before.
func TestAuditIsAChain(t *testing.T) {
	path := newPath(t)
	db := mustOpen(t, options(t, path))
	var changes []*storage.Change
	for n := range 20 {
		c := rowChange(n)
		c.Audit = []storage.AuditEntry{
			{Time: noon, Actor: "peer", Verb: "open", Object: c.Verification.UUID.String(), Peer: identity.VASPID(n), Outcome: "ok"},
			{Time: noon.Add(time.Second), Actor: "system", Verb: "seal", Reason: "\u00e9"},
		}
		changes = append(changes, c)
	}
	changes = append(changes, &storage.Change{Verification: storagetest.Row(0), Audit: []storage.AuditEntry{{Time: noon, Verb: "refused"}}})
	errs := db.Together(t.Context(), changes...)
	if err := errs[20]; !errors.Is(err, storage.ErrConflict) {
		t.Fatal(err)
	}
	mustClose(t, db)
	db = mustOpen(t, options(t, path))
	mustApply(t, db, &storage.Change{Audit: []storage.AuditEntry{{Time: noon, Verb: "start"}}})
	all, err := db.Audit(t.Context(), 0, 0)
	if err != nil || len(all) != 41 {
		t.Fatalf("Audit = %d entries, %v, want 41", len(all), err)
	}
	var prev [32]byte
	for i, e := range all {
		if e.Seq != uint64(i+1) || e.Prev != prev || e.Hash != e.Sum() {
			t.Errorf("entry %d breaks the chain: %+v", i+1, e)
		}
		prev = e.Hash
	}
	part, err := db.Audit(t.Context(), 40, 1)
	if err != nil || len(part) != 1 || part[0] != all[39] {
		t.Errorf("Audit(40, 1) = %+v, %v", part, err)
	}
	if part, err = db.Audit(t.Context(), 42, 0); len(part) != 0 || err != nil {
		t.Errorf("Audit beyond the end = %+v, %v", part, err)
	}
	if err := db.Apply(t.Context(), &storage.Change{Audit: []storage.AuditEntry{{Verb: "no time"}}}); err == nil {
		t.Error("an entry without a time is accepted")
	}
}

// Pages that receipts and outbox entries gave back are used again: every
// commit writes out the list of free pages, and the file is for rows.
func TestWhatIsForgottenGivesItsRoomBack(t *testing.T) {
	now := noon
	o := options(t, newPath(t))
	o.Now = func() time.Time { return now }
	db := mustOpen(t, o)
	var settled int64
	for round := range 30 {
		for n := range 50 {
			c := &storage.Change{Receipt: &storage.Receipt{Originating: 1, UUID: storagetest.RowID(round*50 + n), ReplyBundle: make([]byte, 1500), Expires: now}}
			c.Outbox = []*storage.OutboxEntry{{Kind: storage.ToBackend, Created: now, Body: make([]byte, 500)}}
			mustApply(t, db, c)
			mustApply(t, db, &storage.Change{DropOutbox: []uint64{c.Outbox[0].Seq}})
		}
		now = now.Add(time.Minute)
		if removed, err := db.Sweep(t.Context()); removed != 50 || err != nil {
			t.Fatalf("Sweep = %d, %v, want 50", removed, err)
		}
		if round == 4 {
			settled = db.Size()
		}
	}
	if size := db.Size(); size > settled+settled/4 {
		t.Errorf("the file went from %d to %d bytes and holds nothing", settled, size)
	}
}
