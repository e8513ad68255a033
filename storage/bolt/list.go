package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// slice is how many rows one read transaction of a List looks at. A reader
// pins the pages it can see, so a long one makes the file grow.
const slice = 512

// List gives one page, newest first, and how many rows match in all. Only
// the rows of the page are opened, unless Symbol or Network ask for more.
//
// A list that looks at more than 512 rows is not one snapshot: a row that
// changes meanwhile is counted as before or as after.
func (db *DB) List(ctx context.Context, f storage.Filter) (rows []*storage.Verification, count int, err error) {
	if f.Offset < 0 || f.Limit < 0 {
		return nil, 0, fmt.Errorf("list verifications: negative offset or limit")
	}
	l := db.newListing(f)
	for !l.ended && err == nil {
		err = db.read(ctx, "list verifications", l.next)
	}
	if err != nil {
		return nil, 0, err
	}
	return l.rows, l.count, nil
}

// listing is one List under way: a walk from newest to oldest over the rows,
// or over the entries of one tag.
type listing struct {
	f    storage.Filter
	want rowHead // tags and opposite to compare; zero ones are not compared

	bucket       *bucket
	prefix       []byte // the tag that is walked, or nothing
	tag          int    // which one it is
	lower, upper []byte // row keys: lower <= k < upper
	whole        bool   // the walk covers every row

	rows   []*storage.Verification
	count  int
	walked uint64
	total  uint64 // rows when the walk began
	ended  bool
}

func (db *DB) newListing(f storage.Filter) *listing {
	l := &listing{f: f, bucket: verifications}
	l.want = headOf(db.keys, &storage.Verification{
		OriginatorAccount: f.OriginatorAccount, BeneficiaryAccount: f.BeneficiaryAccount, TxHash: f.TxHash,
		Originating: f.Opposite,
	})
	l.lower, l.upper = boundKey(f.From, 0), boundKey(f.To, math.MaxUint64)
	// The last that applies: there are fewer rows of one transaction than of
	// one account.
	for i, tag := range l.want.tags {
		if tag != tagOfNothing {
			l.bucket, l.prefix, l.tag = tagIndexes[i].bucket, bytes.Clone(tag[:]), i
		}
	}
	l.whole = l.prefix == nil && f.From.IsZero() && f.To.IsZero()
	return l
}

var tagOfNothing tag

// boundKey is the first possible row key at or after a time; none stands for
// the zero time.
func boundKey(t time.Time, none uint64) []byte {
	ms := none
	if !t.IsZero() {
		// Up to the next millisecond: rows have whole ones.
		ms = uint64(max(0, t.Add(time.Millisecond-1).UnixMilli()))
	}
	return append(binary.BigEndian.AppendUint64(nil, ms), make([]byte, 8)...)
}

// next looks at the next slice of the walk.
func (l *listing) next(t *txn) error {
	if l.total == 0 {
		s, err := t.loadState()
		if err != nil {
			return err
		}
		l.total = s.Cells[verifications.name]
	}
	c := t.bucket(l.bucket).Cursor()
	key, value := l.seek(c)
	for n := 0; n < slice; n++ {
		if key == nil || !bytes.HasPrefix(key, l.prefix) || bytes.Compare(key[len(l.prefix):], l.lower) < 0 {
			return l.end()
		}
		if err := l.visit(t, key[len(l.prefix):], value); err != nil {
			return err
		}
		if l.everything() && l.pageFull() {
			l.count, l.ended = int(l.total), true
			return nil
		}
		if n == slice-1 {
			l.upper = bytes.Clone(key[len(l.prefix):])
		}
		key, value = c.Prev()
	}
	return nil
}

// seek stands the cursor on the last key below the upper bound.
func (l *listing) seek(c *bbolt.Cursor) (key, value []byte) {
	if key, _ = c.Seek(join(l.prefix, l.upper)); key == nil {
		return c.Last()
	}
	return c.Prev()
}

// end checks that a walk over everything saw everything: a damaged page can
// lose rows without a trace. Rows written since it began may be more.
func (l *listing) end() error {
	l.ended = true
	if l.whole && l.walked < l.total {
		return fmt.Errorf("%s: %d rows, %d were written: %w", verifications.name, l.walked, l.total, storage.ErrCorrupt)
	}
	return nil
}

// everything says that no row is left out, so that the count is known.
func (l *listing) everything() bool {
	return l.whole && l.f.Result == 0 && !l.f.Sent && !l.f.Received && l.f.Opposite == 0 && !l.opens()
}

// opens says that the filter needs what only an opened row tells.
func (l *listing) opens() bool { return l.f.Symbol != "" || l.f.Network != "" }

func (l *listing) pageFull() bool {
	return l.f.Limit > 0 && len(l.rows) == l.f.Limit
}

func (l *listing) visit(t *txn, key, value []byte) error {
	var k rowKey
	if copy(k[:], key) != len(key) || len(key) != len(k) {
		return fmt.Errorf("%s: key of %d bytes: %w", l.bucket.name, len(key), storage.ErrCorrupt)
	}
	if l.prefix != nil {
		if value = t.bucket(verifications).Get(k[:]); value == nil {
			return fmt.Errorf("%s: entry without a row: %w", l.bucket.name, storage.ErrCorrupt)
		}
	}
	h, _, err := verifications.parseCell(k[:], value)
	if err != nil {
		return err
	}
	head := parseRowHead(h.extra)
	if l.prefix != nil && head.tags[l.tag] != tag(l.prefix) {
		return fmt.Errorf("%s: entry leads to another row: %w", l.bucket.name, storage.ErrCorrupt)
	}
	l.walked++
	if !l.matches(head) {
		return nil
	}
	return l.take(t, k, value)
}

// matches judges by the clear header, whose checksum is good. What is listed
// is authenticated when it is opened; what is only counted is not.
func (l *listing) matches(h rowHead) bool {
	for i, tag := range l.want.tags {
		if tag != tagOfNothing && tag != h.tags[i] {
			return false
		}
	}
	return (l.f.Result == 0 || l.f.Result == h.result) &&
		(!l.f.Sent || h.sent) && (!l.f.Received || h.received) &&
		(l.f.Opposite == 0 || l.want.opposite == h.opposite)
}

// take counts a row, and opens it when it is on the page.
func (l *listing) take(t *txn, k rowKey, value []byte) error {
	onPage := func() bool { return l.count >= l.f.Offset && !l.pageFull() }
	if !l.opens() && !onPage() {
		l.count++
		return nil
	}
	v, err := t.listed(k, value)
	if err != nil {
		return err
	}
	if !l.accepts(v) {
		return nil
	}
	if onPage() {
		l.rows = append(l.rows, v)
	}
	l.count++
	return nil
}

// listed opens a row that was found by its place, and makes sure that it is
// the one its name leads to.
func (t *txn) listed(k rowKey, value []byte) (*storage.Verification, error) {
	v, err := t.openRow(k, value)
	if err != nil {
		return nil, err
	}
	ref, err := t.find(uuidKey(v.Originating, v.UUID))
	if err != nil || ref.key != k || ref.version != v.Version {
		return nil, fmt.Errorf("%s: a row is not the one its index names: %w", verifications.name, storage.ErrCorrupt)
	}
	return v, nil
}

// accepts compares what the header does not say.
func (l *listing) accepts(v *storage.Verification) bool {
	return (l.f.Symbol == "" || strings.EqualFold(l.f.Symbol, v.Asset.Symbol)) &&
		(l.f.Network == "" || strings.EqualFold(l.f.Network, v.Asset.Network))
}
