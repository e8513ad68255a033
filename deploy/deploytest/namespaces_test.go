package deploytest

import (
	"os"
	"os/exec"
	"testing"
)

// The environment of a test's run in namespaces.
const (
	insideDir      = "DEPLOYTEST_INSIDE"   // what prepare made
	insidePrograms = "DEPLOYTEST_PROGRAMS" // the programs, built before
)

// world is what the namespaces begin with: an empty /run, in memory, for what
// the test writes, an empty /dev/shm, one hierarchy of control groups, as newer machines have, and
// a loopback device. The shell is process 1 in there, and stays to take in what
// others leave.
const world = `set -e
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
umount -R -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
"$@" || exit 1
exit 0
`

// inNamespaces has the calling test run once more, as root in mount, network
// and process namespaces of its own, with a folder in which prepare has put
// something before. That run gets the folder, and writes below /run only. The
// other gets "" and is over.
//
// What a test leaves in there, be it processes, mounts, bridges or addresses,
// goes with the namespaces, and no packet of it leaves them.
func inNamespaces(t *testing.T, prepare func(dir string)) (dir string) {
	t.Helper()
	if dir := os.Getenv(insideDir); dir != "" {
		return dir
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	prepare(dir)
	inside := []string{insideDir + "=" + dir, insidePrograms + "=" + programs}
	args := append([]string{"env"}, inside...)
	args = append(args, "unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", world, "sh", self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	if os.Getuid() != 0 {
		args = append([]string{"sudo", "-n"}, args...)
	}
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	t.Logf("in namespaces:\n%s", out)
	if err != nil {
		t.Fatalf("it failed in there: %v", err)
	}
	return ""
}
