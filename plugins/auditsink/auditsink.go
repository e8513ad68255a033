// Package auditsink is the sinks of the audit log of a stock build.
package auditsink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage/files"
)

// Stdout is "stdout:", the program's standard output, which has nothing else: the
// program logs to standard error.
func Stdout(_ context.Context, u *url.URL) (audit.Sink, error) {
	if *u != (url.URL{Scheme: u.Scheme}) {
		return nil, errors.New("stdout: takes nothing behind the colon")
	}
	return stdout{os.Stdout}, nil
}

type stdout struct{ w io.Writer }

func (s stdout) Write(_ context.Context, lines []byte) error {
	_, err := s.w.Write(lines)
	return err
}

func (stdout) Close() error { return nil }

// File is "file:/path", a file that grows, for its user only. What is in it is
// synced before a write counts. When the file is renamed or removed, as by a
// program that rotates logs, the next write makes a new one. Two enclaves cannot
// share a file.
func File(_ context.Context, u *url.URL) (audit.Sink, error) {
	path := u.Path
	bare := url.URL{Scheme: u.Scheme, Path: path, OmitHost: u.OmitHost}
	if *u != bare || !filepath.IsAbs(path) {
		return nil, errors.New("must be file: and a path that begins with /, as in file:/var/log/enclave/audit.jsonl")
	}
	switch info, err := os.Stat(filepath.Dir(path)); {
	case err != nil:
		return nil, fmt.Errorf("%w; make the directory, writable by this user", err)
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a directory", filepath.Dir(path))
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return &file{path: path}, nil
}

type file struct {
	path string
	f    *os.File // nil: not open
}

// Write appends and syncs. After a failure the file is opened again, and what a
// half done write has left is taken off.
func (s *file) Write(_ context.Context, lines []byte) error {
	if err := s.open(); err != nil {
		return err
	}
	_, err := s.f.Write(lines)
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// open keeps the file that is open while it is the one at the path.
func (s *file) open() error {
	if s.f != nil {
		ours, err := s.f.Stat()
		if there, errThere := os.Stat(s.path); err == nil && errThere == nil && os.SameFile(ours, there) {
			return nil
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(prepare(f), syncDir(filepath.Dir(s.path))); err != nil {
		return errors.Join(err, f.Close())
	}
	s.f = f
	return nil
}

func prepare(f *os.File) error {
	err := files.Lock(f)
	if errors.Is(err, files.ErrLocked) {
		return errors.New("another program writes to " + f.Name() + "; give each enclave a file of its own")
	}
	if err != nil {
		return err
	}
	return dropTornLine(f)
}

// tornLine bounds how much of a file's end is looked through for the end of its
// last whole line, in bytes: more than the longest line.
const tornLine = 1 << 20

// dropTornLine cuts off what follows the last line's end. The entry comes again.
func dropTornLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	from := max(0, info.Size()-tornLine)
	tail := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	end := bytes.LastIndexByte(tail, '\n') + 1
	switch {
	case end == len(tail):
		return nil
	case end == 0 && from > 0:
		return fmt.Errorf("%s has no line end in its last %d bytes: it is no audit log; move it away", f.Name(), tornLine)
	}
	return f.Truncate(from + int64(end))
}

// syncDir makes the file's name last. A directory that may be written to and
// not read cannot be synced.
func syncDir(name string) error {
	if err := files.Sync(name); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func (s *file) Close() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}
