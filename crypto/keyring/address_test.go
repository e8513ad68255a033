package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

const epoch = 30 * 24 * time.Hour

func TestPerAddressKeyIsDerivedForItsRequesterAndScope(t *testing.T) {
	for _, suite := range suites {
		o := newOwner(t)
		o.config.Suite = suite
		own := o.open(t)
		b := perAddress(t, own, 9, 1)
		if b.Type != identity.PerAddress || b.Suite != suite || b.Audience != 9 || b.Scope != [32]byte{1} || b.Nonce != [32]byte{0xaa, 1} ||
			b.Epoch != uint64(o.now().Unix()/(30*24*3600)) || b.NotAfter.Sub(b.NotBefore) != 24*time.Hour {
			t.Errorf("%s: bundle = %+v", suite, b)
		}
		again := perAddress(t, own, 9, 1)
		if again.KeyID != b.KeyID || again.Serial <= b.Serial {
			t.Errorf("%s: asked again: key %s after %s, serial %d after %d", suite, again.KeyID, b.KeyID, again.Serial, b.Serial)
		}
		if restarted := perAddress(t, o.open(t), 9, 1); restarted.KeyID != b.KeyID {
			t.Errorf("%s: a restart changes the key", suite)
		}
		for name, other := range map[string]*identity.Bundle{
			"another requester": perAddress(t, own, 10, 1), "another scope": perAddress(t, own, 9, 2),
		} {
			if other.KeyID == b.KeyID {
				t.Errorf("%s: %s has the same key", suite, name)
			}
		}
		o.advance(epoch)
		if next := perAddress(t, own, 9, 1); next.KeyID == b.KeyID || next.Epoch != b.Epoch+1 {
			t.Errorf("%s: epoch %d after %d, or the same key", suite, next.Epoch, b.Epoch)
		}
	}
}

// Attacks K9, O5: whatever is asked for, and however often, one secret an
// epoch is stored, and every scope has a key.
func TestPerAddressKeysTakeNoRoom(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	for n := range 500 {
		if _, err := own.PerAddress(t.Context(), identity.VASPID(n%7+1), [32]byte{1, byte(n), byte(n >> 8)}, [32]byte{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.store.keys) != 1 || o.store.puts != 1 {
		t.Fatalf("%d keys stored, by %d writes, want one", len(o.store.keys), o.store.puts)
	}
	for id, k := range o.store.keys {
		if k.ID != id || k.Type != identity.PerAddress || len(k.Bundle) != 0 || len(k.Wrapped) > 256 || k.NotAfter.UnixMilli()%epoch.Milliseconds() != 0 ||
			!k.NotAfter.After(o.now()) || !k.DeleteAfter.Equal(k.NotAfter.Add(24*time.Hour+life+skew)) {
			t.Errorf("stored secret = %+v", k)
		}
	}
}

// Who can get no answer without a scope cannot ask for a key of everything,
// or one that passes for a reply key.
func TestPerAddressKeyNeedsRequesterAndScope(t *testing.T) {
	own := newOwner(t).open(t)
	if b, err := own.PerAddress(t.Context(), 9, [32]byte{}, [32]byte{1}); !errors.Is(err, keyring.ErrNoScope) {
		t.Errorf("no scope: PerAddress = %x, %v", b, err)
	}
	if b, err := own.PerAddress(t.Context(), 0, [32]byte{1}, [32]byte{1}); !errors.Is(err, keyring.ErrNoScope) {
		t.Errorf("no requester: PerAddress = %x, %v", b, err)
	}
}

// A key of one epoch opens until the bundles of its last moment are over.
func TestPerAddressKeyOpensInTheNextEpoch(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	end := time.UnixMilli((o.now().UnixMilli()/epoch.Milliseconds() + 1) * epoch.Milliseconds())
	o.advance(end.Add(-time.Millisecond).Sub(o.now()))
	last := perAddress(t, own, 9, 1)
	o.advance(time.Millisecond)
	first := perAddress(t, own, 9, 1)
	if first.Epoch != last.Epoch+1 || len(o.store.keys) != 2 {
		t.Fatalf("epoch %d after %d, %d secrets stored", first.Epoch, last.Epoch, len(o.store.keys))
	}
	o.advance(last.NotAfter.Add(life + skew).Add(-time.Millisecond).Sub(o.now())) // sealed in its last moment, and long on its way
	for name, own := range map[string]*keyring.Own{"running": own, "restarted": o.open(t)} {
		if !o.opens(t, own, last, 9) || !o.opens(t, own, first, 9) {
			t.Errorf("%s: a key of the epoch before or of this one does not open", name)
		}
	}
	o.advance(time.Hour)
	if own = o.open(t); o.opens(t, own, last, 9) || len(o.store.keys) != 1 {
		t.Errorf("the epoch's secret outlives its last bundle; %d stored", len(o.store.keys))
	}
}

// A change of suite leaves what was handed out before.
func TestPerAddressKeyOpensAfterAChangeOfSuite(t *testing.T) {
	o := newOwner(t)
	before := perAddress(t, o.open(t), 9, 1)
	o.config.Suite = identity.SuiteXWing
	own := o.open(t)
	if after := perAddress(t, own, 9, 1); after.Suite != identity.SuiteXWing || !o.opens(t, own, after, 9) {
		t.Errorf("suite %s, or it does not open", after.Suite)
	}
	if !o.opens(t, own, before, 9) {
		t.Error("a key of the suite before does not open")
	}
}

func TestManyRequestersMakeOneEpochSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwner(t)
		own := o.open(t)
		o.store.gate = make(chan struct{})
		keys := make(chan []byte, 50)
		for range cap(keys) {
			go func() {
				b, err := own.PerAddress(t.Context(), 9, [32]byte{1}, [32]byte{})
				if err != nil {
					t.Error(err)
				}
				keys <- b
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := own.PerAddress(ctx, 9, [32]byte{1}, [32]byte{}); !errors.Is(err, context.Canceled) {
			t.Errorf("who gives up waiting got %v", err)
		}
		close(o.store.gate)
		first := parse(t, <-keys).KeyID
		for range cap(keys) - 1 {
			if parse(t, <-keys).KeyID != first {
				t.Fatal("requesters got different keys for one scope")
			}
		}
		if o.store.puts != 1 {
			t.Errorf("%d secrets made, want 1", o.store.puts)
		}
	})
}

// A key whose secret was not stored would be lost in a crash.
func TestEpochSecretIsStoredBeforeItIsUsed(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	o.store.fail = errors.New("disk full")
	if b, err := own.PerAddress(t.Context(), 9, [32]byte{1}, [32]byte{}); !errors.Is(err, o.store.fail) || b != nil {
		t.Errorf("PerAddress = %x, %v", b, err)
	}
	o.store.fail = nil
	b := perAddress(t, own, 9, 1)
	if !o.opens(t, o.open(t), b, 9) {
		t.Error("after a restart the key does not open")
	}
}

// Opening makes no epoch: a peer cannot make us store a secret for an epoch
// of its choice (attack K9).
func TestPrivateForMakesNoEpoch(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	u := keyring.Use{ID: identity.KeyID{1}, Type: identity.PerAddress, Peer: 9, Scope: [32]byte{1}}
	for _, n := range []uint64{0, 1, uint64(o.now().Unix() / (30 * 24 * 3600)), 1 << 63, 1<<64 - 1} {
		u.Epoch = n
		if _, err := own.PrivateFor(u); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("epoch %d: PrivateFor = %v, want ErrUnknownKey", n, err)
		}
	}
	if o.store.puts != 0 {
		t.Errorf("%d secrets were stored", o.store.puts)
	}
}

