package bolt

import "sync"

// tally is a chapter as lists keep it: with the numbers that its kinds have
// in a dictionary of all, and its rows as they lie in the file. Nobody
// changes one.
type tally struct {
	dictionary *dictionary
	all        []kind   // of the dictionary, when the tally was made
	kinds      []uint32 // places in all
	counts     []uint16 // rows of each of them
	codes      []byte   // of each row: a place in kinds
	rows       []byte
}

func (t *tally) kind(i int) kind { return t.all[t.kinds[t.codes[i]]] }

// unpack gives the rows, in the place of what is in the buffer.
func (t *tally) unpack(buffer []rowKey, w *work) ([]rowKey, error) {
	w.unpacked++
	rows, err := unpackRows(buffer, t.rows, len(t.codes))
	if err != nil {
		return nil, corrupt(err)
	}
	return rows, nil
}

// dictionary numbers the kinds that were met. A list judges each of them
// once, and not once for every chapter. It only grows.
type dictionary struct {
	kinds []kind
	ids   map[kind]uint32
}

func (d *dictionary) id(of kind) uint32 {
	id, known := d.ids[of]
	if !known {
		id = uint32(len(d.kinds))
		d.kinds = append(d.kinds, of)
		d.ids[of] = id
	}
	return id
}

// tallies keeps what chapters were found to hold, so that a list opens only
// those that have changed since.
type tallies struct {
	mu         sync.Mutex
	dictionary *dictionary
	kept       map[rowKey]keptTally
}

type keptTally struct {
	version uint64 // of the chapter's cell
	*tally
}

// Bounds of the memory: a tally has some 3 kB, so that these are of two
// million rows; a kind has some 100 bytes.
const (
	maxTallies = 8192
	maxKinds   = 1 << 18
)

func (s *tallies) get(k rowKey, version uint64) *tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept, ok := s.kept[k]; ok && kept.version == version {
		return kept.tally
	}
	return nil
}

// put makes and keeps a tally, in the place of any other when there are too
// many: lists read all of them in turn, so that the oldest is no worse than
// another. With too many kinds it begins anew.
func (s *tallies) put(k rowKey, version uint64, c *chapter, rows []byte) *tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dictionary == nil || len(s.dictionary.kinds) > maxKinds {
		s.dictionary = &dictionary{ids: map[kind]uint32{}}
		s.kept = map[rowKey]keptTally{}
	}
	for other := range s.kept {
		if len(s.kept) < maxTallies {
			break
		}
		delete(s.kept, other)
	}
	t := &tally{
		dictionary: s.dictionary, kinds: make([]uint32, len(c.kinds)), counts: make([]uint16, len(c.kinds)),
		codes: c.codes, rows: rows,
	}
	for i, of := range c.kinds {
		t.kinds[i] = s.dictionary.id(of)
	}
	for _, code := range c.codes {
		t.counts[code]++
	}
	t.all = s.dictionary.kinds
	s.kept[k] = keptTally{version, t}
	return t
}

// tally gives what a chapter holds, and opens it when that is not known.
func (t *txn) tally(key rowKey, value []byte, w *work) (*tally, error) {
	h, _, err := chapters.parseCell(key[:], value)
	if err != nil {
		return nil, err
	}
	w.passed++
	w.writes += h.version
	if kept := t.db.tallies.get(key, h.version); kept != nil {
		return kept, nil
	}
	w.opened++
	_, plaintext, err := chapters.openCell(t.keys, key[:], value)
	if err != nil {
		return nil, err
	}
	c, rows, err := decodeKinds(plaintext)
	if err != nil {
		return nil, corrupt(err)
	}
	return t.db.tallies.put(key, h.version, c, rows), nil
}

// verdicts say of each kind in a dictionary whether a filter wants it: 1, or 0.
type verdicts struct {
	want pattern
	of   *dictionary
	all  []uint8
}

// judge makes sure that there is a verdict on every kind of a tally.
func (v *verdicts) judge(t *tally) {
	if v.of != t.dictionary {
		v.of, v.all = t.dictionary, make([]uint8, 0, len(t.all))
	}
	for i := len(v.all); i < len(t.all); i++ {
		verdict := uint8(0)
		if v.want.matches(&t.all[i]) {
			verdict = 1
		}
		v.all = append(v.all, verdict)
	}
}

// count says how many rows of a chapter are wanted.
func (v *verdicts) count(t *tally) (n int) {
	v.judge(t)
	for i, id := range t.kinds {
		n += int(v.all[id]) * int(t.counts[i]) // no branch: this runs a million times
	}
	return n
}
