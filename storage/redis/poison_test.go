package redis_test

import (
	"bytes"
	"encoding/hex"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

// poisons are the ways to put something else into a place than what belongs
// there. Each kind's key, if it has one, is the attacker's choice.
type poison struct {
	name   string
	bundle func(p *poisoner, b identity.Bundle) []byte // nil: other does it
	other  []any                                       // an order to Redis, with the name put second
	unread bool                                        // the cache itself refuses it
}

// poisoner has what an attacker who owns Redis may have: bundles that others
// signed, old ones and ones for others, and the identity of another VASP.
type poisoner struct {
	*world
	t               testing.TB
	other, impostor *identity.Signer
}

func (p *poisoner) sign(s *identity.Signer, b identity.Bundle) []byte {
	p.t.Helper()
	encoded, err := s.SignBundle(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return encoded
}

var poisons = []poison{
	{name: "garbage", bundle: func(*poisoner, identity.Bundle) []byte { return bytes.Repeat([]byte("garbage"), 40) }},
	{name: "empty", bundle: func(*poisoner, identity.Bundle) []byte { return []byte{} }, unread: true},
	{name: "other VASP's", bundle: func(p *poisoner, b identity.Bundle) []byte { return p.sign(p.other, b) }},
	{name: "other identity", bundle: func(p *poisoner, b identity.Bundle) []byte { return p.sign(p.impostor, b) }},
	{name: "expired", bundle: func(p *poisoner, b identity.Bundle) []byte {
		b.NotBefore, b.NotAfter = b.NotBefore.Add(-24*time.Hour), b.NotBefore.Add(-time.Millisecond)
		return p.sign(p.owner, b)
	}},
	{name: "truncated", bundle: func(p *poisoner, b identity.Bundle) []byte {
		e := p.sign(p.owner, b)
		return e[:len(e)-1-int(b.Scope[2])%100]
	}},
	{name: "bit flipped", bundle: func(p *poisoner, b identity.Bundle) []byte {
		e := p.sign(p.owner, b)
		bit := (int(b.Scope[1])<<8 | int(b.Scope[2])) % (8 * len(e))
		e[bit/8] ^= 1 << (bit % 8)
		return e
	}},
	{name: "oversized", bundle: func(p *poisoner, b identity.Bundle) []byte {
		long := identity.MaxBundle
		if b.Scope[2]%4 == 0 {
			long = 64 << 10 // so long that it costs a connection
		}
		return append(p.sign(p.owner, b), make([]byte, long)...)
	}, unread: true},
	{name: "other type", bundle: func(p *poisoner, b identity.Bundle) []byte {
		b.Type, b.Scope, b.Audience = identity.PerVASP, [32]byte{}, 0
		return p.sign(p.owner, b)
	}},
	{name: "other scope", bundle: func(p *poisoner, b identity.Bundle) []byte {
		b.Scope[31] = 1
		return p.sign(p.owner, b)
	}},
	{name: "wrong Redis type", other: []any{"rpush", "", "value"}, unread: true},
	{name: "other audience", bundle: func(p *poisoner, b identity.Bundle) []byte {
		b.Audience = 10
		return p.sign(p.owner, b)
	}},
}

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
	i := start(t)
	w := newWorld(t, i.url())
	p := &poisoner{world: w, t: t, other: signer(t, 8), impostor: signer(t, 7)}
	unread := 0
	fill := i.admin.Pipeline()
	for n := range values {
		kind, ref := poisons[n%len(poisons)], address(n)
		if kind.unread {
			unread++
		}
		if kind.bundle == nil {
			order := append([]any{}, kind.other...)
			order[1] = entry(ref)
			fill.Do(ctx, order...)
			continue
		}
		fill.Do(ctx, "set", entry(ref), kind.bundle(p, w.bundle(ref, w.poison)))
	}
	if _, err := fill.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	if len(poisons) != 12 || i.tell(t, "dbsize") != int64(values) {
		t.Fatalf("%d kinds, %v values", len(poisons), i.tell(t, "dbsize"))
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
	i := start(t)
	w := newWorld(t, i.url())
	p := &poisoner{world: w, t: t}
	ref := address(1)
	i.tell(t, "set", entry(ref), p.sign(w.owner, w.bundle(ref, w.poison)))
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
