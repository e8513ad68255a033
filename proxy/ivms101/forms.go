package ivms101

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// longest is how many characters a text may have, by its member's name: the
// standard's Max100Text and its like, in characters of NFC.
var longest = map[string]int{
	"primaryIdentifier": 100, "secondaryIdentifier": 100, "legalPersonName": 100,
	"customerIdentification": 50, "customerNumber": 50, "nationalIdentifier": 35, "placeOfBirth": 70,
	"department": 50, "subDepartment": 70, "streetName": 70, "buildingNumber": 16, "buildingName": 35, "floor": 70,
	"postBox": 16, "room": 70, "postcode": 16, "townName": 35, "townLocationName": 35, "districtName": 35,
	"countrySubDivision": 35, "addressLine": 70, "accountNumber": 100,
}

// maxLines is how many addressLine an address may have (contract 8.2).
const maxLines = 7

// words are the values that a text may have, by its member's name (contract
// 8.2). Values are compared without case (contract 8.3).
var words = map[string][]string{
	"nameIdentifierType":            {"LEGL", "ALIA", "BIRT", "MAID", "MISC"},
	"legalPersonNameIdentifierType": {"LEGL", "SHRT", "TRAD"},
	"addressType":                   {"HOME", "BIZZ", "GEOG"},
	"nationalIdentifierType":        {"ARNU", "CCPT", "RAID", "DRLC", "FIIN", "TXID", "SOCS", "IDCD", "LEIX", "MISC"},
	"transliterationMethod":         {"arab", "aran", "armn", "cyrl", "deva", "geor", "grek", "hani", "hebr", "kana", "kore", "thai", "othr"},
}

// legalIdentifiers are the nationalIdentifierType of a company (contract 8.2).
var legalIdentifiers = []string{"RAID", "LEIX", "TXID", "MISC"}

func isOneOf(value string, list []string) bool {
	return slices.ContainsFunc(list, func(word string) bool { return isWord(value, word) })
}

// isWord compares with an ASCII word without case. The length keeps letters
// out that fold into ASCII, such as the long s.
func isWord(value, word string) bool {
	return len(value) == len(word) && strings.EqualFold(value, word)
}

// countries are the members whose value is a country.
var countries = []string{"country", "countryOfResidence", "nationality", "countryOfRegistration", "countryOfIssue"}

const (
	dateWanted      = "is no date; write YYYY-MM-DD"
	countryWanted   = "is no country; write its two letters by ISO 3166-1"
	authorityWanted = "is no registration authority; write RA and six digits"
	leiWanted       = "is no LEI; write its 18 letters and digits and the two check digits by ISO 17442"
)

var authority = regexp.MustCompile(`^[Rr][Aa][0-9]{6}$`)

// form is what is wrong with the value of a text by itself, "" when nothing
// is. It is judged by the name of the member that holds it.
func form(name, value string) (Fault, string) {
	list, hasList := words[name]
	switch most := longest[name]; {
	case strings.TrimSpace(value) == "":
		return Empty, "is empty; fill it in or leave the member out"
	case most > 0 && utf8.RuneCountInString(norm.NFC.String(value)) > most:
		return TooLong, "is longer than the " + itoa(most) + " characters that the standard allows; shorten it"
	case hasList && !isOneOf(value, list):
		return WrongForm, "is none of " + strings.Join(list, ", ")
	case slices.Contains(countries, name) && !isCountry(value) && !isWord(value, "XX"):
		return WrongForm, countryWanted
	case (name == "dateOfBirth" || name == "dateOfIncorporation") && !isDate(value):
		return WrongForm, dateWanted
	case name == "registrationAuthority" && !authority.MatchString(value):
		return WrongForm, authorityWanted
	case name == "accountNumber":
		return accountForm(value)
	}
	return "", ""
}

// isDate says whether s is a day of the calendar as YYYY-MM-DD.
func isDate(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}

// withdrawn are codes that ISO 3166-1 had once; the library knows them still.
var withdrawn = []string{"AN", "CS", "NT", "SU", "YU"}

// isCountry says whether s is a country's code in ISO 3166-1 alpha-2, in
// either case. Reserved codes, such as UK, EU and XK, are none.
func isCountry(s string) bool {
	code := strings.ToUpper(s)
	r, err := language.ParseRegion(code)
	return err == nil && len(s) == 2 && r.IsCountry() && !r.IsPrivateUse() && r.M49() != 0 &&
		r.Canonicalize().String() == code && !slices.Contains(withdrawn, code)
}

// isLEI checks a legal entity identifier: 18 letters and digits, and two
// digits that make the whole, letters read as 10 to 35, leave 1 when divided
// by 97 (ISO 17442, ISO/IEC 7064 MOD 97-10).
func isLEI(s string) bool {
	if len(s) != 20 {
		return false
	}
	rest := 0
	for i, c := range []byte(strings.ToUpper(s)) {
		switch {
		case c >= '0' && c <= '9':
			rest = (rest*10 + int(c-'0')) % 97
		case c >= 'A' && c <= 'Z' && i < 18:
			rest = (rest*100 + int(c-'A') + 10) % 97
		default:
			return false
		}
	}
	return rest == 1
}

// schemes are the prefixes that wallets write before an address (contract 8.3:
// strip them). A prefix ends with a colon, as an address does before its tag.
var schemes = []string{
	"bitcoin", "bitcoincash", "bchtest", "bchreg", "ecash", "litecoin", "dogecoin", "dash", "zcash", "monero", "ethereum", "eip155",
	"bip122", "cosmos", "polkadot", "solana", "stellar", "ripple", "tron", "cardano", "algorand", "tezos",
}

func accountForm(account string) (Fault, string) {
	address, tag, tagged := SplitAccount(account)
	before, _, _ := strings.Cut(account, ":")
	switch {
	case account != strings.TrimSpace(account):
		return WrongForm, "has space around it; accounts are compared exactly, so take it away"
	case tagged && isOneOf(before, schemes):
		return WrongForm, "begins with a chain's prefix; write the address without it"
	case address == "" || tagged && tag == "":
		return WrongForm, "has a colon with nothing on one side; write address:tag, or the address alone"
	}
	return "", ""
}

// finding is a finding at a text.
func (t Text) finding(code Fault, problem string) Finding {
	return Finding{Pointer: wirejson.Shown(t.At), Code: code, Problem: problem}
}

// lastName is the last name in a pointer that is a member's: an element stands
// for its array.
func lastName(pointer string) string {
	for {
		i := strings.LastIndexByte(pointer, '/')
		if i < 0 {
			return ""
		}
		if name := pointer[i+1:]; strings.Trim(name, "0123456789") != "" {
			return name
		}
		pointer = pointer[:i]
	}
}
