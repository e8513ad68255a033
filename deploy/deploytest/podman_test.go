package deploytest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// podman is the engine with everything of its own: images, containers, networks.
type podman struct {
	dir     string // where it keeps them
	project *types.Project
	secrets string // where compose-secrets made them
}

// command is podman, which is no daemon. The machine's own storage and
// networks are not touched. Control groups stay out of it: the test may be in
// one in which it can make none.
func (e *podman) command(args ...string) *exec.Cmd {
	return exec.Command("podman", append([]string{
		"--root", e.dir + "/storage", "--runroot", e.dir + "/run", "--tmpdir", e.dir + "/tmp", "--network-config-dir", e.dir + "/networks",
		"--storage-driver", "overlay", "--network-backend", "netavark", "--runtime", "crun", "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--log-level", "error",
	}, args...)...)
}

// try runs podman and gives what it said.
func (e *podman) try(args ...string) (string, error) {
	out, err := e.command(args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (e *podman) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.try(args...)
	if err != nil {
		t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// up does what `docker compose up` does with the file: networks, then each
// service after those that it needs.
func (e *podman) up(t *testing.T) {
	t.Helper()
	for name, n := range e.project.Networks {
		if len(n.Ipam.Config) == 1 {
			e.run(t, "network", "create", "--subnet", n.Ipam.Config[0].Subnet, name)
		}
	}
	started := map[string]bool{}
	var start func(name string)
	start = func(name string) {
		if started[name] {
			return
		}
		started[name] = true
		s := e.project.Services[name]
		for on := range s.DependsOn {
			start(on)
			e.awaitHealth(t, on)
		}
		e.run(t, e.arguments(t, name, s)...)
	}
	for name := range e.project.Services {
		start(name)
	}
	for name := range e.project.Services {
		e.awaitHealth(t, name)
	}
}

// arguments translates a service. What it does not translate it refuses, so
// that nothing in the file goes untried.
func (e *podman) arguments(t *testing.T, name string, s types.ServiceConfig) []string {
	t.Helper()
	args := []string{"run", "--detach", "--name", name, "--pull", s.PullPolicy, "--user", s.User, "--restart", s.Restart,
		"--stop-timeout", strconv.Itoa(int(time.Duration(*s.StopGracePeriod).Seconds()))}
	if s.ReadOnly {
		args = append(args, "--read-only", "--read-only-tmpfs=false") // podman adds memory file systems, Docker does not
	}
	for _, c := range s.CapDrop {
		args = append(args, "--cap-drop", c)
	}
	for _, o := range s.SecurityOpt {
		args = append(args, "--security-opt", strings.TrimSuffix(o, ":true")) // podman's way to write it
	}
	for variable, value := range s.Environment {
		args = append(args, "--env", variable+"="+*value)
	}
	for _, v := range s.Volumes {
		args = append(args, "--volume", v.Source+":"+v.Target)
	}
	for _, secret := range s.Secrets {
		file := filepath.Join(e.secrets, filepath.Base(e.project.Secrets[secret.Source].File))
		args = append(args, "--volume", file+":"+secretTarget(secret)+":ro")
	}
	for network, n := range s.Networks {
		args = append(args, "--network", network, "--ip", n.Ipv4Address)
		for _, alias := range n.Aliases {
			args = append(args, "--network-alias", alias)
		}
	}
	if of, ok := strings.CutPrefix(s.NetworkMode, "service:"); ok {
		args = append(args, "--network", "container:"+of)
	}
	for _, port := range s.Ports {
		args = append(args, "--publish", fmt.Sprintf("%s:%s:%d", port.HostIP, port.Published, port.Target))
	}
	// Without systemd podman asks nobody by itself; awaitHealth has it ask.
	test, err := json.Marshal(s.HealthCheck.Test[1:])
	if err != nil {
		t.Fatal(err)
	}
	args = append(args, "--health-cmd", string(test), "--health-interval", "disable")
	// Podman would raise them, which needs a capability that not every root has.
	for limit, resource := range map[string]int{"nofile": syscall.RLIMIT_NOFILE, "nproc": 6} {
		var l syscall.Rlimit
		if err := syscall.Getrlimit(resource, &l); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--ulimit", fmt.Sprintf("%s=%d:%d", limit, l.Max, l.Max))
	}
	rest := s
	rest.Name, rest.Image, rest.PullPolicy, rest.User, rest.Restart, rest.StopGracePeriod, rest.ReadOnly, rest.CapDrop = "", "", "", "", "", nil, false, nil
	rest.SecurityOpt, rest.Environment, rest.Volumes, rest.Secrets, rest.Networks, rest.NetworkMode, rest.Ports, rest.HealthCheck = nil, nil, nil, nil, nil, "", nil, nil
	rest.DependsOn, rest.Logging = nil, nil // the first was done, the second is about the size of a file
	if text, err := json.Marshal(rest); err != nil || string(text) != `{"command":null,"entrypoint":null}` {
		t.Errorf("%s says more than this test tries: %s, %v", name, text, err)
	}
	return append(args, "--cgroups", "disabled", s.Image)
}

// awaitHealth has the engine ask a container's health check until it is
// content.
func (e *podman) awaitHealth(t *testing.T, name string) {
	t.Helper()
	var said string
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if said, err = e.try("healthcheck", "run", name); err == nil {
			return
		}
	}
	logs, _ := e.try("logs", "--tail", "20", name)
	t.Fatalf("%s is not healthy: %v %s\n%s", name, err, said, logs)
}

// process is the process that a container is.
func (e *podman) process(t *testing.T, name string) int {
	t.Helper()
	id, err := strconv.Atoi(e.run(t, "inspect", "--format", "{{.State.Pid}}", name))
	if err != nil || id <= 0 {
		t.Fatalf("%s has the process %d, %v", name, id, err)
	}
	return id
}

// What compose.yaml describes, from the images as they are built, under a real
// engine: locked down as the file says, it verifies a transfer, forgets nothing
// when an enclave is killed, goes on, and stops cleanly.
func TestComposeUnderPodman(t *testing.T) {
	dir := inNamespaces(t, func(dir string) {
		out, err := exec.Command("go", "run", "-C", deploy+"/image", ".", "-out", filepath.Join(dir, "images"), "-version", "v1").CombinedOutput()
		if err != nil {
			t.Fatalf("no images: %v\n%s", err, out)
		}
	})
	if dir == "" {
		return
	}
	content, err := os.ReadFile(deploy + "/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := project(t, content)
	if err != nil {
		t.Fatal(err)
	}
	e := &podman{dir: "/run/engine", project: p, secrets: "/run/secrets"}
	makeSecrets(t, e.secrets)
	for _, image := range []string{"enclave", "central", "robotvasp"} {
		e.run(t, "load", "--input", filepath.Join(dir, "images", image+".tar"))
	}
	t.Cleanup(func() {
		if t.Failed() {
			for name := range p.Services {
				logs, _ := e.try("logs", "--tail", "30", name)
				t.Logf("%s:\n%s", name, logs)
			}
		}
	})
	begin := time.Now()
	e.up(t)
	t.Logf("everything is healthy after %v", time.Since(begin).Round(time.Millisecond))

	for name, s := range p.Services {
		program := programOf(s)
		e.checkLockedDown(t, name, program)
		e.checkHoldsOnly(t, name, program)
	}
	if out, err := e.try("exec", "alpha", "enclave", "backup", "/backup"); err == nil || !strings.Contains(out, "read-only file system") {
		t.Errorf("the enclave writes to its root: %v %s", err, out)
	}

	driver := e.driver(t, "alpha")
	first := driver.verified(t)
	identity := e.run(t, "exec", "alpha", "enclave", "identity", "show")
	killed := e.process(t, "alpha")
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.awaitAnother(t, "alpha", killed)
	e.awaitHealth(t, "alpha")
	if now := e.run(t, "exec", "alpha", "enclave", "identity", "show"); now != identity {
		t.Errorf("after kill -9 it is another:\n%s\nbefore:\n%s", now, identity)
	}
	if rows := e.run(t, "exec", "alpha", "enclave", "history", "list"); !strings.Contains(rows, first) {
		t.Errorf("after kill -9 the history lacks %s:\n%s", first, rows)
	}
	driver.verified(t)

	e.run(t, "stop", "--all")
	for name := range p.Services {
		if code := e.run(t, "inspect", "--format", "{{.State.ExitCode}}", name); code != "0" {
			t.Errorf("stopped, %s ends with %s", name, code)
		}
	}
}

// programOf is the one program of a service's image.
func programOf(s types.ServiceConfig) string {
	name, _, _ := strings.Cut(s.Image, ":")
	return strings.TrimPrefix(name, "vasp-")
}

// checkLockedDown asks the kernel what the container's process may do.
func (e *podman) checkLockedDown(t *testing.T, name, program string) {
	t.Helper()
	id := e.process(t, name)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Uid:\t65532\t65532\t65532\t65532", "Gid:\t65532\t65532\t65532\t65532", "NoNewPrivs:\t1", "Seccomp:\t2",
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000",
	} {
		if !strings.Contains(string(status), "\n"+want+"\n") {
			t.Errorf("%s is not locked down: no %q in\n%s", name, want, status)
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", id))
	if err != nil {
		t.Fatal(err)
	}
	state := map[string]string{"enclave": "/var/lib/enclave", "central": "/var/lib/central"}[program]
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		where, options := f[1], strings.Split(f[3], ",")
		own := where == "/proc" || strings.HasPrefix(where, "/dev") // what the engine makes for every container
		if !own && where != state && !slices.Contains(options, "ro") && where != "/etc/hosts" && where != "/etc/hostname" && where != "/etc/resolv.conf" {
			t.Errorf("%s can write to %s", name, line)
		}
		if where == "/" && !slices.Contains(options, "ro") {
			t.Errorf("%s's root is no read-only one: %s", name, line)
		}
	}
}

// checkHoldsOnly looks through a container for what can be run: its program,
// and no shell. The engine finds none either.
func (e *podman) checkHoldsOnly(t *testing.T, name, program string) {
	t.Helper()
	root := fmt.Sprintf("/proc/%d/root/", e.process(t, name)) // a link; the slash follows it
	var found []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := "/" + strings.TrimPrefix(path, root)
		if inside == "/proc" || inside == "/sys" || inside == "/dev" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			found = append(found, inside)
		}
		return nil
	})
	if want := []string{"/usr/local/bin/" + program}; err != nil || !slices.Equal(found, want) {
		t.Errorf("%s has the programs %q, %v; want %q", name, found, err, want)
	}
	for _, shell := range []string{"sh", "/bin/sh", "/bin/bash", "/busybox/sh"} {
		if out, err := e.try("exec", name, shell, "-c", "true"); err == nil || !strings.Contains(out, "not found") && !strings.Contains(out, "No such file") {
			t.Errorf("%s runs %s: %v %s", name, shell, err, out)
		}
	}
}

// awaitAnother waits until the engine has started a container again.
func (e *podman) awaitAnother(t *testing.T, name string, before int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if out, err := e.try("inspect", "--format", "{{.State.Pid}}", name); err == nil && out != "0" && out != strconv.Itoa(before) {
			return
		}
	}
	t.Fatalf("%s was killed and is not started again", name)
}
