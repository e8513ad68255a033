package memory_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage/memory"
	"github.com/vasp-enclave/vasp-enclave/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPeerKeysIsAPeerCache(t *testing.T) {
	storagetest.PeerCache(t, func(t *testing.T) (keyring.PeerCache, func(time.Duration)) {
		now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		c := memory.New(1000, func() time.Time { return now })
		t.Cleanup(func() { _ = c.Close() })
		return c, func(d time.Duration) { now = now.Add(d) }
	})
}

// A counterparty that shows ever new scopes costs others at most their place
// in the cache (attack K9).
func TestPeerKeysIsBounded(t *testing.T) {
	const capacity = 50
	c := memory.New(capacity, time.Now)
	defer c.Close()
	for n := range 20 * capacity {
		ref := keyring.Ref{VASP: identity.VASPID(n + 1), Type: identity.PerVASP}
		if err := c.PutPeerKey(context.Background(), ref, make([]byte, 1000), time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := c.Len(); got > capacity {
			t.Fatalf("after %d puts there are %d entries, want at most %d", n+1, got, capacity)
		}
	}
}

func TestPeerKeysOnTheSystemClock(t *testing.T) {
	c := memory.New(0, nil)
	ctx, ref := context.Background(), keyring.Ref{VASP: 1, Type: identity.PerVASP}
	if err := c.PutPeerKey(ctx, ref, []byte("bundle"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got, err := c.PeerKey(ctx, ref); err != nil || string(got) != "bundle" {
		t.Errorf("PeerKey = %q, %v", got, err)
	}
	if err := c.Close(); err != nil { // or goleak finds its goroutine
		t.Fatal(err)
	}
	if _, err := c.PeerKey(ctx, keyring.Ref{VASP: 2}); !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("PeerKey of an unknown ref: %v, want ErrNotFound", err)
	}
}

func BenchmarkPeerKey(b *testing.B) {
	c := memory.New(1000, nil)
	defer c.Close()
	ctx, ref := context.Background(), keyring.Ref{VASP: 1, Type: identity.PerVASP}
	if err := c.PutPeerKey(ctx, ref, make([]byte, 1600), time.Hour); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.PeerKey(ctx, ref); err != nil {
			b.Fatal(err)
		}
	}
}
