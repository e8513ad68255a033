package bolt

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// An anchor is a small file outside the history's volume that says how far the
// history was. Nothing inside a file can tell that the whole of it is an older
// one put back (attack S3); the anchor can. FORMAT.md has its bytes.

// ErrRollback says that a history is behind its anchor, or is another one.
var ErrRollback = errors.New("ROLLBACK-SUSPECTED")

// ErrNoAnchor says that there is no anchor file.
var ErrNoAnchor = errors.New("no anchor")

// mark is a point in a history's life. Commits and AuditSeq only ever rise, and AuditHash
// names the whole audit log up to AuditSeq.
type mark struct {
	Instance  string    `json:"instance"` // hex
	Commits   uint64    `json:"commits"`
	AuditSeq  uint64    `json:"auditSeq"`
	AuditHash string    `json:"auditHash"` // hex
	Time      time.Time `json:"time"`      // for people
	MAC       string    `json:"mac"`       // hex
}

// authenticator is a MAC of everything but Time, which decides nothing.
func (m *mark) authenticator(db *DB) string {
	b := make([]byte, 0, 128)
	for _, part := range []string{m.Instance, m.AuditHash} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, m.Commits), m.AuditSeq)
	sum := db.keys.MAC("anchor", b)
	return hex.EncodeToString(sum[:])
}

// mark is where the history is now.
func (db *DB) mark(ctx context.Context) (m mark, err error) {
	instance := db.keys.Instance()
	m.Instance, m.Time = hex.EncodeToString(instance[:]), db.now().UTC().Truncate(time.Second)
	err = db.read(ctx, "anchor", func(t *txn) error {
		s, err := t.loadState()
		if err != nil {
			return err
		}
		head, _, err := meta.parseCell(stateKey, t.bucket(meta).Get(stateKey))
		m.Commits, m.AuditSeq, m.AuditHash = head.version, s.AuditSeq, hex.EncodeToString(s.AuditHash[:])
		return err
	})
	m.MAC = m.authenticator(db)
	return m, err
}

// SaveAnchor writes how far the history is, atomically. A crash between a commit
// and this leaves an anchor that is behind, which is no cause for suspicion.
func (db *DB) SaveAnchor(ctx context.Context, path string) error {
	m, err := db.mark(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return place(path, os.Rename, func(name string) error { return os.WriteFile(name, append(text, '\n'), 0o600) })
}

// CheckAnchor compares the history with its anchor. ErrRollback: it is older than the
// anchor, took another course since, or is another history. ErrNoAnchor:
// there is none to compare with. Any other error: it cannot be read or was not
// written with this history's keys.
func (db *DB) CheckAnchor(ctx context.Context, path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoAnchor
	}
	if err != nil {
		return err
	}
	var then mark
	if err := json.Unmarshal(text, &then); err != nil {
		return errors.New("the anchor is damaged")
	}
	now, err := db.mark(ctx)
	switch {
	case err != nil:
		return err
	case then.Instance != now.Instance:
		return fmt.Errorf("%w: the anchor is of another history (%.32s, this one is %s)", ErrRollback, then.Instance, now.Instance)
	case then.MAC != then.authenticator(db):
		return errors.New("the anchor is damaged, or was not written with this history's keys")
	case now.Commits < then.Commits || now.AuditSeq < then.AuditSeq:
		return fmt.Errorf("%w: the history has %d commits and %d audit entries, its anchor of %s knew %d and %d", ErrRollback,
			now.Commits, now.AuditSeq, then.Time.Format(time.RFC3339), then.Commits, then.AuditSeq)
	}
	return db.sameCourse(ctx, &then)
}

// sameCourse wants the audit entry that the anchor ends with to be the same one:
// an older file that was used again has as many by now, and others.
func (db *DB) sameCourse(ctx context.Context, then *mark) error {
	if then.AuditSeq == 0 {
		return nil
	}
	return db.read(ctx, "anchor", func(t *txn) error {
		e, err := t.auditEntry(then.AuditSeq)
		if err == nil && hex.EncodeToString(e.Hash[:]) != then.AuditHash {
			err = fmt.Errorf("%w: audit entry %d is another one than when the anchor was written, at %s", ErrRollback,
				then.AuditSeq, then.Time.Format(time.RFC3339))
		}
		return err
	})
}
