package redis_test

import (
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage/redis"
	"github.com/vasp-enclave/vasp-enclave/storage/redis/redistest"
)

func TestSentinel(t *testing.T) {
	first, second := redistest.StartTCP(t, "--port"), redistest.StartTCP(t, "--port")
	s := redistest.StartSentinel(t, first)
	grant(t, []*redistest.Server{first, second}, "+select")
	url := "redis+sentinel://enclave:s3cret%2Fpass@" + s.Addr() + "/1?master_name=mymaster&sentinel_password=sentry&addr=127.0.0.1:1"
	o := open(t, url)
	put(t, o, address(1), "bundle")
	wantBundle(t, o, address(1), "bundle")
	if keys := first.Tell(t, "info", "keyspace").(string); len(keys) < len("# Keyspace\r\ndb1:") {
		t.Errorf("nothing in database 1 of the master: %s", keys)
	}

	s.Tell(t, "sentinel", "remove", "mymaster")
	s.Tell(t, "sentinel", "monitor", "mymaster", "127.0.0.1", second.Port, "1")
	first.Tell(t, "client", "kill", "type", "normal")
	put(t, o, address(2), "bundle")
	wantBundle(t, o, address(2), "bundle")
	if o.counted(t, "redis", "error") != 0 {
		t.Errorf("errors counted:\n%s", o.log)
	}

	for name, url := range map[string]string{
		"no password":     "redis+sentinel://" + s.Addr() + "?master_name=mymaster",
		"another master":  "redis+sentinel://" + s.Addr() + "?master_name=other&sentinel_password=sentry",
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
	first, second := redistest.StartTCP(t, "--port"), redistest.StartTCP(t, "--port")
	s := redistest.StartSentinel(t, first)
	o := open(t, "redis+sentinel://"+s.Addr()+"?master_name=mymaster&sentinel_password=sentry", func(c *redis.Config) {})
	put(t, o, address(1), "bundle")
	s.Tell(t, "sentinel", "remove", "mymaster")
	s.Tell(t, "sentinel", "monitor", "mymaster", "127.0.0.1", second.Port, "1")
	first.Tell(t, "replicaof", "127.0.0.1", second.Port)
	put(t, o, address(2), "bundle") // refused
	o.advance(coolMost)
	put(t, o, address(2), "bundle")
	wantBundle(t, o, address(2), "bundle")
	if n := second.Tell(t, "dbsize"); n != int64(1) {
		t.Errorf("%v entries at the new master, want 1", n)
	}
}
