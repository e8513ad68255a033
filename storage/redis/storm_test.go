package redis_test

import (
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/storage/memory"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
	"github.com/vasp-enclave/vasp-enclave/storage/redis/redistest"
)

// hasty is a budget that makes a hung Redis cheap to test.
func hasty(c *redis.Config) { c.Budget = 100 * time.Millisecond }

// small puts a front there that keeps a few entries only.
func small(t *testing.T) func(*redis.Config) {
	return func(c *redis.Config) {
		front := memory.New(8, c.Now)
		t.Cleanup(func() { _ = front.Close() })
		c.Front = front
	}
}

// Whatever becomes of Redis under load, no lookup fails (target 10, H5), and
// those that wait for it are few.
func TestRedisInTroubleFailsNoLookup(t *testing.T) {
	i := redistest.Start(t)
	w := newWorld(t, i.URL(), hasty, small(t))
	s := begin(t, w)
	s.lookups(1000)
	s.recovery(t)

	t.Run("flushed", func(t *testing.T) {
		before := w.requests.Load()
		i.Tell(t, "flushall")
		s.lookups(1000)
		if w.requests.Load() == before {
			t.Error("nothing was asked for again")
		}
		s.recovery(t)
	})
	t.Run("full", func(t *testing.T) {
		i.Tell(t, "config", "set", "maxmemory", "1", "maxmemory-policy", "noeviction")
		before := w.calls(t)
		s.lookups(1000)
		if calls := w.calls(t) - before; calls < 500 {
			t.Errorf("%d calls in 1000 lookups: a full Redis is not read", calls)
		}
		i.Tell(t, "config", "set", "maxmemory", "0")
		s.recovery(t)
	})
	t.Run("evicting", func(t *testing.T) {
		i.Tell(t, "config", "set", "maxmemory", "1", "maxmemory-policy", "volatile-ttl")
		s.lookups(500)
		i.Tell(t, "config", "set", "maxmemory", "0")
		s.recovery(t)
	})
	t.Run("paused", func(t *testing.T) {
		s.trouble(t, func() { i.Pause(t) })
		i.Resume(t)
		s.recovery(t)
	})
	t.Run("stopped and started again", func(t *testing.T) {
		s.trouble(t, func() { i.Kill(t) })
		i.Restart(t)
		s.recovery(t)
	})
	t.Log(s.summary())
}

func TestCluster(t *testing.T) {
	nodes := redistest.StartCluster(t)
	t.Run("suite", func(t *testing.T) {
		grant(t, nodes, "+cluster|slots")
		suite(t, "redis+cluster://enclave:s3cret%2Fpass@"+nodes[0].Addr(), nodes)
	})
	t.Run("entries are on every node", func(t *testing.T) {
		o := open(t, redistest.ClusterURL(nodes))
		for n := range 60 {
			put(t, o, address(n), "bundle")
		}
		for n, i := range nodes {
			if size := i.Tell(t, "dbsize"); size == int64(0) {
				t.Errorf("node %d has none", n)
			}
		}
	})
	w := newWorld(t, redistest.ClusterURL(nodes), hasty, small(t))
	s := begin(t, w)
	s.lookups(1000)
	s.recovery(t)
	t.Run("flushed", func(t *testing.T) {
		for _, i := range nodes {
			i.Tell(t, "flushall")
		}
		s.lookups(1000)
		s.recovery(t)
	})
	t.Run("one node paused", func(t *testing.T) {
		nodes[1].Pause(t)
		s.lookups(1000)
		nodes[1].Resume(t)
		s.recovery(t)
	})
	t.Run("all nodes paused", func(t *testing.T) {
		s.trouble(t, func() {
			for _, i := range nodes {
				i.Pause(t)
			}
		})
		for _, i := range nodes {
			i.Resume(t)
		}
		s.recovery(t)
	})
	t.Run("a node stopped", func(t *testing.T) {
		nodes[2].Kill(t)
		s.lookups(1000)
		s.advance(coolMost)
		s.lookups(1000)
	})
	t.Run("all nodes stopped", func(t *testing.T) {
		s.trouble(t, func() {
			nodes[0].Kill(t)
			nodes[1].Kill(t)
		})
	})
	t.Log(s.summary())
}
