// Package storagetest is what every storage engine must pass.
package storagetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Opener makes an empty history for one test, and a function that closes it
// and opens it again, as a program does that is started again. It closes
// what is open when the test ends.
type Opener func(t *testing.T) (h storage.History, reopen func() storage.History)

// History is the suite that every storage.History must pass.
func History(t *testing.T, open Opener) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *fixture){
		"no field is forgotten":                   samplesComplete,
		"nothing is found in an empty history":    historyEmpty,
		"a row comes back as it was written":      rowRoundTrip,
		"a payload comes back byte for byte":      rowPayloadBytes,
		"a row is updated at its version":         rowUpdate,
		"a stale version is a conflict":           rowStale,
		"a second new row is a conflict":          rowTwice,
		"an unstored row cannot be updated":       rowUnstored,
		"records rise":                            rowRecords,
		"one VASP on both sides is one row":       rowSelfTransfer,
		"an unusable row is refused":              rowUnusable,
		"two originators may choose the same id":  lookupTwoOriginators,
		"a change is written whole":               changeWhole,
		"a refused change leaves nothing":         changeAtomic,
		"an empty change is no error":             changeEmpty,
		"a cancelled change is not written":       changeCancelled,
		"the outbox keeps its order":              outboxOrder,
		"delivered entries leave the outbox":      outboxDrop,
		"receipts are found by originator and id": receiptRoundTrip,
		"a receipt is replaced":                   receiptReplaced,
		"pins are kept per VASP":                  peerRoundTrip,
		"a pin is replaced":                       peerReplaced,
		"our keys are kept by id":                 ownKeysRoundTrip,
		"our identity and the directory":          identityAndDirectory,
		"equal payloads have equal MACs":          payloadMAC,
		"list is newest first":                    listOrder,
		"list pages":                              listPages,
		"list filters":                            listFilters,
		"list follows an update":                  listFollowsUpdate,
		"list is right beyond one slice":          listMany,
		"list refuses negative pages":             listNegative,
		"64 goroutines":                           concurrent,
		"one of many updates wins":                concurrentUpdate,
		"everything survives a restart":           restart,
		"a cancelled read reads nothing":          readCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			h, reopen := open(t)
			test(t, &fixture{T: t, History: h, reopen: reopen})
		})
	}
}

// fixture is a history whose methods fail the test.
type fixture struct {
	*testing.T
	storage.History
	reopen func() storage.History
}

var background = context.Background()

// epoch is when the rows of the tests begin.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Row makes the n-th of a series of rows that differ in every field; they
// are created one second apart.
func Row(n int) *storage.Verification {
	digit := string(rune('0' + n%10))
	created := epoch.Add(time.Duration(n) * time.Second)
	return &storage.Verification{
		UUID:                    RowID(n),
		Originating:             identity.VASPID(100 + n%3),
		Beneficiary:             16384656509591635927,
		Sent:                    n%2 == 0,
		Received:                n%2 == 1,
		Result:                  storage.Result(1 + n%7),
		Reason:                  "REASON-" + digit,
		Message:                 "message \u00e9 \ud55c " + digit,
		KeyType:                 identity.KeyType(1 + n%3),
		Asset:                   storage.Asset{Symbol: "BTC", Network: "Bitcoin", Amount: "0." + digit, ExceedsThreshold: n%2 == 0, TradeCurrency: "KRW", TradePrice: "45000000", TradeISODatetime: "2026-03-01T12:00:00Z"},
		RequiredBeneficiaryInfo: "ACCOUNT_NUMBER",
		PayloadVersion:          "1.0",
		TxHash:                  "8a54" + digit,
		VOut:                    digit,
		OriginatorAccount:       "bc1qsender" + digit,
		BeneficiaryAccount:      "bc1qreceiver" + digit,
		IVMS101: storage.Parts{
			Originator:      []byte(`{"originatorPersons":[{"naturalPerson":{"n":"` + digit + `"}}]}`),
			OriginatingVASP: []byte(`{"legalPerson":{"name":"Ann & Co <ltd>"}}`),
			Beneficiary:     []byte(`{"accountNumber":["bc1qreceiver` + digit + `"]}`),
			BeneficiaryVASP: []byte(`{"legalPerson":{"n":` + digit + `}}`),
		},
		OriginatingVASPSource: storage.SourceDirectory,
		BeneficiaryVASPSource: storage.SourceDirectory,
		Answer:                []byte("answer " + digit),
		CreatedAt:             created,
		VerifiedAt:            created.Add(time.Second),
		OrderedAt:             created.Add(time.Minute),
		Deadline:              created.Add(10 * time.Minute),
	}
}

