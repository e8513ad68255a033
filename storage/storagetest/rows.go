package storagetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

func rowRoundTrip(t *testing.T, f *fixture) {
	for n := range 4 {
		v := Row(n)
		f.insert(v)
		if v.Record == 0 || v.Version != 1 {
			t.Errorf("after Apply: record %d, version %d, want some record and version 1", v.Record, v.Version)
		}
		f.same("row", f.get(v), v)
	}
	bare := &storage.Verification{
		UUID: uuid.New(), Originating: 1, Beneficiary: 2, Sent: true, Result: storage.Wait, CreatedAt: epoch,
	}
	f.insert(bare)
	f.same("row of few fields", f.get(bare), bare)
}

// Payloads are signed, hashed and shown as they came: their whitespace,
// order, duplicate spellings and odd bytes are not the store's to change.
func rowPayloadBytes(t *testing.T, f *fixture) {
	v := Row(1)
	v.IVMS101 = storage.Parts{
		Originator:      []byte(" {\"b\" : 1,\n\t\"a\":\"\\u00e9<&>\" , \"A\":1e400}\r\n"),
		OriginatingVASP: []byte{},
		Beneficiary:     nil,
		BeneficiaryVASP: []byte("\x00\xff\xfe not even JSON"),
	}
	v.Answer = make([]byte, 300<<10)
	for i := range v.Answer {
		v.Answer[i] = byte(i)
	}
	f.insert(v)
	f.same("row", f.get(v), v)
}

func rowUpdate(t *testing.T, f *fixture) {
	v := Row(1)
	f.insert(v)
	record := v.Record
	for want := uint64(2); want < 5; want++ {
		v.Result, v.Reason, v.TxHash = storage.Verified, "OK", v.TxHash+"0"
		v.IVMS101.Beneficiary = append(v.IVMS101.Beneficiary, ' ')
		f.insert(v)
		if v.Record != record || v.Version != want {
			t.Errorf("after an update: record %d, version %d, want %d, %d", v.Record, v.Version, record, want)
		}
		f.same("row", f.get(v), v)
	}
	if _, count, err := f.List(background, storage.Filter{}); count != 1 || err != nil {
		t.Errorf("List counts %d, %v, want the one row", count, err)
	}
}

func rowStale(t *testing.T, f *fixture) {
	v := Row(1)
	f.insert(v)
	stale := copyOf(v)
	v.Reason = "FIRST"
	f.insert(v)
	stale.Reason = "SECOND"
	f.want(f.Apply(background, &storage.Change{Verification: stale}), storage.ErrConflict)
	if stale.Version != 1 {
		t.Errorf("a refused row has version %d, want the 1 it had", stale.Version)
	}
	f.same("row", f.get(v), v)
}

func rowTwice(t *testing.T, f *fixture) {
	v := Row(1)
	f.insert(v)
	again := Row(1)
	again.Reason = "AGAIN"
	f.want(f.Apply(background, &storage.Change{Verification: again}), storage.ErrConflict)
	f.same("row", f.get(v), v)
}

func rowUnstored(t *testing.T, f *fixture) {
	v := Row(1)
	v.Record, v.Version = 7, 3
	f.want(f.Apply(background, &storage.Change{Verification: v}), storage.ErrConflict)
	other := Row(2)
	f.insert(other)
	other.Record++
	f.want(f.Apply(background, &storage.Change{Verification: other}), storage.ErrConflict)
}

func rowRecords(t *testing.T, f *fixture) {
	var last uint64
	for n := range 5 {
		v := Row(n)
		f.insert(v)
		if v.Record <= last {
			t.Errorf("row %d has record %d after %d", n, v.Record, last)
		}
		last = v.Record
	}
}

// Contract section 5: one VASP may be both sides of a transfer.
func rowSelfTransfer(t *testing.T, f *fixture) {
	v := Row(0)
	v.Originating, v.Beneficiary, v.Sent = 9, 9, true
	f.insert(v)
	v.Received = true
	f.insert(v)
	rows, err := f.Lookup(background, v.UUID)
	if err != nil || len(rows) != 1 {
		t.Fatalf("Lookup = %d rows, %v, want one", len(rows), err)
	}
	f.same("row", rows[0], v)
}

