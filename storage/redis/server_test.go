package redis_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lifeline runs a server that is killed when the test is gone, however it
// went: then its standard input ends.
const lifeline = `"$@" & server=$!; read -r _; kill -9 $server; wait`

// instance is a real redis-server without persistence, in a folder of its
// own.
type instance struct {
	dir   string
	port  string // "" without TCP
	pid   int
	lines chan string // of its log
	admin *goredis.Client
	end   func()
}

func (i *instance) socket() string { return filepath.Join(i.dir, "s") }
func (i *instance) url() string    { return "unix://" + i.socket() }
func (i *instance) addr() string   { return "127.0.0.1:" + i.port }

// start runs a server that listens on a Unix socket, and also on what the
// arguments say.
func start(t testing.TB, arguments ...string) *instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "redis") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	i := &instance{dir: dir}
	i.run(t, append([]string{"--port", "0", "--unixsocket", i.socket()}, arguments...)...)
	i.await(t, "ready to accept connections")
	i.admin = goredis.NewClient(&goredis.Options{Network: "unix", Addr: i.socket(), Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = i.admin.Close() })
	i.pid = i.processID(t)
	return i
}

// run starts the process; arguments may begin with the name of a file.
func (i *instance) run(t testing.TB, arguments ...string) {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: run make deps")
	}
	common := []string{"--dir", i.dir, "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "notice", "--bind", "127.0.0.1"}
	command := exec.Command("sh", append(append([]string{"-c", lifeline, "sh", binary}, arguments...), common...)...)
	line, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	i.lines = make(chan string, 10_000)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(i.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case i.lines <- s.Text():
			default: // nobody waits for so late a line
			}
		}
	}()
	ended := false
	i.end = func() {
		if ended {
			return
		}
		ended = true
		_ = line.Close()
		<-read
		_ = command.Wait()
	}
	t.Cleanup(func() { i.end() })
}

// await reads the log up to a line that contains text, in any case.
func (i *instance) await(t testing.TB, text string) {
	t.Helper()
	var log []string
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for {
		select {
		case line, open := <-i.lines:
			if !open {
				t.Fatalf("redis-server ended:\n%s", strings.Join(log, "\n"))
			}
			if strings.Contains(strings.ToLower(line), text) {
				return
			}
			log = append(log, line)
		case <-late.C:
			t.Fatalf("redis-server did not say %q:\n%s", text, strings.Join(log, "\n"))
		}
	}
}

func (i *instance) processID(t testing.TB) int {
	t.Helper()
	info, err := i.admin.Info(context.Background(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(info, "process_id:")
	text, _, _ := strings.Cut(after, "\r\n")
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func (i *instance) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(i.pid, s); err != nil {
		t.Fatal(err)
	}
}

// tell has an administrator give an order.
func (i *instance) tell(t testing.TB, order ...any) any {
	t.Helper()
	answer, err := i.admin.Do(context.Background(), order...).Result()
	if err != nil {
		t.Fatalf("%v: %v", order[0], err)
	}
	return answer
}

// age makes all entries older.
func (i *instance) age(t testing.TB, d time.Duration) {
	t.Helper()
	ctx := context.Background()
	names, err := i.admin.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		rest, err := i.admin.PTTL(ctx, name).Result()
		if err != nil {
			t.Fatal(err)
		}
		if rest < 0 {
			t.Errorf("entry %s lives for ever", name)
		}
		if err := i.admin.PExpire(ctx, name, rest-d).Err(); err != nil { // not positive: gone
			t.Fatal(err)
		}
	}
}

// listen starts a server with free TCP ports, as many as count says. Another
// program may take one in between; then it is tried again.
func freePorts(t testing.TB, count int) []string {
	t.Helper()
	var ports []string
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

// startTCP is start with a TCP port, for the option that is named.
func startTCP(t testing.TB, option string, arguments ...string) *instance {
	t.Helper()
	port := freePorts(t, 1)[0]
	i := start(t, append([]string{option, port}, arguments...)...)
	i.port = port
	return i
}

// startCluster makes a cluster of three nodes that has all slots.
func startCluster(t testing.TB) []*instance {
	t.Helper()
	const slots = 16384
	ports := freePorts(t, 6)
	var nodes []*instance
	for n := range 3 {
		i := start(t, "--port", ports[n], "--cluster-enabled", "yes", "--cluster-port", ports[3+n])
		i.port = ports[n]
		i.tell(t, "cluster", "addslotsrange", n*slots/3, (n+1)*slots/3-1)
		nodes = append(nodes, i)
	}
	for _, i := range nodes[1:] {
		nodes[0].tell(t, "cluster", "meet", "127.0.0.1", i.port, ports[3+indexOf(nodes, i)])
	}
	for _, i := range nodes {
		i.await(t, "cluster state changed: ok")
	}
	return nodes
}

func indexOf(nodes []*instance, i *instance) int {
	for n := range nodes {
		if nodes[n] == i {
			return n
		}
	}
	return -1
}

func clusterURL(nodes []*instance) string {
	return fmt.Sprintf("redis+cluster://%s?addr=%s&addr=%s", nodes[0].addr(), nodes[1].addr(), nodes[2].addr())
}
