package redis_test

import (
	"os"
	"path/filepath"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

// startSentinel runs a sentinel with a password that watches a master.
func startSentinel(t *testing.T, master *instance) *instance {
	t.Helper()
	i := &instance{dir: t.TempDir(), port: freePorts(t, 1)[0]}
	file := filepath.Join(i.dir, "sentinel.conf")
	text := "port " + i.port + "\nrequirepass sentry\nsentinel monitor mymaster 127.0.0.1 " + master.port + " 1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	i.run(t, file, "--sentinel")
	i.await(t, "+monitor master mymaster")
	i.admin = goredis.NewClient(&goredis.Options{Addr: i.addr(), Password: "sentry", Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = i.admin.Close() })
	return i
}

func TestSentinel(t *testing.T) {
	first, second := startTCP(t, "--port"), startTCP(t, "--port")
	s := startSentinel(t, first)
	grant(t, []*instance{first, second}, "+select")
	url := "redis+sentinel://enclave:s3cret%2Fpass@" + s.addr() + "/1?master_name=mymaster&sentinel_password=sentry&addr=127.0.0.1:1"
	o := open(t, url)
	put(t, o, address(1), "bundle")
	wantBundle(t, o, address(1), "bundle")
	if keys := first.tell(t, "info", "keyspace").(string); len(keys) < len("# Keyspace\r\ndb1:") {
		t.Errorf("nothing in database 1 of the master: %s", keys)
	}

	s.tell(t, "sentinel", "remove", "mymaster")
	s.tell(t, "sentinel", "monitor", "mymaster", "127.0.0.1", second.port, "1")
	first.tell(t, "client", "kill", "type", "normal")
	put(t, o, address(2), "bundle")
	wantBundle(t, o, address(2), "bundle")
	if o.counted(t, "redis", "error") != 0 {
		t.Errorf("errors counted:\n%s", o.log)
	}

	for name, url := range map[string]string{
		"no password":     "redis+sentinel://" + s.addr() + "?master_name=mymaster",
		"another master":  "redis+sentinel://" + s.addr() + "?master_name=other&sentinel_password=sentry",
		"nobody there":    "redis+sentinel://127.0.0.1:1?master_name=mymaster",
		"hostile answers": "redis+sentinel://" + startMute(t) + "?master_name=mymaster",
	} {
		o := open(t, url)
		wantMiss(t, o, address(1))
		if err := o.Probe(ctx); err == nil {
			t.Errorf("%s: Probe found a master", name)
		}
	}
}

// startMute is a sentinel that names a master with no port.
func startMute(t *testing.T) string {
	t.Helper()
	return serveTCP(t, old("*1\r\n$9\r\n127.0.0.1\r\n"))
}

// A slave that was a master says READONLY; then the sentinels are asked anew.
func TestSentinelAfterDemotion(t *testing.T) {
	first, second := startTCP(t, "--port"), startTCP(t, "--port")
	s := startSentinel(t, first)
	o := open(t, "redis+sentinel://"+s.addr()+"?master_name=mymaster&sentinel_password=sentry", func(c *redis.Config) {})
	put(t, o, address(1), "bundle")
	s.tell(t, "sentinel", "remove", "mymaster")
	s.tell(t, "sentinel", "monitor", "mymaster", "127.0.0.1", second.port, "1")
	first.tell(t, "replicaof", "127.0.0.1", second.port)
	put(t, o, address(2), "bundle") // refused
	o.advance(coolMost)
	put(t, o, address(2), "bundle")
	wantBundle(t, o, address(2), "bundle")
	if n := second.tell(t, "dbsize"); n != int64(1) {
		t.Errorf("%v entries at the new master, want 1", n)
	}
}
