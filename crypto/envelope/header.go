package envelope

import (
	"errors"
	"fmt"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// Header says what an envelope is and whom it concerns. It travels in clear,
// is signed, and is the context info under which the ciphertext opens.
type Header struct {
	Suite             identity.Suite
	Type              MessageType
	Direction         Direction
	Network           string   // alliance and environment, so that test traffic never opens in production
	Verification      [16]byte // the exchange's id
	Sender            identity.VASPID
	Recipient         identity.VASPID
	SenderIdentity    identity.Fingerprint
	RecipientIdentity identity.Fingerprint // as the sender knows it; zero when it does not (attack K12)
	Key               identity.KeyID       // the key it is sealed to; zero when clear
	Serial            uint64               // of the bundle that the key came in
	KeyType           identity.KeyType     // zero only when clear
	Scope             [32]byte
	Created           time.Time // milliseconds
	Expires           time.Time // after which it must be refused
	InReplyTo         [32]byte  // hash of the request's envelope; zero in a request
	ReplyBundle       [32]byte  // hash of the bundle to answer to; zero when there is none (attack K2)
	Commitment        [32]byte  // what was sealed, provable later with the salt
	Epoch             uint64    // of the key, PerAddress only
}

// Fields of an encoded header, in order; never renumber.
const (
	headerSuite uint16 = iota + 1
	headerType
	headerDirection
	headerNetwork
	headerVerification
	headerSender
	headerRecipient
	headerSenderIdentity
	headerRecipientIdentity
	headerKey
	headerSerial
	headerKeyType
	headerScope
	headerCreated
	headerExpires
	headerInReplyTo
	headerReplyBundle
	headerCommitment
	headerEpoch
)

const maxNetwork = 64

// maxHeader is the length of a header with the longest network name.
var maxHeader = tlv.Size(1, 1, 1, maxNetwork, 16, 8, 8, 32, 32, 32, 8, 1, 32, 8, 8, 32, 32, 32, 8)

// encode writes every field in order. The header must pass check.
func (h *Header) encode() []byte {
	b := make([]byte, 0, maxHeader)
	b = tlv.AppendUint8(b, headerSuite, uint8(h.Suite))
	b = tlv.AppendUint8(b, headerType, uint8(h.Type))
	b = tlv.AppendUint8(b, headerDirection, uint8(h.Direction))
	b = tlv.Append(b, headerNetwork, []byte(h.Network))
	b = tlv.Append(b, headerVerification, h.Verification[:])
	b = tlv.AppendUint64(b, headerSender, uint64(h.Sender))
	b = tlv.AppendUint64(b, headerRecipient, uint64(h.Recipient))
	b = tlv.Append(b, headerSenderIdentity, h.SenderIdentity[:])
	b = tlv.Append(b, headerRecipientIdentity, h.RecipientIdentity[:])
	b = tlv.Append(b, headerKey, h.Key[:])
	b = tlv.AppendUint64(b, headerSerial, h.Serial)
	b = tlv.AppendUint8(b, headerKeyType, uint8(h.KeyType))
	b = tlv.Append(b, headerScope, h.Scope[:])
	b = tlv.AppendTime(b, headerCreated, h.Created)
	b = tlv.AppendTime(b, headerExpires, h.Expires)
	b = tlv.Append(b, headerInReplyTo, h.InReplyTo[:])
	b = tlv.Append(b, headerReplyBundle, h.ReplyBundle[:])
	b = tlv.Append(b, headerCommitment, h.Commitment[:])
	return tlv.AppendUint64(b, headerEpoch, h.Epoch)
}

// decodeHeader reads the one canonical encoding of a header that makes sense.
func decodeHeader(b []byte) (h Header, err error) {
	d := tlv.NewDecoder(b)
	h.Suite = identity.Suite(d.Uint8(headerSuite))
	h.Type = MessageType(d.Uint8(headerType))
	h.Direction = Direction(d.Uint8(headerDirection))
	h.Network = string(d.Range(headerNetwork, 1, maxNetwork))
	d.Fixed(headerVerification, h.Verification[:])
	h.Sender = identity.VASPID(d.Uint64(headerSender))
	h.Recipient = identity.VASPID(d.Uint64(headerRecipient))
	d.Fixed(headerSenderIdentity, h.SenderIdentity[:])
	d.Fixed(headerRecipientIdentity, h.RecipientIdentity[:])
	d.Fixed(headerKey, h.Key[:])
	h.Serial = d.Uint64(headerSerial)
	h.KeyType = identity.KeyType(d.Uint8(headerKeyType))
	d.Fixed(headerScope, h.Scope[:])
	h.Created = d.Time(headerCreated)
	h.Expires = d.Time(headerExpires)
	d.Fixed(headerInReplyTo, h.InReplyTo[:])
	d.Fixed(headerReplyBundle, h.ReplyBundle[:])
	d.Fixed(headerCommitment, h.Commitment[:])
	h.Epoch = d.Uint64(headerEpoch)
	if err := d.Close(); err != nil {
		return Header{}, fmt.Errorf("header: %v", err)
	}
	if err := h.check(); err != nil {
		return Header{}, fmt.Errorf("header: %v", err)
	}
	return h, nil
}

// check is the same for headers we seal and headers we read.
func (h *Header) check() error {
	switch {
	case !h.Type.Valid():
		return fmt.Errorf("unknown message type %d", h.Type)
	case h.Direction != ToBeneficiary && h.Direction != ToOriginator:
		return fmt.Errorf("unknown direction %d", h.Direction)
	case !printable(h.Network):
		return errors.New("network is not 1 to 64 printable ASCII bytes")
	case h.Sender == 0 || h.Recipient == 0:
		return errors.New("sender or recipient is zero")
	case h.SenderIdentity.IsZero():
		return errors.New("sender identity is zero")
	case tlv.CheckTime(h.Created) != nil || tlv.CheckTime(h.Expires) != nil || h.Created.UnixMilli() >= h.Expires.UnixMilli():
		return errors.New("created and expires enclose no time")
	}
	return h.checkKey()
}

// checkKey lets nobody choose between sealed and clear: the type decides
// (attack K5).
func (h *Header) checkKey() error {
	switch {
	case h.Type.Sealed() && !seals(h.Suite):
		return fmt.Errorf("%s is not sealed by suite %d", h.Type, h.Suite)
	case !h.Type.Sealed() && h.Suite != identity.SuiteClear:
		return fmt.Errorf("%s is never sealed", h.Type)
	case h.Type.Sealed() && h.Key == identity.KeyID{}:
		return errors.New("sealed to no key")
	case !h.Type.Sealed() && h.Key != identity.KeyID{}:
		return errors.New("clear and yet sealed to a key")
	case !h.KeyType.Valid() && (h.Type.Sealed() || h.KeyType != 0):
		return fmt.Errorf("unknown key type %d", h.KeyType)
	}
	return nil
}

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= maxNetwork
}
