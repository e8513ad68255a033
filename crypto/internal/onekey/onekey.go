// Package onekey makes, wraps and unwraps Tink keysets that hold exactly one
// key.
//
// Tink keysets may hold several keys of several kinds, and readers that try
// them all accept more than was meant (attack K10). Ours hold one enabled key
// of parameters the caller names; anything else does not unwrap.
package onekey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

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
	if !canonical(wrapped) {
		return nil, errors.New("wrapped keyset is not in the one form that Wrap writes")
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

// canonical says whether a wrapped keyset is what Wrap writes: the protobuf
// message EncryptedKeyset with its field 2, the ciphertext, and nothing else.
// Protobuf would read more, and ignore it.
func canonical(wrapped []byte) bool {
	if len(wrapped) == 0 || wrapped[0] != 2<<3|2 {
		return false
	}
	n, width := binary.Uvarint(wrapped[1:])
	return width > 0 && width == len(binary.AppendUvarint(nil, n)) && n == uint64(len(wrapped)-1-width)
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
