package bolt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/files"
)

// A backup is a head in clear and the whole file, as one transaction saw it,
// as an encrypted stream: FORMAT.md, "Backups".
const backupMagic = "vasp-enclave/backup/1\n"

const maxBackupHead = 4 << 10

// BackupHead is what a backup tells about itself without a key. It is believed
// only when the stream behind it has opened to its end.
type BackupHead struct {
	Instance string    `json:"instance"` // of the history, hex
	Time     time.Time `json:"time"`     // when it was begun
	Schema   string    `json:"schema"`
	KEK      string    `json:"kek"`  // id of the key that it opens with
	Size     int64     `json:"size"` // of the history file, in bytes
}

// Backup writes a consistent copy of the whole file to w, encrypted, while
// changes go on. The audit entry is stored first, and is in the copy. Until it
// has ended, pages that changes set free are not used again and the file
// grows. Whatever is in w after an error does not open.
func (db *DB) Backup(ctx context.Context, w io.Writer, entry storage.AuditEntry) error {
	kek, err := db.announce(ctx, entry)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return db.read(ctx, "backup", func(t *txn) error {
		if _, err := atrest.OpenRecord(kek, t.bucket(meta).Get(keyringKey)); err != nil {
			return fmt.Errorf("the key was changed meanwhile, try again: %w", err)
		}
		head, err := db.writeHead(t, w, kek)
		if err != nil {
			return err
		}
		stream, err := kek.EncryptBackup(w, head)
		if err != nil {
			return err
		}
		out := &contextWriter{ctx: ctx, w: stream}
		if _, err := t.WriteTo(out); err != nil {
			return cmp.Or(out.err, err) // and no Close, which would make a whole stream of what there is
		}
		return stream.Close()
	})
}

// announce stores the entry, and gives the key that the file is wrapped under,
// which is the writer's to know.
func (db *DB) announce(ctx context.Context, entry storage.AuditEntry) (kek *atrest.KEK, err error) {
	note, err := prepareAudit(entry)
	if err != nil {
		return nil, err
	}
	j := newJob(note.check, func(t *txn) error {
		t.wrote, kek = true, db.kek
		return note.write(t)
	})
	j.audit = true
	err = db.do(ctx, j)
	return kek, err
}

func (db *DB) writeHead(t *txn, w io.Writer, kek *atrest.KEK) ([]byte, error) {
	instance := db.keys.Instance()
	return writeBackupHead(w, &BackupHead{
		Instance: hex.EncodeToString(instance[:]), Time: db.now().UTC().Truncate(time.Second),
		Schema: t.schema(), KEK: kek.ID(), Size: t.Size(),
	})
}

// contextWriter ends a long copy when its caller is gone. It keeps the error,
// of which bbolt passes on the text only.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (c *contextWriter) Write(p []byte) (n int, err error) {
	if c.err = c.ctx.Err(); c.err == nil {
		n, c.err = c.w.Write(p)
	}
	return n, c.err
}

// writeBackupHead gives the bytes that it wrote.
func writeBackupHead(w io.Writer, h *BackupHead) ([]byte, error) {
	object, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32([]byte(backupMagic), uint32(len(object)))
	b = append(b, object...)
	_, err = w.Write(b)
	return b, err
}

// ReadBackupHead reads the head of a backup, and gives its bytes too.
func ReadBackupHead(r io.Reader) (h BackupHead, clear []byte, err error) {
	start := make([]byte, len(backupMagic)+4)
	if _, err := io.ReadFull(r, start); err != nil || !bytes.HasPrefix(start, []byte(backupMagic)) {
		return h, nil, errors.New("it is not a backup of this program, or of a later version of it")
	}
	length := binary.BigEndian.Uint32(start[len(backupMagic):])
	if length > maxBackupHead {
		return h, nil, errors.New("the backup's head is damaged")
	}
	object := make([]byte, length)
	if _, err := io.ReadFull(r, object); err != nil {
		return h, nil, errors.New("the backup is cut short in its head")
	}
	if err := json.Unmarshal(object, &h); err != nil || h.Size < 4*pageSize {
		return h, nil, errors.New("the backup's head is damaged")
	}
	return h, append(start, object...), nil
}

// Restored says what a backup held.
type Restored struct {
	BackupHead
	Contents
}

