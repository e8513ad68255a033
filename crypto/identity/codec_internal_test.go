package identity

import (
	"bytes"
	"testing"
	"time"
)

// The signature hides the decoders from a fuzzer, so these meet them bare.

func FuzzDecodeBundle(f *testing.F) {
	s, err := NewSigner(7)
	if err != nil {
		f.Fatal(err)
	}
	for _, suite := range []Suite{SuiteXWing, SuiteX25519} {
		b, err := s.SignBundle(Bundle{
			Suite: suite, PublicKey: make([]byte, suite.PublicKeySize()), Type: PerVASP, Serial: 1,
			NotBefore: time.UnixMilli(1), NotAfter: time.UnixMilli(2), Suites: []Suite{suite},
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b, body, _, err := decodeBundle(in)
		if err != nil || b.check() != nil {
			return
		}
		if again := b.encode(); !bytes.Equal(again, body) {
			t.Errorf("%x is written again as %x", body, again)
		}
	})
}

func FuzzDecodeStatement(f *testing.F) {
	s, err := NewSigner(7)
	if err != nil {
		f.Fatal(err)
	}
	chain, err := NewChain(s, time.UnixMilli(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chain[7:])
	f.Fuzz(func(t *testing.T, in []byte) {
		st, body, _, _, err := decodeStatement(in)
		if err != nil {
			return
		}
		if again := st.encode(); !bytes.Equal(again, body) {
			t.Errorf("%x is written again as %x", body, again)
		}
	})
}
