package sandbox_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// machine is a computer of its own, as far as programs can see: it has
// processes, users, files and a network that nobody else has, and a shell on
// which root types. What is written outside of /home stays on this machine and
// ends with it.
type machine struct {
	name    string
	shell   *exec.Cmd
	keys    io.Writer
	folder  string // of the host, where scripts are handed over
	answers chan string
	scripts int
	typed   map[string]bool

	mu   sync.Mutex
	said bytes.Buffer
}

const (
	answered = "=== answered "
	patience = time.Minute // for what a page tells to type in one block
)

// The machine has the host's programs, and files of its own wherever pages write.
const boot = `set -euo pipefail
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/handed /mnt/etc
mount --bind "$HANDED" /mnt/handed
cp -r --preserve=mode,links /etc/. /mnt/etc 2>/dev/null || touch /mnt/etc/shadow /mnt/etc/gshadow
mount --bind /mnt/etc /etc
for folder in /run /home /var /usr/local; do mount -t tmpfs -o mode=0755 tmpfs $folder; done
mkdir -p /usr/local/bin /var/lib /var/log /var/backups
ln -s /run /var/run
cd /home
umask 022
export HOME=/home PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
hostname "$MACHINE"
ip link set lo up
`

// asRoot runs the rest of a test as root: of a namespace of users, in a process
// of its own, when we are not root.
func asRoot(t *testing.T, rest func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() == 0 {
		rest(t)
		return
	}
	again := exec.CommandContext(t.Context(), "unshare", "--map-root-user", "--map-auto", "--",
		os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
	out, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("as root of a namespace, for which users need lines in /etc/subuid and /etc/subgid, and a kernel that lets them: %v\n%s", err, out)
	}
}

// newMachine boots one, which is switched off when the test ends.
func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	m := &machine{name: name, folder: t.TempDir(), answers: make(chan string, 1), typed: make(map[string]bool)}
	m.shell = exec.Command("bash", "-s")
	m.shell.Env = []string{"MACHINE=" + name, "HANDED=" + m.folder, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	m.shell.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	keys, err := m.shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen, writes, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m.keys, m.shell.Stdout, m.shell.Stderr = keys, writes, writes
	if err := m.shell.Start(); err != nil {
		t.Fatalf("%v: namespaces need root, or a kernel that lets everybody make them", err)
	}
	writes.Close()
	go m.look(screen)
	t.Cleanup(func() {
		logs := m.logs()
		_ = m.shell.Process.Kill() // the first process of its machine: all others go with it
		_ = m.shell.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s\n%s", name, m.all(), logs)
		}
	})
	m.types(t, boot)
	return m
}

// look reads the screen.
func (m *machine) look(screen *os.File) {
	defer screen.Close()
	defer close(m.answers)
	lines := bufio.NewScanner(screen)
	lines.Buffer(nil, 1<<24)
	var answer strings.Builder
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, answered) {
			m.answers <- answer.String()
			answer.Reset()
			continue
		}
		fmt.Fprintln(&answer, line)
		m.mu.Lock()
		fmt.Fprintln(&m.said, line)
		m.mu.Unlock()
	}
}

// logs are what programs have logged, seen from outside.
func (m *machine) logs() []byte {
	var all []byte
	for _, program := range []string{"central", "enclave"} {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root/var/log/%s.log", m.shell.Process.Pid, program))
		all = append(all, text...)
	}
	return all
}

func (m *machine) all() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said.String()
}

// types types a script into the shell, which keeps its variables, functions and
// jobs for the next one, and gives what the screen shows until it is done. A
// command that fails ends the test.
func (m *machine) types(t *testing.T, script string) string {
	t.Helper()
	m.scripts++
	m.typed[script] = true
	file := fmt.Sprintf("%d.sh", m.scripts)
	if err := os.WriteFile(filepath.Join(m.folder, file), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	at := "/mnt/handed/" + file
	if m.scripts == 1 { // boot makes that place
		at = filepath.Join(m.folder, file)
	}
	fmt.Fprintf(m.keys, ". %s </dev/null; echo; echo '%s'\n", at, answered)
	select {
	case answer, ok := <-m.answers:
		if !ok {
			t.Fatalf("on %s a command failed, of these:\n%s", m.name, script)
		}
		return answer
	case <-time.After(patience):
		t.Fatalf("%s does not answer to these:\n%s", m.name, script)
	}
	return ""
}

// gives hands a file to another machine.
func (m *machine) gives(t *testing.T, to *machine, from, name string) {
	t.Helper()
	m.types(t, "cp "+from+" /mnt/handed/given")
	text, err := os.ReadFile(filepath.Join(m.folder, "given"))
	if err != nil {
		t.Fatal(err)
	}
	to.has(t, name, text)
}

// has puts a file into the folder where the shell was when it was opened.
func (m *machine) has(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.folder, "given"), content, 0o755); err != nil {
		t.Fatal(err)
	}
	m.types(t, "cp /mnt/handed/given /home/"+name)
}

// cable connects two machines, each of which has its address there and finds
// the other's.
func cable(t *testing.T, a *machine, address string, b *machine, other string) {
	t.Helper()
	link := exec.Command("nsenter", "--net=/proc/"+fmt.Sprint(a.shell.Process.Pid)+"/ns/net", "ip", "link", "add", b.name, "type", "veth",
		"peer", "name", a.name, "netns", fmt.Sprint(b.shell.Process.Pid))
	if out, err := link.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const plug = "ip addr add %[1]s/32 dev %[3]s\nip link set %[3]s up\nip route replace %[2]s dev %[3]s src %[1]s\n"
	// The second end first: a route needs both ends to be up to be of use.
	b.types(t, fmt.Sprintf(plug, other, address, a.name))
	a.types(t, fmt.Sprintf(plug, address, other, b.name))
}