func rowUnusable(t *testing.T, f *fixture) {
	noTime, badText := Row(1), Row(2)
	noTime.CreatedAt = time.Time{}
	badText.Message = "\xff is not UTF-8"
	for name, v := range map[string]*storage.Verification{"no creation time": noTime, "text not UTF-8": badText} {
		if err := f.Apply(background, &storage.Change{Verification: v}); err == nil {
			t.Errorf("%s: Apply = nil, want an error", name)
		}
	}
	moved := Row(3)
	f.insert(moved)
	moved.CreatedAt = moved.CreatedAt.Add(time.Second)
	err := f.Apply(background, &storage.Change{Verification: moved})
	if err == nil || errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("another creation time: Apply: %v, want an error that blames the caller", err)
	}
}

func lookupTwoOriginators(t *testing.T, f *fixture) {
	received, ours, other := Row(1), Row(2), Row(3)
	received.UUID, received.Originating = ours.UUID, 4
	ours.Originating = 5
	f.insert(received, ours, other)
	rows, err := f.Lookup(background, ours.UUID)
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	f.same("rows, ours first", rows, []*storage.Verification{ours, received})
	f.same("theirs", f.get(received), received)
	_, err = f.Verification(background, 6, ours.UUID)
	f.want(err, storage.ErrNotFound)
}

func (f *fixture) list(filter storage.Filter) ([]*storage.Verification, int) {
	f.Helper()
	rows, count, err := f.List(background, filter)
	if err != nil {
		f.Fatalf("List(%+v): %v", filter, err)
	}
	return rows, count
}

func listOrder(t *testing.T, f *fixture) {
	var want []*storage.Verification
	for _, n := range []int{3, 1, 4, 0, 2} { // inserted in another order than created
		f.insert(Row(n))
	}
	for n := 4; n >= 0; n-- {
		want = append(want, f.get(Row(n)))
	}
	rows, count := f.list(storage.Filter{})
	if count != len(want) {
		t.Errorf("count is %d, want %d", count, len(want))
	}
	f.same("rows", rows, want)
}

func listPages(t *testing.T, f *fixture) {
	f.insertSeries(25)
	for _, filter := range []storage.Filter{{}, {From: epoch}, {Symbol: "btc"}} {
		all, _ := f.list(filter)
		for _, page := range []struct{ offset, limit, want int }{
			{0, 10, 10}, {10, 10, 10}, {20, 10, 5}, {25, 10, 0}, {100, 10, 0}, {0, 25, 25}, {0, 26, 25}, {7, 0, 18}, {24, 1, 1},
		} {
			filter.Offset, filter.Limit = page.offset, page.limit
			rows, count := f.list(filter)
			if len(rows) != page.want || count != 25 {
				t.Errorf("offset %d, limit %d: %d rows of %d, want %d of 25", page.offset, page.limit, len(rows), count, page.want)
				continue
			}
			start := min(page.offset, 25)
			if len(rows) > 0 {
				f.same("page", rows, all[start:start+page.want])
			}
		}
	}
}

// match is a filter's meaning, said another way than by an engine.
func match(v *storage.Verification, f storage.Filter) bool {
	opposite := v.Originating
	if v.Sent {
		opposite = v.Beneficiary
	}
	fold := map[string]string{"btc": "BTC", "BTC": "BTC", "": v.Asset.Symbol, "bitcoin": "Bitcoin", "Eth": "ETH"}
	network := v.Asset.Network
	if f.Network != "" {
		network = fold[f.Network]
	}
	symbol := v.Asset.Symbol
	if f.Symbol != "" {
		symbol = fold[f.Symbol]
	}
	return (f.From.IsZero() || !v.CreatedAt.Before(f.From)) && (f.To.IsZero() || v.CreatedAt.Before(f.To)) &&
		symbol == v.Asset.Symbol && network == v.Asset.Network &&
		(f.TxHash == "" || f.TxHash == v.TxHash) && (f.Result == 0 || f.Result == v.Result) &&
		(!f.Sent || v.Sent) && (!f.Received || v.Received) && (f.Opposite == 0 || f.Opposite == opposite) &&
		(f.OriginatorAccount == "" || f.OriginatorAccount == v.OriginatorAccount) &&
		(f.BeneficiaryAccount == "" || f.BeneficiaryAccount == v.BeneficiaryAccount)
}

