package tlv

import (
	"crypto/sha256"
	"encoding/binary"
)

// Domain starts every hashed, signed or authenticated string: a u16 length
// and the purpose, so that bytes made for one purpose never count for another.
func Domain(purpose string) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(purpose)), uint16(len(purpose)))
	return append(b, purpose...)
}

// Hash is SHA-256 over the domain of a purpose and the parts. At most one
// part, the last, may have a length that varies.
func Hash(purpose string, parts ...[]byte) (sum [32]byte) {
	h := sha256.New()
	h.Write(Domain(purpose))
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// AppendPart adds a u32 length and the bytes: for lists of parts that vary.
func AppendPart(b, part []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
	return append(b, part...)
}
