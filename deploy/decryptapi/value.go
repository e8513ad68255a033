package main

import (
	"encoding/base64"
	"errors"
	"regexp"
)

// A wrapped value is what an enclave has as VEGA_ENCRYPTION_KEY_BASE64: base64
// of
//
//	0x01                  version
//	length, label         of the key in the token, one byte and the text
//	length, instance      that the value is for, one byte and the text
//	length, nonce         of AES-GCM, one byte and 12 bytes
//	ciphertext, tag       of the database key, 32 and 16 bytes
//
// The associated data is purpose and everything before the nonce: a value says
// by itself whose it is, and that cannot be changed (attack S5).
type value struct {
	label, instance string
	nonce, sealed   []byte
}

// purpose keeps these values apart from all else that the token's key might
// seal.
const purpose = "vasp-enclave decryptapi database-key v1\x00"

const (
	version   = 1
	nonceSize = 12
	keySize   = 32
	tagSize   = 16
)

// names are labels and instances: what a log and a command line can hold.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,63}$`)

var errMalformed = errors.New("is no value that keys wrap has made")

// head is what stands before the nonce.
func (v value) head() []byte {
	b := []byte{version, byte(len(v.label))}
	b = append(b, v.label...)
	b = append(b, byte(len(v.instance)))
	return append(b, v.instance...)
}

// associated is the associated data.
func (v value) associated() []byte { return append([]byte(purpose), v.head()...) }

// text is the form that the enclave's setting has.
func (v value) text() string {
	b := append(v.head(), byte(len(v.nonce)))
	b = append(b, v.nonce...)
	return base64.StdEncoding.EncodeToString(append(b, v.sealed...))
}

func parseValue(text string) (v value, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 || b[0] != version {
		return v, errMalformed
	}
	b = b[1:]
	var parts [3][]byte
	for i := range parts {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return v, errMalformed
		}
		parts[i], b = b[1:1+int(b[0])], b[1+int(b[0]):]
	}
	v = value{label: string(parts[0]), instance: string(parts[1]), nonce: parts[2], sealed: b}
	if !names.MatchString(v.label) || !names.MatchString(v.instance) || len(v.nonce) != nonceSize || len(b) != keySize+tagSize {
		return value{}, errMalformed
	}
	if v.text() != text { // base64 may have line breaks in it
		return value{}, errMalformed
	}
	return v, nil
}
