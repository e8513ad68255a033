package keyring_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

// Whatever a store gives back: it loads, and then it is what the id names, or
// it does not.
func FuzzOpenOwn(f *testing.F) {
	v := frozen(f)
	for _, s := range v.Stored {
		f.Add([]byte(s.ID), uint8(s.Type), []byte(s.Bundle), []byte(s.Wrapped), s.NotAfter.UnixMilli())
	}
	f.Add([]byte{}, uint8(0), []byte{1}, []byte{0x12, 0}, int64(0))
	o := v.owner(f, identity.SuiteX25519)
	f.Fuzz(func(t *testing.T, id []byte, kind uint8, bundle, wrapped []byte, notAfter int64) {
		k := keyring.OwnKey{
			Type: identity.KeyType(kind), Bundle: bundle, Wrapped: wrapped,
			NotAfter: time.UnixMilli(notAfter), DeleteAfter: v.Now.Add(time.Hour),
		}
		copy(k.ID[:], id)
		o.store.keys = map[identity.KeyID]keyring.OwnKey{k.ID: k}
		own, err := keyring.OpenOwn(context.Background(), o.config)
		if err != nil {
			return
		}
		u := keyring.Use{ID: k.ID, Type: k.Type, Peer: 9}
		if private, err := own.PrivateFor(u); err == nil && private.Public().ID() != k.ID {
			t.Errorf("key %s is found under id %s", private.Public().ID(), k.ID)
		}
	})
}

// Whatever a cache gives back, or an envelope holds: it is used when it is a
// bundle that the owner signed for this lookup.
func FuzzPeerBundle(f *testing.F) {
	v := frozen(f)
	owner := insecure.Signer(f, 7, v.InsecureIdentity).Public()
	for _, base := range bases(f, v) {
		f.Add([]byte(base.Bundle), base.Name)
	}
	silent := func(keyring.Ref, [32]byte) ([]byte, error) { return nil, context.Canceled }
	f.Fuzz(func(t *testing.T, bundle []byte, of string) {
		if of != "PerAddress" {
			of = "PerVasp"
		}
		s, ref, want := v.lookup(t, refusal{Of: of})
		s.entries[ref], s.answer = bundle, silent
		_, cached := s.peers.Key(context.Background(), ref, owner)
		_, adopted := s.peers.Adopt(context.Background(), ref, bundle, owner)
		if same := bytes.Equal(bundle, want); (cached == nil) != same || (adopted == nil) != same {
			t.Errorf("bundle %x is used: from the cache %v, from an envelope %v", bundle, cached, adopted)
		}
	})
}
