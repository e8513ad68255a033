package storagetest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

// PeerCache is the suite that every cache of peer keys must pass. open makes
// an empty cache with room for at least 100 entries, and a function that
// moves its clock.
func PeerCache(t *testing.T, open func(t *testing.T) (c keyring.PeerCache, advance func(time.Duration))) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, keyring.PeerCache, func(time.Duration)){
		"absent entry is not found":         cacheAbsent,
		"gives back what was put":           cacheRoundTrip,
		"tells every part of a ref apart":   cacheRefs,
		"put replaces":                      cacheReplace,
		"never outlives its ttl":            cacheTTL,
		"reading does not extend the ttl":   cacheReadKeepsTTL,
		"no positive ttl, no entry":         cacheNoTTL,
		"drop forgets":                      cacheDrop,
		"does not share memory with caller": cacheCopies,
		"concurrent use":                    cacheConcurrent,
	} {
		t.Run(name, func(t *testing.T) {
			c, advance := open(t)
			test(t, c, advance)
		})
	}
}

var someRef = keyring.Ref{VASP: 7, Type: identity.PerAddress, Scope: [32]byte{1}}

func mustPut(t *testing.T, c keyring.PeerCache, ref keyring.Ref, bundle string, ttl time.Duration) {
	t.Helper()
	if err := c.PutPeerKey(context.Background(), ref, []byte(bundle), ttl); err != nil {
		t.Fatalf("PutPeerKey: %v", err)
	}
}

func wantBundle(t *testing.T, c keyring.PeerCache, ref keyring.Ref, want string) {
	t.Helper()
	if got, err := c.PeerKey(context.Background(), ref); err != nil || string(got) != want {
		t.Errorf("PeerKey(%+v) = %q, %v, want %q", ref, got, err, want)
	}
}

func wantNoBundle(t *testing.T, c keyring.PeerCache, ref keyring.Ref) {
	t.Helper()
	if got, err := c.PeerKey(context.Background(), ref); !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("PeerKey(%+v) = %q, %v, want ErrNotFound", ref, got, err)
	}
}

func cacheAbsent(t *testing.T, c keyring.PeerCache, _ func(time.Duration)) {
	wantNoBundle(t, c, someRef)
}

func cacheRoundTrip(t *testing.T, c keyring.PeerCache, _ func(time.Duration)) {
	mustPut(t, c, someRef, "bundle\x00\xff", time.Hour)
	wantBundle(t, c, someRef, "bundle\x00\xff")
}

func cacheRefs(t *testing.T, c keyring.PeerCache, _ func(time.Duration)) {
	mustPut(t, c, someRef, "bundle", time.Hour)
	for _, other := range []keyring.Ref{
		{VASP: 8, Type: someRef.Type, Scope: someRef.Scope},
		{VASP: 7, Type: identity.PerVASP, Scope: someRef.Scope},
		{VASP: 7, Type: someRef.Type, Scope: [32]byte{31: 1}},
	} {
		wantNoBundle(t, c, other)
	}
}

func cacheReplace(t *testing.T, c keyring.PeerCache, advance func(time.Duration)) {
	mustPut(t, c, someRef, "first", time.Minute)
	mustPut(t, c, someRef, "second", time.Hour)
	advance(2 * time.Minute)
	wantBundle(t, c, someRef, "second")
}

func cacheTTL(t *testing.T, c keyring.PeerCache, advance func(time.Duration)) {
	other := keyring.Ref{VASP: 9, Type: identity.PerVASP}
	mustPut(t, c, someRef, "short", 10*time.Minute)
	mustPut(t, c, other, "long", 20*time.Minute)
	advance(10*time.Minute - time.Second)
	wantBundle(t, c, someRef, "short")
	advance(2 * time.Second)
	wantNoBundle(t, c, someRef)
	wantBundle(t, c, other, "long")
}

func cacheReadKeepsTTL(t *testing.T, c keyring.PeerCache, advance func(time.Duration)) {
	mustPut(t, c, someRef, "bundle", 10*time.Minute)
	for range 4 {
		advance(2 * time.Minute)
		wantBundle(t, c, someRef, "bundle")
	}
	advance(2*time.Minute + time.Second)
	wantNoBundle(t, c, someRef)
}

func cacheNoTTL(t *testing.T, c keyring.PeerCache, _ func(time.Duration)) {
	mustPut(t, c, someRef, "old", time.Hour)
	mustPut(t, c, someRef, "bundle", 0)
	wantNoBundle(t, c, someRef)
	mustPut(t, c, someRef, "bundle", -time.Hour)
	wantNoBundle(t, c, someRef)
}

func cacheDrop(t *testing.T, c keyring.PeerCache, _ func(time.Duration)) {
	mustPut(t, c, someRef, "bundle", time.Hour)
	for range 2 {
		if err := c.DropPeerKey(context.Background(), someRef); err != nil {
			t.Fatalf("DropPeerKey: %v", err)
		}
		wantNoBundle(t, c, someRef)
	}
}

func cacheCopies(t *testing.T, c keyring.PeerCache, _ func(time.Duration)) {
	mine := []byte("bundle")
	if err := c.PutPeerKey(context.Background(), someRef, mine, time.Hour); err != nil {
		t.Fatal(err)
	}
	copy(mine, "forged")
	got, err := c.PeerKey(context.Background(), someRef)
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "forged")
	wantBundle(t, c, someRef, "bundle")
}

func cacheConcurrent(t *testing.T, c keyring.PeerCache, _ func(time.Duration)) {
	ctx := context.Background()
	var all sync.WaitGroup
	for n := range 64 {
		all.Go(func() {
			ref := keyring.Ref{VASP: identity.VASPID(n%8 + 1), Type: identity.PerVASP}
			want := bytes.Repeat([]byte{byte(n % 8)}, 100)
			for range 100 {
				if err := c.PutPeerKey(ctx, ref, want, time.Hour); err != nil {
					t.Errorf("PutPeerKey: %v", err)
				}
				got, err := c.PeerKey(ctx, ref)
				if err != nil && !errors.Is(err, keyring.ErrNotFound) || err == nil && !bytes.Equal(got, want) {
					t.Errorf("PeerKey = %x, %v, want %x", got, err, want)
				}
				if n >= 56 {
					if err := c.DropPeerKey(ctx, ref); err != nil {
						t.Errorf("DropPeerKey: %v", err)
					}
				}
			}
		})
	}
	all.Wait()
}
