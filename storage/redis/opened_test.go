package redis_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage/memory"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
	"github.com/vasp-enclave/vasp-enclave/storage/redis/redistest"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

// clock is moved by tests.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// coolMost is the longest that Redis is left alone.
const coolMost = 30 * time.Second

// patient is a budget that a busy machine keeps.
const patient = 20 * time.Second

func mac(purpose string, value []byte) (sum [32]byte) {
	h := hmac.New(sha256.New, []byte("key of "+purpose))
	h.Write(value)
	return [32]byte(h.Sum(nil))
}

// log is what the program under test wrote.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// opened is a cache with what can be seen of it.
type opened struct {
	*redis.Cache
	*clock
	log     *log
	metrics *prometheus.Registry
}

// open opens a cache; change, if any, edits what it is opened with.
func open(t testing.TB, url string, change ...func(*redis.Config)) *opened {
	t.Helper()
	o := &opened{clock: newClock(), log: new(log), metrics: prometheus.NewRegistry()}
	config := redis.Config{
		URL: url, MAC: mac, Budget: patient, Now: o.Now, Metrics: o.metrics,
		Logger: slog.New(slog.NewTextHandler(io.MultiWriter(o.log, t.Output()), nil)),
	}
	for _, edit := range change {
		edit(&config)
	}
	c, err := redis.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	o.Cache = c
	return o
}

// counted reads a counter.
func (o *opened) counted(t testing.TB, tier, result string) int {
	t.Helper()
	families, err := o.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); len(l) == 2 && l[0].GetValue() == result && l[1].GetValue() == tier {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	t.Fatalf("no counter for %s, %s", tier, result)
	return 0
}

// calls says how often Redis was called.
func (o *opened) calls(t testing.TB) int {
	t.Helper()
	families, err := o.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "enclave_peer_key_cache_seconds" {
			return int(f.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
	t.Fatal("no histogram")
	return 0
}

var ctx = context.Background()

func address(n int) keyring.Ref {
	return keyring.Ref{VASP: 7, Type: identity.PerAddress, Scope: [32]byte{byte(n >> 16), byte(n >> 8), byte(n)}}
}

func put(t testing.TB, c keyring.PeerCache, ref keyring.Ref, bundle string) {
	t.Helper()
	if err := c.PutPeerKey(ctx, ref, []byte(bundle), time.Hour); err != nil {
		t.Fatal(err)
	}
}

func wantBundle(t testing.TB, c keyring.PeerCache, ref keyring.Ref, want string) {
	t.Helper()
	if got, err := c.PeerKey(ctx, ref); err != nil || string(got) != want {
		t.Errorf("PeerKey = %q, %v, want %q", got, err, want)
	}
}

func wantMiss(t testing.TB, c keyring.PeerCache, ref keyring.Ref) {
	t.Helper()
	if got, err := c.PeerKey(ctx, ref); !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("PeerKey = %q, %v, want ErrNotFound", got, err)
	}
}

// suite is every peer cache's, on real servers whose entries are made older
// as time goes by.
func suite(t *testing.T, url string, nodes []*redistest.Server, change ...func(*redis.Config)) {
	t.Helper()
	for name, fronted := range map[string]bool{"alone": false, "behind memory": true} {
		t.Run(name, func(t *testing.T) {
			storagetest.PeerCache(t, func(t *testing.T) (keyring.PeerCache, func(time.Duration)) {
				o := open(t, url, append(change, func(c *redis.Config) {
					if fronted {
						front := memory.New(1000, c.Now)
						t.Cleanup(func() { _ = front.Close() })
						c.Front = front
					}
				})...)
				for _, i := range nodes {
					i.Tell(t, "flushall")
				}
				t.Cleanup(func() {
					if failures := o.counted(t, "redis", "error"); failures > 0 {
						t.Errorf("%d calls failed:\n%s", failures, o.log)
					}
				})
				return o, func(d time.Duration) {
					o.advance(d)
					for _, i := range nodes {
						i.Age(t, d)
					}
				}
			})
		})
	}
}
