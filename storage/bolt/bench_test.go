package bolt_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// benchRow is a row of the size that real ones have: 3 kB of IVMS101.
func benchRow(n int) *storage.Verification {
	v := storagetest.Row(n)
	v.OriginatorAccount = fmt.Sprintf("bc1q%036d", n)
	v.BeneficiaryAccount = fmt.Sprintf("bc1p%036d", n)
	v.TxHash, v.Answer = "", nil
	v.IVMS101.Originator = make([]byte, 900)
	v.IVMS101.Beneficiary = make([]byte, 900)
	v.IVMS101.OriginatingVASP = make([]byte, 600)
	v.IVMS101.BeneficiaryVASP = make([]byte, 600)
	return v
}

func accept(n int) *storage.Change {
	v := benchRow(n)
	return &storage.Change{
		Verification: v,
		Outbox:       []*storage.OutboxEntry{{Kind: storage.ToPeerVerification, UUID: v.UUID, Originating: v.Originating, Created: v.CreatedAt}},
		Audit:        []storage.AuditEntry{{Time: v.CreatedAt, Actor: "backend", Verb: "accept", Object: v.UUID.String(), Outcome: "ok"}},
	}
}

// parallel runs fn for the numbers below b.N on so many goroutines.
func parallel(b *testing.B, goroutines int, fn func(n int) error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	for range goroutines {
		all.Go(func() {
			for n := int(next.Add(1)); n <= b.N; n = int(next.Add(1)) {
				if err := fn(n); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-us/op")
}

// BenchmarkApply accepts a verification: row, outbox entry, audit entry.
func BenchmarkApply(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			db := mustOpen(b, options(b, newPath(b)))
			before := db.Size()
			parallel(b, goroutines, func(n int) error { return db.Apply(b.Context(), accept(n)) })
			b.ReportMetric(float64(db.Size()-before)/float64(b.N), "file-B/op")
		})
	}
}

// BenchmarkVerification is the life of a row on the originating side: it is
// accepted, answered, and its callback delivered.
func BenchmarkVerification(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			db := mustOpen(b, options(b, newPath(b)))
			before := db.Size()
			parallel(b, goroutines, func(n int) error { return live(b, db, n) })
			b.ReportMetric(float64(db.Size()-before)/float64(b.N), "file-B/op")
		})
	}
}

func live(b *testing.B, db *bolt.DB, n int) error {
	c := accept(n)
	if err := db.Apply(b.Context(), c); err != nil {
		return err
	}
	c.Verification.Result, c.DropOutbox = storage.Verified, []uint64{c.Outbox[0].Seq}
	if err := db.Apply(b.Context(), c); err != nil {
		return err
	}
	return db.Apply(b.Context(), &storage.Change{DropOutbox: []uint64{c.Outbox[0].Seq}})
}

func BenchmarkRead(b *testing.B) {
	db := mustOpen(b, options(b, newPath(b)))
	const rows = 5000
	var all sync.WaitGroup
	for w := range 64 {
		all.Go(func() {
			for n := w; n < rows; n += 64 {
				if err := db.Apply(b.Context(), accept(n)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	for name, fn := range map[string]func(n int) error{
		"one": func(n int) error {
			v := benchRow(n % rows)
			_, err := db.Verification(b.Context(), v.Originating, v.UUID)
			return err
		},
		"first-page":  lists(b, db, storage.Filter{Limit: 10}),
		"by-account":  lists(b, db, storage.Filter{Limit: 10, OriginatorAccount: benchRow(7).OriginatorAccount}),
		"by-result":   lists(b, db, storage.Filter{Limit: 10, Result: storage.Verified}),
		"by-opposite": lists(b, db, storage.Filter{Limit: 10, Opposite: 101}),
		"by-symbol":   lists(b, db, storage.Filter{Limit: 10, Symbol: "btc"}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if err := fn(n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func lists(b *testing.B, db *bolt.DB, f storage.Filter) func(int) error {
	return func(int) error {
		_, _, err := db.List(b.Context(), f)
		return err
	}
}