// Attack S2: a stored secret that was exchanged or relabelled does not load.
func TestSwappedEpochSecretsAreRefused(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	perAddress(t, own, 9, 1)
	o.advance(epoch)
	perAddress(t, own, 9, 1)
	var first, second keyring.OwnKey
	for _, k := range o.store.keys {
		if first.NotAfter.IsZero() || k.NotAfter.Before(first.NotAfter) {
			first, second = k, first
		} else {
			second = k
		}
	}
	other := newOwner(t)
	perAddress(t, other.open(t), 9, 1)
	for name, change := range map[string]func(k *keyring.OwnKey){
		"another epoch's secret": func(k *keyring.OwnKey) { k.Wrapped = first.Wrapped },
		"another epoch's id":     func(k *keyring.OwnKey) { k.ID = first.ID },
		"another epoch's end":    func(k *keyring.OwnKey) { k.NotAfter = first.NotAfter },
		"moved wholly":           func(k *keyring.OwnKey) { k.Wrapped, k.ID = first.Wrapped, first.ID },
		"an end within an epoch": func(k *keyring.OwnKey) { k.NotAfter = k.NotAfter.Add(time.Millisecond) },
		"no end":                 func(k *keyring.OwnKey) { k.NotAfter = time.Time{} },
		"no secret":              func(k *keyring.OwnKey) { k.Wrapped = nil },
		"a flipped bit":          func(k *keyring.OwnKey) { k.Wrapped = bytes.Clone(k.Wrapped); k.Wrapped[20] ^= 1 },
		"a value key": func(k *keyring.OwnKey) {
			k.Wrapped = insecure.Wrap(t, insecure.ValueKey(t, insecure.Seed(1)), o.config.AEAD, epochPlace(k))
		},
		"PerVasp":         func(k *keyring.OwnKey) { k.Type = identity.PerVASP },
		"PerVerification": func(k *keyring.OwnKey) { k.Type = identity.PerVerification },
		"no type":         func(k *keyring.OwnKey) { k.Type = 0 },
	} {
		k := second
		change(&k)
		o.store.keys = map[identity.KeyID]keyring.OwnKey{k.ID: k}
		if _, err := keyring.OpenOwn(t.Context(), o.config); err == nil {
			t.Errorf("%s: OpenOwn succeeds, want an error", name)
		}
	}
	o.store.keys = map[identity.KeyID]keyring.OwnKey{second.ID: second}
	if _, err := keyring.OpenOwn(t.Context(), o.config); err != nil {
		t.Errorf("unchanged: OpenOwn = %v", err)
	}
}

// epochPlace is the associated data of a stored epoch secret (FORMAT.md).
func epochPlace(k *keyring.OwnKey) []byte {
	n := k.NotAfter.UnixMilli()/epoch.Milliseconds() - 1
	return append([]byte("\x00\x1cvasp-enclave/v1/epoch-secret"), 0, 0, 0, 0, 0, 0, byte(n>>8), byte(n))
}
