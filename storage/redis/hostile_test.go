package redis_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

// script is a server that answers by rule; nil means never.
type script func(command []string) (answer []byte)

// serve runs a script on a Unix socket and gives its URL.
func serve(t testing.TB, s script, credentials string) (url string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	s.accept(t, "unix", socket)
	return "unix://" + credentials + socket
}

// serveTCP runs a script on a port and gives its address.
func serveTCP(t testing.TB, s script) (addr string) {
	t.Helper()
	return s.accept(t, "tcp", "127.0.0.1:0")
}

func (s script) accept(t testing.TB, network, at string) (addr string) {
	t.Helper()
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(t.Context(), func() { _ = conn.Close() })()
				s.talk(conn)
			})
		}
	})
	return l.Addr().String()
}

func (s script) talk(conn net.Conn) {
	for in := bufio.NewReader(conn); ; {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		if answer := s(command); answer != nil {
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}

// readCommand reads what a client sends: a list of values.
func readCommand(in *bufio.Reader) (words []string, err error) {
	var count, size int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &count); err != nil {
		return nil, err
	}
	for range count {
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words = append(words, strings.ToLower(string(word[:size])))
	}
	return words, nil
}

// old answers like a Redis that does not know HELLO yet, and repeats what it
// was sent; everything else is the caller's.
func old(answer string) script {
	return func(command []string) []byte {
		switch command[0] {
		case "hello":
			return []byte("-ERR unknown command `HELLO`, with args beginning with: `" + strings.Join(command[1:], "`, `") + "`\r\n")
		case "auth":
			return []byte("+OK\r\n")
		}
		return []byte(answer)
	}
}

// Attack K6, from a Redis that is hostile itself: whatever it says, nothing
// panics, nothing is allocated without bound, and what comes out is a miss or
// no longer than a bundle.
func TestHostileRepliesAreMisses(t *testing.T) {
	replies := map[string]string{
		"value that overflows":     "$9223372036854775806\r\n",
		"largest value":            "$9223372036854775807\r\n",
		"huge value":               "$536870912\r\nbegin",
		"long value":               fmt.Sprintf("$%d\r\n%s\r\n", redis.MaxBulk, strings.Repeat("v", redis.MaxBulk)),
		"longer value":             fmt.Sprintf("$%d\r\n%s\r\n", redis.MaxBulk+1, strings.Repeat("v", redis.MaxBulk+1)),
		"bundle and a byte":        fmt.Sprintf("$%d\r\n%s\r\n", identity.MaxBundle+1, strings.Repeat("v", identity.MaxBundle+1)),
		"empty value":              "$0\r\n\r\n",
		"negative value":           "$-2\r\n",
		"length that is no number": "$ten\r\n",
		"value cut off":            "$5\r\nab",
		"verbatim":                 "=9223372036854775806\r\n",
		"long error":               "!9223372036854775806\r\n",
		"huge list":                "*2147483647\r\n",
		"huge map":                 "%2147483647\r\n",
		"huge set":                 "~2147483647\r\n",
		"huge attribute":           "|2147483647\r\n",
		"push":                     ">2147483647\r\n",
		"lists of lists":           strings.Repeat("*1\r\n", 1<<20),
		"lists of many":            strings.Repeat("*10000\r\n", 1<<12),
		"attributes of attributes": strings.Repeat("|1\r\n", 1<<18),
		"list of much":             "*60000\r\n" + strings.Repeat("$98\r\n"+strings.Repeat("x", 98)+"\r\n", 60_000),
		"line without end":         "+" + strings.Repeat("x", 1<<22),
		"error without end":        "-" + strings.Repeat("x", 1<<22),
		"many lines":               strings.Repeat("+x\r\n", 1<<20),
		"empty line":               "\r\n",
		"bare newline":             "\n",
		"garbage":                  "HTTP/1.1 400 Bad Request\r\n\r\n",
		"other type":               ":7\r\n",
		"moved":                    "-MOVED 1 127.0.0.1:1\r\n",
		"ask":                      "-ASK 1 127.0.0.1:1\r\n",
		"wrong type":               "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
		"loading":                  "-LOADING Redis is loading the dataset in memory\r\n",
		"read-only":                "-READONLY You can't write against a read only replica.\r\n",
		"busy":                     "-BUSY Redis is busy running a script.\r\n",
		"nobody":                   "-NOAUTH Authentication required.\r\n",
	}
	short := func(c *redis.Config) { c.Budget = 50 * time.Millisecond }
	for name, reply := range replies {
		for where, s := range map[string]script{
			"as an answer":     old(reply),
			"as the handshake": func([]string) []byte { return []byte(reply) },
			"to a change": func(command []string) []byte {
				if command[0] == "get" {
					return []byte("$-1\r\n")
				}
				return old(reply)(command)
			},
		} {
			o := open(t, serve(t, s, ""), short)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := o.PeerKey(ctx, address(1))
			_ = o.PutPeerKey(ctx, address(1), []byte("bundle"), time.Hour)
			_ = o.DropPeerKey(ctx, address(1))
			runtime.ReadMemStats(&after)
			if err == nil && (len(got) == 0 || len(got) > identity.MaxBundle) || err != nil && err != keyring.ErrNotFound {
				t.Errorf("%s, %s: PeerKey = %d bytes, %v", name, where, len(got), err)
			}
			if grown := (after.TotalAlloc - before.TotalAlloc) >> 20; grown > 64 {
				t.Errorf("%s, %s: %d MiB allocated", name, where, grown)
			}
		}
	}
}

// A Redis that never answers costs one budget, and after a while, which grows,
// another one; whoever else looks up in the meantime does not wait.
func TestHungRedisCostsABudgetNowAndThen(t *testing.T) {
	url := serve(t, func([]string) []byte { return nil }, "")
	o := open(t, url, func(c *redis.Config) { c.Budget = 20 * time.Millisecond })
	lookups := func(count int) {
		t.Helper()
		var all sync.WaitGroup
		for n := range count {
			all.Go(func() { wantMiss(t, o, address(n)) })
		}
		all.Wait()
	}
	wantCalls := func(want int) {
		t.Helper()
		if got := o.calls(t); got != want {
			t.Fatalf("%d calls of Redis, want %d", got, want)
		}
	}
	lookups(10) // the end of each counts once for all
	first := o.calls(t)
	for n, cool := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		wantCalls(first + n)
		o.advance(cool*time.Second - 1)
		lookups(50)
		wantCalls(first + n)
		o.advance(1)
		lookups(50) // one of them tries
	}
	if got := o.counted(t, "redis", "error"); got != 10+7*100 {
		t.Errorf("%d errors counted, want %d", got, 10+7*100)
	}
	// The log does not grow with the lookups.
	if lines := strings.Count(o.log.String(), "reason=timeout"); lines < 1 || lines > 3 {
		t.Errorf("%d lines in a minute and a half:\n%s", lines, o.log)
	}
}

