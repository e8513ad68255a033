package storagetest

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// entry makes an outbox entry that belongs to Row(n).
func entry(n int) *storage.OutboxEntry {
	v := Row(n)
	return &storage.OutboxEntry{
		Kind: storage.OutboxKind(1 + n%4), Originating: v.Originating, UUID: v.UUID, Counterparty: identity.VASPID(n),
		Body: []byte{byte(n), 0xff, '{'}, Created: v.CreatedAt, Deadline: v.Deadline,
	}
}

func receipt(n int) *storage.Receipt {
	v := Row(n)
	return &storage.Receipt{
		Originating: v.Originating, UUID: v.UUID, EnvelopeHash: [32]byte{byte(n), 1}, PayloadMAC: [32]byte{31: byte(n)},
		ReplyBundle: []byte{0xff, byte(n)}, Expires: v.Deadline,
	}
}

func peer(n int) *storage.Peer {
	return &storage.Peer{
		VASP: identity.VASPID(1000 + n), State: storage.PeerState(1 + n%4), Identity: []byte{1, byte(n)},
		Pending: []byte{2, byte(n)}, Serial: 1 << 60, Since: epoch.Add(time.Duration(n) * time.Hour),
	}
}

func ownKey(n int) keyring.OwnKey {
	return keyring.OwnKey{
		ID: identity.KeyID{byte(n), 9}, Type: identity.PerVASP, Bundle: []byte{0, byte(n)}, Wrapped: []byte{0xff, byte(n)},
		NotAfter: epoch.Add(time.Hour), DeleteAfter: epoch.Add(2 * time.Hour),
	}
}

func auditEntry(n int) storage.AuditEntry {
	return storage.AuditEntry{Time: epoch.Add(time.Duration(n) * time.Second), Actor: "peer", Verb: "open", Object: RowID(n).String(), Peer: 3, Outcome: "ok"}
}

// samplesComplete makes sure that the samples, which come back from a store
// equal, have something in every field: a field that is added to a struct
// must be added to the engines too.
func samplesComplete(t *testing.T, f *fixture) {
	for name, samples := range map[string][]any{
		"Verification": {*Row(1), *Row(2)}, "OutboxEntry": {*entry(1)}, "Receipt": {*receipt(1)},
		"Peer": {*peer(1)}, "OwnKey": {ownKey(1)},
	} {
		given := map[string]bool{"Record": true, "Version": true, "Seq": true} // by the store
		for _, sample := range samples {
			noteFields(reflect.ValueOf(sample), given)
		}
		for field, set := range given {
			if !set {
				t.Errorf("%s.%s is empty in the samples", name, field)
			}
		}
	}
}

func noteFields(v reflect.Value, set map[string]bool) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if field := v.Field(i); field.Kind() == reflect.Struct && field.Type() != reflect.TypeFor[time.Time]() {
			noteFields(field, set)
		} else {
			set[name] = set[name] || !field.IsZero()
		}
	}
}

// everything is a change that touches all that a change can.
func everything(n int) *storage.Change {
	return &storage.Change{
		Verification: Row(n), Receipt: receipt(n), Peer: peer(n),
		Identity: &storage.OwnIdentity{Wrapped: []byte{byte(n)}, Chain: []byte{1, byte(n)}, Replaces: n%2 == 1}, Directory: []byte{'{', byte(n)},
		PutOwnKeys: []keyring.OwnKey{ownKey(n)}, Outbox: []*storage.OutboxEntry{entry(n), entry(n + 1)},
		Audit: []storage.AuditEntry{auditEntry(n), auditEntry(n)},
	}
}

// has checks that everything(n) is there, and with it nothing else in the
// outbox.
func (f *fixture) has(c *storage.Change) {
	f.Helper()
	f.same("row", f.get(c.Verification), c.Verification)
	got, err := f.Receipt(background, c.Receipt.Originating, c.Receipt.UUID)
	f.same("receipt", got, c.Receipt)
	f.want(err, nil)
	p, err := f.Peer(background, c.Peer.VASP)
	f.same("peer", p, c.Peer)
	f.want(err, nil)
	i, err := f.Identity(background)
	f.same("identity", i, c.Identity)
	f.want(err, nil)
	d, err := f.Directory(background)
	f.same("directory", d, c.Directory)
	f.want(err, nil)
	keys, err := f.OwnKeys(background)
	f.same("own keys", keys, c.PutOwnKeys)
	f.want(err, nil)
	entries, err := f.Outbox(background)
	f.same("outbox", entries, c.Outbox)
	f.want(err, nil)
}

func changeWhole(t *testing.T, f *fixture) {
	c := everything(1)
	if err := f.Apply(background, c); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	f.has(c)
}

