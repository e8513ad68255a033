package central

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
	"github.com/vasp-enclave/vasp-enclave/storage/files"
)

// kept is what central remembers of one member's enclave. A value of it never
// changes; a new registration makes a new one.
type kept struct {
	Registration relay.Registration `json:"registration"` // the last one, identity chain included
	AccessKey    string             `json:"accessKey"`    // it was signed with; requests to the enclave are, too
	UpdatedAt    time.Time          `json:"updatedAt"`    // when something in it changed
	LeaseUntil   time.Time          `json:"leaseUntil"`
}

// stateFile is the file's form.
type stateFile struct {
	Version int                      `json:"version"`
	Members map[identity.VASPID]kept `json:"members"`
}

const stateVersion = 1

// maxStateFile bounds the file, in bytes.
const maxStateFile = 256 << 20

// store is what is kept of all members, in memory and in the state file. The
// file is always whole: it is written beside and renamed.
type store struct {
	path string // "": memory only
	lock *os.File

	mu      sync.Mutex
	members map[identity.VASPID]kept

	writing sync.Mutex    // one writer of the file at a time
	dirty   chan struct{} // leases were prolonged since the file was written
}

// openStore reads the state file, which need not be there, and keeps others
// from using it until close.
func openStore(path string) (*store, error) {
	s := &store{path: path, members: make(map[identity.VASPID]kept), dirty: make(chan struct{}, 1)}
	if path == "" {
		return s, nil
	}
	var err error
	if s.lock, err = lockFile(path + ".lock"); err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, err)
	}
	if err := s.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("state file %s: %w", path, err), s.close())
	}
	return s, nil
}

// read fills members. A damaged file is an error and not an empty state:
// forgetting identities is for an operator to decide.
func (s *store) read() error {
	text, err := readSmall(s.path, maxStateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var file stateFile
	limits := wirejson.WithLimits(wirejson.Limits{Bytes: maxStateFile, Tokens: 1 << 24})
	if err := wirejson.Unmarshal(text, &file, wirejson.RefuseUnknown(), wirejson.ShowNames(), limits); err != nil {
		return fmt.Errorf("damaged: %w; put a copy of it back, or remove it and have members compare identities anew", err)
	}
	if file.Version != stateVersion {
		return fmt.Errorf("has version %d, and this central reads version %d", file.Version, stateVersion)
	}
	if file.Members != nil {
		s.members = file.Members
	}
	return nil
}

func (s *store) get(id identity.VASPID) (kept, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.members[id]
	return k, ok
}

// put remembers k, on disk too before it returns. After an error nothing
// changed.
func (s *store) put(id identity.VASPID, k kept) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	before, had := s.get(id)
	s.set(id, k)
	err := s.write()
	if err != nil && had {
		s.set(id, before)
	} else if err != nil {
		s.drop(id)
	}
	return err
}

// prolong remembers k, which differs in its lease only; the file follows
// within about a second.
func (s *store) prolong(id identity.VASPID, k kept) {
	s.set(id, k)
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

func (s *store) set(id identity.VASPID, k kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[id] = k
}

func (s *store) drop(id identity.VASPID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, id)
}

// run writes the file after leases were prolonged, at most once a second,
// until ctx ends. The last ones are for flush.
func (s *store) run(ctx context.Context, log *slog.Logger) error {
	pause := time.NewTicker(time.Second)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		select {
		case <-s.dirty:
			if err := s.flush(); err != nil {
				log.Error("state file not written; trying again with the next heartbeat", "err", err)
			}
		default:
		}
	}
}

func (s *store) flush() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.write()
}

// write replaces the file. Called with writing held.
func (s *store) write() error {
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	members := maps.Clone(s.members)
	s.mu.Unlock()
	text, err := json.MarshalIndent(stateFile{stateVersion, members}, "", "\t")
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	if err := replaceFile(s.path, append(text, '\n')); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

// replaceFile writes beside path and renames, so that a reader, and the next
// start after a crash, finds the old text or the new one.
func replaceFile(path string, text []byte) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // does nothing after the rename
	_, err = temp.Write(text)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return files.Sync(dir)
}

// lockFile keeps another central out until the file is closed or the process
// ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = files.Lock(f)
	if errors.Is(err, files.ErrLocked) {
		err = errors.New("another central uses it; stop that one first")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (s *store) close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// ForgetIdentity removes a VASP's identity and registration from the state
// file of a central that is not running. The next identity that the VASP
// registers is then taken as its first. Its counterparties' pins are theirs
// and are not touched: they will refuse the new identity until each accepts it.
func ForgetIdentity(path string, id identity.VASPID) error {
	s, err := openStore(path)
	if err != nil {
		return err
	}
	if _, ok := s.get(id); !ok {
		return errors.Join(fmt.Errorf("state file %s holds no identity of VASP %s", path, id), s.close())
	}
	s.drop(id)
	return errors.Join(s.flush(), s.close())
}
