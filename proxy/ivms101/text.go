package ivms101

import (
	"bytes"
	"io"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// SameAccount says whether two account numbers are the same: equal after
// Unicode normalisation (NFC), with the case and everything else as written. A
// tag is part of the account: with another one, or without it, it is another
// account (contract 3.2: the account comes back unchanged).
// Accounts are the one part of IVMS101 in which case counts (contract 8.3).
func SameAccount(a, b string) bool {
	return a == b || norm.NFC.String(a) == norm.NFC.String(b)
}

// SameValue says whether two values are the same that are no account numbers:
// equal without regard to case and to how Unicode composes letters, as a Mac's
// Hangul does (contract 8.3).
func SameValue(a, b string) bool { return a == b || Fold(a) == Fold(b) }

// Fold is what a value is compared by: canonical caseless matching as the
// Unicode Standard defines it (D145), in NFC. Only to compare; never to send.
func Fold(s string) string { return norm.NFC.String(cases.Fold().String(norm.NFD.String(s))) }

// SplitAccount takes a memo or tag off an account: it is what stands behind
// the last colon (contract 8.3, address:tag). Without a colon all is address.
func SplitAccount(account string) (address, tag string, tagged bool) {
	i := strings.LastIndexByte(account, ':')
	if i < 0 {
		return account, "", false
	}
	return account[:i], account[i+1:], true
}

// CheckText refuses a JSON text in which a name or string holds characters
// that show a reader something other than what is compared: controls, except
// tab and line ends, and the marks that turn the direction of text around,
// U+202A to U+202E and U+2066 to U+2069 (attack P3). The joiners and
// direction hints U+200C to U+200F stay: Persian, Arabic and Hebrew are
// written with them. raw must be valid JSON; errors are *wirejson.Error.
func CheckText(raw []byte) error {
	if !suspicious(raw) {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true))
	for {
		t, err := d.ReadToken()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return &wirejson.Error{Problem: "not JSON"}
		case t.Kind() == '"' && bytes.ContainsFunc([]byte(t.String()), misleading):
			return &wirejson.Error{
				Pointer: wirejson.Shown(d.StackPointer()),
				Problem: "a control character or direction override is in a string; remove it",
			}
		}
	}
}

// suspicious says whether raw may hold a misleading character, so that plain
// texts are not decoded. An escape can spell any character.
func suspicious(raw []byte) bool {
	return bytes.Contains(raw, []byte(`\`)) || bytes.ContainsFunc(raw, misleading)
}

func misleading(r rune) bool {
	switch r {
	case '\t', '\n', '\r':
		return false
	}
	return unicode.IsControl(r) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069)
}
