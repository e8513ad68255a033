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

// List gives one page, newest first, and how many rows match in all. Both are
// of one moment. Only the rows of the page are opened: accounts and
// transaction hashes are found in their indexes, all else in the chapters.
//
// A page without a limit is read in one transaction like any other, which
// makes a busy file grow meanwhile.
func (db *DB) List(ctx context.Context, f storage.Filter) (rows []*storage.Verification, count int, err error) {
	l, err := db.list(ctx, f)
	if err != nil {
		return nil, 0, err
	}
	return l.rows, l.count, nil
}

func (db *DB) list(ctx context.Context, f storage.Filter) (*listing, error) {
	if f.Offset < 0 || f.Limit < 0 {
		return nil, fmt.Errorf("list verifications: negative offset or limit")
	}
	l := db.newListing(ctx, f)
	err := db.read(ctx, "list verifications", func(t *txn) error {
		if len(l.tags) > 0 {
			return l.byTags(t)
		}
		return l.byChapters(t)
	})
	return l, err
}

// listing is one List under way: a walk from newest to oldest over the
// chapters, or over the entries of the tags that are asked for.
type listing struct {
	ctx context.Context
	f   storage.Filter

	head         rowHead // tags to compare; zero ones are not compared
	verdicts     verdicts
	kinds        bool // the filter asks for more than time and tags
	tags         []taggedRows
	lower, upper []byte // row keys: lower <= k < upper

	rows  []*storage.Verification
	count int
	work  work
}

// work is what a list looked at.
type work struct {
	rows     int    // opened
	entries  int    // of the tag indexes
	passed   int    // chapters, all in all
	opened   int    // those of them that were not known yet
	unpacked int    // those of which single rows were looked at
	inAll    uint64 // rows of the chapters that were passed
	writes   uint64 // versions of the same
}

func (db *DB) newListing(ctx context.Context, f storage.Filter) *listing {
	asked := &storage.Verification{
		OriginatorAccount: f.OriginatorAccount, BeneficiaryAccount: f.BeneficiaryAccount, TxHash: f.TxHash,
		Originating: f.Opposite, Asset: storage.Asset{Symbol: f.Symbol, Network: f.Network},
		Result: f.Result, Sent: f.Sent, Received: f.Received,
	}
	l := &listing{ctx: ctx, f: f, head: headOf(db.keys, asked)}
	l.head.opposite = oppositeTag(db.keys, f.Opposite)
	of := newKind(db.keys, &l.head, asked)
	l.verdicts.want, l.kinds = newPattern(of), of != kind{}
	l.lower, l.upper = boundKey(f.From, 0), boundKey(f.To, math.MaxUint64)
	for i, tag := range l.head.tags {
		if tag != tagOfNothing {
			l.tags = append(l.tags, taggedRows{bucket: tagIndexes[i].bucket, tag: tag})
		}
	}
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

func (l *listing) always() bool { return l.f.From.IsZero() && l.f.To.IsZero() }

// byChapters counts by the tallies, and opens the chapters that the page or a
// bound is in.
func (l *listing) byChapters(t *txn) error {
	state, err := t.loadState()
	if err != nil {
		return err
	}
	inside := l.f.To.IsZero() // all of the chapter is below the upper bound
	c := t.bucket(chapters).Cursor()
	for key, value := seekBelow(c, l.upper); key != nil; key, value = c.Prev() {
		if len(key) != len(rowKey{}) {
			return fmt.Errorf("%s: key of %d bytes: %w", chapters.name, len(key), storage.ErrCorrupt)
		}
		if err := l.visit(t, rowKey(key), value, inside && bytes.Compare(l.lower, key) <= 0); err != nil {
			return err
		}
		inside = true
		if l.always() && !l.kinds && l.pageFull() {
			l.count = int(state.Cells[verifications.name])
			return nil
		}
		if bytes.Compare(key, l.lower) <= 0 {
			break
		}
	}
	return l.sawAll(state)
}

// sawAll checks that a walk over everything saw everything: a damaged page
// can lose chapters without a trace, and one that is put back as it was opens.
func (l *listing) sawAll(s *state) error {
	if !l.always() {
		return nil
	}
	if written := s.Cells[verifications.name]; l.work.inAll != written {
		return fmt.Errorf("%s: %d rows, %d were written: %w", chapters.name, l.work.inAll, written, storage.ErrCorrupt)
	}
	if l.work.writes != s.Writes {
		return errOlderChapter
	}
	return nil
}

var errOlderChapter = fmt.Errorf("%s: one is of another version than was written: %w", chapters.name, storage.ErrCorrupt)

// seekBelow stands the cursor on the last key below a bound.
func seekBelow(c *bbolt.Cursor, bound []byte) (key, value []byte) {
	if key, _ = c.Seek(bound); key == nil {
		return c.Last()
	}
	return c.Prev()
}

// visit counts the rows of one chapter. It looks at the single rows of one
// that has some of the page, or that a bound may go through.
func (l *listing) visit(t *txn, key rowKey, value []byte, whole bool) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	tally, err := t.tally(key, value, &l.work)
	if err != nil {
		return err
	}
	l.work.inAll += uint64(len(tally.codes))
	if n := l.matching(tally); n == 0 || whole && (l.pageFull() || l.count+n <= l.f.Offset) {
		l.count += n
		return nil
	}
	return l.takeFrom(t, tally)
}

