package atrest

import (
	"testing"
	"time"
)

// Attack S2: even where two databases came to hold the same keys, what one
// sealed does not open in the other.
func TestInstanceIsPartOfThePlace(t *testing.T) {
	a, err := NewKeys([16]byte{1}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var copied []*dataKey
	for _, d := range a.keys {
		copied = append(copied, &dataKey{KeyInfo: d.KeyInfo, handle: d.handle})
	}
	b, err := assemble([16]byte{2}, time.Hour, a.next, copied)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := a.Private().Seal(Place{}, nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Private().Open(Place{}, nil, sealed); err == nil {
		t.Error("a value opens in another database")
	}
	wrapped, err := a.PrivateAEAD().Encrypt([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.PrivateAEAD().Decrypt(wrapped, nil); err == nil {
		t.Error("a wrapped key opens in another database")
	}
}
