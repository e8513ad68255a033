package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/go-json-experiment/json"
)

// A plaintext is a JSON object followed by byte sections:
//
//	u32 length ‖ JSON ‖ { u32 length ‖ bytes } ...
//
// Sections are for what must come back byte for byte: payload parts, bundles,
// keys. The number of sections is fixed by the record; length absentSection
// is a nil slice, which is not an empty one. Nothing trails. Members of the
// object that are unknown are ignored, so that a member can be added; a
// section can be added only with another cell format.
const absentSection = math.MaxUint32

// encodeRecord refuses text that is not UTF-8: JSON would alter it.
func encodeRecord(object any, sections ...[]byte) ([]byte, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode record: not representable as JSON")
	}
	size := 4 + len(text)
	for _, s := range sections {
		size += 4 + len(s)
	}
	b := appendSection(make([]byte, 0, size), text)
	for _, s := range sections {
		b = appendSection(b, s)
	}
	return b, nil
}

func appendSection(b, section []byte) []byte {
	if section == nil {
		return binary.BigEndian.AppendUint32(b, absentSection)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(section)))
	return append(b, section...)
}

// decodeRecord fills object and gives the n sections, which are copies. Its
// errors never quote the record.
func decodeRecord(b []byte, object any, n int) ([][]byte, error) {
	text, b, err := cutSection(b)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, object); err != nil {
		return nil, fmt.Errorf("decode record: malformed JSON")
	}
	sections := make([][]byte, n)
	for i := range sections {
		if sections[i], b, err = cutSection(b); err != nil {
			return nil, err
		}
		sections[i] = bytes.Clone(sections[i])
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("decode record: %d bytes trail", len(b))
	}
	return sections, nil
}

func cutSection(b []byte) (section, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, fmt.Errorf("decode record: cut off")
	}
	n, b := binary.BigEndian.Uint32(b), b[4:]
	if n == absentSection {
		return nil, b, nil
	}
	if uint64(n) > uint64(len(b)) {
		return nil, nil, fmt.Errorf("decode record: section of %d bytes, %d are left", n, len(b))
	}
	return b[:n:n], b[n:], nil
}

// millis is a time as stored: Unix milliseconds, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
