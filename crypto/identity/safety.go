package identity

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// digitGroups is how many groups of five digits show one identity: 60 digits
// are near 200 bits, too many to search for a second identity that matches.
const digitGroups = 12

// ParseShown reads the identity that a signed document shows of its signer, in
// base64 and as the digits that a person compares. Whether it is the right one
// is for the reader of the document to ask. Errors begin with what is wrong.
func ParseShown(vasp VASPID, encoded, digits string) (*Public, error) {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("identity is not base64")
	}
	p, err := ParsePublic(vasp, raw)
	if err != nil {
		return nil, fmt.Errorf("identity: %v", err)
	}
	if digits != FingerprintDigits(p) {
		return nil, errors.New("fingerprint is not that of its identity")
	}
	return p, nil
}

// FingerprintDigits shows an identity as 12 groups of 5 digits separated by
// spaces, for people: each group is 5 bytes of a SHA-512 modulo 100000.
func FingerprintDigits(p *Public) string {
	sum := sha512.Sum512(append(append(tlv.Domain(purposeDigits), p.vasp.bytes()...), p.raw...))
	groups := make([]string, digitGroups)
	for i := range groups {
		n := uint64(0)
		for _, b := range sum[i*5 : i*5+5] {
			n = n<<8 | uint64(b)
		}
		groups[i] = fmt.Sprintf("%05d", n%100000)
	}
	return strings.Join(groups, " ")
}

// SafetyNumber is what two operators read to each other to know that nobody
// stands between them (attack K1): the digits of both identities, the one
// with the lower VASP id first, so that both sides see the same 24 groups.
func SafetyNumber(a, b *Public) string {
	if a.vasp > b.vasp || a.vasp == b.vasp && bytes.Compare(a.raw, b.raw) > 0 {
		a, b = b, a
	}
	return FingerprintDigits(a) + " " + FingerprintDigits(b)
}
