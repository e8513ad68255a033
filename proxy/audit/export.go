package audit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// An export of the audit log is a text of lines: a JSON object for each entry,
// in the order of the chain, and after the last one a checkpoint, which the
// enclave signs. It is verified with nothing else: docs/formats.md.

// CheckpointFormat names a checkpoint's; another one is refused.
const CheckpointFormat = "vasp-enclave/audit-checkpoint/1"

// checkpointDomain keeps a checkpoint's signature from counting for anything
// else.
const checkpointDomain = "vasp-enclave/v1/audit-checkpoint"

// timeFormat has milliseconds, which is what the chain has.
const timeFormat = "2006-01-02T15:04:05.000Z"

// line is an entry in an export. The order of its members is fixed.
type line struct {
	Seq     uint64 `json:"seq"`
	Time    string `json:"time"`
	Actor   string `json:"actor"`
	Verb    string `json:"verb"`
	Object  string `json:"object"`
	Peer    string `json:"peer"` // "" for none
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
	Prev    string `json:"prev"`
	Hash    string `json:"hash"`
}

// Line is an entry's line, without its end. There is one for each entry, to the
// byte.
func Line(e *storage.AuditEntry) ([]byte, error) {
	peer := ""
	if e.Peer != 0 {
		peer = e.Peer.String()
	}
	return json.Marshal(line{
		e.Seq, e.Time.UTC().Format(timeFormat), e.Actor, e.Verb, e.Object, peer, e.Outcome, e.Reason,
		hex.EncodeToString(e.Prev[:]), hex.EncodeToString(e.Hash[:]),
	})
}

// parseLine reads a line that Line wrote. One that differs in any byte, though
// it said the same, is an error.
func parseLine(text []byte) (e storage.AuditEntry, err error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return e, errors.New("is no entry")
	}
	at, err := time.Parse(timeFormat, l.Time)
	if err != nil {
		return e, errors.New("its time is not as it should be")
	}
	e = storage.AuditEntry{
		Seq: l.Seq, Time: at, Actor: l.Actor, Verb: l.Verb, Object: l.Object, Outcome: l.Outcome, Reason: l.Reason,
	}
	if l.Peer != "" {
		if e.Peer, err = identity.ParseVASPID(l.Peer); err != nil {
			return e, errors.New("its peer is no VASP id")
		}
	}
	for _, h := range []struct {
		text string
		to   *[32]byte
	}{{l.Prev, &e.Prev}, {l.Hash, &e.Hash}} {
		b, err := hex.DecodeString(h.text)
		if err != nil || len(b) != len(h.to) {
			return e, errors.New("its hashes are not as they should be")
		}
		copy(h.to[:], b)
	}
	if again, err := Line(&e); err != nil || !bytes.Equal(again, text) {
		return e, errors.New("is not written as an enclave writes it")
	}
	return e, nil
}

// Checkpoint says how far the log went at a time, and with which hash: all
// entries up to it, since each has the hash of the one before.
type Checkpoint struct {
	Format string          `json:"format"`
	VASP   identity.VASPID `json:"vaspId"`
	Time   time.Time       `json:"time"`
	// From is the first entry of the export that it ends, Seq the last entry of
	// all, and Hash that one's, in hex.
	From uint64 `json:"from"`
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
	// Identity is the enclave's public identity, base64; Fingerprint its name
	// in digits, which the enclave's operator can confirm.
	Identity    string `json:"identity"`
	Fingerprint string `json:"fingerprint"`
}

// signedCheckpoint is a checkpoint's line.
type signedCheckpoint struct {
	Checkpoint json.RawMessage `json:"checkpoint"`
	Signature  []byte          `json:"signature"`
}

// Sign gives the checkpoint's line, without its end.
func (c Checkpoint) Sign(by *identity.Signer) ([]byte, error) {
	c.Format, c.VASP, c.Time = CheckpointFormat, by.Public().VASP(), c.Time.UTC().Truncate(time.Second)
	c.Identity, c.Fingerprint = base64.StdEncoding.EncodeToString(by.Public().Bytes()), identity.FingerprintDigits(by.Public())
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	signature, err := by.Sign(checkpointDomain, text)
	if err != nil {
		return nil, err
	}
	return json.Marshal(signedCheckpoint{text, signature})
}

// ParseCheckpoint reads a checkpoint's line and checks its signature against
// the identity that it names. Whether that is the right one is for the caller
// to ask.
func ParseCheckpoint(text []byte) (*Checkpoint, error) {
	var s signedCheckpoint
	if err := json.Unmarshal(text, &s); err != nil || len(s.Checkpoint) == 0 {
		return nil, errors.New("is no checkpoint")
	}
	if again, err := json.Marshal(s); err != nil || !bytes.Equal(again, text) {
		return nil, errors.New("the checkpoint is not written as an enclave writes it")
	}
	var c Checkpoint
	if err := json.Unmarshal(s.Checkpoint, &c); err != nil {
		return nil, errors.New("is no checkpoint")
	}
	if c.Format != CheckpointFormat {
		return nil, fmt.Errorf("the checkpoint's format is %.40q, this program knows %s", c.Format, CheckpointFormat)
	}
	public, err := identity.ParseShown(c.VASP, c.Identity, c.Fingerprint)
	if err != nil {
		return nil, fmt.Errorf("the checkpoint's %w", err)
	}
	if err := public.Verify(checkpointDomain, s.Checkpoint, s.Signature); err != nil {
		return nil, errors.New("the checkpoint's signature does not verify: it was changed, or is not this identity's")
	}
	return &c, nil
}

