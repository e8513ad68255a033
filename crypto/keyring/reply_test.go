package keyring_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

var replyTypes = []identity.KeyType{identity.PerAddress, identity.PerVerification}

func TestReplyKeyIsFreshAndForOnePeer(t *testing.T) {
	for _, suite := range suites {
		for _, kind := range replyTypes {
			o := newOwner(t)
			o.config.Suite, o.config.ReplyLife = suite, 10*time.Minute
			own := o.open(t)
			k, other := newReplyKey(t, own, kind, 9), newReplyKey(t, own, kind, 9)
			b := parse(t, k.Bundle)
			if b.Type != kind || b.Suite != suite || b.Audience != 9 || b.Scope != [32]byte{} || b.Epoch != 0 || b.Nonce != [32]byte{} ||
				b.NotAfter.Sub(b.NotBefore) != 10*time.Minute+skew {
				t.Errorf("%s %s: bundle = %+v", suite, kind, b)
			}
			if k.ID != b.KeyID || k.Type != kind || !k.NotAfter.Equal(b.NotAfter) || !k.DeleteAfter.Equal(b.NotAfter.Add(life+skew)) {
				t.Errorf("%s %s: to be stored = %v, %v", suite, kind, k.NotAfter, k.DeleteAfter)
			}
			if other.ID == k.ID || o.store.puts != 0 {
				t.Errorf("%s %s: two keys are one, or %d were stored here", suite, kind, o.store.puts)
			}
			if !o.opens(t, own, b, 9) {
				t.Errorf("%s %s: the answer does not open", suite, kind)
			}
		}
	}
}

// What a peer makes of a reply key: it is adopted by the one it is for.
func TestReplyKeyIsAdopted(t *testing.T) {
	for _, kind := range replyTypes {
		s := newSeeker(t)
		o := newOwner(t)
		o.clock, o.config.Now, o.config.Signer = s.clock, s.now, s.owner
		own := o.open(t)
		ref := keyring.Ref{VASP: 7, Type: kind}
		if _, err := s.peers.Adopt(t.Context(), ref, newReplyKey(t, own, kind, 9).Bundle, s.owner.Public()); err != nil {
			t.Errorf("%s: Adopt = %v", kind, err)
		}
		if _, err := s.peers.Adopt(t.Context(), ref, newReplyKey(t, own, kind, 10).Bundle, s.owner.Public()); reason(err) != keyring.OtherAudience {
			t.Errorf("%s for another: Adopt = %v, want %s", kind, err, keyring.OtherAudience)
		}
		// Attack K2: a key of that type which was handed out for requests is none for replies.
		if _, err := s.peers.Adopt(t.Context(), ref, mustPerAddress(t, own), s.owner.Public()); reason(err) == "" {
			t.Errorf("%s: a derived key was adopted", kind)
		}
	}
}

