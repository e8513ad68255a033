package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/vasp-enclave/vasp-enclave/storage"
)

// VerifyStream reads what a sink has taken, as Verify reads an export. In a
// stream checkpoints come now and then, entries may come twice where the enclave
// was killed or the sink failed, and what follows the last checkpoint is signed
// by none yet: Verified.Unsigned says how many those are. It may begin with any
// entry: Verified.From says with which. What a stream cannot show is that its
// end is missing: checkpoints kept elsewhere do.
func VerifyStream(r io.Reader, known []*Checkpoint, each func()) (*Verified, error) {
	v := newVerifier(known)
	s := &stream{verifier: v}
	if err := v.read(r, s.line, each); err != nil {
		return nil, err
	}
	if v.Checkpoint == nil {
		return nil, errors.New("there is no checkpoint: nobody has signed any of it; the first comes a minute after the first entry")
	}
	v.Unsigned = v.last.Seq - v.Checkpoint.Seq
	return &v.Verified, v.holds(known, v.first.Seq)
}

// stream is a verifier that remembers what it has seen.
type stream struct {
	*verifier
	hashes [][32]byte // of the entries from the first on
}

func (s *stream) line(text []byte) error {
	if isCheckpoint(text) {
		return s.signed(text)
	}
	e, err := parseLine(text)
	if err != nil {
		return err
	}
	if s.Entries > 0 && e.Seq <= s.last.Seq {
		return s.again(e)
	}
	if err := s.entry(e); err != nil {
		return err
	}
	s.hashes = append(s.hashes, e.Hash)
	return nil
}

// again wants an entry that came before to be the same.
func (s *stream) again(e storage.AuditEntry) error {
	if e.Hash != e.Sum() {
		return fmt.Errorf("entry %d was changed", e.Seq)
	}
	if known, ok := s.hash(e.Seq); !ok || known != e.Hash {
		return fmt.Errorf("entry %d came before and is another one now: an older history was put back, or the log was made anew", e.Seq)
	}
	return nil
}

func (s *stream) hash(seq uint64) (h [32]byte, ok bool) {
	if s.Entries == 0 || seq < s.first.Seq || seq > s.last.Seq {
		return h, false
	}
	return s.hashes[seq-s.first.Seq], true
}

// signed wants a checkpoint of an entry that is there. One may come twice, too.
func (s *stream) signed(text []byte) error {
	c, err := ParseCheckpoint(text)
	if err != nil {
		return err
	}
	if known, ok := s.hash(c.Seq); !ok || hex.EncodeToString(known[:]) != c.Hash {
		return fmt.Errorf("the checkpoint is of entry %d, which is not there or is another one: entries are missing", c.Seq)
	}
	if s.Checkpoint == nil || c.Seq >= s.Checkpoint.Seq {
		s.Checkpoint = c
	}
	return nil
}