func listFilters(t *testing.T, f *fixture) {
	var all []*storage.Verification
	for n := range 60 {
		v := Row(n)
		if n%5 == 0 {
			v.Asset.Symbol, v.Asset.Network, v.TxHash = "ETH", "Ethereum", ""
		}
		f.insert(v)
		all = append([]*storage.Verification{v}, all...)
	}
	for _, filter := range []storage.Filter{
		{From: epoch.Add(10 * time.Second)},
		{From: epoch.Add(10*time.Second + 1)},
		{To: epoch.Add(10 * time.Second)},
		{To: epoch.Add(10*time.Second + 1)},
		{From: epoch.Add(5 * time.Second), To: epoch.Add(30 * time.Second)},
		{From: epoch.Add(time.Hour)},
		{From: time.Unix(0, 0), To: time.Unix(1, 0)},
		{To: time.Unix(-1000, 0)},
		{Symbol: "btc"}, {Symbol: "Eth"}, {Network: "bitcoin"}, {Symbol: "Eth", Network: "bitcoin"},
		{TxHash: "8a543"}, {TxHash: "8a540"}, {TxHash: "8a54"},
		{Result: storage.Verified}, {Result: storage.TransferError},
		{Sent: true}, {Received: true}, {Sent: true, Received: true},
		{Opposite: 101}, {Opposite: 16384656509591635927}, {Opposite: 5},
		{OriginatorAccount: "bc1qsender3"}, {OriginatorAccount: "bc1qsender"}, {OriginatorAccount: "BC1QSENDER3"},
		{BeneficiaryAccount: "bc1qreceiver4"},
		{OriginatorAccount: "bc1qsender3", BeneficiaryAccount: "bc1qreceiver3"},
		{OriginatorAccount: "bc1qsender3", BeneficiaryAccount: "bc1qreceiver4"},
		{OriginatorAccount: "bc1qsender3", TxHash: "8a543", From: epoch.Add(20 * time.Second), To: epoch.Add(50 * time.Second)},
		{OriginatorAccount: "bc1qsender3", Result: storage.Unknown},
		{Symbol: "btc", Received: true, Result: storage.Denied, Opposite: 102},
	} {
		var want []*storage.Verification
		for _, v := range all {
			if match(v, filter) {
				want = append(want, v)
			}
		}
		rows, count := f.list(filter)
		if count != len(want) {
			t.Errorf("List(%+v) counts %d, want %d", filter, count, len(want))
		}
		f.same("rows", rows, want)
		if filter.Limit = 2; len(want) > 3 {
			filter.Offset = 1
			rows, count = f.list(filter)
			if count != len(want) {
				t.Errorf("List(%+v) counts %d, want %d", filter, count, len(want))
			}
			f.same("second and third row", rows, want[1:3])
		}
	}
}

func listFollowsUpdate(t *testing.T, f *fixture) {
	v := Row(1)
	v.TxHash, v.Result = "", storage.Wait
	f.insert(v, Row(2))
	v.TxHash, v.Result, v.OriginatorAccount = "new-hash", storage.Verified, "new-account"
	f.insert(v)
	for name, c := range map[string]struct {
		filter storage.Filter
		want   int
	}{
		"new hash":    {storage.Filter{TxHash: "new-hash"}, 1},
		"new account": {storage.Filter{OriginatorAccount: "new-account"}, 1},
		"old account": {storage.Filter{OriginatorAccount: Row(1).OriginatorAccount}, 0},
		"new result":  {storage.Filter{Result: storage.Verified}, 1},
		"old result":  {storage.Filter{Result: storage.Wait}, 0},
	} {
		if _, count := f.list(c.filter); count != c.want {
			t.Errorf("%s: List counts %d, want %d", name, count, c.want)
		}
	}
}

func listMany(t *testing.T, f *fixture) {
	const n = 1500
	f.insertSeries(n)
	for _, filter := range []storage.Filter{{}, {From: epoch}, {Result: storage.Verified}, {Symbol: "BTC", Sent: true}, {OriginatorAccount: "bc1qsender7"}} {
		want := 0
		for i := range n {
			if match(Row(i), filter) {
				want++
			}
		}
		rows, count := f.list(filter)
		if len(rows) != want || count != want {
			t.Errorf("List(%+v) = %d rows of %d, want %d", filter, len(rows), count, want)
		}
		filter.Offset, filter.Limit = want-3, 3
		last, count := f.list(filter)
		if count != want {
			t.Errorf("List(%+v) counts %d, want %d", filter, count, want)
		}
		f.same("last three", last, rows[want-3:])
	}
}

func listNegative(t *testing.T, f *fixture) {
	for _, filter := range []storage.Filter{{Offset: -1}, {Limit: -1}} {
		if _, _, err := f.List(background, filter); err == nil {
			t.Errorf("List(%+v): no error", filter)
		}
	}
}

func readCancelled(t *testing.T, f *fixture) {
	f.insert(Row(1))
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, err := f.Verification(ctx, Row(1).Originating, RowID(1))
	f.want(err, context.Canceled)
	_, _, err = f.List(ctx, storage.Filter{})
	f.want(err, context.Canceled)
	_, err = f.Outbox(ctx)
	f.want(err, context.Canceled)
}
