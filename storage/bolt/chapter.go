package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"unicode"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// A chapter says of up to 256 neighbouring rows what a filter asks of them,
// in some 15 bytes each, so that a list counts and finds its page without
// looking at the rows. It is sealed as a whole and rewritten in the
// transaction that changes one of its rows.
const chapterRows = 256 // so that the number of a kind is one byte

// kind is what a filter asks of a row, beyond its time and its tags. Many
// rows are of one kind. Symbol and network are hashes of fixed length, since
// the texts are the counterparty's choice and may be long.
type kind struct {
	result                    storage.Result
	flags                     byte // as in the row's header
	opposite, symbol, network short
}

// short is the first 8 bytes of a keyed hash; zero stands for no value.
type short uint64

func shorten(hash [16]byte) short { return short(binary.BigEndian.Uint64(hash[:])) }

const kindLength = 1 + 1 + 3*8

func newKind(keys *atrest.Keys, h *rowHead, v *storage.Verification) kind {
	return kind{
		result: h.result, flags: h.flags(), opposite: h.opposite,
		symbol: foldedTag(keys, "symbol", v.Asset.Symbol), network: foldedTag(keys, "network", v.Asset.Network),
	}
}

// foldedTag is equal for texts that strings.EqualFold calls equal.
func foldedTag(keys *atrest.Keys, purpose, text string) short {
	if text == "" {
		return 0
	}
	return shorten(keys.Index(purpose, []byte(fold(text))))
}

// fold puts the least of those that Unicode's simple folding calls equal in
// the place of every character.
func fold(text string) string {
	runes := []rune(text)
	for i, r := range runes {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			runes[i] = min(runes[i], f)
		}
	}
	return string(runes)
}

// chapter has its rows in the order of time. Row i is kinds[codes[i]].
type chapter struct {
	rows  []rowKey
	codes []byte
	kinds []kind
}

// find says where a row is, or would be.
func (c *chapter) find(k rowKey) (i int, found bool) { return findRow(c.rows, k) }

func findRow(rows []rowKey, k rowKey) (i int, found bool) {
	return slices.BinarySearchFunc(rows, k, func(a, b rowKey) int { return bytes.Compare(a[:], b[:]) })
}

func (c *chapter) kind(i int) kind { return c.kinds[c.codes[i]] }

// setKind gives a row its kind.
func (c *chapter) setKind(i int, of kind) {
	code := slices.Index(c.kinds, of)
	if code < 0 && len(c.kinds) == chapterRows {
		c.codes[i] = c.codes[(i+1)%len(c.codes)] // its own kind may be one that is left out
		c.tidy()
	}
	if code < 0 {
		code = len(c.kinds)
		c.kinds = append(c.kinds, of)
	}
	c.codes[i] = byte(code)
}

func (c *chapter) insert(i int, k rowKey, of kind) {
	c.rows = slices.Insert(c.rows, i, k)
	c.codes = slices.Insert(c.codes, i, 0)
	c.setKind(i, of)
}

func (c *chapter) remove(i int) {
	c.rows = slices.Delete(c.rows, i, i+1)
	c.codes = slices.Delete(c.codes, i, i+1)
}

// split takes the rows from the i-th on into a chapter of their own.
func (c *chapter) split(i int) *chapter {
	right := &chapter{slices.Clone(c.rows[i:]), slices.Clone(c.codes[i:]), slices.Clone(c.kinds)}
	c.rows, c.codes = c.rows[:i], c.codes[:i]
	return right
}

// tidy leaves out kinds that no row has any more, in the order of the rows.
func (c *chapter) tidy() {
	const none = -1
	moved := slices.Repeat([]int{none}, len(c.kinds))
	var kinds []kind
	for i, code := range c.codes {
		if moved[code] == none {
			moved[code] = len(kinds)
			kinds = append(kinds, c.kinds[code])
		}
		c.codes[i] = byte(moved[code])
	}
	c.kinds = kinds
}

