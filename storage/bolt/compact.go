package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// compactBatch is how much is copied in one transaction, in bytes.
const compactBatch = 8 << 20

// Compact rewrites the file of a stopped enclave without its free pages, and
// says how large it was and is, in bytes. The new file takes the old one's
// name only after Check has found every value in it whole; whatever happens
// before leaves the old one. Free pages hold what was deleted, sealed, until
// then.
func Compact(ctx context.Context, o Options) (before, after int64, err error) {
	o.setDefaults()
	before, after, err = compact(ctx, &o)
	if err != nil {
		return 0, 0, fmt.Errorf("compact %q: %w", o.Path, err)
	}
	return before, after, nil
}

func compact(ctx context.Context, o *Options) (before, after int64, err error) {
	if o.KEK == nil {
		return 0, 0, errors.New("no key-encryption key given")
	}
	if err := examine(o.Path); err != nil {
		return 0, 0, err
	}
	from, err := openFile(o.Path, true) // its lock keeps enclaves out until the new file has its name
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	info, err := os.Stat(o.Path)
	if err != nil {
		return 0, 0, err
	}
	if err := roomFor(filepath.Dir(o.Path), info.Size()); err != nil {
		return 0, 0, err
	}
	err = place(o.Path, os.Rename, func(name string) error {
		if err := errors.Join(keepOwner(name, info), rewrite(name, from)); err != nil {
			return err
		}
		if _, err := verify(ctx, name, o); err != nil {
			return err
		}
		now, err := os.Stat(name)
		if err == nil {
			after = now.Size()
		}
		return err
	})
	return info.Size(), after, err
}

// rewrite copies every bucket, and its counter, into an empty file.
func rewrite(name string, from *bbolt.DB) (err error) {
	defer guard(&err)()
	to, err := openFile(name, false)
	if err != nil {
		return err
	}
	to.NoSync = true // the whole file is synced before it gets its name
	err = bbolt.Compact(to, from, compactBatch)
	return errors.Join(err, to.Close())
}