func (l *listing) matching(t *tally) int {
	if !l.kinds {
		return len(t.codes)
	}
	return l.verdicts.count(t)
}

func (l *listing) takeFrom(t *txn, c *tally) error {
	rows, err := c.unpack(make([]rowKey, 0, chapterRows), &l.work)
	if err != nil {
		return err
	}
	for i := len(rows) - 1; i >= 0; i-- {
		k := rows[i]
		if bytes.Compare(k[:], l.lower) < 0 {
			return nil
		}
		of := c.kind(i)
		if bytes.Compare(k[:], l.upper) >= 0 || !l.verdicts.want.matches(&of) {
			continue
		}
		if err := l.take(t, k, &of); err != nil {
			return err
		}
	}
	return nil
}

// byTags counts the rows that have all the tags.
func (l *listing) byTags(t *txn) error {
	reader := chapterReader{t: t, work: &l.work}
	return eachTagged(t, l.tags, rowKey(l.upper), &l.work.entries, func(k rowKey) (goOn bool, err error) {
		if bytes.Compare(k[:], l.lower) < 0 {
			return false, nil
		}
		if err := l.ctx.Err(); err != nil {
			return false, err
		}
		if !l.kinds {
			return true, l.take(t, k, nil)
		}
		of, err := reader.kind(k)
		if err != nil || !l.verdicts.want.matches(&of) {
			return true, err
		}
		return true, l.take(t, k, &of)
	})
}

func (l *listing) pageFull() bool {
	return l.f.Limit > 0 && len(l.rows) == l.f.Limit
}

// take counts a row, and opens it when it is on the page. What is listed is
// the row itself, which must be as it was found to be.
func (l *listing) take(t *txn, k rowKey, of *kind) error {
	l.count++
	if l.count <= l.f.Offset || l.pageFull() {
		return nil
	}
	v, head, err := t.listed(k)
	if err != nil {
		return err
	}
	l.work.rows++
	if !l.tagged(&head) || of != nil && !l.alike(*of, &head, v) {
		return fmt.Errorf("%s: a row is not as it was found: %w", verifications.name, storage.ErrCorrupt)
	}
	l.rows = append(l.rows, v)
	return nil
}

// alike compares a row with what its chapter says. The texts are compared
// where they are asked for.
func (l *listing) alike(of kind, h *rowHead, v *storage.Verification) bool {
	return of.result == h.result && of.flags == h.flags() && of.opposite == h.opposite &&
		(l.f.Symbol == "" || strings.EqualFold(l.f.Symbol, v.Asset.Symbol)) &&
		(l.f.Network == "" || strings.EqualFold(l.f.Network, v.Asset.Network))
}

func (l *listing) tagged(h *rowHead) bool {
	for i, tag := range l.head.tags {
		if tag != tagOfNothing && tag != h.tags[i] {
			return false
		}
	}
	return true
}

// listed opens a row that was found by its place, and makes sure that it is
// the one its name leads to.
func (t *txn) listed(k rowKey) (v *storage.Verification, head rowHead, err error) {
	value := t.bucket(verifications).Get(k[:])
	if value == nil {
		return nil, head, fmt.Errorf("%s: a row is missing: %w", verifications.name, storage.ErrCorrupt)
	}
	if v, head, err = t.openRow(k, value); err != nil {
		return nil, head, err
	}
	ref, err := t.find(uuidKey(v.Originating, v.UUID))
	if err != nil || ref.key != k || ref.version != v.Version {
		return nil, head, fmt.Errorf("%s: a row is not the one its index names: %w", verifications.name, storage.ErrCorrupt)
	}
	return v, head, nil
}
