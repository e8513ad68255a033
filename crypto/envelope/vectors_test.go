package envelope_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/insecure"
)

// vectors are testdata/vectors.json: frozen envelopes that every version must
// open. Their keys are public, and so insecure. The header is that of
// world.header, with the fields that Seal fills in; the body is body.
type vectors struct {
	InsecureSenderSeed insecure.Hex // of VASP 7's Ed25519 identity
	RecipientIdentity  insecure.Hex
	Envelopes          []envelopeVector
}

type envelopeVector struct {
	Suite           string
	Type            string
	InsecureKeySeed insecure.Hex // of the recipient's key as RFC 9180 serialises it; none when clear
	Header          insecure.Hex
	Envelope        insecure.Hex
	Hash            insecure.Hex
}

func TestFrozenEnvelopesStillOpen(t *testing.T) {
	var v vectors
	insecure.Vectors(t, "testdata/vectors.json", &v)
	if len(v.Envelopes) != 3 {
		t.Fatalf("%d vectors, want both suites and clear", len(v.Envelopes))
	}
	sender := insecure.Signer(t, 7, v.InsecureSenderSeed)
	w := &world{alice: sender, bob: newSigner(t, 9)}
	for _, in := range v.Envelopes {
		e, err := envelope.Parse(in.Envelope)
		if err != nil {
			t.Fatalf("%s: %v", in.Suite, err)
		}
		want := w.header(e.Header.Type)
		want.RecipientIdentity = identity.Fingerprint(v.RecipientIdentity)
		want.SenderIdentity = sender.Public().Fingerprint()
		want.ReplyBundle = identity.HashBundle(body.ReplyBundle)
		want.Commitment = e.Header.Commitment
		var k *envelope.PrivateKey
		if suite, err := identity.ParseSuite(in.Suite); err == nil {
			k = insecure.PrivateKey(t, suite, in.InsecureKeySeed)
			want.Suite, want.Key = suite, k.Public().ID()
		}
		if diff := cmp.Diff(want, e.Header); diff != "" {
			t.Errorf("%s: header differs (-want +got):\n%s", in.Suite, diff)
		}
		if got := takeApart(t, in.Envelope).header(); !cmp.Equal(insecure.Hex(got), in.Header) {
			t.Errorf("%s: header bytes = %x", in.Suite, got)
		}
		if hash := e.Hash(); !cmp.Equal(insecure.Hex(hash[:]), in.Hash) || e.Header.Type.String() != in.Type {
			t.Errorf("%s: Hash = %x, type = %s", in.Suite, hash, e.Header.Type)
		}
		got, err := open(in.Envelope, sender.Public(), k)
		if err != nil || !cmp.Equal(*got, body) {
			t.Errorf("%s: Open = %v, %v", in.Suite, got, err)
		}
	}
}

func TestStandardLibraryOpensFrozenEnvelopes(t *testing.T) {
	var v vectors
	insecure.Vectors(t, "testdata/vectors.json", &v)
	for _, in := range v.Envelopes {
		suite, err := identity.ParseSuite(in.Suite)
		if err != nil {
			continue // clear
		}
		private, err := kem(suite).NewPrivateKey(in.InsecureKeySeed)
		if err != nil {
			t.Fatal(err)
		}
		checkWithStandardLibrary(t, in.Envelope, private)
	}
}