// A caller that gave up says nothing about Redis.
func TestCallersEndIsNoFailure(t *testing.T) {
	canceled, cancel := context.WithCancel(ctx)
	o := open(t, serve(t, func([]string) []byte {
		cancel()
		return []byte("\n") // ends the connection
	}, ""))
	if _, err := o.PeerKey(canceled, address(1)); err != keyring.ErrNotFound {
		t.Errorf("PeerKey = %v", err)
	}
	for n := range 3 {
		if _, err := o.PeerKey(canceled, address(1)); err != keyring.ErrNotFound || o.calls(t) != n+2 {
			t.Errorf("PeerKey = %v, %d calls: Redis is left alone", err, o.calls(t))
		}
	}
}

// The log says in a word what an operator has to look at.
func TestReasons(t *testing.T) {
	for want, answer := range map[string]string{
		"timeout":        "",
		"unreachable":    "never asked",
		"authentication": "-NOAUTH Authentication required.\r\n",
		"permission":     "-NOPERM this user has no permissions to run the 'get' command\r\n",
		"full":           "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
		"cluster-down":   "-CLUSTERDOWN Hash slot not served\r\n",
		"read-only":      "-READONLY You can't write against a read only replica.\r\n",
		"loading":        "-LOADING Redis is loading the dataset in memory\r\n",
		"protocol":       "*2147483647\r\n",
		"refused":        "-ERR something else\r\n",
	} {
		s := old(answer)
		if answer == "" {
			s = func([]string) []byte { return nil }
		}
		o := open(t, serve(t, s, ""), func(c *redis.Config) {
			if want == "timeout" {
				c.Budget = 50 * time.Millisecond
			}
		})
		if want == "unreachable" {
			o = open(t, "unix:///nowhere/at/all")
		}
		if err := o.Probe(ctx); err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("Probe = %v, want %s", err, want)
		}
		if o.advance(coolMost); want == "timeout" || want == "unreachable" {
			_ = o.Probe(ctx)
			if err := o.Probe(ctx); err == nil || !strings.HasSuffix(err.Error(), ": cooling-down") {
				t.Errorf("Probe after %s = %v, want cooling-down", want, err)
			}
			o.advance(coolMost)
		}
		wantMiss(t, o, address(1))
		if !strings.Contains(o.log.String(), "reason="+want) {
			t.Errorf("want %s in the log:\n%s", want, o.log)
		}
	}
}

