// Package redistest runs real Redis servers for tests, on this machine only
// and without persistence: one alone, one with a sentinel, a cluster of
// three. A test may pause them, kill them, start them again and do to them
// what an administrator can.
package redistest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// lifeline runs a server that is killed when the test is gone, however it
// went: then its standard input ends.
const lifeline = `"$@" & server=$!; read -r _; kill -9 $server; wait`

// ready is what a server logs when it can be connected to.
const ready = "ready to accept connections"

// Server is a real redis-server in a folder of its own. It ends with its test.
type Server struct {
	Port  string          // "" without TCP
	Admin *goredis.Client // an administrator's connection

	dir       string
	arguments []string
	pid       int
	lines     chan string // of its log
	end       func()
}

// Socket is the path of the server's Unix socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "s") }

// URL is where the server is, as the cache takes it.
func (s *Server) URL() string { return "unix://" + s.Socket() }

// Addr is the server's address and TCP port.
func (s *Server) Addr() string { return "127.0.0.1:" + s.Port }

// Start runs a server that listens on a Unix socket, and also on what the
// arguments say.
func Start(t testing.TB, arguments ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "redis") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{dir: dir}
	s.arguments = append([]string{"--port", "0", "--unixsocket", s.Socket()}, arguments...)
	s.run(t, ready)
	s.Admin = goredis.NewClient(&goredis.Options{Network: "unix", Addr: s.Socket(), Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = s.Admin.Close() })
	s.pid = s.processID(t)
	return s
}

// StartTCP is Start with a TCP port, for the option that is named.
func StartTCP(t testing.TB, option string, arguments ...string) *Server {
	t.Helper()
	port := freePorts(t, 1)[0]
	s := Start(t, append([]string{option, port}, arguments...)...)
	s.Port = port
	return s
}

// StartSentinel runs a sentinel with the password sentry that watches a
// master, named mymaster. It cannot be sent signals.
func StartSentinel(t testing.TB, master *Server) *Server {
	t.Helper()
	s := &Server{dir: t.TempDir(), Port: freePorts(t, 1)[0]}
	file := filepath.Join(s.dir, "sentinel.conf")
	text := "port " + s.Port + "\nrequirepass sentry\nsentinel monitor mymaster 127.0.0.1 " + master.Port + " 1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.arguments = []string{file, "--sentinel"}
	s.run(t, "+monitor master mymaster")
	s.Admin = goredis.NewClient(&goredis.Options{Addr: s.Addr(), Password: "sentry", Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = s.Admin.Close() })
	return s
}

// StartCluster makes a cluster of three nodes that has all slots.
func StartCluster(t testing.TB) []*Server {
	t.Helper()
	const slots = 16384
	ports := freePorts(t, 6)
	var nodes []*Server
	for n := range 3 {
		s := Start(t, "--port", ports[n], "--cluster-enabled", "yes", "--cluster-port", ports[3+n])
		s.Port = ports[n]
		s.Tell(t, "cluster", "addslotsrange", n*slots/3, (n+1)*slots/3-1)
		nodes = append(nodes, s)
	}
	for n := range nodes[1:] {
		nodes[0].Tell(t, "cluster", "meet", "127.0.0.1", ports[1+n], ports[4+n])
	}
	AwaitCluster(t, nodes)
	return nodes
}

// AwaitCluster waits until every node says that the cluster is whole.
func AwaitCluster(t testing.TB, nodes []*Server) {
	t.Helper()
	const step = 20 * time.Millisecond
	for range 30 * time.Second / step {
		if !slices.ContainsFunc(nodes, func(s *Server) bool {
			return !strings.Contains(s.Tell(t, "cluster", "info").(string), "cluster_state:ok")
		}) {
			return
		}
		time.Sleep(step)
	}
	t.Fatal("the cluster is not whole")
}

// ClusterURL is where a cluster is, as the cache takes it.
func ClusterURL(nodes []*Server) string {
	return fmt.Sprintf("redis+cluster://%s?addr=%s&addr=%s", nodes[0].Addr(), nodes[1].Addr(), nodes[2].Addr())
}

// run starts the process and waits until its log has a line; the arguments
// may begin with the name of a file.
func (s *Server) run(t testing.TB, until string) {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: run make deps")
	}
	words := append([]string{"-c", lifeline, "sh", binary}, s.arguments...)
	words = append(words, "--dir", s.dir, "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "notice", "--bind", "127.0.0.1")
	command := exec.Command("sh", words...)
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
	lines, read := make(chan string, 10_000), make(chan struct{})
	go func() {
		defer close(read)
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			default: // nobody waits for so late a line
			}
		}
	}()
	ended := false
	end := func() {
		if ended {
			return
		}
		ended = true
		_ = line.Close()
		<-read
		_ = command.Wait()
	}
	s.lines, s.end = lines, end
	t.Cleanup(end)
	s.await(t, until)
}

// await reads the log up to a line that contains text, in any case.
func (s *Server) await(t testing.TB, text string) {
	t.Helper()
	var log []string
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for {
		select {
		case line, open := <-s.lines:
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

func (s *Server) processID(t testing.TB) int {
	t.Helper()
	info, err := s.Admin.Info(context.Background(), "server").Result()
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

// Pause stops the server where it is: its connections stay, and it answers
// nothing until Resume.
func (s *Server) Pause(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

// Kill ends the server as the kernel would. What it held is lost.
func (s *Server) Kill(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGKILL) }

// Restart starts a killed server again, empty, at the same addresses. A node
// of a cluster finds the others again by itself, some seconds later: see
// AwaitCluster.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.end()
	s.run(t, ready)
	s.pid = s.processID(t)
}

func (s *Server) signal(t testing.TB, sent syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(s.pid, sent); err != nil {
		t.Fatal(err)
	}
}

// Tell has an administrator give an order.
func (s *Server) Tell(t testing.TB, order ...any) any {
	t.Helper()
	answer, err := s.Admin.Do(context.Background(), order...).Result()
	if err != nil {
		t.Fatalf("%v: %v", order[0], err)
	}
	return answer
}

// Age makes all entries older.
func (s *Server) Age(t testing.TB, d time.Duration) {
	t.Helper()
	ctx := context.Background()
	names, err := s.Admin.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		rest, err := s.Admin.PTTL(ctx, name).Result()
		if err != nil {
			t.Fatal(err)
		}
		if rest < 0 {
			t.Errorf("entry %s lives for ever", name)
		}
		if err := s.Admin.PExpire(ctx, name, rest-d).Err(); err != nil { // not positive: gone
			t.Fatal(err)
		}
	}
}

// freePorts finds free TCP ports, as many as count says. Another program may
// take one before it is used.
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