// A change that conflicts writes nothing, of whatever kind.
func changeAtomic(t *testing.T, f *fixture) {
	first := everything(1)
	if err := f.Apply(background, first); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	refused := everything(2)
	refused.Verification = Row(1) // is there already
	refused.DropOutbox = []uint64{first.Outbox[0].Seq}
	refused.DropOwnKeys = []identity.KeyID{ownKey(1).ID}
	f.want(f.Apply(background, refused), storage.ErrConflict)
	if refused.Outbox[0].Seq != 0 || refused.Verification.Version != 0 {
		t.Error("a refused change has got numbers")
	}
	f.has(first)
	_, err := f.Receipt(background, Row(2).Originating, RowID(2))
	f.want(err, storage.ErrNotFound)
	_, err = f.Peer(background, peer(2).VASP)
	f.want(err, storage.ErrNotFound)
}

func changeEmpty(t *testing.T, f *fixture) { f.apply(storage.Change{}) }

func changeCancelled(t *testing.T, f *fixture) {
	ctx, cancel := context.WithCancel(background)
	cancel()
	f.want(f.Apply(ctx, &storage.Change{Verification: Row(1)}), context.Canceled)
	_, err := f.Verification(background, Row(1).Originating, RowID(1))
	f.want(err, storage.ErrNotFound)
}

func outboxOrder(t *testing.T, f *fixture) {
	var want []*storage.OutboxEntry
	for n := range 10 {
		a, b := entry(n), entry(100+n)
		f.apply(storage.Change{Outbox: []*storage.OutboxEntry{a, b}})
		want = append(want, a, b)
	}
	got, err := f.Outbox(background)
	f.want(err, nil)
	f.same("outbox", got, want)
	for i := range got[1:] {
		if got[i].Seq >= got[i+1].Seq {
			t.Errorf("sequence numbers %d, %d do not rise", got[i].Seq, got[i+1].Seq)
		}
	}
}

func outboxDrop(t *testing.T, f *fixture) {
	a, b, c := entry(1), entry(2), entry(3)
	b.Body, b.Deadline = nil, time.Time{}
	f.apply(storage.Change{Outbox: []*storage.OutboxEntry{a, b, c}})
	f.apply(storage.Change{DropOutbox: []uint64{a.Seq, c.Seq, a.Seq, 99999}})
	got, err := f.Outbox(background)
	f.want(err, nil)
	f.same("outbox", got, []*storage.OutboxEntry{b})
	d := entry(4)
	f.apply(storage.Change{Outbox: []*storage.OutboxEntry{d}, DropOutbox: []uint64{b.Seq}})
	if d.Seq <= c.Seq {
		t.Errorf("sequence number %d is used again after %d", d.Seq, c.Seq)
	}
	got, err = f.Outbox(background)
	f.want(err, nil)
	f.same("outbox", got, []*storage.OutboxEntry{d})
	one, err := f.OutboxEntry(background, d.Seq)
	f.want(err, nil)
	f.same("outbox entry", one, d)
	_, err = f.OutboxEntry(background, b.Seq)
	f.want(err, storage.ErrNotFound)
}

func receiptRoundTrip(t *testing.T, f *fixture) {
	a, b := receipt(1), receipt(1)
	b.Originating++
	b.ReplyBundle, b.EnvelopeHash = nil, [32]byte{}
	for _, r := range []*storage.Receipt{a, b} {
		f.apply(storage.Change{Receipt: r})
	}
	for _, want := range []*storage.Receipt{a, b} {
		got, err := f.Receipt(background, want.Originating, want.UUID)
		f.want(err, nil)
		f.same("receipt", got, want)
	}
	_, err := f.Receipt(background, 999, a.UUID)
	f.want(err, storage.ErrNotFound)
}

func receiptReplaced(t *testing.T, f *fixture) {
	r := receipt(1)
	f.apply(storage.Change{Receipt: r})
	r.ReplyBundle, r.Expires = []byte("newer"), r.Expires.Add(time.Hour)
	f.apply(storage.Change{Receipt: r})
	got, err := f.Receipt(background, r.Originating, r.UUID)
	f.want(err, nil)
	f.same("receipt", got, r)
}

func peerRoundTrip(t *testing.T, f *fixture) {
	var want []*storage.Peer
	for n := range 5 {
		p := peer(n)
		if n == 3 {
			p.Pending, p.Identity = nil, []byte{}
		}
		f.apply(storage.Change{Peer: p})
		want = append(want, p)
	}
	got, err := f.Peers(background)
	f.want(err, nil)
	slices.SortFunc(got, func(a, b *storage.Peer) int { return int(a.VASP) - int(b.VASP) })
	f.same("peers", got, want)
	_, err = f.Peer(background, 5)
	f.want(err, storage.ErrNotFound)
}

func peerReplaced(t *testing.T, f *fixture) {
	p := peer(1)
	f.apply(storage.Change{Peer: p})
	p.State, p.Identity, p.Pending = storage.PeerVerified, []byte("next"), nil
	f.apply(storage.Change{Peer: p})
	got, err := f.Peer(background, p.VASP)
	f.want(err, nil)
	f.same("peer", got, p)
}

