package identity

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// VASPID is the number by which an alliance knows a VASP; never zero. In JSON
// it is a string (contract section 1).
type VASPID uint64

// ParseVASPID reads a decimal number without sign or leading zeros.
func ParseVASPID(s string) (VASPID, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || VASPID(n).String() != s {
		return 0, errors.New("VASP id is not a decimal number from 1 to 18446744073709551615")
	}
	return VASPID(n), nil
}

// String gives the decimal number.
func (v VASPID) String() string { return strconv.FormatUint(uint64(v), 10) }

// MarshalText implements encoding.TextMarshaler.
func (v VASPID) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; see ParseVASPID.
func (v *VASPID) UnmarshalText(b []byte) error {
	id, err := ParseVASPID(string(b))
	if err != nil {
		return err
	}
	*v = id
	return nil
}

func (v VASPID) bytes() []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }

// Fingerprint names an identity: SHA-256 over a domain, the VASP id and the
// public identity bytes.
type Fingerprint [32]byte

// String gives 64 hex digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// MarshalText is String, so that JSON and logs show what operators compare.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// IsZero says that the fingerprint stands for "not known".
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// KeyID names a hybrid public key: SHA-256 over a domain, the suite and the
// raw key. So an id cannot be kept while the key is swapped (attack K1).
type KeyID [32]byte

// NewKeyID computes the id of a raw public key of a suite.
func NewKeyID(suite Suite, publicKey []byte) KeyID {
	return tlv.Hash(purposeKeyID, []byte{byte(suite)}, publicKey)
}

// String gives 64 hex digits.
func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// Suite names the algorithms that seal a payload. The number travels; never
// renumber.
type Suite uint8

const (
	// SuiteClear is signed and not sealed: for key requests, their answers
	// and refusals, which come before there is a key.
	SuiteClear Suite = 0
	// SuiteXWing is X-Wing (ML-KEM-768 and X25519), HKDF-SHA256, AES-256-GCM:
	// what is recorded today stays closed to a quantum computer (attack K8).
	SuiteXWing Suite = 1
	// SuiteX25519 is DHKEM(X25519), HKDF-SHA256, AES-256-GCM (RFC 9180).
	SuiteX25519 Suite = 2
)

// String gives the name used in settings.
func (s Suite) String() string {
	switch s {
	case SuiteClear:
		return "clear"
	case SuiteXWing:
		return "x-wing"
	case SuiteX25519:
		return "x25519"
	}
	return fmt.Sprintf("Suite(%d)", uint8(s))
}

// ParseSuite reads the name of a suite that seals: "x-wing" or "x25519".
func ParseSuite(s string) (Suite, error) {
	for _, suite := range []Suite{SuiteXWing, SuiteX25519} {
		if suite.String() == s {
			return suite, nil
		}
	}
	return 0, errors.New("suite is none of x-wing, x25519")
}

// PublicKeySize is the length in bytes of the suite's raw public keys, or
// zero for a suite that does not seal.
func (s Suite) PublicKeySize() int {
	switch s {
	case SuiteXWing:
		return 1216
	case SuiteX25519:
		return 32
	}
	return 0
}

// KeyType says what a hybrid key is for (contract 2.2). The number travels;
// never renumber.
type KeyType uint8

const (
	// PerVASP keys serve a whole VASP for a day.
	PerVASP KeyType = 1
	// PerAddress keys serve one requester and one scope.
	PerAddress KeyType = 2
	// PerVerification keys serve once.
	PerVerification KeyType = 3
)

// String gives the contract's spelling.
func (k KeyType) String() string {
	switch k {
	case PerVASP:
		return "PerVasp"
	case PerAddress:
		return "PerAddress"
	case PerVerification:
		return "PerVerification"
	}
	return fmt.Sprintf("KeyType(%d)", uint8(k))
}

// ParseKeyType reads the contract's spelling. PerEoa is an older name of
// PerAddress.
func ParseKeyType(s string) (KeyType, error) {
	if s == "PerEoa" {
		return PerAddress, nil
	}
	for _, k := range []KeyType{PerVASP, PerAddress, PerVerification} {
		if k.String() == s {
			return k, nil
		}
	}
	return 0, errors.New("key type is none of PerVasp, PerAddress, PerVerification")
}

// Valid says whether k is one of the three types.
func (k KeyType) Valid() bool { return k >= PerVASP && k <= PerVerification }
