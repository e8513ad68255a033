package proxy

import (
	"encoding/binary"
	"errors"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// A verification whose key type is not PerVasp gets a reply key of its own,
// stored in the transaction that accepts it and deleted in the one that ends
// it, so that the answer opens after a crash and never again after its end.

// request is what waits in the outbox for the beneficiary: the payload, and
// the bundle of the reply key unless that is our PerVasp key.
type request struct {
	replyBundle []byte
	payload     []byte
}

// withReplyKey begins a body that has a reply bundle; a payload is a JSON
// object and begins otherwise.
const withReplyKey = 0x01

// encode writes the payload as it is, or 0x01, the bundle's length as u32 big
// endian, the bundle and the payload.
func (r request) encode() []byte {
	if r.replyBundle == nil {
		return r.payload
	}
	b := make([]byte, 0, 1+4+len(r.replyBundle)+len(r.payload))
	b = append(b, withReplyKey)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.replyBundle)))
	b = append(b, r.replyBundle...)
	return append(b, r.payload...)
}

func decodeRequest(body []byte) (request, error) {
	if len(body) == 0 || body[0] != withReplyKey {
		return request{payload: body}, nil
	}
	if len(body) < 5 || uint64(len(body)-5) < uint64(binary.BigEndian.Uint32(body[1:])) {
		return request{}, errors.New("the reply key is cut off")
	}
	end := 5 + int(binary.BigEndian.Uint32(body[1:]))
	return request{body[5:end], body[end:]}, nil
}

// storedReplyKey makes the reply key of a verification; none for PerVasp,
// whose answers come to our PerVasp key.
func (e *Enclave) storedReplyKey(t identity.KeyType, peer identity.VASPID) (keyring.OwnKey, error) {
	if t == identity.PerVASP {
		return keyring.OwnKey{}, nil
	}
	return e.Own.NewReplyKey(t, peer)
}

// replyKeysOf are the keys that end with an outbox entry.
func replyKeysOf(entry *storage.OutboxEntry) []identity.KeyID {
	r, err := decodeRequest(entry.Body)
	if err != nil || r.replyBundle == nil {
		return nil
	}
	b, err := identity.ParseBundle(r.replyBundle)
	if err != nil {
		return nil
	}
	return []identity.KeyID{b.KeyID}
}
