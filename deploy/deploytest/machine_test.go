package deploytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// boot makes a machine of the namespaces: this one's files, read-only, with
// what stands in /run/machine laid over /etc and /usr/local, an empty /var and
// /tmp, and systemd as process 1, which starts nothing by itself.
const boot = `set -e
echo 0 >/sys/fs/cgroup/machine/cgroup.procs
exec unshare --mount --pid --cgroup --fork --kill-child --mount-proc sh -ec '
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for over in etc usr/local; do
  mount -t overlay -o lowerdir=/$over,upperdir=/run/machine/$over,workdir=/run/work/$over overlay /$over
done
mount -t tmpfs -o mode=0755 tmpfs /var
mkdir /var/lib
mount -t tmpfs -o mode=1777 tmpfs /var/tmp -o X-mount.mkdir
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount --bind /run/console /dev/console
mount -o remount,ro,bind /
mount --make-rshared /
exec env -i PATH="$PATH" container=test /lib/systemd/systemd --system --unit=quiet.target --log-target=console --show-status=false'
`

// machine is a booted one.
type machine struct {
	systemd string // its process
}

// hosts and users of the machine.
const (
	hosts  = "127.0.0.1 localhost\n172.28.5.10 central.example\n172.28.5.20 alpha.example\n"
	passwd = "root:x:0:0::/root:/bin/sh\nenclave:x:64001:64001::/:/usr/sbin/nologin\ncentral:x:64002:64002::/:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
	group  = "root:x:0:\nenclave:x:64001:\ncentral:x:64002:\nnogroup:x:65534:\n"
)

// bootMachine writes files, by path, and boots.
func bootMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	files["/etc/systemd/system/quiet.target"] = "[Unit]\nDescription=Nothing by itself\n"
	files["/etc/passwd"], files["/etc/group"], files["/etc/hosts"] = passwd, group, hosts
	for path, content := range files {
		write(t, "/run/machine"+path, content)
		if err := os.Chmod("/run/machine"+path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"enclave", "central"} {
		installed := "/run/machine/usr/local/bin/" + program
		if err := os.MkdirAll(filepath.Dir(installed), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("install", "-m", "0755", filepath.Join(programs, program), installed).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, dir := range []string{"/run/work/etc", "/run/work/usr/local", "/sys/fs/cgroup/machine"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Folders that the files made are for their owner only.
	if out, err := exec.Command("chmod", "-R", "u+rwX,go+rX", "/run/machine").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	write(t, "/run/console", "")
	m := new(machine)
	shell := exec.Command("sh", "-c", boot)
	log, err := os.Create("/run/boot.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	shell.Stdout, shell.Stderr = log, log
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = shell.Process.Kill()
		_ = shell.Wait()
		await(t, "the machine is off", func() error {
			out, err := exec.Command("find", "/sys/fs/cgroup/machine", "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		})
	})
	await(t, "systemd runs", func() error {
		comms, err := filepath.Glob("/proc/[0-9]*/comm")
		if err != nil {
			return err
		}
		for _, comm := range comms {
			if name, err := os.ReadFile(comm); err == nil && string(name) == "systemd\n" {
				m.systemd = filepath.Base(filepath.Dir(comm))
			}
		}
		out, err := m.try("systemctl", "is-system-running")
		if err != nil {
			boot, _ := os.ReadFile("/run/boot.log")
			err = fmt.Errorf("%w: %s\n%s", err, out, boot)
		}
		return err
	})
	return m
}

// try runs a command on the machine.
func (m *machine) try(args ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--target", m.systemd, "--mount", "--pid", "--cgroup", "--"}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (m *machine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.try(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// property is what systemd says of a unit.
func (m *machine) property(t *testing.T, unit, name string) string {
	t.Helper()
	return m.run(t, "systemctl", "show", "--property", name, "--value", unit)
}

func (m *machine) wants(t *testing.T, unit, name, want string) {
	t.Helper()
	await(t, unit+" has "+name+"="+want, func() error {
		if got := m.property(t, unit, name); got != want {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

// says waits until a program has logged a text.
func says(t *testing.T, program, text string) {
	t.Helper()
	await(t, program+" says "+text, func() error {
		log, err := os.ReadFile("/run/" + program + ".log")
		if err == nil && !strings.Contains(string(log), text) {
			err = fmt.Errorf("%s", log)
		}
		return err
	})
}

func (m *machine) write(t *testing.T, path, content string) {
	t.Helper()
	cmd := exec.Command("nsenter", "--target", m.systemd, "--mount", "--", "tee", path)
	cmd.Stdin = strings.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", path, err, out)
	}
}

// identity asks the running enclave who it is, as root.
func (m *machine) identity(t *testing.T) string {
	t.Helper()
	var said string
	await(t, "the enclave tells its identity", func() (err error) {
		said, err = m.try("env", "VEGA_DATABASE_FILE=/var/lib/enclave/enclave.db", "enclave", "identity", "show")
		return err
	})
	return said
}

// checkLockedDown asks the kernel what the service's process may do.
func (m *machine) checkLockedDown(t *testing.T, program string) {
	t.Helper()
	status := m.run(t, "cat", "/proc/"+m.property(t, program, "MainPID")+"/status")
	id := map[string]int{"enclave": 64001, "central": 64002}[program]
	for _, want := range []string{
		fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d", id), "NoNewPrivs:\t1", "Seccomp:\t2",
		"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
	} {
		if !strings.Contains(status, "\n"+want+"\n") {
			t.Errorf("%s is not locked down: no %q in\n%s", program, want, status)
		}
	}
	mounts := m.run(t, "cat", "/proc/"+m.property(t, program, "MainPID")+"/mounts")
	writable := regexp.MustCompile(`(?m)^\S+ (\S+) \S+ rw[, ]`).FindAllStringSubmatch(mounts, -1)
	var where []string
	for _, w := range writable {
		where = append(where, w[1])
	}
	slices.Sort(where)
	t.Logf("%s can write to %q", program, where)
	if !slices.Contains(where, "/var/lib/"+program) || slices.Contains(where, "/") || slices.Contains(where, "/etc") {
		t.Errorf("%s can write to %q", program, where)
	}
	if n, err := strconv.Atoi(m.property(t, program, "LimitCORE")); err != nil || n != 0 {
		t.Errorf("%s dumps core: %d %v", program, n, err)
	}
}
