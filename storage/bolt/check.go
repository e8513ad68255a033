package bolt

import (
	"context"
	"errors"
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Check opens every value of the file, and verifies that each row is where
// its chapter and indexes say, that nothing is missing or left over, and that the audit
// chain holds. What it finds is ErrCorrupt, one error per bucket. It reads
// the whole file in one transaction, which makes a busy file grow meanwhile:
// run it in quiet hours.
func (db *DB) Check(ctx context.Context) error {
	return db.CheckTelling(ctx, nil)
}

// CheckTelling is Check, which tells now and then how many of all rows and audit
// entries it has looked at, from one goroutine; nil hears nothing.
func (db *DB) CheckTelling(ctx context.Context, tell func(done, all uint64)) error {
	return db.read(ctx, "check", func(t *txn) error {
		s, err := t.loadState()
		if err != nil {
			return err
		}
		var done uint64
		all := s.Cells[verifications.name] + s.AuditSeq
		t.looked = func(n uint64) {
			if done += n; tell != nil {
				tell(min(done, all), all)
			}
		}
		found := []error{t.checkRows(ctx), t.checkReceipts(ctx), t.checkAudit(ctx)}
		for _, b := range allBuckets {
			if b.cells && b != verifications && b != chapters && b != receipts && b != auditLog {
				found = append(found, t.each(b, func([]byte, header, []byte) error { return ctx.Err() }))
			}
		}
		return errors.Join(found...)
	})
}

func (t *txn) checkRows(ctx context.Context) error {
	rows := census{t: t, b: verifications}
	var tags [len(tagIndexes)]uint64
	reader := &chapterReader{t: t, work: &work{}}
	err := t.bucket(verifications).ForEach(func(key, value []byte) error {
		if len(key) != len(rowKey{}) {
			return fmt.Errorf("%s: key of %d bytes: %w", verifications.name, len(key), storage.ErrCorrupt)
		}
		h, _, err := verifications.parseCell(key, value)
		if err != nil {
			return err
		}
		rows.add(key, h.version)
		t.looked(1)
		return errors.Join(ctx.Err(), t.checkRow(rowKey(key), reader, &tags))
	})
	if err != nil {
		return err
	}
	found := []error{rows.agrees(), t.expectEntries(byUUID, rows.n), t.checkChapters(rows.n)}
	for i, index := range tagIndexes {
		found = append(found, t.expectEntries(index.bucket, tags[i]))
	}
	return errors.Join(found...)
}

// checkRow opens a row, and looks for it in its chapter and indexes.
func (t *txn) checkRow(k rowKey, reader *chapterReader, tags *[len(tagIndexes)]uint64) error {
	v, head, err := t.listed(k)
	if err != nil {
		return err
	}
	of, err := reader.kind(k)
	if err != nil {
		return err
	}
	if of != newKind(t.keys, &head, v) {
		return fmt.Errorf("%s: a row is not as its chapter says: %w", chapters.name, storage.ErrCorrupt)
	}
	return t.checkTags(k, &head, tags)
}

// checkChapters wants no more in the chapters than the rows that were found.
func (t *txn) checkChapters(rows uint64) error {
	s, err := t.loadState()
	if err != nil {
		return err
	}
	var n, writes uint64
	err = t.each(chapters, func(_ []byte, h header, plaintext []byte) error {
		c, err := decodeChapter(plaintext)
		if err != nil {
			return corrupt(err)
		}
		n, writes = n+uint64(len(c.rows)), writes+h.version
		return nil
	})
	if err == nil && n != rows {
		err = fmt.Errorf("%s: %d rows, there are %d: %w", chapters.name, n, rows, storage.ErrCorrupt)
	}
	if err == nil && writes != s.Writes {
		err = errOlderChapter
	}
	return err
}

func (t *txn) checkTags(k rowKey, h *rowHead, n *[len(tagIndexes)]uint64) error {
	for i, tag := range h.tags {
		if tag == tagOfNothing {
			continue
		}
		if t.bucket(tagIndexes[i].bucket).Get(tag.entry(k)) == nil {
			return fmt.Errorf("%s: an entry is missing: %w", tagIndexes[i].name, storage.ErrCorrupt)
		}
		n[i]++
	}
	return nil
}

func (t *txn) expectEntries(b *bucket, want uint64) error {
	var n uint64
	err := t.bucket(b).ForEach(func(_, _ []byte) error { n++; return nil })
	if err == nil && n != want {
		err = fmt.Errorf("%s: %d entries, there should be %d: %w", b.name, n, want, storage.ErrCorrupt)
	}
	return err
}

func (t *txn) checkReceipts(ctx context.Context) error {
	var n uint64
	err := t.each(receipts, func(key []byte, h header, _ []byte) error {
		if t.bucket(byExpiry).Get(join(h.extra, key)) == nil {
			return fmt.Errorf("%s: an entry is missing: %w", byExpiry.name, storage.ErrCorrupt)
		}
		n++
		return ctx.Err()
	})
	return errors.Join(err, t.expectEntries(byExpiry, n))
}

// slice is how many audit entries are read at a time.
const slice = 512

func (t *txn) checkAudit(ctx context.Context) error {
	s, err := t.loadState()
	if err != nil {
		return err
	}
	for from := uint64(1); from <= s.AuditSeq; from += slice {
		entries, err := t.chain(from, slice)
		if err != nil {
			return err
		}
		t.looked(uint64(len(entries)))
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
