package redis_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage/memory"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
	"github.com/vasp-enclave/vasp-enclave/storage/redis/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCacheIsAPeerCache(t *testing.T) {
	i := redistest.Start(t)
	suite(t, i.URL(), []*redistest.Server{i})
}

// What one run put the next one finds, and what was read from Redis is not
// kept in front, where nobody could tell how long it has to live.
func TestTiers(t *testing.T) {
	i := redistest.Start(t)
	front := memory.New(100, nil)
	defer front.Close()
	first := open(t, i.URL(), func(c *redis.Config) { c.Front = front })
	put(t, first, address(1), "bundle")
	wantBundle(t, first, address(1), "bundle")
	if first.counted(t, "memory", "hit") != 1 || first.calls(t) != 1 {
		t.Errorf("what was just put was asked from Redis")
	}
	other := memory.New(100, nil)
	defer other.Close()
	second := open(t, i.URL(), func(c *redis.Config) { c.Front = other })
	for n := 1; n <= 2; n++ {
		wantBundle(t, second, address(1), "bundle")
		if second.counted(t, "memory", "miss") != n || second.counted(t, "redis", "hit") != n {
			t.Errorf("read %d did not come from Redis", n)
		}
	}
	wantMiss(t, second, address(2))
	if second.counted(t, "redis", "miss") != 1 {
		t.Error("a miss was not counted")
	}
	if err := second.DropPeerKey(ctx, address(1)); err != nil {
		t.Fatal(err)
	}
	wantMiss(t, second, address(1))
	if n := i.Tell(t, "dbsize"); n != int64(0) {
		t.Errorf("%v entries are left in Redis", n)
	}
}

// Attacks K6, K14: who reads Redis learns neither VASP nor scope, and who has
// another key has other entries.
func TestNamesTellNothing(t *testing.T) {
	i := redistest.Start(t)
	put(t, open(t, i.URL()), address(1), "bundle")
	names, err := i.Admin.Keys(ctx, "*").Result()
	if err != nil || len(names) != 1 {
		t.Fatalf("names %v, %v", names, err)
	}
	rest, ours := strings.CutPrefix(names[0], redis.Prefix)
	if !ours || len(rest) != 64 || strings.Trim(rest, "0123456789abcdef") != "" {
		t.Errorf("name %q is not the prefix and 32 bytes in hex", names[0])
	}
	wantMiss(t, open(t, i.URL(), func(c *redis.Config) {
		c.MAC = func(purpose string, value []byte) [32]byte { return mac("another "+purpose, value) }
	}), address(1))
}

// brokenFront fails.
type brokenFront struct{ keyring.PeerCache }

var errFront = errors.New("front failed")

func (brokenFront) PeerKey(context.Context, keyring.Ref) ([]byte, error) { return nil, errFront }

func (brokenFront) PutPeerKey(context.Context, keyring.Ref, []byte, time.Duration) error {
	return errFront
}

func (brokenFront) DropPeerKey(context.Context, keyring.Ref) error { return errFront }

func TestFailingFrontIsPassedBy(t *testing.T) {
	i := redistest.Start(t)
	o := open(t, i.URL(), func(c *redis.Config) { c.Front = brokenFront{} })
	if err := o.PutPeerKey(ctx, address(1), []byte("bundle"), time.Hour); !errors.Is(err, errFront) {
		t.Errorf("PutPeerKey = %v, want %v", err, errFront)
	}
	wantBundle(t, o, address(1), "bundle")
	if err := o.DropPeerKey(ctx, address(1)); !errors.Is(err, errFront) {
		t.Errorf("DropPeerKey = %v, want %v", err, errFront)
	}
	wantMiss(t, o, address(1))
	if got := o.counted(t, "memory", "error"); got != 2 {
		t.Errorf("%d errors of the front counted, want 2", got)
	}
}

