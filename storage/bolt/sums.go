package bolt

import (
	"encoding/binary"
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// sum stands for which cells a bucket holds: the keyed hashes of bucket, key
// and version of each, taken together by exclusive or, so that a write costs
// two of them and no reading. It lies sealed in the state record. A cell that
// was put back as an older version, one that was deleted and is there again,
// and one that is missing make another sum, whatever else was put back with
// them (attacks S2, S3); nobody without the key can make two wrongs fit, or see
// whether they do. Sealing a cell anew under another key is the same version.
type sum [16]byte

// summed says whether a bucket has a sum. The audit log has its chain.
func (b *bucket) summed() bool { return b.cells && b != auditLog }

// toggle takes a cell in, or out when it is in.
func (s *sum) toggle(m sum) {
	for i := range s {
		s[i] ^= m[i]
	}
}

// mark is what one cell adds to its bucket's sum.
func (t *txn) mark(b *bucket, key []byte, version uint64) sum {
	in := join([]byte(b.name), []byte{0}, key)
	mac := t.keys.MAC("cell", binary.BigEndian.AppendUint64(in, version))
	return sum(mac[:])
}

// count takes one write of a cell into the state. Version 0 is a cell that is
// not there.
func (t *txn) count(b *bucket, key []byte, before, now uint64) {
	switch {
	case before == 0:
		t.state.Cells[b.name]++
	case now == 0:
		t.state.Cells[b.name]--
	}
	if t.state.Sums == nil || !b.summed() { // nil: in a file that is being upgraded
		return
	}
	s := t.state.Sums[b.name]
	for _, version := range []uint64{before, now} {
		if version != 0 {
			s.toggle(t.mark(b, key, version))
		}
	}
	t.state.Sums[b.name] = s
}

// census counts the cells of a bucket as they are found.
type census struct {
	t   *txn
	b   *bucket
	n   uint64
	sum sum
}

func (c *census) add(key []byte, version uint64) {
	c.n++
	if c.b.summed() {
		c.sum.toggle(c.t.mark(c.b, key, version))
	}
}

// agrees wants what was written, no more and no less.
func (c *census) agrees() error {
	s, err := c.t.loadState()
	if err != nil {
		return err
	}
	if want := s.Cells[c.b.name]; c.n != want {
		return fmt.Errorf("%s: %d values, %d were written: %w", c.b.name, c.n, want, storage.ErrCorrupt)
	}
	if s.Sums != nil && c.b.summed() && c.sum != s.Sums[c.b.name] {
		return fmt.Errorf("%s: the values are not those that were written last: an older one was put back: %w", c.b.name, storage.ErrCorrupt)
	}
	return nil
}

// takeSums makes the sums of a file that has none, of what it holds. Headers are
// believed: what does not open is found by who opens it.
func (t *txn) takeSums() error {
	sums := map[string]sum{}
	for _, b := range cellBuckets() {
		if !b.summed() {
			continue
		}
		c := census{t: t, b: b}
		err := t.bucket(b).ForEach(func(key, value []byte) error {
			h, _, err := b.parseCell(key, value)
			if err == nil {
				c.add(key, h.version)
			}
			return nil
		})
		if err != nil {
			return err
		}
		sums[b.name] = c.sum
	}
	t.state.Sums, t.wrote = sums, true
	return nil
}
