package bolt_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// fuzzRecord wants a decoder that never panics, and whose results encode and
// decode to themselves.
func fuzzRecord[T any](f *testing.F, seed T, decode func([]byte) (T, error), encode func(T) ([]byte, error)) {
	b, err := encode(seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(append(bytes.Clone(b), 0))
	f.Add([]byte{})
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x02{}\xff\xff\xff\xff\xff\xff\xff\xfe"))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(first)
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		second, err := decode(again)
		if err != nil || text(first) != text(second) {
			t.Fatalf("decoded again: %v\n%s\n%s", err, text(first), text(second))
		}
	})
}

func FuzzDecodeRow(f *testing.F) {
	fuzzRecord(f, storagetest.Row(1), bolt.DecodeRow, bolt.EncodeRow)
}

func FuzzDecodeOutbox(f *testing.F) {
	fuzzRecord(f, &storage.OutboxEntry{Kind: storage.ToPeerTx, Body: []byte("body"), Created: noon}, bolt.DecodeOutbox, bolt.EncodeOutbox)
}

func FuzzDecodeReceipt(f *testing.F) {
	fuzzRecord(f, &storage.Receipt{ReplyBundle: []byte("bundle")}, bolt.DecodeReceipt, bolt.EncodeReceipt)
}

func FuzzDecodePeer(f *testing.F) {
	fuzzRecord(f, &storage.Peer{State: storage.PeerVerified, Identity: []byte("id"), Since: noon}, bolt.DecodePeer, bolt.EncodePeer)
}

func FuzzDecodeOwnKey(f *testing.F) {
	fuzzRecord(f, keyring.OwnKey{Type: identity.PerVASP, Bundle: []byte("bundle"), NotAfter: noon}, bolt.DecodeOwnKey,
		func(k keyring.OwnKey) ([]byte, error) { return bolt.EncodeOwnKey(&k) })
}

func FuzzDecodeAudit(f *testing.F) {
	fuzzRecord(f, storage.AuditEntry{Time: noon, Verb: "open", Peer: 7}, bolt.DecodeAudit,
		func(e storage.AuditEntry) ([]byte, error) { return bolt.EncodeAudit(&e) })
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0c{\"cells\":{}}\x00\x00\x00\x20................................"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := bolt.DecodeState(b); err == nil && s.Cells == nil {
			t.Error("a state without counts is accepted")
		}
		_, _ = bolt.DecodeIdentity(b)
	})
}

// A chapter that is accepted is in order, and says the same again.
func FuzzDecodeChapter(f *testing.F) {
	for _, n := range []int{0, 1, 3, 256} {
		b, err := bolt.EncodeChapter(bolt.SampleChapter(n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(bytes.Clone(b), 0))
	}
	f.Add([]byte("\x00\x00\x00\x02{}\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x02\x01\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := bolt.DecodeChapter(b)
		if err != nil {
			return
		}
		rows := bolt.Kinds(first)
		if !slices.IsSorted(rows) || len(rows) > 256 {
			t.Errorf("%d rows, not in order or too many", len(rows))
		}
		again, err := bolt.EncodeChapter(first)
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		second, err := bolt.DecodeChapter(again)
		if err != nil || !slices.Equal(rows, bolt.Kinds(second)) {
			t.Fatalf("decoded again: %v\n%v\n%v", err, rows, bolt.Kinds(second))
		}
	})
}

// A header is accepted in no other bucket and under no other key.
func FuzzParseCell(f *testing.F) {
	f.Add([]byte("key"), []byte{})
	f.Add([]byte("key"), make([]byte, 18))
	f.Add([]byte{}, make([]byte, 100))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if n := bolt.ParseCells(key, value); n > 1 {
			t.Errorf("%d buckets accept one value", n)
		}
	})
}

// The layout of FORMAT.md: an object, then sections, of which nil is not empty.
func TestEncodedRecordsAreJSONAndSections(t *testing.T) {
	b, err := bolt.EncodePeer(&storage.Peer{State: storage.PeerTOFU, Identity: []byte{}, Serial: 1<<64 - 1})
	if err != nil {
		t.Fatal(err)
	}
	want := "\x00\x00\x00\x29" + `{"state":1,"serial":18446744073709551615}` + "\x00\x00\x00\x00" + "\xff\xff\xff\xff"
	if string(b) != want || !json.Valid(b[4:4+0x29]) {
		t.Errorf("EncodePeer = %q, want %q", b, want)
	}
}

func TestARecordIsWholeOrRefused(t *testing.T) {
	b, err := bolt.EncodeRow(storagetest.Row(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.DecodeRow(append(bytes.Clone(b), 0)); err == nil {
		t.Error("a byte that trails is accepted")
	}
	for n := range b {
		if _, err := bolt.DecodeRow(b[:n]); err == nil {
			t.Errorf("%d of %d bytes are accepted", n, len(b))
		}
	}
}
