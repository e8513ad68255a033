package sandbox_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// redisServer is a real Redis on a socket file, as much of it as a test needs.
type redisServer struct {
	command *exec.Cmd
	socket  string
}

func startRedis(t *testing.T, dir string) *redisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is missing: run make deps")
	}
	r := &redisServer{socket: filepath.Join(dir, "redis.sock")}
	r.command = exec.Command(path, "--port", "0", "--unixsocket", r.socket, "--save", "", "--appendonly", "no", "--dir", dir)
	r.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.command.Process.Signal(syscall.SIGCONT)
		_ = r.command.Process.Kill()
		_ = r.command.Wait()
	})
	eventually(t, 10*time.Second, "Redis listens", func() bool {
		_, err := os.Stat(r.socket)
		return err == nil
	})
	return r
}

// Redis paused, flushed and killed under load fails no verification: what it
// is trusted for is nothing (K6).
func TestNoVerificationFailsForWantOfRedis(t *testing.T) {
	dir, err := os.MkdirTemp("", "ve-redis-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := startRedis(t, dir)
	a := start(t, sandbox.Options{Enclave: []string{"VEGA_REDIS_URL=unix://" + r.socket}})
	sender := a.VASPs[0]
	verifySome := func(what string) {
		t.Helper()
		var ids []string
		for range 30 {
			accepted, err := sender.Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			ids = append(ids, accepted.VerificationUUID)
		}
		eventually(t, 30*time.Second, what+": every verification ends", func() bool {
			for _, id := range ids {
				row, err := sender.Row(t.Context(), id)
				if err != nil || row.Result == "WAIT" {
					return false
				}
				if row.Result != "VERIFIED" {
					t.Fatalf("%s: %s ended as %s/%s", what, id, row.Result, row.Reason)
				}
			}
			return true
		})
	}
	restart := func() { // the cache in process is gone with it
		t.Helper()
		if err := sender.Enclave.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := sender.Enclave.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	verifySome("with Redis")
	if out, err := exec.Command("redis-cli", "-s", r.socket, "dbsize").Output(); err != nil || string(out) == "0\n" {
		t.Fatalf("Redis holds no key: %q, %v", out, err)
	}
	restart()
	verifySome("from Redis after a restart")
	if hits := sumOf(metrics(t, sender.Metrics), `enclave_peer_key_cache_total{result="hit",tier="redis"}`); hits == 0 {
		t.Errorf("no key came from Redis:\n%s", grep(metrics(t, sender.Metrics), "enclave_peer_key_cache_total"))
	}
	for _, c := range []struct {
		what string
		harm func() error
	}{
		{"flushed", func() error { return exec.Command("redis-cli", "-s", r.socket, "flushall").Run() }},
		{"paused", func() error { return r.command.Process.Signal(syscall.SIGSTOP) }},
		{"killed", func() error { return r.command.Process.Kill() }},
	} {
		if err := c.harm(); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		restart()
		verifySome(c.what)
	}
}
