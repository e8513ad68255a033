package envelope

import (
	"bytes"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

func FuzzDecodeHeader(f *testing.F) {
	h := Header{
		Suite: identity.SuiteXWing, Type: AccountRequest, Direction: ToBeneficiary, Network: "n", Sender: 1, Recipient: 2,
		SenderIdentity: identity.Fingerprint{1}, Key: identity.KeyID{2}, KeyType: identity.PerVASP,
		Created: time.UnixMilli(1).UTC(), Expires: time.UnixMilli(2).UTC(),
	}
	f.Add(h.encode())
	h.Suite, h.Type, h.Key, h.KeyType = identity.SuiteClear, KeyRequest, identity.KeyID{}, 0
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		if again := h.encode(); !bytes.Equal(again, b) {
			t.Errorf("%x is written again as %x", b, again)
		}
		if len(b) > maxHeader {
			t.Errorf("header of %d bytes, maxHeader is %d", len(b), maxHeader)
		}
	})
}

func FuzzDecodeBody(f *testing.F) {
	for _, padded := range []bool{true, false} {
		b, err := encodeBody(salt{1}, Body{Sequence: 1, ReplyBundle: []byte("bundle"), Payload: []byte("payload")}, padded)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, padded)
	}
	f.Fuzz(func(t *testing.T, in []byte, padded bool) {
		s, b, err := decodeBody(in, padded)
		if err != nil {
			return
		}
		if again, err := encodeBody(s, b, padded); err != nil || !bytes.Equal(again, in) {
			t.Errorf("%x is written again as %x, %v", in, again, err)
		}
	})
}
