package keyring_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

// vectors are testdata/vectors.json: what VASP 7 has stored, derived and
// signed at a moment, so that every version reads, derives and writes the
// same. Their keys are public, and so insecure.
type vectors struct {
	Now              time.Time
	InsecureIdentity insecure.Hex // Ed25519 seed
	InsecureAEAD     insecure.Hex // XAES-256-GCM key that wraps what is stored
	InsecureEpoch    insecure.Hex // HMAC key: the epoch's secret
	Derived          []derivedVector
	Stored           []storedVector
	Bundles          []bundleVector
}

// derivedVector is one PerAddress key, and the bundle that goes to requester 9
// for nonce 0xaa.
type derivedVector struct {
	Suite     string
	Epoch     uint64
	Requester identity.VASPID
	Scope     insecure.Hex
	Seed      insecure.Hex
	PublicKey insecure.Hex
	KeyID     insecure.Hex
	Bundle    insecure.Hex
}

// storedVector is a keyring.OwnKey.
type storedVector struct {
	Name                  string
	ID                    insecure.Hex
	Type                  identity.KeyType
	Bundle, Wrapped       insecure.Hex
	NotAfter, DeleteAfter time.Time
}

// bundleVector is a bundle of a type, as the owner signs it.
type bundleVector struct {
	Name   string
	Bundle insecure.Hex
}

func frozen(t testing.TB) *vectors {
	t.Helper()
	v := new(vectors)
	insecure.Vectors(t, "testdata/vectors.json", v)
	return v
}

// owner is VASP 7 at that moment, with what it had stored.
func (v *vectors) owner(t testing.TB, suite identity.Suite) *owner {
	t.Helper()
	o := newOwner(t)
	o.clock.at = v.Now
	o.config.Signer = insecure.Signer(t, 7, v.InsecureIdentity)
	o.config.AEAD = insecure.AEADOf(t, v.InsecureAEAD)
	o.config.Suite, o.config.ReplyLife = suite, 10*time.Minute
	for _, s := range v.Stored {
		k := keyring.OwnKey{ID: identity.KeyID(s.ID), Type: s.Type, Bundle: s.Bundle, Wrapped: s.Wrapped, NotAfter: s.NotAfter, DeleteAfter: s.DeleteAfter}
		o.store.keys[k.ID] = k
	}
	return o
}

func suiteNamed(t testing.TB, name string) identity.Suite {
	t.Helper()
	suite, err := identity.ParseSuite(name)
	if err != nil {
		t.Fatal(err)
	}
	return suite
}

// The formula of FORMAT.md, with the standard library's HMAC.
func (d *derivedVector) seed(t testing.TB, epoch []byte) []byte {
	t.Helper()
	mac := hmac.New(sha256.New, epoch)
	mac.Write([]byte("\x00\x1bvasp-enclave/v1/address-key"))
	mac.Write([]byte{byte(suiteNamed(t, d.Suite))})
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(d.Requester)))
	mac.Write(d.Scope)
	return mac.Sum(nil)
}

func TestFrozenAddressKeysAreStillDerived(t *testing.T) {
	v := frozen(t)
	seen := map[string]int{}
	for _, d := range v.Derived {
		if seed := d.seed(t, v.InsecureEpoch); !bytes.Equal(seed, d.Seed) {
			t.Errorf("%s for %s: seed = %x", d.Suite, d.Requester, seed)
		}
		private, err := envelope.DeriveKey(suiteNamed(t, d.Suite), d.Seed)
		if err != nil {
			t.Fatal(err)
		}
		id := private.Public().ID()
		if !bytes.Equal(private.Public().Bytes(), d.PublicKey) || !bytes.Equal(id[:], d.KeyID) {
			t.Errorf("%s for %s: the seed gives key %s", d.Suite, d.Requester, id)
		}
		own := v.owner(t, suiteNamed(t, d.Suite)).open(t)
		u := keyring.Use{ID: id, Type: identity.PerAddress, Peer: d.Requester, Scope: [32]byte(d.Scope), Epoch: d.Epoch}
		if found, err := own.PrivateFor(u); err != nil || found.Public().ID() != id {
			t.Errorf("%s for %s: the stored secret does not give the key: %v", d.Suite, d.Requester, err)
		}
		bundle, err := v.owner(t, suiteNamed(t, d.Suite)).open(t).PerAddress(t.Context(), d.Requester, [32]byte(d.Scope), [32]byte{0xaa})
		if err != nil || !bytes.Equal(bundle, d.Bundle) {
			t.Errorf("%s for %s: bundle = %x, %v", d.Suite, d.Requester, bundle, err)
		}
		seen[d.Suite]++
	}
	if seen["x-wing"] < 2 || seen["x25519"] < 2 {
		t.Errorf("vectors by suite: %v, want two at least", seen)
	}
}