func ownKeysRoundTrip(t *testing.T, f *fixture) {
	for n := range 3 {
		f.want(f.PutOwnKey(background, ownKey(n)), nil)
	}
	changed := ownKey(1)
	changed.NotAfter = epoch
	f.want(f.PutOwnKey(background, changed), nil)
	f.want(f.DropOwnKeys(background, ownKey(0).ID, identity.KeyID{77}), nil)
	f.want(f.DropOwnKeys(background), nil)
	got, err := f.OwnKeys(background)
	f.want(err, nil)
	slices.SortFunc(got, func(a, b keyring.OwnKey) int { return int(a.ID[0]) - int(b.ID[0]) })
	f.same("own keys", got, []keyring.OwnKey{changed, ownKey(2)})
}

func identityAndDirectory(t *testing.T, f *fixture) {
	for n := range 2 {
		c := &storage.Change{
			Identity:  &storage.OwnIdentity{Wrapped: []byte{0xff, byte(n)}, Chain: []byte("chain"), Replaces: n == 0},
			Directory: []byte(` {"vasps":[ ]}` + string(rune('0'+n))),
			Shipped:   []byte{'{', byte(n)},
		}
		f.apply(*c)
		i, err := f.Identity(background)
		f.want(err, nil)
		f.same("identity", i, c.Identity)
		d, err := f.Directory(background)
		f.want(err, nil)
		f.same("directory", d, c.Directory)
		d, err = f.Shipped(background)
		f.want(err, nil)
		f.same("how far the sinks are", d, c.Shipped)
	}
}

func concurrent(t *testing.T, f *fixture) {
	const goroutines, each = 64, 10
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range each {
				v := Row(g*each + i)
				e := entry(g*each + i)
				if err := f.Apply(background, &storage.Change{Verification: v, Outbox: []*storage.OutboxEntry{e}, Audit: []storage.AuditEntry{auditEntry(g)}}); err != nil {
					t.Errorf("insert: %v", err)
					return
				}
				v.Result, v.Reason = storage.Verified, "OK"
				if err := f.Apply(background, &storage.Change{Verification: v, DropOutbox: []uint64{e.Seq}}); err != nil {
					t.Errorf("update: %v", err)
					return
				}
				got, err := f.Verification(background, v.Originating, v.UUID)
				if err != nil || got.Version != 2 || got.Reason != "OK" {
					t.Errorf("read after write: %+v, %v", got, err)
				}
				if _, _, err := f.List(background, storage.Filter{Result: storage.Verified, Limit: 3}); err != nil {
					t.Errorf("List: %v", err)
				}
			}
		})
	}
	all.Wait()
	rows, count := f.list(storage.Filter{})
	seen := map[uint64]bool{}
	for _, v := range rows {
		seen[v.Record] = true
	}
	if count != goroutines*each || len(seen) != goroutines*each {
		t.Errorf("%d rows with %d records, want %d", count, len(seen), goroutines*each)
	}
	if left, err := f.Outbox(background); len(left) != 0 || err != nil {
		t.Errorf("Outbox = %d entries, %v, want none", len(left), err)
	}
}

// Of changes that were decided on one reading, one is written.
func concurrentUpdate(t *testing.T, f *fixture) {
	v := Row(1)
	f.insert(v)
	results := make(chan error, 64)
	for range cap(results) {
		mine := copyOf(v)
		mine.Reason = "CHANGED"
		go func() { results <- f.Apply(background, &storage.Change{Verification: mine}) }()
	}
	won := 0
	for range cap(results) {
		if err := <-results; err == nil {
			won++
		} else {
			f.want(err, storage.ErrConflict)
		}
	}
	if got := f.get(v); won != 1 || got.Version != 2 {
		t.Errorf("%d updates were accepted and the version is %d, want 1 and 2", won, got.Version)
	}
}

func restart(t *testing.T, f *fixture) {
	c := everything(1)
	if err := f.Apply(background, c); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	// A year on: the first row and this one are of different periods.
	later := Row(2)
	later.CreatedAt = later.CreatedAt.AddDate(1, 0, 0)
	f.insert(later)
	for range 2 {
		f.History = f.reopen()
		f.has(c)
		f.same("later row", f.get(later), later)
		if _, count := f.list(storage.Filter{}); count != 2 {
			t.Errorf("List counts %d, want 2", count)
		}
	}
	c.Verification.Reason = "AFTER"
	next := entry(9)
	f.apply(storage.Change{Verification: c.Verification, Outbox: []*storage.OutboxEntry{next}})
	if next.Seq <= c.Outbox[1].Seq {
		t.Errorf("after a restart sequence number %d follows %d", next.Seq, c.Outbox[1].Seq)
	}
	third := Row(3)
	f.insert(third)
	if third.Record <= later.Record {
		t.Errorf("after a restart record %d follows %d", third.Record, later.Record)
	}
}
