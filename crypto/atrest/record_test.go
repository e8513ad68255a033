package atrest_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

func wrapRecord(t testing.TB, k *atrest.Keys, kek *atrest.KEK) []byte {
	t.Helper()
	record, err := k.WrapRecord(kek)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestRecordComesBackUnderItsKEK(t *testing.T) {
	k, kek := newKeys(t, 5, 700, 6), newKEK(t, 1)
	place := atrest.Place{Bucket: "b", Record: []byte("r"), Version: 1}
	private, err := k.Private().Seal(place, nil, []byte("private"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := personal(t, k, 700).Seal(place, nil, []byte("personal"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := atrest.OpenRecord(kek, wrapRecord(t, k, kek))
	if err != nil {
		t.Fatal(err)
	}
	if got.Instance() != instance || got.PeriodLength() != month || len(got.Periods()) != 3 {
		t.Errorf("OpenRecord: instance %x, period %v, periods %v", got.Instance(), got.PeriodLength(), got.Periods())
	}
	if b, err := got.Private().Open(place, nil, private); err != nil || string(b) != "private" {
		t.Errorf("private value: %q, %v", b, err)
	}
	if b, err := personal(t, got, 700).Open(place, nil, sealed); err != nil || string(b) != "personal" {
		t.Errorf("personal value: %q, %v", b, err)
	}
	if got.Index("p", []byte("v")) != k.Index("p", []byte("v")) || got.MAC("p", nil) != k.MAC("p", nil) {
		t.Error("index and MAC changed")
	}
}

// Changing the KEK rewraps one record and no value.
func TestRewrappingChangesTheKEK(t *testing.T) {
	k, old, next := newKeys(t, 5), newKEK(t, 1), newKEK(t, 2)
	sealed, err := personal(t, k, 5).Seal(atrest.Place{}, nil, []byte("Kim"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := atrest.OpenRecord(old, wrapRecord(t, k, old))
	if err != nil {
		t.Fatal(err)
	}
	rewrapped := wrapRecord(t, opened, next)
	if id, err := atrest.RecordKEK(rewrapped); err != nil || id != next.ID() {
		t.Errorf("RecordKEK = %s, %v, want %s", id, err, next.ID())
	}
	if _, err := atrest.OpenRecord(old, rewrapped); !errors.Is(err, atrest.ErrWrongKEK) {
		t.Errorf("OpenRecord with the old KEK = %v, want ErrWrongKEK", err)
	}
	again, err := atrest.OpenRecord(next, rewrapped)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := personal(t, again, 5).Open(atrest.Place{}, nil, sealed); err != nil || string(b) != "Kim" {
		t.Errorf("Open = %q, %v", b, err)
	}
}

// Attack S11: the wrong KEK is told from damage, by name.
func TestWrongKEKIsSaidSo(t *testing.T) {
	right, wrong := newKEK(t, 1), newKEK(t, 2)
	_, err := atrest.OpenRecord(wrong, wrapRecord(t, newKeys(t), right))
	if !errors.Is(err, atrest.ErrWrongKEK) || errors.Is(err, atrest.ErrCorruptRecord) {
		t.Fatalf("OpenRecord = %v, want ErrWrongKEK", err)
	}
	if !strings.Contains(err.Error(), right.ID()) || !strings.Contains(err.Error(), wrong.ID()) {
		t.Errorf("OpenRecord = %v, want both ids", err)
	}
}

// Attacks S2, S8: no byte of the record can be changed, and no keyset left
// out, taken from an older record or given another name.
func TestDamagedRecordIsRefused(t *testing.T) {
	k, kek := newKeys(t, 5), newKEK(t, 1)
	record := wrapRecord(t, k, kek)
	for i := range record {
		bad := bytes.Clone(record)
		bad[i] ^= 1
		if _, err := atrest.OpenRecord(kek, bad); !errors.Is(err, atrest.ErrCorruptRecord) && !errors.Is(err, atrest.ErrWrongKEK) {
			t.Fatalf("byte %d changed: OpenRecord = %v", i, err)
		}
		if _, err := atrest.OpenRecord(kek, record[:i]); !errors.Is(err, atrest.ErrCorruptRecord) {
			t.Fatalf("cut to %d bytes: OpenRecord = %v, want ErrCorruptRecord", i, err)
		}
	}
	if _, err := atrest.OpenRecord(kek, append(bytes.Clone(record), 0)); !errors.Is(err, atrest.ErrCorruptRecord) {
		t.Errorf("trailing byte: OpenRecord = %v, want ErrCorruptRecord", err)
	}
	// The proof of the record with one period does not fit the one without.
	older := wrapRecord(t, newKeysWithout(t, k, 5), kek)
	mixed := append(bytes.Clone(older[:len(older)-proofField]), record[len(record)-proofField:]...)
	if _, err := atrest.OpenRecord(kek, mixed); !errors.Is(err, atrest.ErrCorruptRecord) {
		t.Errorf("keyset left out: OpenRecord = %v, want ErrCorruptRecord", err)
	}
}

const proofField = 6 + 40

func newKeysWithout(t *testing.T, k *atrest.Keys, n uint32) *atrest.Keys {
	t.Helper()
	if err := k.DropPeriod(n); err != nil {
		t.Fatal(err)
	}
	return k
}

// rewrite changes the list of keysets and signs the record with the true KEK,
// as nobody but the owner can: the list itself is canonical.
func rewrite(t *testing.T, record []byte, fill byte, change func(list [][]byte) [][]byte) []byte {
	t.Helper()
	d := tlv.NewDecoder(record[1:])
	kek, instance, period := d.Range(1, 8, 8), d.Range(2, 16, 16), d.Range(3, 8, 8)
	inner := tlv.NewDecoder(d.Range(4, 1, 1<<20))
	var list [][]byte
	for i := uint16(1); inner.More(); i++ {
		list = append(list, inner.Range(i, 1, 1<<10))
	}
	var encoded []byte
	for i, v := range change(list) {
		encoded = tlv.Append(encoded, uint16(i+1), v)
	}
	b := tlv.Append(record[:1:1], 1, kek)
	b = tlv.Append(b, 2, instance)
	b = tlv.Append(b, 3, period)
	b = tlv.Append(b, 4, encoded)
	proof, err := insecureWrap(t, fill).Encrypt(nil, append(tlv.Domain("vasp-enclave/v1/data-keyset-record"), b...))
	if err != nil {
		t.Fatal(err)
	}
	return tlv.Append(b, 5, proof)
}

// insecureWrap is the wrapping key of FORMAT.md, derived from a public KEK.
func insecureWrap(t *testing.T, fill byte) identity.AEAD {
	t.Helper()
	raw, err := hkdf.Key(sha256.New, insecure.Seed(fill), nil, "vasp-enclave/v1/kek-wrap", 32)
	if err != nil {
		t.Fatal(err)
	}
	return insecure.AEADOf(t, raw)
}

// frozenRecord is one of the first format, which nobody writes any more.
func frozenRecord(t *testing.T) []byte {
	t.Helper()
	var v vectors
	insecure.Vectors(t, "testdata/vectors.json", &v)
	return v.Record
}

func TestKeysetListOfTheFirstFormatIsCanonical(t *testing.T) {
	const fill = 0x44
	record, kek := frozenRecord(t), newKEK(t, fill)
	for name, change := range map[string]func(l [][]byte) [][]byte{
		"private left out": func(l [][]byte) [][]byte { return l[2:] },
		"index left out":   func(l [][]byte) [][]byte { return append(l[:2:2], l[4:]...) },
		"periods swapped": func(l [][]byte) [][]byte {
			return append(l[:4:4], l[6], l[7], l[4], l[5])
		},
		"period twice":       func(l [][]byte) [][]byte { return append(l, l[6], l[7]) },
		"period renamed":     func(l [][]byte) [][]byte { l[6] = []byte("personal/7"); return l },
		"keys exchanged":     func(l [][]byte) [][]byte { l[5], l[7] = l[7], l[5]; return l },
		"unknown name":       func(l [][]byte) [][]byte { l[6] = []byte("personal"); return l },
		"name with a number": func(l [][]byte) [][]byte { l[6] = []byte("personal/681/5"); return l },
		"padded number":      func(l [][]byte) [][]byte { l[6] = []byte("personal/0681"); return l },
		"number too large":   func(l [][]byte) [][]byte { l[6] = []byte("personal/4294967296"); return l },
		"name without a key": func(l [][]byte) [][]byte { return l[:7] },
		"index as private":   func(l [][]byte) [][]byte { l[1] = l[3]; return l },
	} {
		bad := rewrite(t, record, fill, change)
		if _, err := atrest.OpenRecord(kek, bad); !errors.Is(err, atrest.ErrCorruptRecord) {
			t.Errorf("%s: OpenRecord = %v, want ErrCorruptRecord", name, err)
		}
	}
	same := rewrite(t, record, fill, func(l [][]byte) [][]byte { return l })
	if _, err := atrest.OpenRecord(kek, same); err != nil {
		t.Errorf("unchanged: OpenRecord = %v", err)
	}
}

// The list is the next number, and then name, time and key of private/1,
// index/2, wrap/3, personal/5/4, personal/6/5.
func TestKeysetListIsCanonicalWhoeverWritesIt(t *testing.T) {
	k, kek := newKeys(t, 5, 6), newKEK(t, 1)
	record := wrapRecord(t, k, kek)
	without := func(i int) func(l [][]byte) [][]byte {
		return func(l [][]byte) [][]byte { return append(l[:1+3*i:1+3*i], l[4+3*i:]...) }
	}
	for name, change := range map[string]func(l [][]byte) [][]byte{
		"private left out": without(0),
		"index left out":   without(1),
		"wrap left out":    without(2),
		"keys swapped": func(l [][]byte) [][]byte {
			return append(append(append([][]byte{}, l[:10]...), l[13:]...), l[10:13]...)
		},
		"key twice":            func(l [][]byte) [][]byte { return append(l, l[13:16]...) },
		"number not given yet": func(l [][]byte) [][]byte { l[0] = []byte{7: 5}; return l },
		"next is too large":    func(l [][]byte) [][]byte { l[0] = []byte{3: 1, 7: 0}; return l },
		"period renamed":       func(l [][]byte) [][]byte { l[13] = []byte("personal/7/5"); return l },
		"number changed":       func(l [][]byte) [][]byte { l[0] = []byte{7: 9}; l[13] = []byte("personal/6/6"); return l },
		"keys exchanged":       func(l [][]byte) [][]byte { l[12], l[15] = l[15], l[12]; return l },
		"unknown name":         func(l [][]byte) [][]byte { l[13] = []byte("person/6/5"); return l },
		"name without number":  func(l [][]byte) [][]byte { l[13] = []byte("personal/6"); return l },
		"private of a period":  func(l [][]byte) [][]byte { l[1] = []byte("private/0/1"); return l },
		"padded number":        func(l [][]byte) [][]byte { l[13] = []byte("personal/6/05"); return l },
		"number too large":     func(l [][]byte) [][]byte { l[13] = []byte("personal/4294967296/5"); return l },
		"name without a key":   func(l [][]byte) [][]byte { return l[:15] },
		"index as private":     func(l [][]byte) [][]byte { l[3] = l[6]; return l },
	} {
		bad := rewrite(t, record, 1, change)
		if _, err := atrest.OpenRecord(kek, bad); !errors.Is(err, atrest.ErrCorruptRecord) {
			t.Errorf("%s: OpenRecord = %v, want ErrCorruptRecord", name, err)
		}
	}
	// Even keysets that were wrapped for names no one would write.
	for _, name := range []string{"personal/6/05", "index/5", "wrap/5"} {
		strange := rewrite(t, record, 1, func(l [][]byte) [][]byte {
			place := tlv.AppendPart(tlv.Domain("vasp-enclave/v1/data-keyset"), instance[:])
			k := insecure.ValueKey(t, insecure.Seed(3))
			l[13], l[15] = []byte(name), insecure.Wrap(t, k, insecureWrap(t, 1), tlv.AppendPart(place, []byte(name)))
			return l
		})
		if _, err := atrest.OpenRecord(kek, strange); !errors.Is(err, atrest.ErrCorruptRecord) {
			t.Errorf("%s, wrapped so: OpenRecord = %v, want ErrCorruptRecord", name, err)
		}
	}
	same := rewrite(t, record, 1, func(l [][]byte) [][]byte { return l })
	if _, err := atrest.OpenRecord(kek, same); err != nil {
		t.Errorf("unchanged: OpenRecord = %v", err)
	}
}

// A record of the first format becomes one of the present with the same keys,
// which have numbers then.
func TestARecordOfTheFirstFormatIsWrappedAnew(t *testing.T) {
	kek, old := newKEK(t, 0x44), frozenRecord(t)
	k, err := atrest.OpenRecord(kek, old)
	if err != nil || !atrest.Outdated(old) {
		t.Fatalf("OpenRecord: %v, Outdated = %v", err, atrest.Outdated(old))
	}
	wrapped, err := k.PrivateAEAD().Encrypt([]byte("our key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	now := wrapRecord(t, k, kek)
	again, err := atrest.OpenRecord(kek, now)
	if err != nil || atrest.Outdated(now) {
		t.Fatalf("OpenRecord: %v, Outdated = %v", err, atrest.Outdated(now))
	}
	var names []string
	for _, i := range again.List() {
		names = append(names, fmt.Sprintf("%d %s %d %v", i.ID, i.Purpose, i.Period, i.Current))
	}
	if got := strings.Join(names, ", "); got != "1 private 0 true, 2 index 0 true, 3 wrap 0 true, 4 personal 5 true, 5 personal 681 true" {
		t.Errorf("keys are %s", got)
	}
	if b, err := again.PrivateAEAD().Decrypt(wrapped, nil); err != nil || string(b) != "our key" {
		t.Errorf("a wrapped key opens as %q, %v", b, err)
	}
	if first, err := again.First(atrest.Personal, 681); first != 5 || err != nil {
		t.Errorf("First = %d, %v, want 5", first, err)
	}
}

// A successor takes over when it is promoted; the old key opens what it
// sealed until it is retired, and no record has it from then on.
func TestAKeyIsReplaced(t *testing.T) {
	k, kek := newKeys(t, 5), newKEK(t, 1)
	for _, p := range []struct {
		purpose atrest.Purpose
		cipher  func(*atrest.Keys) atrest.Cipher
	}{
		{atrest.Private, (*atrest.Keys).Private},
		{atrest.Personal, func(k *atrest.Keys) atrest.Cipher { return personal(t, k, 5) }},
	} {
		old := p.cipher(k).Key()
		sealed, err := p.cipher(k).Seal(atrest.Place{}, nil, []byte("Kim"))
		if err != nil {
			t.Fatal(err)
		}
		next, err := k.Succeed(old)
		if err != nil || next <= old || p.cipher(k).Key() != old {
			t.Fatalf("Succeed = %d, %v, the current key is %d", next, err, p.cipher(k).Key())
		}
		both, err := atrest.OpenRecord(kek, wrapRecord(t, k, kek))
		if err != nil || p.cipher(both).Key() != next {
			t.Errorf("in the record the current key is %d, %v, want %d", p.cipher(both).Key(), err, next)
		}
		k.Promote(next)
		c, err := k.Cipher(p.purpose, old)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := c.Open(atrest.Place{}, nil, sealed); err != nil || string(b) != "Kim" {
			t.Errorf("under the old key: %q, %v", b, err)
		}
		if _, err := p.cipher(k).Open(atrest.Place{}, nil, sealed); err == nil {
			t.Error("the new key is the old one")
		}
		record, err := k.WrapRecord(kek, old)
		if err != nil {
			t.Fatal(err)
		}
		k.Retire(old)
		if _, err := k.Cipher(p.purpose, old); err != nil {
			t.Errorf("retired and still needed by readers: %v", err)
		}
		for name, record := range map[string][]byte{"told to leave it out": record, "after Retire": wrapRecord(t, k, kek)} {
			without, err := atrest.OpenRecord(kek, record)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := without.Cipher(p.purpose, old); !errors.Is(err, atrest.ErrNoKey) {
				t.Errorf("%s: the record has the old key: %v", name, err)
			}
		}
		k.Forget(time.Now().Add(time.Hour))
		if _, err := k.Cipher(p.purpose, old); !errors.Is(err, atrest.ErrNoKey) {
			t.Errorf("after Forget: %v, want ErrNoKey", err)
		}
	}
	for _, i := range k.List() {
		if _, err := k.Succeed(i.ID); (i.Purpose == atrest.Index || i.Purpose == atrest.Wrap) != (err != nil) {
			t.Errorf("Succeed of %s: %v", i.Purpose, err)
		}
	}
}

// A number is not given again, whatever became of the key that had it.
func TestNumbersOfKeysAreNotGivenAgain(t *testing.T) {
	k, kek := newKeys(t, 5), newKEK(t, 1)
	last := personal(t, k, 5).Key()
	if err := k.DropPeriod(5); err != nil {
		t.Fatal(err)
	}
	k, err := atrest.OpenRecord(kek, wrapRecord(t, k, kek))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.AddPeriod(5); err != nil {
		t.Fatal(err)
	}
	if got := personal(t, k, 5).Key(); got <= last {
		t.Errorf("the new key's number is %d, the last one was %d", got, last)
	}
}

func TestRecordWithAnImpossiblePeriodIsRefused(t *testing.T) {
	record := wrapRecord(t, newKeys(t), newKEK(t, 1))
	for name, period := range map[string]uint64{"zero": 0, "half a second": 500, "longer than time": 1 << 63, "a second, wrapped around": 1<<58 + 1000} {
		bad := bytes.Clone(record)
		copy(bad[1+6+8+6+16:], tlv.AppendUint64(nil, 3, period))
		if _, err := atrest.OpenRecord(newKEK(t, 1), bad); !errors.Is(err, atrest.ErrCorruptRecord) || !strings.Contains(err.Error(), "retention period") {
			t.Errorf("%s: OpenRecord = %v, want ErrCorruptRecord", name, err)
		}
	}
}

func TestThereIsAnEndOfPeriods(t *testing.T) {
	k, err := atrest.NewKeys(instance, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint32(10000) {
		if err := k.AddPeriod(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.AddPeriod(10000); err == nil {
		t.Error("period 10001: AddPeriod succeeds, want an error")
	}
	kek := newKEK(t, 1)
	if got, err := atrest.OpenRecord(kek, wrapRecord(t, k, kek)); err != nil || len(got.Periods()) != 10000 {
		t.Errorf("OpenRecord of the largest record: %v", err)
	}
}

// vectors are testdata/vectors.json: frozen bytes that every version must
// open. The KEK is public, and so insecure.
type vectors struct {
	InsecureKEK insecure.Hex
	KEKID       string
	Record      insecure.Hex // instance 010203..., 30 days, periods 5 and 681
	Values      []valueVector
	Index       insecure.Hex // of "0xabc" for "account"
	MAC         insecure.Hex // of "0xabc" for "account"
}

type valueVector struct {
	Keyset    string // "private" or "personal/681"
	Bucket    string
	Record    insecure.Hex
	Version   uint64
	Clear     insecure.Hex
	Plaintext string
	Sealed    insecure.Hex
}

func TestFrozenRecordAndValuesStillOpen(t *testing.T) {
	var v vectors
	insecure.Vectors(t, "testdata/vectors.json", &v)
	kek, err := atrest.NewKEK(v.InsecureKEK)
	if err != nil {
		t.Fatal(err)
	}
	if kek.ID() != v.KEKID {
		t.Errorf("ID = %s, frozen is %s", kek.ID(), v.KEKID)
	}
	k, err := atrest.OpenRecord(kek, v.Record)
	if err != nil {
		t.Fatal(err)
	}
	if k.Instance() != instance || k.PeriodLength() != month || len(k.Periods()) != 2 {
		t.Errorf("OpenRecord: instance %x, period %v, periods %v", k.Instance(), k.PeriodLength(), k.Periods())
	}
	index, mac := k.Index("account", []byte("0xabc")), k.MAC("account", []byte("0xabc"))
	if !bytes.Equal(index[:], v.Index) || !bytes.Equal(mac[:], v.MAC) {
		t.Errorf("Index = %x, MAC = %x, frozen are %x, %x", index, mac, v.Index, v.MAC)
	}
	if len(v.Values) != 2 {
		t.Fatalf("%d values, want 2", len(v.Values))
	}
	for _, in := range v.Values {
		c := k.Private()
		if in.Keyset != "private" {
			c = personal(t, k, 681)
		}
		got, err := c.Open(atrest.Place{Bucket: in.Bucket, Record: in.Record, Version: in.Version}, in.Clear, in.Sealed)
		if err != nil || string(got) != in.Plaintext {
			t.Errorf("%s: Open = %q, %v, want %q", in.Keyset, got, err, in.Plaintext)
		}
	}
}

// The record is frozen, for every fuzzing process must know the same one.
func FuzzOpenRecord(f *testing.F) {
	var v vectors
	insecure.Vectors(f, "testdata/vectors.json", &v)
	kek := newKEK(f, 0x44)
	f.Add([]byte(v.Record))
	f.Add([]byte(v.Record[:40]))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := atrest.OpenRecord(kek, b); err == nil && !bytes.Equal(b, v.Record) {
			t.Errorf("OpenRecord accepts %x", b)
		}
		_, _ = atrest.RecordKEK(b)
	})
}

func FuzzOpenValue(f *testing.F) {
	c := newKeys(f).Private()
	sealed, err := c.Seal(atrest.Place{}, nil, []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := c.Open(atrest.Place{Version: 1}, nil, b); !errors.Is(err, atrest.ErrCorrupt) {
			t.Errorf("Open(%x) at another place = %v, want ErrCorrupt", b, err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	c, plaintext := newKeys(b).Private(), make([]byte, 3000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Seal(atrest.Place{Bucket: "history", Record: make([]byte, 8)}, nil, plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	c, p := newKeys(b).Private(), atrest.Place{Bucket: "history", Record: make([]byte, 8)}
	sealed, err := c.Seal(p, nil, make([]byte, 3000))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Open(p, nil, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIndex(b *testing.B) {
	k := newKeys(b)
	for b.Loop() {
		k.Index("account", []byte("0xabcdef"))
	}
}

func BenchmarkOpenRecord(b *testing.B) {
	k, kek := newKeys(b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), newKEK(b, 1)
	record := wrapRecord(b, k, kek)
	for b.Loop() {
		if _, err := atrest.OpenRecord(kek, record); err != nil {
			b.Fatal(err)
		}
	}
}