// What was stored by any version is taken back by every later one.
func TestFrozenStoredKeysAreStillRead(t *testing.T) {
	v := frozen(t)
	o := v.owner(t, identity.SuiteX25519)
	own := o.open(t)
	found := map[string]bool{}
	for _, s := range v.Stored {
		found[s.Name] = true
		if s.Bundle == nil { // the epoch's secret, of which the derived keys above are
			epoch := binary.BigEndian.AppendUint64([]byte("\x00\x18vasp-enclave/v1/epoch-id"), v.Derived[0].Epoch)
			if id := sha256.Sum256(epoch); !bytes.Equal(s.ID, id[:]) {
				t.Errorf("%s: id is not the hash that FORMAT.md names", s.Name)
			}
			continue
		}
		if b := parse(t, s.Bundle); !o.opens(t, own, b, max(b.Audience, 9)) {
			t.Errorf("%s: what is sealed to it does not open", s.Name)
		}
	}
	for _, want := range []string{"PerVasp x-wing", "PerVasp x25519", "PerAddress reply", "PerVerification reply", "epoch"} {
		if !found[want] {
			t.Errorf("no stored %s among the vectors", want)
		}
	}
}

// What is signed now differs from the frozen bundle of its type in the fresh
// key, the serial and the signature only.
func TestFrozenBundlesAreStillWritten(t *testing.T) {
	v := frozen(t)
	for _, in := range v.Bundles {
		want := parse(t, in.Bundle)
		o := v.owner(t, want.Suite)
		o.store.keys = map[identity.KeyID]keyring.OwnKey{}
		made := issueAs(t, o.open(t), in.Name)
		b := parse(t, made)
		if b.KeyID == want.KeyID {
			t.Errorf("%s: the key is not fresh", in.Name)
		}
		b.PublicKey, b.Serial = want.PublicKey, want.Serial
		if again := sign(t, o.config.Signer, *b); !bytes.Equal(again, in.Bundle) {
			t.Errorf("%s: bundle differs (-frozen +now):\n%s", in.Name, cmp.Diff(want, parse(t, again), cmp.AllowUnexported(identity.Public{})))
		}
	}
	if len(v.Bundles) != 2*len(issued) {
		t.Errorf("%d frozen bundles, want %d", len(v.Bundles), 2*len(issued))
	}
}

var issued = []string{"PerVasp", "PerVerification", "PerAddress reply", "PerVerification reply"}

// issueAs has a bundle signed that is named as in the vectors: a kind of
// issued, and a suite.
func issueAs(t testing.TB, own *keyring.Own, name string) (bundle []byte) {
	t.Helper()
	var err error
	switch i := slices.IndexFunc(issued, func(kind string) bool { return name == kind+" x-wing" || name == kind+" x25519" }); i {
	case 0:
		bundle, err = own.PerVASP(t.Context())
	case 1:
		bundle, err = own.PerVerification(9, [32]byte{0xaa})
	case 2:
		bundle = newReplyKey(t, own, identity.PerAddress, 9).Bundle
	case 3:
		bundle = newReplyKey(t, own, identity.PerVerification, 9).Bundle
	default:
		t.Fatalf("unknown bundle %q", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}