// The library has a log of its own, with what servers said; it is off.
func TestLibraryWritesNothing(t *testing.T) {
	const failing = "TestDebtsAreBounded" // cannot connect
	out, err := exec.Command(os.Args[0], "-test.run=^"+failing+"$").CombinedOutput()
	if err != nil || string(out) != "PASS\n" && !strings.HasPrefix(string(out), "PASS\ncoverage:") {
		t.Errorf("%v, written:\n%s", err, out)
	}
}

// Neither log nor error tells what the URL holds or what a server said, which
// may be the same (attack L1).
func TestCredentialsAreNotTold(t *testing.T) {
	const credentials = "theuser:thepassword@"
	for name, answer := range map[string]string{
		"repeated":     "-ERR theuser thepassword\r\n",
		"wrong":        "-WRONGPASS theuser thepassword\r\n",
		"not allowed":  "-NOPERM User theuser has no permissions\r\n",
		"as a line":    "theuser thepassword\r\n",
		"as a value":   "$11\r\nthepassword\r\n",
		"as a list":    "*2\r\n$7\r\ntheuser\r\n$11\r\nthepassword\r\n",
		"as a moved":   "-MOVED 1 thepassword:1\r\n",
		"as a timeout": "",
	} {
		for where, s := range map[string]script{
			"as an answer":     old(answer),
			"as the handshake": func([]string) []byte { return []byte(answer) },
		} {
			o := open(t, serve(t, s, credentials), func(c *redis.Config) { c.Budget = 50 * time.Millisecond })
			told := fmt.Sprint(o.Probe(ctx), o.PutPeerKey(ctx, address(1), []byte("bundle"), time.Hour), o.DropPeerKey(ctx, address(1)))
			_, err := o.PeerKey(ctx, address(1))
			told += fmt.Sprint(err, o.Close()) + o.log.String()
			if strings.Contains(told, "theuser") || strings.Contains(told, "thepassword") {
				t.Errorf("%s, %s: told %s", name, where, told)
			}
		}
	}
	clear := open(t, "redis://theuser:thepassword@192.0.2.1:6379")
	if !strings.Contains(clear.log.String(), "use rediss") || strings.Contains(clear.log.String(), "thepassword") {
		t.Errorf("a password in clear: log %s", clear.log)
	}
	for _, quiet := range []string{"rediss://u:p@192.0.2.1", "redis://u:p@localhost", "redis://u:p@[::1]:1", "redis://192.0.2.1", "unix://u:p@/s"} {
		if o := open(t, quiet); o.log.String() != "" {
			t.Errorf("%s: log %s", quiet, o.log)
		}
	}
}