// Restore makes the file o.Path of a backup. Only when every byte of it has
// been authenticated, and Check has found every value of the file whole, does the file
// get its name; one that is there already is not replaced (fs.ErrExist). A
// backup under another key is atrest.ErrWrongKEK; one that is damaged or cut
// short is atrest.ErrCorrupt or storage.ErrCorrupt.
func Restore(ctx context.Context, r io.Reader, o Options) (*Restored, error) {
	restored, err := restore(ctx, r, &o)
	if err != nil {
		return nil, fmt.Errorf("restore to %q: %w", o.Path, err)
	}
	return restored, nil
}

func restore(ctx context.Context, r io.Reader, o *Options) (*Restored, error) {
	if o.KEK == nil {
		return nil, errors.New("no key-encryption key given")
	}
	if _, err := os.Lstat(o.Path); err == nil {
		return nil, fmt.Errorf("%w; move it away first, it is not replaced", os.ErrExist)
	}
	head, clear, err := ReadBackupHead(r)
	if err != nil {
		return nil, err
	}
	if head.KEK != o.KEK.ID() {
		return nil, fmt.Errorf("%w: the backup of %s opens with the key %s, the given one is %s",
			atrest.ErrWrongKEK, head.Time.Format(time.RFC3339), head.KEK, o.KEK.ID())
	}
	if err := roomFor(filepath.Dir(o.Path), head.Size); err != nil {
		return nil, err
	}
	stream, err := o.KEK.DecryptBackup(r, clear)
	if err != nil {
		return nil, err
	}
	restored := &Restored{BackupHead: head}
	err = place(o.Path, os.Link, func(name string) error {
		if err := unpack(stream, name, head.Size); err != nil {
			return err
		}
		restored.Contents, err = verify(ctx, name, o)
		if err == nil && restored.Instance != hex.EncodeToString(restored.instance[:]) {
			err = errors.New("the file in the backup is another history than its head says")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return restored, nil
}

func unpack(stream io.Reader, name string, size int64) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, stream)
	if err == nil && n != size {
		err = fmt.Errorf("the backup holds %d bytes, its head says %d", n, size)
	}
	return errors.Join(err, f.Close())
}

// place builds a file beside its place, syncs it, and gives it its name by
// link, which replaces nothing, or by rename. A failure leaves no file.
func place(path string, name func(old, new string) error, build func(name string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.new") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return err
	}
	if err := build(f.Name()); err != nil {
		return err
	}
	if err := errors.Join(files.Sync(f.Name()), name(f.Name(), path)); err != nil {
		return err
	}
	return files.Sync(dir)
}

// Contents are what a file holds as a whole.
type Contents struct {
	Rows, Peers, Undelivered, AuditEntries uint64

	// Latest is the time of the last audit entry, zero when there is none.
	Latest time.Time
	// Identity is our own, as storage.OwnIdentity's chain; nil before the first start.
	Identity []byte

	instance [16]byte
}

// CheckFile runs Check on the file of a stopped enclave, and says what it holds.
// A file of an older schema version is upgraded first, as by any other opening.
func CheckFile(ctx context.Context, o Options) (Contents, error) {
	o.setDefaults()
	if _, err := os.Stat(o.Path); err != nil { // Open would make it
		return Contents{}, fmt.Errorf("check: %w", err)
	}
	c, err := verify(ctx, o.Path, &o)
	if err != nil {
		return c, fmt.Errorf("check %q: %w", o.Path, err)
	}
	return c, nil
}

// verify opens a file that nobody else has, and checks every value in it.
func verify(ctx context.Context, name string, o *Options) (c Contents, err error) {
	db, err := Open(Options{Path: name, KEK: o.KEK, Others: o.Others, UnsafeNetwork: o.UnsafeNetwork, Now: o.Now, Logger: o.Logger})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.CheckTelling(ctx, o.Tell); err != nil {
		return c, err
	}
	return db.Contents(ctx)
}

// Contents counts what there is.
func (db *DB) Contents(ctx context.Context) (c Contents, err error) {
	c.instance = db.keys.Instance()
	err = db.read(ctx, "contents", func(t *txn) error {
		s, err := t.loadState()
		if err != nil {
			return err
		}
		c.Rows, c.Peers, c.Undelivered = s.Cells[verifications.name], s.Cells[peers.name], s.Cells[outbox.name]
		if c.AuditEntries = s.AuditSeq; s.AuditSeq > 0 {
			last, err := t.auditEntry(s.AuditSeq)
			if err != nil {
				return err
			}
			c.Latest = last.Time
		}
		return nil
	})
	if err != nil || c.Rows+c.AuditEntries == 0 {
		return c, err
	}
	own, err := db.Identity(ctx)
	if err == nil {
		c.Identity = own.Chain
	}
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return c, err
}