// RowID is the UUID of Row(n).
func RowID(n int) uuid.UUID {
	return uuid.NewSHA1(uuid.Nil, []byte{byte(n), byte(n >> 8), byte(n >> 16)})
}

// copyOf makes a row that can be changed while the other is compared.
func copyOf(v *storage.Verification) *storage.Verification {
	c := *v
	return &c
}

func (f *fixture) apply(c storage.Change) {
	f.Helper()
	if err := f.Apply(background, &c); err != nil {
		f.Fatalf("Apply: %v", err)
	}
}

// insert writes new rows.
func (f *fixture) insert(rows ...*storage.Verification) {
	f.Helper()
	for _, v := range rows {
		f.apply(storage.Change{Verification: v})
	}
}

// insertSeries writes Row(0) to Row(n-1), 64 of them at a time.
func (f *fixture) insertSeries(n int) {
	f.Helper()
	errs := make(chan error)
	free := make(chan struct{}, 64)
	go func() {
		for i := range n {
			free <- struct{}{}
			go func() {
				errs <- f.Apply(background, &storage.Change{Verification: Row(i)})
				<-free
			}()
		}
	}()
	for range n {
		if err := <-errs; err != nil {
			f.Errorf("insert: %v", err)
		}
	}
}

func (f *fixture) get(v *storage.Verification) *storage.Verification {
	f.Helper()
	got, err := f.Verification(background, v.Originating, v.UUID)
	if err != nil {
		f.Fatalf("Verification(%v, %v): %v", v.Originating, v.UUID, err)
	}
	return got
}

func (f *fixture) want(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("error is %v, want %v", err, want)
	}
}

func (f *fixture) same(what string, got, want any) {
	f.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func historyEmpty(t *testing.T, f *fixture) {
	_, err := f.Verification(background, 1, RowID(1))
	f.want(err, storage.ErrNotFound)
	_, err = f.Lookup(background, RowID(1))
	f.want(err, storage.ErrNotFound)
	_, err = f.Receipt(background, 1, RowID(1))
	f.want(err, storage.ErrNotFound)
	_, err = f.Peer(background, 1)
	f.want(err, storage.ErrNotFound)
	_, err = f.Identity(background)
	f.want(err, storage.ErrNotFound)
	_, err = f.Directory(background)
	f.want(err, storage.ErrNotFound)
	_, err = f.Shipped(background)
	f.want(err, storage.ErrNotFound)
	rows, count, err := f.List(background, storage.Filter{})
	if len(rows) != 0 || count != 0 || err != nil {
		t.Errorf("List = %d rows, %d, %v, want nothing", len(rows), count, err)
	}
	entries, err := f.Outbox(background)
	if len(entries) != 0 || err != nil {
		t.Errorf("Outbox = %d entries, %v, want nothing", len(entries), err)
	}
	keys, err := f.OwnKeys(background)
	if len(keys) != 0 || err != nil {
		t.Errorf("OwnKeys = %d keys, %v, want nothing", len(keys), err)
	}
}

func payloadMAC(t *testing.T, f *fixture) {
	a, b := f.PlaintextMAC([]byte("payload")), f.PlaintextMAC([]byte("Payload"))
	if a == b {
		t.Error("two payloads have one MAC")
	}
	f.History = f.reopen()
	if f.PlaintextMAC([]byte("payload")) != a {
		t.Error("the MAC of a payload is another one after a restart")
	}
}
