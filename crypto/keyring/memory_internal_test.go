package keyring

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
)

// nowhere is a store that forgets.
type nowhere struct{}

func (nowhere) OwnKeys(context.Context) ([]OwnKey, error)                { return nil, nil }
func (nowhere) PutOwnKey(context.Context, OwnKey) error                  { return nil }
func (nowhere) DropOwnKeys(_ context.Context, _ ...identity.KeyID) error { return nil }

func openNowhere(t *testing.T, now func() time.Time) *Own {
	t.Helper()
	o, err := OpenOwn(t.Context(), OwnConfig{
		Signer: insecure.Signer(t, 7, insecure.Seed(1)), Store: nowhere{}, AEAD: insecure.AEAD(t, 1),
		Suite: identity.SuiteX25519, Now: now, MaxEnvelopeLife: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Attack K11: private keys that are over are not left in memory either, where
// they are built and where they are kept.
func TestNothingThatIsOverStaysInMemory(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	o := openNowhere(t, func() time.Time { return now })
	single := func() identity.KeyID {
		bundle, err := o.PerVerification(9, [32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		return parsed(t, bundle).KeyID
	}
	reply := func() identity.KeyID {
		k, err := o.NewReplyKey(identity.PerVerification, 9)
		if err != nil {
			t.Fatal(err)
		}
		return k.ID
	}
	derived := func() identity.KeyID {
		bundle, err := o.PerAddress(t.Context(), 9, [32]byte{1}, [32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		b := parsed(t, bundle)
		if _, err := o.PrivateFor(Use{ID: b.KeyID, Type: b.Type, Peer: 9, Scope: b.Scope, Epoch: b.Epoch}); err != nil {
			t.Fatal(err)
		}
		return b.KeyID
	}
	sweep := func(after time.Duration) {
		now = now.Add(after)
		if err := o.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	id := single()
	o.Consume(Use{ID: id, Type: identity.PerVerification, Peer: 9})
	o.mustNotKeep(t, "consumed", id)
	id = reply()
	o.Forget(id)
	o.mustNotKeep(t, "forgotten", id)
	id = single()
	other := reply()
	sweep(48 * time.Hour)
	o.mustNotKeep(t, "single-use key past its end", id)
	o.mustNotKeep(t, "reply key past its end", other)
	id = derived()
	sweep(48 * time.Hour)
	if _, kept := o.recent.get(id); !kept {
		t.Error("a derived key goes before its epoch's secret does")
	}
	sweep(60 * 24 * time.Hour)
	o.mustNotKeep(t, "derived key past its epoch", id)
	if len(o.singles.byID)+o.singles.order.Len()+len(o.singles.perPeer)+len(o.replies)+len(o.epochs)+len(o.recent.byKey) != 0 || len(o.keys) != 1 {
		t.Errorf("left: %d single-use keys, %d of %d peers, %d reply keys, %d epochs, %d built, %d PerVasp", len(o.singles.byID), o.singles.order.Len(),
			len(o.singles.perPeer), len(o.replies), len(o.epochs), len(o.recent.byKey), len(o.keys))
	}
}

func (o *Own) mustNotKeep(t *testing.T, what string, id identity.KeyID) {
	t.Helper()
	if _, kept := o.recent.get(id); kept {
		t.Errorf("%s: still built", what)
	}
	if _, kept := o.singles.byID[id]; kept {
		t.Errorf("%s: its seed is kept", what)
	}
	if _, kept := o.replies[id]; kept {
		t.Errorf("%s: its wrapped key is kept", what)
	}
}

func parsed(t *testing.T, encoded []byte) *identity.Bundle {
	t.Helper()
	b, err := identity.ParseBundle(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// slowAEAD does something else before it decrypts.
type slowAEAD struct {
	identity.AEAD
	first func()
}

func (a *slowAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	a.first()
	return a.AEAD.Decrypt(ciphertext, associatedData)
}

// Nor is one that was forgotten while another caller built it.
func TestKeyForgottenWhileItIsBuiltDoesNotStay(t *testing.T) {
	o := openNowhere(t, func() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) })
	k, err := o.NewReplyKey(identity.PerVerification, 9)
	if err != nil {
		t.Fatal(err)
	}
	o.recent.drop(k.ID)
	o.c.AEAD = &slowAEAD{o.c.AEAD, func() { o.Forget(k.ID) }}
	if _, err := o.PrivateFor(Use{ID: k.ID, Type: k.Type, Peer: 9}); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("PrivateFor = %v, want ErrUnknownKey", err)
	}
	o.mustNotKeep(t, "forgotten while it was built", k.ID)
}
