package bolt_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

var freeze = flag.Bool("freeze", false, "make the frozen file of the present format, which must not be there")

// frozenVersions are the schema versions that were ever written, the present
// one last.
var frozenVersions = []string{"1", "2", "3"}

func frozenFile(version string) string    { return "testdata/history-v" + version + ".db.gz" }
func frozenContent(version string) string { return "testdata/history-v" + version + ".json" }

// frozenOptions: the KEK is the bytes 0 to 31.
func frozenOptions(tb testing.TB, path string) bolt.Options {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	kek, err := atrest.NewKEK(key)
	if err != nil {
		tb.Fatal(err)
	}
	o := options(tb, path)
	o.KEK = kek
	return o
}

// A file that this format's first program wrote is read by every later one.
// Never make the frozen file anew to make this test pass: a file like it is
// on somebody's disk.
func TestFrozenFileIsRead(t *testing.T) {
	if *freeze {
		freezeFile(t)
	}
	for _, version := range frozenVersions {
		t.Run(version, func(t *testing.T) { readFrozen(t, version) })
	}
}

func readFrozen(t *testing.T, version string) {
	path := newPath(t)
	writeFile(t, path, unzip(t, frozenFile(version)))
	if schema := schemaOf(t, path); schema != "vasp-enclave/history/"+version {
		t.Errorf("the frozen file's schema is %q", schema)
	}
	db := mustOpen(t, frozenOptions(t, path))
	for range 2 {
		if err := db.Check(t.Context()); err != nil {
			t.Errorf("Check: %v", err)
		}
		got, errs := readSample(db)
		for _, err := range errs {
			if !errors.Is(err, storage.ErrNotFound) { // the file has fewer receipts
				t.Error(err)
			}
		}
		if !contains(tree(t, text(got)), tree(t, string(readFile(t, frozenContent(version))))) {
			t.Errorf("the frozen file reads as\n%s", text(got))
		}
		mustApply(t, db, &storage.Change{Directory: got.Directory}) // and it is written to
		mustClose(t, db)
		db = mustOpen(t, frozenOptions(t, path))
	}
}

func unzip(t *testing.T, path string) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(readFile(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tree(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// contains says that got has all that want has; structs may have grown.
func contains(got, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		for key, value := range want {
			ok = ok && contains(got[key], value)
		}
		return ok
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return false
		}
		for i := range want {
			ok = ok && contains(got[i], want[i])
		}
		return ok
	}
	return reflect.DeepEqual(got, want)
}

func freezeFile(t *testing.T) {
	t.Helper()
	version := frozenVersions[len(frozenVersions)-1]
	if _, err := os.Stat(frozenFile(version)); err == nil {
		t.Fatalf("%s is there: it stays as it is", frozenFile(version))
	}
	path := newPath(t)
	db := mustOpen(t, frozenOptions(t, path))
	fillFrozen(t, db)
	content, _ := readSample(db)
	used := db.Size()
	mustClose(t, db)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(readFile(t, path)[:used]); err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	if err := errors.Join(z.Close(), json.Indent(&lines, []byte(text(content)), "", "  "), os.MkdirAll(filepath.Dir(frozenFile(version)), 0o755)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, frozenFile(version), packed.Bytes())
	writeFile(t, frozenContent(version), append(lines.Bytes(), '\n'))
}

// fillFrozen has two periods, an update, a self-transfer and every kind of
// record.
func fillFrozen(t *testing.T, db *bolt.DB) {
	for n := range 4 {
		v := storagetest.Row(n)
		v.CreatedAt = v.CreatedAt.AddDate(0, n/2, 0)
		if n == 3 {
			v.Originating, v.Sent, v.Received, v.IVMS101.Beneficiary, v.VOut = v.Beneficiary, true, true, nil, ""
		}
		mustApply(t, db, &storage.Change{
			Verification: v,
			Receipt:      &storage.Receipt{Originating: v.Originating, UUID: v.UUID, EnvelopeHash: [32]byte{1}, PayloadMAC: db.PlaintextMAC(v.IVMS101.Originator), ReplyBundle: []byte("bundle"), Expires: v.Deadline},
			Peer:         &storage.Peer{VASP: identity.VASPID(n + 1), State: storage.PeerState(n + 1), Identity: []byte("identity"), Pending: []byte("pending"), Serial: 1 << 63, Since: noon},
			PutOwnKeys:   []keyring.OwnKey{{ID: identity.KeyID{byte(n)}, Type: identity.PerVASP, Bundle: []byte("bundle"), Wrapped: []byte("wrapped"), NotAfter: noon, DeleteAfter: noon.AddDate(0, 0, 1)}},
			Outbox:       []*storage.OutboxEntry{{Kind: storage.OutboxKind(n + 1), UUID: v.UUID, Originating: v.Originating, Counterparty: 7, Body: []byte("body"), Created: v.CreatedAt, Deadline: v.Deadline}},
			Audit:        []storage.AuditEntry{{Time: v.CreatedAt, Actor: "backend", Verb: "accept", Object: v.UUID.String(), Peer: 7, Outcome: "ok", Reason: "OK"}},
		})
		if n == 1 {
			v.TxHash = "another"
			mustApply(t, db, &storage.Change{Verification: v, DropOutbox: []uint64{1}})
		}
	}
	mustApply(t, db, &storage.Change{Identity: &storage.OwnIdentity{Wrapped: []byte("wrapped"), Chain: []byte("chain")}, Directory: []byte(`{"vasps":[]}`)})
}

// The MACs and tags of the frozen file's keys are frozen with it: a receipt
// must be known, and an account found, after an upgrade.
func TestFrozenIndexesAreFound(t *testing.T) {
	for _, version := range frozenVersions {
		t.Run(version, func(t *testing.T) { findFrozen(t, version) })
	}
}

func findFrozen(t *testing.T, version string) {
	path := newPath(t)
	writeFile(t, path, unzip(t, frozenFile(version)))
	db := mustOpen(t, frozenOptions(t, path))
	v := storagetest.Row(0)
	r, err := db.Receipt(t.Context(), v.Originating, v.UUID)
	if err != nil || r.PayloadMAC != db.PlaintextMAC([]byte(`{"originatorPersons":[{"naturalPerson":{"n":"0"}}]}`)) {
		t.Errorf("Receipt = %+v, %v, and its MAC is not the payload's", r, err)
	}
	for name, f := range map[string]storage.Filter{
		"originator": {OriginatorAccount: "bc1qsender1"}, "beneficiary": {BeneficiaryAccount: "bc1qreceiver1"},
		"hash": {TxHash: "another"}, "opposite": {Opposite: 101},
		"symbol and network": {Symbol: "btc", Network: "BITCOIN", Result: storage.Denied},
	} {
		if rows, count, err := db.List(t.Context(), f); count != 1 || len(rows) != 1 || err != nil {
			t.Errorf("by %s: List = %d rows of %d, %v, want 1", name, len(rows), count, err)
		}
	}
}

func TestEveryBucketIsDescribed(t *testing.T) {
	path := newPath(t)
	mustClose(t, mustOpen(t, options(t, path)))
	page := string(readFile(t, "../FORMAT.md"))
	edit(t, path, func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			if !strings.Contains(page, "`"+string(name)+"`") {
				t.Errorf("FORMAT.md does not name bucket %s", name)
			}
			return nil
		})
	})
}
