package redis_test

import (
	"encoding/hex"
	"sync"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
	"github.com/vasp-enclave/vasp-enclave/storage/redis/redistest"
)

// entry is the name of a ref's entry, as an attacker learns it by watching.
func entry(ref keyring.Ref) string {
	value := append([]byte{0, 0, 0, 0, 0, 0, 0, byte(ref.VASP), byte(ref.Type)}, ref.Scope[:]...)
	name := mac("peer-key-cache", value)
	return redis.Prefix + hex.EncodeToString(name[:])
}

// Attack K6, target 9: 10,000 poisoned values of 12 kinds, none used. Each
// costs its first reader one request, and is gone.
func TestPoisonedValuesAreNeverUsed(t *testing.T) {
	const values = 10_000
	i := redistest.Start(t)
	w := newWorld(t, i.URL())
	p := redistest.Poisoner{Owner: w.owner, Other: signer(t, 8), Impostor: signer(t, 7)}
	unread := 0
	fill := i.Admin.Pipeline()
	for n := range values {
		kind, ref := redistest.Poisons[n%len(redistest.Poisons)], address(n)
		if kind.Unread {
			unread++
		}
		kind.Put(t, fill, entry(ref), p, w.bundle(ref, w.poison), n)
	}
	if _, err := fill.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	if len(redistest.Poisons) != 12 || i.Tell(t, "dbsize") != int64(values) {
		t.Fatalf("%d kinds, %v values", len(redistest.Poisons), i.Tell(t, "dbsize"))
	}

	lookUpAll(t, w, values)
	if got := w.requests.Load(); got != values {
		t.Errorf("%d requests, want %d: one for each", got, values)
	}
	if got := w.counted(t, "redis", "bad"); got != unread {
		t.Errorf("%d bad values counted, want %d", got, unread)
	}
	if got := w.events[keyring.CacheRefused]; got != values-unread {
		t.Errorf("%d bundles refused, want %d", got, values-unread)
	}

	lookUpAll(t, w, values)
	if got := w.requests.Load(); got != values {
		t.Errorf("%d requests after a second round, want %d", got, values)
	}
	if got := w.counted(t, "redis", "error"); got != 0 {
		t.Errorf("%d calls failed:\n%s", got, w.log)
	}
}

// The poison must be such that it would be used if nobody looked: a good
// bundle with the attacker's key, in the same place, is.
func TestPoisonWouldWork(t *testing.T) {
	i := redistest.Start(t)
	w := newWorld(t, i.URL())
	ref := address(1)
	i.Tell(t, "set", entry(ref), redistest.Sign(t, w.owner, w.bundle(ref, w.poison)))
	k, err := w.peers.Key(ctx, ref, w.owner.Public())
	if err != nil || k.Public.ID() != w.poison.ID() || w.requests.Load() != 0 {
		t.Errorf("Key = %v, %v after %d requests, want the key in Redis", k, err, w.requests.Load())
	}
}

func lookUpAll(t *testing.T, w *world, values int) {
	t.Helper()
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for n := worker; n < values; n += workers {
				w.lookup(t, address(n))
			}
		})
	}
	all.Wait()
}
