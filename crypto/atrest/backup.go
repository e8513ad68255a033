package atrest

import (
	"fmt"
	"io"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

const purposeBackupHead = "vasp-enclave/v1/backup"

// backupSegment is how much of a backup is authenticated at a time, in bytes
// of ciphertext.
const backupSegment = 1 << 20

// EncryptBackup encrypts what is written to it and writes that to w. Only
// Close ends the stream: one that was not closed does not open. head stands in
// clear before the stream and is authenticated with it.
func (k *KEK) EncryptBackup(w io.Writer, head []byte) (io.WriteCloser, error) {
	e, err := k.backup.NewEncryptingWriter(w, backupHead(head))
	if err != nil {
		return nil, fmt.Errorf("encrypt backup: %v", err)
	}
	return e, nil
}

// DecryptBackup reads what EncryptBackup wrote under the same key and head.
// What was changed, cut or lengthened is ErrCorrupt, at the latest where the
// stream should end: nothing that was read before io.EOF may be believed.
func (k *KEK) DecryptBackup(r io.Reader, head []byte) (io.Reader, error) {
	source := &sourceErrors{r: r}
	d, err := k.backup.NewDecryptingReader(source, backupHead(head))
	if err != nil {
		return nil, fmt.Errorf("decrypt backup: %w", ErrCorrupt)
	}
	return &backupReader{d, source}, nil
}

func backupHead(head []byte) []byte { return tlv.AppendPart(tlv.Domain(purposeBackupHead), head) }

// sourceErrors remembers why the ciphertext could not be read.
type sourceErrors struct {
	r   io.Reader
	err error
}

func (s *sourceErrors) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

type backupReader struct {
	plain  io.Reader
	source *sourceErrors
}

func (b *backupReader) Read(p []byte) (int, error) {
	n, err := b.plain.Read(p)
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case b.source.err != nil:
		return n, fmt.Errorf("decrypt backup: %w", b.source.err)
	}
	return n, fmt.Errorf("decrypt backup: %w", ErrCorrupt)
}