func TestBoundsOfReplies(t *testing.T) {
	value := func(n int) string { return fmt.Sprintf("$%d\r\n%s\r\n", n, strings.Repeat("v", n)) }
	list := func(n int) string { return fmt.Sprintf("*%d\r\n", n) }
	for name, c := range map[string]struct {
		said string
		ok   bool
	}{
		"longest value":         {value(redis.MaxBulk), true},
		"longer value":          {value(redis.MaxBulk + 1), false},
		"longest line":          {"+" + strings.Repeat("x", redis.MaxLine-2) + "\r\n", true},
		"longer line":           {"+" + strings.Repeat("x", redis.MaxLine-1) + "\r\n", false},
		"longest list":          {list(redis.MaxItems), true},
		"longer list":           {list(redis.MaxItems + 1), false},
		"two lists":             {list(redis.MaxItems/2) + list(redis.MaxItems/2), true},
		"two longer lists":      {list(redis.MaxItems/2) + list(redis.MaxItems/2+1), false},
		"no value and no lists": {strings.Repeat("$-1\r\n*-1\r\n", 3) + list(redis.MaxItems), true},
		"lines in a value":      {"$9\r\n*2000000\n\r\n+OK\r\n", true},
		"longest reply":         {strings.Repeat("+OK\r\n", redis.MaxReply/5), true},
		"longer reply":          {strings.Repeat("+OK\r\n", redis.MaxReply/5+1), false},
	} {
		pass, restart := redis.Replies()
		for n := range 2 {
			if err := pass([]byte(c.said)); (err == nil) != c.ok || err != nil && !errors.Is(err, redis.ErrReply) {
				t.Fatalf("%s, question %d: %v", name, n+1, err)
			}
			restart()
			if !c.ok {
				break // the connection has ended
			}
		}
	}
}

// The user of the package's description is enough for newer servers too, which
// know more commands that a library may send by itself.
func TestOnlyTheseCommandsAreSent(t *testing.T) {
	var mu sync.Mutex
	sent := map[string]bool{}
	o := open(t, serve(t, func(command []string) []byte {
		mu.Lock()
		defer mu.Unlock()
		sent[command[0]] = true
		switch command[0] {
		case "hello":
			return []byte("%1\r\n+server\r\n+redis\r\n")
		case "get":
			return []byte("$-1\r\n")
		case "set":
			return []byte("+OK\r\n")
		}
		return []byte(":1\r\n")
	}, "user:pw@"))
	put(t, o, address(1), "bundle")
	wantMiss(t, o, address(1))
	if err := errors.Join(o.DropPeerKey(ctx, address(1)), o.Probe(ctx)); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := (map[string]bool{"hello": true, "get": true, "set": true, "del": true}); !maps.Equal(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
}

// Whatever a server says in whatever pieces, it is judged the same, and no
// length is let through that its reader would allocate.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{"$3\r\nabc\r\n", "$-1\r\n*2\r\n:1\r\n$1\r\n*\r\n", "$9223372036854775806\r\n", "*1\r\n*1\r\n", "%70000\r\n", "*40000\r\n*40000\r\n", "+OK\r\n-ERR\r\n", "$16384\r\n"} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, said []byte, piece uint8) {
		pass, _ := redis.Replies()
		whole := pass(said)
		pass, _ = redis.Replies()
		size := int(piece) + 1
		var pieces error
		for at := 0; at < len(said) && pieces == nil; at += size {
			pieces = pass(said[at:min(at+size, len(said))])
		}
		if (whole == nil) != (pieces == nil) {
			t.Fatalf("%q: at once %v, in pieces of %d %v", said, whole, size, pieces)
		}
		if whole == nil {
			wantWithinBounds(t, said)
		}
	})
}

// wantWithinBounds reads as go-redis does.
func wantWithinBounds(t *testing.T, said []byte) {
	t.Helper()
	items := 0
	for rest := string(said); rest != ""; {
		line, after, ended := strings.Cut(rest, "\n")
		if !ended {
			return
		}
		rest = after
		switch n, err := strconv.Atoi(strings.TrimSuffix(line[1:], "\r")); line[0] {
		case '$', '=', '!':
			if err != nil || n > redis.MaxBulk {
				t.Fatalf("value of %d bytes passed (%v)", n, err)
			}
			if n >= 0 {
				rest = rest[min(n+2, len(rest)):]
			}
		case '*', '~', '>', '%', '|':
			if items += max(n, 0); err != nil || items > redis.MaxItems {
				t.Fatalf("%d items passed (%v)", items, err)
			}
		}
	}
}