func mustPerAddress(t *testing.T, own *keyring.Own) []byte {
	t.Helper()
	b, err := own.PerAddress(t.Context(), 9, [32]byte{1}, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The caller stores it with the question; after a restart the answer opens,
// until the question is settled.
func TestStoredReplyKeyOutlivesARestart(t *testing.T) {
	for _, suite := range suites {
		for _, kind := range replyTypes {
			o := newOwner(t)
			o.config.Suite = suite
			k := newReplyKey(t, o.open(t), kind, 9)
			b := parse(t, k.Bundle)
			if o.opens(t, o.open(t), b, 9) {
				t.Errorf("%s %s: opens after a restart without having been stored", suite, kind)
			}
			o.store.keys[k.ID] = k
			own := o.open(t)
			if !o.opens(t, own, b, 9) || o.opens(t, own, b, 10) {
				t.Errorf("%s %s: after a restart the answer does not open, or another's does", suite, kind)
			}
			if next := newReplyKey(t, own, kind, 9); parse(t, next.Bundle).Serial <= b.Serial {
				t.Errorf("%s %s: the serial fell in a restart", suite, kind)
			}
			own.Forget(k.ID, identity.KeyID{1})
			if o.opens(t, own, b, 9) {
				t.Errorf("%s %s: a forgotten key opens", suite, kind)
			}
		}
	}
}

// A question that was never settled leaves no key for ever (attack K11).
func TestReplyKeysPastTheirEndAreDropped(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	k := newReplyKey(t, own, identity.PerVerification, 9)
	if k.NotAfter.Sub(o.now()) != 24*time.Hour+skew {
		t.Errorf("without ReplyLife a reply key is valid for %v", k.NotAfter.Sub(o.now()))
	}
	o.store.keys[k.ID] = k
	o.advance(24*time.Hour + skew + life + skew)
	if err := own.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, stored := o.store.keys[k.ID]; stored {
		t.Error("Sweep leaves an ended reply key in the store")
	}
	o.store.keys[k.ID] = k
	if o.open(t); len(o.store.keys) != 1 { // the PerVasp key that Sweep made
		t.Errorf("OpenOwn leaves an ended reply key in the store: %d keys", len(o.store.keys))
	}
}

func TestReplyKeysAreOfDirectedTypesOnly(t *testing.T) {
	own := newOwner(t).open(t)
	for _, kind := range []identity.KeyType{0, identity.PerVASP, 4} {
		if k, err := own.NewReplyKey(kind, 9); err == nil {
			t.Errorf("%s: NewReplyKey = %s", kind, k.ID)
		}
	}
	if k, err := own.NewReplyKey(identity.PerVerification, 0); err == nil {
		t.Errorf("for nobody: NewReplyKey = %s", k.ID)
	}
}

// Attack S2: stored reply keys whose parts were swapped do not load, or do
// not open.
func TestSwappedReplyKeysAreRefused(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	good, other := newReplyKey(t, own, identity.PerVerification, 9), newReplyKey(t, own, identity.PerVerification, 9)
	derived := mustPerAddress(t, own)
	for name, change := range map[string]func(k *keyring.OwnKey){
		"another bundle": func(k *keyring.OwnKey) { k.Bundle = other.Bundle },
		"another id":     func(k *keyring.OwnKey) { k.ID = other.ID },
		"another type":   func(k *keyring.OwnKey) { k.Type = identity.PerAddress },
		"PerVasp":        func(k *keyring.OwnKey) { k.Type = identity.PerVASP },
		"no bundle":      func(k *keyring.OwnKey) { k.Bundle = nil },
		"epoch secret":   func(k *keyring.OwnKey) { k.Type, k.Bundle = identity.PerAddress, nil },
		"derived key": func(k *keyring.OwnKey) {
			k.Type, k.Bundle, k.ID = identity.PerAddress, derived, parse(t, derived).KeyID
		},
		"for everybody": func(k *keyring.OwnKey) {
			b := parse(t, k.Bundle)
			b.Audience = 0
			k.Bundle = sign(t, o.config.Signer, *b)
		},
		"another VASP's": func(k *keyring.OwnKey) { k.Bundle = sign(t, newSigner(t, 8), *parse(t, k.Bundle)) },
	} {
		k := good
		change(&k)
		o.store.keys = map[identity.KeyID]keyring.OwnKey{k.ID: k}
		if _, err := keyring.OpenOwn(t.Context(), o.config); err == nil {
			t.Errorf("%s: OpenOwn succeeds, want an error", name)
		}
	}
	for name, wrapped := range map[string][]byte{"another private part": other.Wrapped, "no private part": nil, "wrapped as PerVasp": wrapAs(t, o, good.ID)} {
		k := good
		k.Wrapped = wrapped
		o.store.keys = map[identity.KeyID]keyring.OwnKey{k.ID: k}
		private, err := o.open(t).PrivateFor(useOf(parse(t, k.Bundle), 9))
		if err == nil || errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("%s: PrivateFor = %v, %v, want the error of unwrapping", name, private, err)
		}
	}
}

func wrapAs(t *testing.T, o *owner, id identity.KeyID) []byte {
	t.Helper()
	k, err := envelope.GenerateKey(identity.SuiteX25519)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := k.Wrap(o.config.AEAD, append([]byte("\x00\x17vasp-enclave/v1/own-key\x01"), id[:]...))
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// Forget leaves what is not a reply key alone.
func TestForgetTakesReplyKeysOnly(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	for name, b := range handedOut(t, own) {
		own.Forget(b.KeyID)
		if opens, reply := o.opens(t, own, b, 9), b.Audience != 0 && b.Nonce == [32]byte{}; opens == reply {
			t.Errorf("%s: after Forget it opens = %t", name, opens)
		}
	}
}

// Under another identity of ours a reply key is promised anew: the same key,
// for the same peer and time, opened by the same private key, over a restart
// too. What the identity signed already stays as it is.
func TestReissuedReplyKeyIsTheSameKey(t *testing.T) {
	for _, kind := range replyTypes {
		o := newOwner(t)
		own := o.open(t)
		k := newReplyKey(t, own, kind, 9)
		o.store.keys[k.ID] = k
		if same, err := own.Reissue(k.Bundle); err != nil || !bytes.Equal(same, k.Bundle) {
			t.Errorf("%s: under the same identity Reissue gives another bundle, %v", kind, err)
		}
		o.config.Signer = newSigner(t, 7)
		if err := own.Resign(t.Context(), o.config.Signer); err != nil {
			t.Fatal(err)
		}
		for when, own := range map[string]*keyring.Own{"at once": own, "after a restart": o.open(t)} {
			encoded, err := own.Reissue(k.Bundle)
			if err != nil {
				t.Fatalf("%s %s: %v", kind, when, err)
			}
			before, b := parse(t, k.Bundle), parse(t, encoded)
			if b.Identity.Fingerprint() != o.config.Signer.Public().Fingerprint() || b.Serial <= before.Serial {
				t.Errorf("%s %s: signed by %s, serial %d after %d", kind, when, b.Identity.Fingerprint(), b.Serial, before.Serial)
			}
			if !o.opens(t, own, b, 9) || o.opens(t, own, b, 10) {
				t.Errorf("%s %s: the answer does not open, or another's does", kind, when)
			}
			b.Identity, b.Serial = before.Identity, before.Serial
			if !reflect.DeepEqual(b, before) {
				t.Errorf("%s %s: other promises: %+v, before %+v", kind, when, b, before)
			}
		}
	}
}

// Nothing is signed for a key that is not a reply key of ours, to whom it was
// promised.
func TestOnlyReplyKeysOfOursAreReissued(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	k, forgotten := newReplyKey(t, own, identity.PerAddress, 9), newReplyKey(t, own, identity.PerAddress, 9)
	own.Forget(forgotten.ID)
	former := o.config.Signer
	bundles := map[string][]byte{
		"forgotten": forgotten.Bundle, "derived": mustPerAddress(t, own),
		"for another peer": sign(t, former, func() identity.Bundle { b := *parse(t, k.Bundle); b.Audience = 10; return b }()),
	}
	if err := own.Resign(t.Context(), newSigner(t, 7)); err != nil {
		t.Fatal(err)
	}
	for name, bundle := range bundles {
		if _, err := own.Reissue(bundle); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("%s: Reissue = %v, want %v", name, err, keyring.ErrUnknownKey)
		}
	}
	if _, err := own.Reissue([]byte("bundle")); err == nil {
		t.Error("no bundle is reissued")
	}
}
