package tlv_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, int(3*time.Millisecond), time.UTC)

func sample() []byte {
	b := tlv.AppendUint8(nil, 1, 7)
	b = tlv.AppendUint64(b, 2, 1<<40)
	b = tlv.AppendTime(b, 3, noon)
	b = tlv.Append(b, 4, []byte("abc"))
	return tlv.Append(b, 5, []byte{1, 2})
}

type fields struct {
	small uint8
	large uint64
	time  time.Time
	text  []byte
	fixed [2]byte
}

func read(b []byte) (f fields, err error) {
	d := tlv.NewDecoder(b)
	f.small, f.large, f.time = d.Uint8(1), d.Uint64(2), d.Time(3)
	f.text = d.Range(4, 0, 8)
	d.Fixed(5, f.fixed[:])
	return f, d.Close()
}

func (f fields) encode() []byte {
	b := tlv.AppendUint8(nil, 1, f.small)
	b = tlv.AppendUint64(b, 2, f.large)
	b = tlv.AppendTime(b, 3, f.time)
	b = tlv.Append(b, 4, f.text)
	return tlv.Append(b, 5, f.fixed[:])
}

func TestFieldsComeBack(t *testing.T) {
	f, err := read(sample())
	if err != nil {
		t.Fatal(err)
	}
	if f.small != 7 || f.large != 1<<40 || !f.time.Equal(noon) || string(f.text) != "abc" || f.fixed != [2]byte{1, 2} {
		t.Errorf("read(sample) = %+v", f)
	}
	if got, want := len(sample()), tlv.Size(1, 8, 8, 3, 2); got != want {
		t.Errorf("len(sample) = %d, Size says %d", got, want)
	}
}

// Attack K4: a value has one encoding, so no byte can wander over a border.
func TestOnlyTheCanonicalEncodingIsRead(t *testing.T) {
	first, rest := sample()[:7], sample()[7:]
	second, third := rest[:14], rest[14:]
	long := tlv.Append(bytes.Clone(sample()[:35]), 4, []byte("123456789"))
	for name, b := range map[string][]byte{
		"empty":               {},
		"missing first":       rest,
		"missing last":        sample()[:len(sample())-8],
		"missing middle":      bytes.Join([][]byte{first, third}, nil),
		"reordered":           bytes.Join([][]byte{second, first, third}, nil),
		"tags swapped":        bytes.Join([][]byte{first, retag(second, 3), retag(third[:14], 2), third[14:]}, nil),
		"unknown tag":         bytes.Join([][]byte{first, retag(second, 9), third}, nil),
		"repeated":            bytes.Join([][]byte{first, first, second, third}, nil),
		"unknown tag after":   tlv.Append(sample(), 6, nil),
		"trailing byte":       append(sample(), 0),
		"too long a field":    tlv.Append(long, 5, []byte{1, 2}),
		"number of 9 bytes":   bytes.Join([][]byte{first, tlv.Append(nil, 2, make([]byte, 9)), third}, nil),
		"number of 7 bytes":   bytes.Join([][]byte{first, tlv.Append(nil, 2, make([]byte, 7)), third}, nil),
		"length over the end": append(bytes.Clone(sample()[:len(sample())-8]), 0, 5, 0, 0, 0, 2, 1),
		"length near 4 GiB":   append(bytes.Clone(sample()[:len(sample())-8]), 0, 5, 0xff, 0xff, 0xff, 0xff),
		"time after 9999":     bytes.Join([][]byte{first, second, tlv.AppendUint64(nil, 3, 253402300800000), third[14:]}, nil),
	} {
		if f, err := read(b); err == nil {
			t.Errorf("%s: read = %+v, want refusal", name, f)
		}
	}
	for n := range sample() {
		if _, err := read(sample()[:n]); err == nil {
			t.Errorf("cut to %d bytes: read succeeds, want refusal", n)
		}
	}
}

func retag(field []byte, tag byte) []byte {
	field = bytes.Clone(field)
	field[1] = tag
	return field
}

func TestFirstErrorSticks(t *testing.T) {
	d := tlv.NewDecoder(sample())
	d.Uint8(9)
	if v := d.Uint8(1); v != 0 || d.Err() == nil || d.More() {
		t.Errorf("after a refused field: Uint8 = %d, Err = %v, More = %t", v, d.Err(), d.More())
	}
}

func TestTimesOutsideTheEncodingAreRefused(t *testing.T) {
	for _, at := range []time.Time{{}, time.UnixMilli(-1), time.UnixMilli(253402300800000)} {
		if tlv.CheckTime(at) == nil {
			t.Errorf("CheckTime(%v) = nil", at)
		}
	}
	for _, at := range []time.Time{time.UnixMilli(0), noon, time.UnixMilli(253402300799999)} {
		if err := tlv.CheckTime(at); err != nil {
			t.Errorf("CheckTime(%v) = %v", at, err)
		}
	}
}

// A hash for one purpose is no hash for another, even where purpose and parts
// joined are the same bytes.
func TestPurposesDoNotRunTogether(t *testing.T) {
	if tlv.Hash("ab", []byte("c")) == tlv.Hash("a", []byte("bc")) {
		t.Error(`Hash("ab", "c") = Hash("a", "bc")`)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample())
	f.Add(sample()[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := read(b)
		if err != nil {
			return
		}
		if again := got.encode(); !bytes.Equal(again, b) {
			t.Errorf("%x reads as %+v, which is written %x", b, got, again)
		}
	})
}
