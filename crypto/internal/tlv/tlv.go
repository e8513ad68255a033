// Package tlv is the one encoding of everything that is signed, hashed or
// used as context info: a fixed list of fields, each a u16 tag, a u32 length
// and that many bytes, big-endian.
//
// There is exactly one encoding of a value: every field is present, tags rise
// one after the other, numbers have their full width, nothing follows the
// last field. So no two values share an encoding, and no value has two
// (attack K4: nothing can be moved over a field's border).
package tlv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// headSize is what a field adds to its bytes.
const headSize = 2 + 4

// Size is how many bytes the fields of the given lengths take.
func Size(lengths ...int) int {
	n := 0
	for _, l := range lengths {
		n += headSize + l
	}
	return n
}

// maxTime is the last millisecond of the year 9999, which keeps a time that
// was parsed printable and safe to add to.
const maxTime = 253402300799999

// Append adds one field.
func Append(b []byte, tag uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

// AppendUint8 adds one field of one byte.
func AppendUint8(b []byte, tag uint16, v uint8) []byte { return Append(b, tag, []byte{v}) }

// AppendUint64 adds one field of eight bytes.
func AppendUint64(b []byte, tag uint16, v uint64) []byte {
	return Append(b, tag, binary.BigEndian.AppendUint64(nil, v))
}

// AppendTime adds a time as unix milliseconds. The time must pass CheckTime.
func AppendTime(b []byte, tag uint16, t time.Time) []byte {
	return AppendUint64(b, tag, uint64(t.UnixMilli()))
}

// CheckTime says whether a time can be encoded: 1970 to 9999.
func CheckTime(t time.Time) error {
	if ms := t.UnixMilli(); ms < 0 || ms > maxTime {
		return errors.New("time is not within the years 1970 to 9999")
	}
	return nil
}

// Round drops what the encoding does not carry: parts of a millisecond, the
// time zone and the monotonic clock.
func Round(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }

// Decoder reads fields in order. The first error sticks: read every field,
// then ask Close.
type Decoder struct {
	rest []byte
	err  error
}

// NewDecoder reads from b and keeps slices of it.
func NewDecoder(b []byte) *Decoder { return &Decoder{rest: b} }

// More says whether there is another field to read.
func (d *Decoder) More() bool { return d.err == nil && len(d.rest) > 0 }

// Err returns the first error so far.
func (d *Decoder) Err() error { return d.err }

// Rest is what has not been read.
func (d *Decoder) Rest() []byte { return d.rest }

// Close returns the first error, or one when anything follows the last field.
func (d *Decoder) Close() error {
	if d.err == nil && len(d.rest) > 0 {
		return fmt.Errorf("%d bytes follow the last field", len(d.rest))
	}
	return d.err
}

// Range reads a field of min to max bytes. The slice is part of the input.
func (d *Decoder) Range(tag uint16, min, max int) []byte {
	if d.err != nil {
		return nil
	}
	if len(d.rest) < headSize {
		return d.fail("field %d: cut short", tag)
	}
	if got := binary.BigEndian.Uint16(d.rest); got != tag {
		return d.fail("field %d: found tag %d", tag, got)
	}
	n := int64(binary.BigEndian.Uint32(d.rest[2:]))
	if n < int64(min) || n > int64(max) {
		return d.fail("field %d: %d bytes long", tag, n)
	}
	if n > int64(len(d.rest)-headSize) {
		return d.fail("field %d: cut short", tag)
	}
	end := headSize + int(n)
	value := d.rest[headSize:end:end]
	d.rest = d.rest[end:]
	return value
}

// Fixed reads a field into dst, which gives its length.
func (d *Decoder) Fixed(tag uint16, dst []byte) { copy(dst, d.Range(tag, len(dst), len(dst))) }

// Uint8 reads a field of one byte.
func (d *Decoder) Uint8(tag uint16) uint8 {
	var b [1]byte
	d.Fixed(tag, b[:])
	return b[0]
}

// Uint64 reads a field of eight bytes.
func (d *Decoder) Uint64(tag uint16) uint64 {
	var b [8]byte
	d.Fixed(tag, b[:])
	return binary.BigEndian.Uint64(b[:])
}

// Time reads a time of 1970 to 9999, in UTC.
func (d *Decoder) Time(tag uint16) time.Time {
	ms := d.Uint64(tag)
	if d.err == nil && ms > maxTime {
		d.fail("field %d: time is after the year 9999", tag)
	}
	if d.err != nil {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

func (d *Decoder) fail(format string, args ...any) []byte {
	d.err = fmt.Errorf(format, args...)
	return nil
}
