package envelope

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// What is written now is, byte for byte, the frozen header.
func TestFrozenHeadersAreStillWritten(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Envelopes []struct{ Suite, Header string }
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	for _, in := range v.Envelopes {
		frozen, err := hex.DecodeString(in.Header)
		if err != nil {
			t.Fatal(err)
		}
		h, err := decodeHeader(frozen)
		if err != nil {
			t.Fatalf("%s: %v", in.Suite, err)
		}
		if now := h.encode(); !bytes.Equal(now, frozen) {
			t.Errorf("%s: header is written %x, frozen is %x", in.Suite, now, frozen)
		}
	}
}
