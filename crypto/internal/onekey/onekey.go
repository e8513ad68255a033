// Package onekey makes, wraps and unwraps Tink keysets that hold exactly one
// key.
//
// Tink keysets may hold several keys of several kinds, and readers that try
// them all accept more than was meant (attack K10). Ours hold one enabled key
// of parameters the caller names; anything else does not unwrap.
package onekey

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// maxWrapped bounds what is given to the protobuf reader.
const maxWrapped = 8 << 10

// New makes a keyset of one fresh key.
func New(parameters key.Parameters) (*keyset.Handle, error) {
	m := keyset.NewManager()
	id, err := m.AddNewKeyFromParameters(parameters)
	if err != nil {
		return nil, err
	}
	return finish(m, id)
}

// Of makes a keyset of the given key.
func Of(k key.Key) (*keyset.Handle, error) {
	m := keyset.NewManager()
	id, err := m.AddKey(k)
	if err != nil {
		return nil, err
	}
	return finish(m, id)
}

func finish(m *keyset.Manager, id uint32) (*keyset.Handle, error) {
	if err := m.SetPrimary(id); err != nil {
		return nil, err
	}
	return m.Handle()
}

// Wrap encrypts a keyset under kek, bound to associated data. The key never
// leaves Tink in clear.
func Wrap(h *keyset.Handle, kek tink.AEAD, associatedData []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&b), kek, associatedData); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Unwrap decrypts a keyset that Wrap made and checks that it holds one
// enabled key with the given parameters.
func Unwrap(wrapped []byte, kek tink.AEAD, associatedData []byte, want key.Parameters) (*keyset.Handle, error) {
	if len(wrapped) > maxWrapped {
		return nil, fmt.Errorf("wrapped keyset has %d bytes, at most %d are read", len(wrapped), maxWrapped)
	}
	h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), kek, associatedData)
	if err != nil {
		return nil, errors.New("wrapped keyset does not authenticate")
	}
	k, err := Key(h)
	if err != nil {
		return nil, err
	}
	if !want.Equal(k.Parameters()) {
		return nil, errors.New("wrapped keyset holds a key of another kind")
	}
	return h, nil
}

// Key is the one key of a keyset.
func Key(h *keyset.Handle) (key.Key, error) {
	if h.Len() != 1 {
		return nil, fmt.Errorf("keyset holds %d keys, want one", h.Len())
	}
	e, err := h.Primary()
	if err != nil {
		return nil, err
	}
	if e.KeyStatus() != keyset.Enabled {
		return nil, errors.New("keyset's key is not enabled")
	}
	return e.Key(), nil
}
