package bolt_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// S10: locks and syncs of a filesystem on another machine are not to be relied
// upon, so no file is made or opened there unless the operator insists.
func TestNetworkFilesystemsAreRefused(t *testing.T) {
	there := newPath(t)
	mustClose(t, mustOpen(t, options(t, there)))
	for name, magic := range map[string]int64{
		"NFS": unix.NFS_SUPER_MAGIC, "SMB": unix.CIFS_SUPER_MAGIC, "FUSE": unix.FUSE_SUPER_MAGIC, "9p": unix.V9FS_MAGIC, "Ceph": unix.CEPH_SUPER_MAGIC,
	} {
		restore := bolt.PretendFilesystem(magic)
		for _, path := range []string{there, newPath(t)} {
			before, _ := os.ReadDir(filepath.Dir(path))
			o := options(t, path)
			if db, err := bolt.Open(o); !errors.Is(err, bolt.ErrNetworkFilesystem) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
				if err == nil {
					mustClose(t, db)
				}
			}
			if after, _ := os.ReadDir(filepath.Dir(path)); len(after) != len(before) {
				t.Errorf("%s: a file was made", name)
			}
			o.UnsafeNetwork = true
			mustClose(t, mustOpen(t, o))
		}
		restore()
	}
	for name, magic := range map[string]int64{"ext4": unix.EXT4_SUPER_MAGIC, "xfs": unix.XFS_SUPER_MAGIC, "btrfs": unix.BTRFS_SUPER_MAGIC, "overlayfs": unix.OVERLAYFS_SUPER_MAGIC, "tmpfs": unix.TMPFS_MAGIC} {
		restore := bolt.PretendFilesystem(magic)
		db, err := bolt.Open(options(t, there))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			mustClose(t, db)
		}
		restore()
	}
}
