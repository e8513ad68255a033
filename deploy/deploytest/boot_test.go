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

// says waits until a program has logged a text, after what was there before.
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

// The units under systemd itself, installed as docs/deploy.md says and with its
// env file: ready when they are active, reloaded, killed and started again with
// the same identity, not started again with wrong settings, and stopped
// cleanly.
func TestUnitsUnderSystemd(t *testing.T) {
	if inNamespaces(t, func(string) {}) == "" {
		return
	}
	for _, address := range []string{"172.28.5.10/32", "172.28.5.20/32"} {
		if out, err := exec.Command("ip", "address", "add", address, "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	secrets := makeSecrets(t, "/run/secrets")
	env := envOfThePage(t)
	for i, line := range env {
		for name, value := range map[string]string{"VEGA_ENCLAVE_PUBLIC_ENDPOINT": "https://alpha.example:8443", "VEGA_CENTRAL_ALLOWLIST": "172.28.5.10", "VEGA_NETWORK_ID": "sandbox"} {
			if strings.HasPrefix(line, name+"=") {
				env[i] = name + "=" + value
			}
		}
	}
	env = append(env, "VEGA_API_ROOTS_FILE=/etc/enclave/authority.pem", "VEGA_PUBLIC_LISTEN=172.28.5.20:8443")
	files := map[string]string{
		"/etc/enclave/env": strings.Join(env, "\n") + "\n",
		"/etc/central/env": strings.Join([]string{
			"CENTRAL_LISTEN=172.28.5.10:8443", "CENTRAL_TLS_CERT_FILE=/etc/central/tls.crt", "CENTRAL_TLS_KEY_FILE=/etc/central/tls.key",
			"CENTRAL_ROOTS_FILE=/etc/central/authority.pem", "CENTRAL_MEMBERS_FILE=/etc/central/members.yaml",
			"CENTRAL_SOURCE_ADDRESS=172.28.5.10", "CENTRAL_UNSAFE_PRIVATE_MEMBERS=true",
		}, "\n") + "\n",
		// On one machine the enclave calls from the address that it calls.
		"/etc/central/members.yaml": strings.ReplaceAll(secrets["members.yaml"], "172.28.5.20", "172.28.5.10"),
	}
	for path, secret := range map[string]string{
		"enclave/tls.crt": "alpha.crt", "enclave/tls.key": "alpha.key", "enclave/authority.pem": "authority.pem", "enclave/backend.token": "alpha-backend.token",
		"enclave/database.key": "alpha-database.key", "enclave/alliance.key": "alpha-alliance.key",
		"central/tls.crt": "central.crt", "central/tls.key": "central.key", "central/authority.pem": "authority.pem",
		"central/alpha-alliance.key": "alpha-alliance.key", "central/bravo-alliance.key": "bravo-alliance.key",
	} {
		files["/etc/"+path] = secrets[secret]
	}
	for _, program := range []string{"enclave", "central"} {
		files["/etc/systemd/system/"+program+".service"] = readUnit(t, program).text
		files["/etc/systemd/system/"+program+".service.d/log.conf"] = "[Service]\nStandardError=append:/run/" + program + ".log\nWatchdogSec=2\nRestartSec=1\n" // so that it does not take minutes
	}
	m := bootMachine(t, files)
	t.Cleanup(func() {
		if t.Failed() {
			for _, file := range []string{"/run/console", "/run/central.log", "/run/enclave.log"} {
				text, _ := os.ReadFile(file)
				t.Logf("%s:\n%s", file, text)
			}
		}
	})
	// Credentials are for systemd to read, and not for the service.
	m.run(t, "chmod", "0600", "/etc/enclave/database.key", "/etc/enclave/alliance.key")

	m.run(t, "systemctl", "start", "central", "enclave")
	for _, program := range []string{"central", "enclave"} {
		m.wants(t, program, "ActiveState", "active")
		m.wants(t, program, "StatusText", "ready")
		m.run(t, program, "healthcheck", "--env-file", "/etc/"+program+"/env")
		m.checkLockedDown(t, program)
	}
	says(t, "enclave", "registered with central")
	identity := m.identity(t)

	env = append(env, "VEGA_LOG_LEVEL=debug")
	m.write(t, "/etc/enclave/env", strings.Join(env, "\n")+"\n")
	m.run(t, "systemctl", "reload", "enclave", "central")
	says(t, "enclave", "settings changed and are in force")

	before := m.property(t, "enclave", "MainPID")
	m.run(t, "kill", "-9", before)
	m.wants(t, "enclave", "NRestarts", "1")
	m.wants(t, "enclave", "ActiveState", "active")
	if after := m.property(t, "enclave", "MainPID"); after == before || after == "0" {
		t.Errorf("killed as process %s, it is process %s", before, after)
	}
	if now := m.identity(t); now != identity {
		t.Errorf("after kill -9 it is another:\n%s\nbefore:\n%s", now, identity)
	}

	// One that hangs is no better than one that is dead. Go then ends with 2,
	// which is for wrong settings, unless it is told to end with a signal.
	hung := m.property(t, "enclave", "MainPID")
	m.run(t, "kill", "-STOP", hung)
	m.wants(t, "enclave", "NRestarts", "2")
	m.wants(t, "enclave", "ActiveState", "active")

	m.run(t, "systemctl", "stop", "enclave", "central")
	for _, program := range []string{"central", "enclave"} {
		m.wants(t, program, "ActiveState", "inactive")
		m.wants(t, program, "Result", "success")
		m.wants(t, program, "ExecMainStatus", "0")
	}

	m.write(t, "/etc/enclave/env", strings.Join(append(env, "VEGA_VASP_ID=none"), "\n")+"\n")
	if out, err := m.try("systemctl", "start", "enclave"); err == nil {
		t.Errorf("it starts with wrong settings: %s", out)
	}
	m.wants(t, "enclave", "ActiveState", "failed")
	m.wants(t, "enclave", "ExecMainStatus", "2")
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
