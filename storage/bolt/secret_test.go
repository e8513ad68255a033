package bolt_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// markers hands out text that occurs nowhere else, and remembers it.
type markers []string

func (m *markers) next() string {
	s := fmt.Sprintf("Marker%04dLeeHanbyul", len(*m))
	*m = append(*m, s)
	return s
}

func (m *markers) bytes() []byte { return []byte(`{"name":"` + m.next() + `"}`) }

// secretChange puts a marker wherever text or bytes are stored.
func secretChange(m *markers, n int) *storage.Change {
	v := storagetest.Row(n)
	for _, s := range []*string{
		&v.Reason, &v.Message, &v.Asset.Symbol, &v.Asset.Network, &v.Asset.Amount, &v.Asset.TradeCurrency,
		&v.Asset.TradePrice, &v.Asset.TradeISODatetime, &v.RequiredBeneficiaryInfo, &v.PayloadVersion, &v.TxHash, &v.VOut,
		&v.OriginatorAccount, &v.BeneficiaryAccount, &v.OriginatingVASPSource, &v.BeneficiaryVASPSource,
	} {
		*s = m.next()
	}
	for _, b := range []*[]byte{&v.IVMS101.Originator, &v.IVMS101.OriginatingVASP, &v.IVMS101.Beneficiary, &v.IVMS101.BeneficiaryVASP, &v.Answer} {
		*b = m.bytes()
	}
	return &storage.Change{
		Verification: v,
		Receipt:      &storage.Receipt{UUID: v.UUID, ReplyBundle: m.bytes(), EnvelopeHash: marker32(m), PayloadMAC: marker32(m), Expires: noon},
		Peer:         &storage.Peer{VASP: identity.VASPID(n), Identity: m.bytes(), Pending: m.bytes()},
		Identity:     &storage.OwnIdentity{Wrapped: m.bytes(), Chain: m.bytes()},
		Directory:    m.bytes(),
		PutOwnKeys:   []keyring.OwnKey{{ID: identity.KeyID{byte(n)}, Bundle: m.bytes(), Wrapped: m.bytes()}},
		Outbox:       []*storage.OutboxEntry{{UUID: v.UUID, Body: m.bytes(), Created: noon}},
		Audit:        []storage.AuditEntry{{Time: noon, Actor: m.next(), Verb: m.next(), Object: m.next(), Outcome: m.next(), Reason: m.next()}},
	}
}

func marker32(m *markers) (b [32]byte) { copy(b[:], m.next()); return b }

// encodings are the ways in which text could lie in a file.
func encodings(s string) (all [][]byte) {
	quoted, _ := json.Marshal(s)
	all = append(all, []byte(s), []byte(hex.EncodeToString([]byte(s))), bytes.ToUpper([]byte(hex.EncodeToString([]byte(s)))),
		bytes.Trim(quoted, `"`), []byte(url.QueryEscape(s)))
	for _, order := range []func(byte, byte) []byte{func(a, b byte) []byte { return []byte{a, b} }, func(a, b byte) []byte { return []byte{b, a} }} {
		var wide []byte
		for _, u := range utf16.Encode([]rune(s)) {
			wide = append(wide, order(byte(u>>8), byte(u))...)
		}
		all = append(all, wide)
	}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for offset := range 3 { // what the middle of it looks like after 0, 1 and 2 other bytes
			text := e.EncodeToString(append(make([]byte, offset), s...))
			all = append(all, []byte(text[4:len(text)-4]))
		}
	}
	return all
}

// S1, S9: who has the file has ids, times and states, and nothing that was
// written into any field, in no encoding. It may look while the store is
// open, and at what was overwritten and deleted.
func TestAStolenFileTellsNothing(t *testing.T) {
	var m markers
	o := options(t, newPath(t))
	db := mustOpen(t, o)
	for n := 1; n < 12; n++ {
		c := secretChange(&m, n)
		mustApply(t, db, c)
		if n%3 == 0 {
			c.Verification.Message = m.next()
			mustApply(t, db, &storage.Change{Verification: c.Verification, DropOutbox: []uint64{c.Outbox[0].Seq}, DropOwnKeys: []identity.KeyID{{byte(n)}}})
		}
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(o.Path), "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v, want one", files, err)
	}
	file, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if id := storagetest.RowID(1); !bytes.Contains(file, id[:]) {
		t.Error("not even ids are found: this test tests nothing")
	}
	for _, marker := range m {
		for _, form := range encodings(marker) {
			if at := bytes.Index(file, form); at >= 0 {
				t.Errorf("marker %q lies at byte %d as %q", marker, at, form)
			}
		}
	}
}

// Errors name buckets and numbers, never what is in a record (attack L1).
func TestErrorsTellNothing(t *testing.T) {
	var m markers
	db := mustOpen(t, options(t, newPath(t)))
	c := secretChange(&m, 1)
	c.Verification.Message = m.next() + "\xff"
	err := db.Apply(t.Context(), c)
	if err == nil {
		t.Fatal("text that is not UTF-8 is accepted")
	}
	for _, marker := range m {
		if bytes.Contains([]byte(err.Error()), []byte(marker)) {
			t.Errorf("error %q tells %q", err, marker)
		}
	}
}
