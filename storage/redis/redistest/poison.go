package redistest

import (
	"bytes"
	"context"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Poisoner has what an attacker who owns Redis may have: bundles that others
// signed, old ones and ones for others, and the identity of another VASP.
type Poisoner struct {
	Owner    *identity.Signer // the VASP whose key is looked for
	Other    *identity.Signer // another VASP
	Impostor *identity.Signer // with the owner's id, and another key
}

// Poison is one way to put something else into a place than what belongs
// there. A key in it, if it has one, is the attacker's choice.
type Poison struct {
	Name   string
	Unread bool // the cache itself refuses it; what it lets through the keyring must

	// bundle makes the n-th value out of a good one; nil: a list is put
	// there, which is no value at all.
	bundle func(t testing.TB, p Poisoner, b identity.Bundle, n int) []byte
}

// Poisons are the kinds of attack K6. All but "other scope" can be made for a
// PerVasp key too, which has no scope.
var Poisons = []Poison{
	{Name: "garbage", bundle: func(testing.TB, Poisoner, identity.Bundle, int) []byte {
		return bytes.Repeat([]byte("garbage"), 40)
	}},
	{Name: "empty", Unread: true, bundle: func(testing.TB, Poisoner, identity.Bundle, int) []byte { return []byte{} }},
	{Name: "other VASP's", bundle: func(t testing.TB, p Poisoner, b identity.Bundle, _ int) []byte { return Sign(t, p.Other, b) }},
	{Name: "other identity", bundle: func(t testing.TB, p Poisoner, b identity.Bundle, _ int) []byte {
		return Sign(t, p.Impostor, b)
	}},
	{Name: "expired", bundle: func(t testing.TB, p Poisoner, b identity.Bundle, _ int) []byte {
		b.NotBefore, b.NotAfter = b.NotBefore.Add(-24*time.Hour), b.NotBefore.Add(-time.Millisecond)
		return Sign(t, p.Owner, b)
	}},
	{Name: "truncated", bundle: func(t testing.TB, p Poisoner, b identity.Bundle, n int) []byte {
		e := Sign(t, p.Owner, b)
		return e[:len(e)-1-n%100]
	}},
	{Name: "bit flipped", bundle: func(t testing.TB, p Poisoner, b identity.Bundle, n int) []byte {
		e := Sign(t, p.Owner, b)
		bit := n % (8 * len(e))
		e[bit/8] ^= 1 << (bit % 8)
		return e
	}},
	{Name: "oversized", Unread: true, bundle: func(t testing.TB, p Poisoner, b identity.Bundle, n int) []byte {
		long := identity.MaxBundle
		if n%4 == 0 {
			long = 64 << 10 // so long that it costs a connection
		}
		return append(Sign(t, p.Owner, b), make([]byte, long)...)
	}},
	{Name: "other type", bundle: func(t testing.TB, p Poisoner, b identity.Bundle, _ int) []byte {
		if b.Type == identity.PerVASP {
			b.Type = identity.PerAddress
		} else {
			b.Type, b.Scope, b.Audience = identity.PerVASP, [32]byte{}, 0
		}
		return Sign(t, p.Owner, b)
	}},
	{Name: "other scope", bundle: func(t testing.TB, p Poisoner, b identity.Bundle, _ int) []byte {
		b.Scope[31]++
		return Sign(t, p.Owner, b)
	}},
	{Name: "wrong Redis type", Unread: true},
	{Name: "other audience", bundle: func(t testing.TB, p Poisoner, b identity.Bundle, _ int) []byte {
		b.Audience = 10
		return Sign(t, p.Owner, b)
	}},
}

// Put puts the n-th poisoned value of this kind into an entry, whatever was
// there; good is the bundle to make it of.
func (k Poison) Put(t testing.TB, to goredis.Cmdable, entry string, p Poisoner, good identity.Bundle, n int) {
	t.Helper()
	ctx := context.Background()
	if k.bundle == nil {
		to.Del(ctx, entry)
		to.RPush(ctx, entry, "value")
		return
	}
	to.Set(ctx, entry, k.bundle(t, p, good, n), 0)
}

// Sign signs a bundle as its owner or somebody else would.
func Sign(t testing.TB, s *identity.Signer, b identity.Bundle) []byte {
	t.Helper()
	encoded, err := s.SignBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}