// Verified is what an export proved to hold.
type Verified struct {
	Entries     uint64
	From, To    uint64    // the first and the last entry
	First, Last time.Time // of the entries
	Checkpoint  *Checkpoint
	Unsigned    uint64 // of a stream: entries behind the last checkpoint
}

// maxLine bounds a line, in bytes.
const maxLine = 1 << 20

// Verify reads an export and makes sure that it is the whole of what its
// checkpoint signs: nothing in it was changed, left out, added or put elsewhere,
// and nothing was cut off at its beginning or end. known are checkpoints that
// were kept elsewhere: each must lie on the same chain. It needs no key. each,
// when not nil, is called after every entry.
//
// The error names the first line that is wrong.
func Verify(r io.Reader, known []*Checkpoint, each func()) (*Verified, error) {
	v := newVerifier(known)
	if err := v.read(r, v.line, each); err != nil {
		return nil, err
	}
	if v.Checkpoint == nil {
		return nil, errors.New("the export has no checkpoint at its end: it was cut off, or is not complete; what a sink has is checked as a stream (--stream)")
	}
	return &v.Verified, v.holds(known, v.Checkpoint.From)
}

func newVerifier(known []*Checkpoint) *verifier {
	v := &verifier{expected: map[uint64][]string{}}
	for _, c := range known {
		v.expected[c.Seq] = append(v.expected[c.Seq], c.Hash)
	}
	return v
}

// read hands every line to one of the two ways to look at it.
func (v *verifier) read(r io.Reader, line func([]byte) error, each func()) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	lines.Split(wholeLines)
	for n := 1; lines.Scan(); n++ {
		before := v.Entries
		if err := line(lines.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if each != nil && v.Entries > before {
			each()
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("after entry %d: %w", v.last.Seq, err)
	}
	return nil
}

// holds wants what was read, from an entry on, to reach as far as the known
// checkpoints do.
func (v *verifier) holds(known []*Checkpoint, from uint64) error {
	for _, c := range known {
		switch {
		case c.Seq > max(v.To, v.Checkpoint.Seq):
			return fmt.Errorf("a checkpoint that was kept elsewhere is of entry %d, the last one here is entry %d: it was made before, or of an older history", c.Seq, max(v.To, v.Checkpoint.Seq))
		case c.VASP != v.Checkpoint.VASP:
			return fmt.Errorf("a checkpoint that was kept elsewhere is of VASP %s", c.VASP)
		case c.Seq != 0 && c.Seq < from:
			return fmt.Errorf("a checkpoint that was kept elsewhere is of entry %d, the first one here is entry %d: give what comes before, too", c.Seq, from)
		}
	}
	return nil
}

// wholeLines is bufio.ScanLines, but a last line without its end, or with a
// carriage return, is an error: an enclave writes neither.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, errors.New("the last line is cut off")
	}
	return 0, nil, nil
}

type verifier struct {
	Verified
	first    storage.AuditEntry
	last     storage.AuditEntry
	expected map[uint64][]string // hashes by sequence number
}

func (v *verifier) line(text []byte) error {
	if v.Checkpoint != nil {
		return errors.New("stands behind the checkpoint: this is no export, or it was added to; what a sink has is checked as a stream (--stream)")
	}
	if isCheckpoint(text) {
		return v.end(text)
	}
	e, err := parseLine(text)
	if err != nil {
		return err
	}
	return v.entry(e)
}

func isCheckpoint(line []byte) bool { return bytes.HasPrefix(line, []byte(`{"checkpoint":`)) }

// entry wants one that follows from the one before.
func (v *verifier) entry(e storage.AuditEntry) error {
	switch {
	case v.Entries > 0 && e.Seq != v.last.Seq+1:
		return fmt.Errorf("is entry %d, after entry %d: entries are missing, or stand elsewhere", e.Seq, v.last.Seq)
	case v.Entries > 0 && e.Prev != v.last.Hash, e.Seq == 1 && e.Prev != [32]byte{}:
		return fmt.Errorf("entry %d does not follow from the one before", e.Seq)
	case e.Hash != e.Sum():
		return fmt.Errorf("entry %d was changed", e.Seq)
	}
	hash := hex.EncodeToString(e.Hash[:])
	for _, want := range v.expected[e.Seq] {
		if want != hash {
			return fmt.Errorf("entry %d is not the one of a checkpoint that was kept elsewhere", e.Seq)
		}
	}
	if v.Entries == 0 {
		v.first, v.First, v.From = e, e.Time, e.Seq
	}
	v.last, v.Last, v.To = e, e.Time, e.Seq
	v.Entries++
	return nil
}

func (v *verifier) end(text []byte) error {
	c, err := ParseCheckpoint(text)
	switch {
	case err != nil:
		return err
	case c.Seq != v.last.Seq || v.Entries > 0 && c.Hash != hex.EncodeToString(v.last.Hash[:]):
		return fmt.Errorf("the checkpoint is of entry %d, and the one before it is entry %d: entries were cut off", c.Seq, v.last.Seq)
	case v.Entries > 0 && c.From != v.first.Seq:
		return fmt.Errorf("the export began with entry %d, and begins with entry %d now: entries were cut off", c.From, v.first.Seq)
	}
	v.Checkpoint = c
	return nil
}
