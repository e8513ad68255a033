package storage

import (
	"crypto/sha256"
	"encoding/binary"
)

const auditDomain = "vasp-enclave/v1/audit-entry"

// Sum is the entry's hash: SHA-256 over Canonical. An export of the audit log
// is verified with nothing else: each entry's Hash must be its Sum, and its
// Prev the Hash of the entry before.
func (e *AuditEntry) Sum() [32]byte { return sha256.Sum256(e.Canonical()) }

// Canonical is the one encoding that is hashed: a domain and then every field
// but Hash in the order of the struct, each behind its length as u32 big
// endian, so that no two entries share an encoding. Times are u64 milliseconds.
func (e *AuditEntry) Canonical() []byte {
	b := make([]byte, 0, 192)
	b = appendField(b, auditDomain)
	b = appendNumber(b, e.Seq)
	b = appendField(b, e.Prev[:])
	b = appendNumber(b, uint64(e.Time.UnixMilli()))
	b = appendField(b, e.Actor)
	b = appendField(b, e.Verb)
	b = appendField(b, e.Object)
	b = appendNumber(b, uint64(e.Peer))
	b = appendField(b, e.Outcome)
	return appendField(b, e.Reason)
}

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}

func appendNumber(b []byte, n uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, 8)
	return binary.BigEndian.AppendUint64(b, n)
}
