package keyring_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

var suites = []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}

// parse reads a bundle of ours.
func parse(t testing.TB, encoded []byte) *identity.Bundle {
	t.Helper()
	b, err := identity.ParseBundle(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func perAddress(t testing.TB, own *keyring.Own, requester identity.VASPID, scope byte) *identity.Bundle {
	t.Helper()
	encoded, err := own.PerAddress(t.Context(), requester, [32]byte{scope}, [32]byte{0xaa, scope})
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, encoded)
}

func perVerification(t testing.TB, own *keyring.Own, requester identity.VASPID) *identity.Bundle {
	t.Helper()
	encoded, err := own.PerVerification(requester, [32]byte{0xbb})
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, encoded)
}

func newReplyKey(t testing.TB, own *keyring.Own, kind identity.KeyType, peer identity.VASPID) keyring.OwnKey {
	t.Helper()
	k, err := own.NewReplyKey(kind, peer)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// useOf is the use that a peer makes of the key it got in a bundle.
func useOf(b *identity.Bundle, peer identity.VASPID) keyring.Use {
	return keyring.Use{ID: b.KeyID, Type: b.Type, Peer: peer, Scope: b.Scope, Epoch: b.Epoch}
}

// opens says whether what a peer sealed to a bundle's key opens with the key
// that the owner finds for it. Any other failure than a missing key is an
// error of the test.
func (o *owner) opens(t testing.TB, own *keyring.Own, b *identity.Bundle, peer identity.VASPID) bool {
	t.Helper()
	signer := newSigner(t, peer)
	to, err := envelope.ParsePublicKey(b.Suite, b.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := envelope.Seal(signer, to, envelope.Header{
		Type: envelope.AccountRequest, Direction: envelope.ToBeneficiary, Network: "test", Sender: peer, Recipient: 7,
		Serial: b.Serial, KeyType: b.Type, Scope: b.Scope, Epoch: b.Epoch, Created: o.now(), Expires: o.now().Add(time.Minute),
	}, envelope.Body{Payload: []byte("payload")})
	if err != nil {
		t.Fatal(err)
	}
	e, err := envelope.Parse(sealed)
	if err != nil {
		t.Fatal(err)
	}
	a, err := e.Authenticate(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	private, err := own.PrivateFor(keyring.UseOf(&a.Header))
	if errors.Is(err, keyring.ErrUnknownKey) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	body, err := a.Open(private)
	if err != nil || !bytes.Equal(body.Payload, []byte("payload")) {
		t.Fatalf("%s: Open = %v, %v", b.Type, body, err)
	}
	return true
}

// handedOut is one key of every kind that peer 9 can hold, by name.
func handedOut(t testing.TB, own *keyring.Own) map[string]*identity.Bundle {
	t.Helper()
	return map[string]*identity.Bundle{
		"PerVasp":               perVASP(t, own),
		"PerAddress":            perAddress(t, own, 9, 1),
		"PerVerification":       perVerification(t, own, 9),
		"PerAddress reply":      parse(t, newReplyKey(t, own, identity.PerAddress, 9).Bundle),
		"PerVerification reply": parse(t, newReplyKey(t, own, identity.PerVerification, 9).Bundle),
	}
}

func TestKeysOfEveryTypeOpen(t *testing.T) {
	for _, suite := range suites {
		o := newOwner(t)
		o.config.Suite = suite
		own := o.open(t)
		ids := map[identity.KeyID]bool{}
		serials := map[uint64]bool{}
		for name, b := range handedOut(t, own) {
			if !o.opens(t, own, b, 9) {
				t.Errorf("%s %s: what was sealed to it does not open", suite, name)
			}
			if b.Suite != suite || b.VASP != 7 || !b.NotBefore.Equal(o.now()) {
				t.Errorf("%s %s: bundle = %+v", suite, name, b)
			}
			ids[b.KeyID], serials[b.Serial] = true, true
		}
		if len(ids) != 5 || len(serials) != 5 {
			t.Errorf("%s: 5 keys have %d ids and %d serials", suite, len(ids), len(serials))
		}
	}
}

// Attacks K4, K5: a key opens for the use it was made for and no other. The
// first use is the right one, so that the key is at hand when the wrong ones
// come.
func TestKeysServeTheirUseOnly(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	for name, b := range handedOut(t, own) {
		good := useOf(b, 9)
		if _, err := own.PrivateFor(good); err != nil {
			t.Fatalf("%s: PrivateFor = %v", name, err)
		}
		for what, change := range map[string]func(u *keyring.Use){
			"other id":        func(u *keyring.Use) { u.ID[0] ^= 1 },
			"other peer":      func(u *keyring.Use) { u.Peer = 10 },
			"nobody":          func(u *keyring.Use) { u.Peer = 0 },
			"other scope":     func(u *keyring.Use) { u.Scope[31] ^= 1 },
			"no scope":        func(u *keyring.Use) { u.Scope = [32]byte{} },
			"next epoch":      func(u *keyring.Use) { u.Epoch++ },
			"epoch before":    func(u *keyring.Use) { u.Epoch-- },
			"PerVasp":         func(u *keyring.Use) { u.Type = identity.PerVASP },
			"PerAddress":      func(u *keyring.Use) { u.Type = identity.PerAddress },
			"PerVerification": func(u *keyring.Use) { u.Type = identity.PerVerification },
			"no type":         func(u *keyring.Use) { u.Type = 0 },
			"unknown type":    func(u *keyring.Use) { u.Type = 4 },
		} {
			u := good
			change(&u)
			same := u == good || b.Type == identity.PerVASP && u.Peer != 9 // made for everybody
			if k, err := own.PrivateFor(u); same != (err == nil) || !same && !errors.Is(err, keyring.ErrUnknownKey) {
				t.Errorf("%s used with %s: PrivateFor = %v, %v", name, what, k, err)
			}
		}
		if _, err := own.PrivateFor(good); err != nil {
			t.Errorf("%s: after wrong uses the right one fails: %v", name, err)
		}
	}
}

// Private is for PerVasp keys: it asks for no use, so it gives no other.
func TestPrivateGivesNoOtherType(t *testing.T) {
	own := newOwner(t).open(t)
	for name, b := range handedOut(t, own) {
		if _, err := own.Private(b.KeyID); (err == nil) != (b.Type == identity.PerVASP) {
			t.Errorf("%s: Private = %v", name, err)
		}
	}
}

// Attack K11: every private key has an end, in memory and in the store.
func TestKeysOfEveryTypeEnd(t *testing.T) {
	for _, sweep := range []bool{false, true} {
		o := newOwner(t)
		o.config.ReplyLife = 10 * time.Minute
		own := o.open(t)
		bundles := handedOut(t, own)
		const tail = life + skew
		epochEnd := time.UnixMilli(int64(bundles["PerAddress"].Epoch+1) * 30 * 24 * 3600 * 1000)
		ends := map[string]time.Time{
			"PerVasp":               o.now().Add(24*time.Hour + tail),
			"PerAddress":            epochEnd.Add(24*time.Hour + tail),
			"PerVerification":       o.now().Add(15*time.Minute + tail),
			"PerAddress reply":      o.now().Add(10*time.Minute + skew + tail),
			"PerVerification reply": o.now().Add(10*time.Minute + skew + tail),
		}
		for _, end := range slices.CompactFunc(slices.SortedFunc(maps.Values(ends), time.Time.Compare), time.Time.Equal) {
			o.advance(end.Add(-time.Millisecond).Sub(o.now()))
			for range 2 { // just before the end, and at it
				for name, b := range bundles {
					if over := !o.now().Before(ends[name]); o.opens(t, own, b, 9) == over {
						t.Errorf("%v from the end of %s: it opens = %t (Sweep %t)", ends[name].Sub(o.now()), name, over, sweep)
					}
				}
				o.advance(time.Millisecond)
				if !sweep {
					continue
				}
				if err := own.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// Attack K11: what could not be deleted from the store is tried again.
func TestSweepTriesAgainWhatTheStoreKept(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	perAddress(t, own, 9, 1)
	o.advance(100 * 24 * time.Hour)
	perVASP(t, own) // so that Sweep has only the old one to drop
	o.store.fail = errors.New("disk full")
	if err := own.Sweep(t.Context()); !errors.Is(err, o.store.fail) {
		t.Errorf("Sweep = %v, want %v", err, o.store.fail)
	}
	o.store.fail = nil
	kept := o.store.dropped
	if err := own.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(o.store.keys) != 1 || o.store.dropped <= kept {
		t.Errorf("%d keys in the store, %d deletions after %d", len(o.store.keys), o.store.dropped, kept)
	}
	again := o.store.dropped
	if err := own.Sweep(t.Context()); err != nil || o.store.dropped != again {
		t.Errorf("a key that is gone is deleted again (%v)", err)
	}
}

// Invariant: a key that is consumed while it is built again is not given, and
// not kept.
func TestKeyThatEndsWhileItIsBuiltIsGone(t *testing.T) {
	o := newOwner(t)
	var own *keyring.Own
	readings, end := 0, func() {}
	o.config.Now = func() time.Time {
		if readings++; readings == 2 { // when the key is built, and looked for again
			end()
		}
		return o.now()
	}
	own = o.open(t)
	for name, c := range map[string]struct {
		bundle *identity.Bundle
		end    func(b *identity.Bundle)
	}{
		"consumed":  {perVerification(t, own, 9), func(b *identity.Bundle) { own.Consume(useOf(b, 9)) }},
		"forgotten": {parse(t, newReplyKey(t, own, identity.PerAddress, 9).Bundle), func(b *identity.Bundle) { own.Forget(b.KeyID) }},
	} {
		for range 256 { // until it is kept built no more
			newReplyKey(t, own, identity.PerAddress, 9)
		}
		readings, end = 0, func() { c.end(c.bundle) }
		for range 2 {
			if _, err := own.PrivateFor(useOf(c.bundle, 9)); !errors.Is(err, keyring.ErrUnknownKey) {
				t.Errorf("%s: PrivateFor = %v, want ErrUnknownKey", name, err)
			}
		}
		if readings < 2 {
			t.Errorf("%s: the key was not looked for again", name)
		}
	}
}

// More keys than are kept built open all the same.
func TestKeysBeyondThoseKeptBuiltOpen(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	var bundles []*identity.Bundle
	for n := range 300 {
		switch n % 3 {
		case 0:
			bundles = append(bundles, perVerification(t, own, 9))
		case 1:
			bundles = append(bundles, parse(t, newReplyKey(t, own, identity.PerVerification, 9).Bundle))
		default:
			bundles = append(bundles, perAddress(t, own, 9, byte(n)))
		}
	}
	for n, b := range bundles {
		if !o.opens(t, own, b, 9) {
			t.Fatalf("key %d of %d, %s, does not open", n, len(bundles), b.Type)
		}
	}
}

// Everything at once, for the race detector.
func TestOwnKeysAreSafeForConcurrentUse(t *testing.T) {
	o := newOwner(t)
	own := o.open(t)
	var workers sync.WaitGroup
	for n := range 8 {
		workers.Go(func() {
			peer := identity.VASPID(n + 1)
			for range 5 {
				for name, b := range map[string]*identity.Bundle{
					"PerVasp": perVASP(t, own), "PerAddress": perAddress(t, own, peer, 1), "PerVerification": perVerification(t, own, peer),
					"reply": parse(t, newReplyKey(t, own, identity.PerVerification, peer).Bundle),
				} {
					if !o.opens(t, own, b, peer) {
						t.Errorf("%s does not open", name)
					}
					own.Consume(useOf(b, peer))
					own.Forget(b.KeyID)
				}
				if err := own.Sweep(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
}

// BenchmarkKeys is what handing out one key costs, with the test's parsing of its
// bundle, and finding one that is kept built.
func BenchmarkKeys(b *testing.B) {
	for _, suite := range suites {
		o := newOwner(b)
		o.config.Suite = suite
		own := o.open(b)
		first := perAddress(b, own, 9, 1)
		for name, do := range map[string]func(n int){
			"PerAddress":      func(n int) { perAddress(b, own, 9, byte(n)|1) },
			"PerVerification": func(int) { own.Consume(useOf(perVerification(b, own, 9), 9)) },
			"reply":           func(int) { own.Forget(newReplyKey(b, own, identity.PerVerification, 9).ID) },
			"find":            func(int) { _, _ = own.PrivateFor(useOf(first, 9)) },
		} {
			b.Run(fmt.Sprintf("%s/%s", name, suite), func(b *testing.B) {
				for n := 0; b.Loop(); n++ {
					do(n)
				}
			})
		}
	}
}