// encode gives the plaintext: no members, and three sections. The first has
// the kinds, each result u8 ‖ flags u8 ‖ opposite 8 ‖ symbol 8 ‖ network 8;
// the second the number of its kind (u8) for every row; the third the rows,
// each as the distance from the one before: created uvarint ‖ record varint.
func (c *chapter) encode() ([]byte, error) {
	c.tidy()
	kinds := make([]byte, 0, kindLength*len(c.kinds))
	for _, k := range c.kinds {
		kinds = append(kinds, byte(k.result), k.flags)
		for _, tag := range []short{k.opposite, k.symbol, k.network} {
			kinds = binary.BigEndian.AppendUint64(kinds, uint64(tag))
		}
	}
	rows := make([]byte, 0, 6*len(c.rows))
	var last rowKey
	for _, k := range c.rows {
		rows = binary.AppendUvarint(rows, k.milliseconds()-last.milliseconds())
		rows = binary.AppendVarint(rows, int64(k.record()-last.record()))
		last = k
	}
	return encodeRecord(chapterRecord{}, kinds, c.codes, rows)
}

type chapterRecord struct{}

var errChapter = errors.New("decode chapter: malformed")

// decodeChapter reads what encode made; a chapter that is not in order, or
// names what is not there, is refused.
func decodeChapter(plaintext []byte) (*chapter, error) {
	c, packed, err := decodeKinds(plaintext)
	if err != nil {
		return nil, err
	}
	c.rows, err = unpackRows(make([]rowKey, 0, chapterRows), packed, len(c.codes))
	return c, err
}

// decodeKinds reads all but the rows, which it gives as they are.
func decodeKinds(plaintext []byte) (c *chapter, packed []byte, err error) {
	sections, err := decodeRecord(plaintext, &chapterRecord{}, 3)
	if err != nil {
		return nil, nil, err
	}
	kinds, codes := sections[0], sections[1]
	n := len(kinds) / kindLength
	if len(kinds)%kindLength != 0 || n > chapterRows || len(codes) > chapterRows || len(codes) > 0 && int(slices.Max(codes)) >= n {
		return nil, nil, errChapter
	}
	c = &chapter{codes: codes, kinds: make([]kind, n)}
	for i := range c.kinds {
		c.kinds[i] = parseKind(kinds[i*kindLength:])
	}
	return c, sections[2], nil
}

// unpackRows appends the n keys that are packed to rows, which is empty.
func unpackRows(rows []rowKey, packed []byte, n int) ([]rowKey, error) {
	var last rowKey
	for range n {
		created, i := binary.Uvarint(packed)
		if i <= 0 {
			return nil, errChapter
		}
		record, j := binary.Varint(packed[i:])
		if j <= 0 {
			return nil, errChapter
		}
		k := rowKeyOf(last.milliseconds()+created, last.record()+uint64(record))
		if bytes.Compare(k[:], last[:]) <= 0 {
			return nil, errChapter
		}
		rows, last, packed = append(rows, k), k, packed[i+j:]
	}
	if len(packed) != 0 {
		return nil, errChapter
	}
	return rows, nil
}

func parseKind(b []byte) kind {
	tag := func(at int) short { return short(binary.BigEndian.Uint64(b[at:])) }
	return kind{storage.Result(b[0]), b[1], tag(2), tag(10), tag(18)}
}

// pattern is what a filter asks of a kind: the bits that count, and what
// they should be. Of the flags those count that must be set.
type pattern struct{ bits, want kind }

// newPattern asks for all that is not zero.
func newPattern(want kind) pattern {
	all := func(tag short) short {
		if tag != 0 {
			return ^short(0)
		}
		return 0
	}
	bits := kind{0, want.flags, all(want.opposite), all(want.symbol), all(want.network)}
	if want.result != 0 {
		bits.result = 0xff
	}
	return pattern{bits, want}
}

func (p *pattern) matches(k *kind) bool {
	return (k.result^p.want.result)&p.bits.result == 0 && (k.flags^p.want.flags)&p.bits.flags == 0 &&
		(k.opposite^p.want.opposite)&p.bits.opposite == 0 &&
		(k.symbol^p.want.symbol)&p.bits.symbol == 0 && (k.network^p.want.network)&p.bits.network == 0
}
