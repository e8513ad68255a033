package bolt

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// networkFilesystems are those on which a lock may keep nobody out, a sync may
// sync nothing, or a page read by mapping may be an older one. FUSE is one of
// them because of what stands behind it (sshfs, s3fs); statfs does not tell.
var networkFilesystems = map[int64]string{
	unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.CIFS_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB",
	unix.FUSE_SUPER_MAGIC: "FUSE", unix.V9FS_MAGIC: "9p", unix.CEPH_SUPER_MAGIC: "Ceph",
	unix.AFS_SUPER_MAGIC: "AFS", unix.AFS_FS_MAGIC: "AFS", unix.CODA_SUPER_MAGIC: "Coda", 0x0BD00BD0: "Lustre", 0x47504653: "GPFS",
}

// statfs is the kernel's, but in a test.
var statfs = unix.Statfs

// CheckFilesystem refuses a directory on another machine (attack S10), with
// ErrNetworkFilesystem.
func CheckFilesystem(dir string) error {
	var s unix.Statfs_t
	if err := statfs(dir, &s); err != nil {
		return fmt.Errorf("ask which filesystem %s is on: %w", dir, &os.PathError{Op: "statfs", Path: dir, Err: err})
	}
	// The numbers have 32 bits; the kernel's field has a sign.
	if name, found := networkFilesystems[int64(uint32(s.Type))]; found {
		return fmt.Errorf("%w: %s is on %s", ErrNetworkFilesystem, dir, name)
	}
	return nil
}