// A dropped or replaced entry does not come back from a Redis that would not
// change it.
func TestWhatRedisWouldNotChangeIsNotRead(t *testing.T) {
	i := redistest.Start(t)
	const user = "enclave"
	i.Tell(t, "acl", "setuser", user, "on", ">pw", "~*", "+get", "+set", "+del")
	o := open(t, "unix://enclave:pw@"+i.Socket())
	refs := []keyring.Ref{address(1), address(2)}
	for _, ref := range refs {
		put(t, o, ref, "old")
	}

	i.Tell(t, "acl", "setuser", user, "-set", "-del")
	if err := o.DropPeerKey(ctx, refs[0]); err != nil {
		t.Errorf("DropPeerKey = %v", err)
	}
	put(t, o, refs[1], "new")
	for _, ref := range refs {
		wantMiss(t, o, ref)
	}
	if n := i.Tell(t, "dbsize"); n != int64(2) || o.Debts() != 2 {
		t.Fatalf("%v entries in Redis, %d debts: the test tests nothing", n, o.Debts())
	}
	if o.counted(t, "redis", "error") == 0 {
		t.Error("failed changes were not counted")
	}

	i.Tell(t, "acl", "setuser", user, "+set", "+del")
	wantMiss(t, o, refs[0]) // deletes it
	put(t, o, refs[1], "new")
	wantBundle(t, o, refs[1], "new")
	if n := i.Tell(t, "dbsize"); n != int64(1) || o.Debts() != 0 {
		t.Errorf("%v entries in Redis, %d debts, want 1 and none", n, o.Debts())
	}
}

// Nobody can make an enclave remember without bound (attack K9).
func TestDebtsAreBounded(t *testing.T) {
	o := open(t, "unix:///nowhere/at/all")
	for n := range redis.MaxDebts + 50 {
		if err := o.DropPeerKey(ctx, address(n)); err != nil {
			t.Fatal(err)
		}
	}
	if o.Debts() != redis.MaxDebts || o.calls(t) != 1 {
		t.Errorf("%d debts, %d calls, want %d and 1", o.Debts(), o.calls(t), redis.MaxDebts)
	}
}

// A connection that the server closed is not used again, so it costs nothing.
func TestClosedConnectionsAreNoFailures(t *testing.T) {
	ca := newCA(t)
	for name, url := range map[string]func(i *redistest.Server) (string, []func(*redis.Config)){
		"socket": func(i *redistest.Server) (string, []func(*redis.Config)) { return i.URL(), nil },
		"TLS": func(i *redistest.Server) (string, []func(*redis.Config)) {
			return "rediss://" + i.Addr(), []func(*redis.Config){ca.trust}
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := redistest.StartTCP(t, "--tls-port", append(ca.arguments(t), "--tls-auth-clients", "no")...)
			at, change := url(i)
			o := open(t, at, change...)
			put(t, o, address(1), "bundle")
			for range 3 {
				if n := i.Tell(t, "client", "kill", "type", "normal"); n != int64(1) {
					t.Fatalf("%v connections closed, want 1", n)
				}
				wantBundle(t, o, address(1), "bundle")
			}
			if o.counted(t, "redis", "error") != 0 {
				t.Errorf("errors counted:\n%s", o.log)
			}
		})
	}
}

func TestOpenNeedsItsParts(t *testing.T) {
	for name, c := range map[string]redis.Config{
		"no MAC":    {URL: "redis://localhost", Now: time.Now, Logger: slog.Default()},
		"no clock":  {URL: "redis://localhost", MAC: mac, Logger: slog.Default()},
		"no logger": {URL: "redis://localhost", MAC: mac, Now: time.Now},
		"no URL":    {MAC: mac, Now: time.Now, Logger: slog.Default()},
	} {
		if _, err := redis.Open(c); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	// Metrics are registered once at a time.
	o := open(t, "redis://localhost")
	config := redis.Config{URL: "redis://localhost", MAC: mac, Now: time.Now, Logger: slog.Default(), Metrics: o.metrics}
	if _, err := redis.Open(config); err == nil {
		t.Error("opened twice with one registerer")
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := redis.Open(config)
	if err != nil {
		t.Fatalf("opened again after Close: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkPeerKey(b *testing.B) {
	o := open(b, redistest.Start(b).URL())
	put(b, o, address(1), strings.Repeat("b", 1600))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.PeerKey(ctx, address(1)); err != nil {
			b.Fatal(err)
		}
	}
}
