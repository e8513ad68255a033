package redis_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

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
