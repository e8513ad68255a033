package relay

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// input is the Signature-Input header in the one form that both ends write:
// always the same components and parameters, in the same order. Reading
// nothing else keeps the general parser of structured fields away from what
// strangers send, and two spellings of one signature apart.
type input struct {
	created int64  // Unix seconds
	nonce   string // 32 bytes in base64
	keyID   string
	tag     string
}

const inputPrefix = label + `=("@method" "@path" "content-digest" "relay-recipient")`

// String is the header's value.
func (i input) String() string {
	return inputPrefix + ";created=" + strconv.FormatInt(i.created, 10) +
		`;nonce="` + i.nonce + `";keyid="` + i.keyID + `";tag="` + i.tag + `"`
}

var errInput = errors.New("signature input is not in the form of this wire")

// parseInput reads what String writes.
func parseInput(header string) (i input, err error) {
	if len(header) > 512 {
		return i, errInput
	}
	rest, ok := strings.CutPrefix(header, inputPrefix+";created=")
	if !ok {
		return i, errInput
	}
	created, rest, ok := strings.Cut(rest, `;nonce="`)
	if !ok {
		return i, errInput
	}
	if i.created, err = strconv.ParseInt(created, 10, 64); err != nil {
		return i, errInput
	}
	for _, part := range []struct {
		into *string
		end  string
	}{{&i.nonce, `";keyid="`}, {&i.keyID, `";tag="`}, {&i.tag, `"`}} {
		if *part.into, rest, ok = strings.Cut(rest, part.end); !ok {
			return i, errInput
		}
	}
	if rest != "" || i.String() != header || !isSum(i.nonce) || strings.ContainsAny(i.keyID+i.tag, "\"\\") {
		return i, errInput
	}
	return i, nil
}

// id is the nonce as it is remembered.
func (i input) id() (id nonce) {
	b, _ := base64.StdEncoding.DecodeString(i.nonce)
	copy(id[:], b)
	return id
}

// isSum tells whether text is 32 bytes in canonical base64.
func isSum(text string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return err == nil && len(b) == 32 && len(text) == base64.StdEncoding.EncodedLen(32)
}
