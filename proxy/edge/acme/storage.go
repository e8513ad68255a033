package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage/files"
)

// storage keeps what belongs to certificates in files below one directory:
// account keys, private keys, chains, and what the authority said of them.
// Each file is sealed, with its place in the directory as associated data: who
// reads the disk learns no key, and who moves or edits a file makes one that
// does not open (attacks S1, S5). Methods may be called concurrently. One
// program uses a directory at a time.
type storage struct {
	dir  string
	aead identity.AEAD

	mu    sync.Mutex
	locks map[string]chan struct{} // held while there is an entry; closed at unlock
}

var _ certmagic.Storage = (*storage)(nil)

const (
	dirMode  = 0o700
	fileMode = 0o600

	tempPrefix = ".tmp-"

	// checkKey is a file that tells another key's directory at start, rather
	// than when a certificate is needed.
	checkKey  = "check"
	checkText = "vasp-enclave"
)

// A sealError is a file that is not what was written to its place, under this
// key.
type sealError struct{ file string }

func (e *sealError) Error() string {
	return e.file + " does not open: it was edited or moved, or is of another database; put the file back, or remove its directory to ask for a new certificate"
}

// errWrongKey is every file of a directory not opening.
var errWrongKey = errors.New("the certificates there were sealed under the key of another database file; give each enclave a directory of its own, or remove the directory to ask for a new certificate")

// openStorage makes the directory or opens it, and says whether its files are
// ours.
func openStorage(dir string, aead identity.AEAD) (*storage, error) {
	s := &storage{dir: dir, aead: aead, locks: make(map[string]chan struct{})}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, dirMode); err != nil {
		return nil, fmt.Errorf("it must be readable by this user only: %w", err)
	}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	ctx := context.Background()
	switch text, err := s.Load(ctx, checkKey); {
	case errors.Is(err, fs.ErrNotExist):
		return s, s.Store(ctx, checkKey, []byte(checkText))
	case errors.As(err, new(*sealError)) || err == nil && string(text) != checkText:
		return nil, errWrongKey
	default:
		return s, err
	}
}

// sweep removes what a crash in the middle of a write has left.
func (s *storage) sweep() error {
	return filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasPrefix(entry.Name(), tempPrefix) {
			err = os.Remove(path)
		}
		return err
	})
}

// place is the associated data of the file at key.
func place(key string) []byte { return []byte("vasp-enclave/v1/acme-storage/" + key) }

// path is where the file or directory at key is. Keys are made by certmagic of
// our host and the authority's; none may lead out of the directory.
func (s *storage) path(key string) (string, error) {
	if !fs.ValidPath(key) {
		return "", fmt.Errorf("acme: %q is not a place in the storage", key)
	}
	return filepath.Join(s.dir, filepath.FromSlash(key)), nil
}

// Store seals value and puts it at key, in one step: after a crash there is
// the old file or the new one.
func (s *storage) Store(_ context.Context, key string, value []byte) error {
	path, err := s.path(key)
	if err != nil {
		return err
	}
	sealed, err := s.aead.Encrypt(value, place(key))
	if err != nil {
		return fmt.Errorf("seal %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	return replace(path, sealed)
}

// replace writes a file beside its place and renames it. It returns when both
// are on the disk.
func replace(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, tempPrefix) // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return err
	}
	if err = os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return files.Sync(dir)
}

// Load opens the file at key. Its error is fs.ErrNotExist when there is none,
// and a sealError when it is not the one that was stored.
func (s *storage) Load(_ context.Context, key string) ([]byte, error) {
	path, err := s.path(key)
	if err != nil {
		return nil, err
	}
	sealed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	value, err := s.aead.Decrypt(sealed, place(key))
	if err != nil {
		return nil, &sealError{path}
	}
	return value, nil
}

// Delete removes the file or directory at key. That there is none is no error.
func (s *storage) Delete(_ context.Context, key string) error {
	path, err := s.path(key)
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// Exists tells whether there is a file or directory at key.
func (s *storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List gives the keys below a key: the next level, or every one.
func (s *storage) List(ctx context.Context, key string, recursive bool) ([]string, error) {
	root, err := s.path(key)
	if err != nil {
		return nil, err
	}
	var keys []string
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if strings.HasPrefix(entry.Name(), tempPrefix) {
			return nil
		}
		below, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		keys = append(keys, filepath.ToSlash(below))
		if entry.IsDir() && !recursive {
			return fs.SkipDir
		}
		return ctx.Err()
	})
	return keys, err
}

// Stat tells of the file or directory at key. The size is the sealed one.
func (s *storage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	path, err := s.path(key)
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key, Modified: info.ModTime(), Size: info.Size(), IsTerminal: !info.IsDir()}, nil
}

// Lock waits until name is nobody's, within this process.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		s.mu.Lock()
		held, taken := s.locks[name]
		if !taken {
			s.locks[name] = make(chan struct{})
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Unlock gives name back.
func (s *storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, taken := s.locks[name]
	if !taken {
		return fmt.Errorf("acme: %q is not locked", name)
	}
	close(held)
	delete(s.locks, name)
	return nil
}

// String keeps the key out of anything that prints a storage.
func (s *storage) String() string { return s.dir }
