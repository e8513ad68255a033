package robotcmd

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
)

// party is a beneficiary or originator, as far as the rules look.
type party struct {
	BeneficiaryPersons []ivms101.Person `json:"beneficiaryPersons"`
	OriginatorPersons  []ivms101.Person `json:"originatorPersons"`
	Accounts           []string         `json:"accountNumber"`
}

// accountQuestion is the request of contract 3.1.
type accountQuestion struct {
	Symbol  string `json:"symbol"`
	Network string `json:"network"`
	IVMS101 struct {
		Beneficiary party `json:"beneficiary"`
	} `json:"ivms101"`
}

// userQuestion is the request of contract 3.2.
type userQuestion struct {
	UUID        string `json:"verificationUuid"`
	Originating string `json:"originatingVaspId"`
	Asset       struct {
		Symbol  string `json:"symbol"`
		Network string `json:"network"`
		Amount  string `json:"amount"`
	} `json:"assetInfo"`
	Required string `json:"requiredBeneficiaryInfo"`
	Version  string `json:"version"`
	IVMS101  struct {
		Originator  party `json:"originator"`
		Beneficiary party `json:"beneficiary"`
	} `json:"ivms101"`
}

// verdict is an answer: reason and message as contract 6.2 has them.
type verdict struct {
	reason, message string
	beneficiary     []byte // told when the answer is VERIFIED
}

func (v verdict) result() string {
	if v.reason == "OK" {
		return "VERIFIED"
	}
	return "DENIED"
}

func denied(reason, message string) verdict { return verdict{reason: reason, message: message} }

var ok = verdict{reason: "OK"}

// judgeAccount answers whether an account is a customer's: the symbol, the
// network, the account, then the name when there is one, then whether the
// customer was identified.
func (b *book) judgeAccount(q *accountQuestion) verdict {
	to := &q.IVMS101.Beneficiary
	who, v := b.owner(q.Symbol, q.Network, to.Accounts)
	switch {
	case who == nil:
		return v
	case len(to.BeneficiaryPersons) > 0 && !who.matches(to.BeneficiaryPersons):
		return denied("MISMATCHED-NAME", "")
	case who.unverified:
		return denied("UNVERIFIED-KYC", "")
	case who.deny != nil && slices.Contains(accountDenials, who.deny.reason):
		return *who.deny
	}
	return ok
}

// accountDenials are those of a customer's denials that an account check may
// give (contract 6.2); the others wait for the transfer.
var accountDenials = []string{"BLACKLISTED", "UNDEFINED-ERROR", "UNVERIFIED-KYC"}

// judgeUser answers whether a transfer may come in: as an account check with a
// name, then what is known of the originator, who it is, and what is asked of
// the beneficiary.
func (b *book) judgeUser(q *userQuestion) verdict {
	from, to := q.IVMS101.Originator.OriginatorPersons, &q.IVMS101.Beneficiary
	who, v := b.owner(q.Asset.Symbol, q.Asset.Network, to.Accounts)
	switch {
	case who == nil:
		return v
	case !who.matches(to.BeneficiaryPersons):
		return denied("MISMATCHED-NAME", "")
	case who.unverified:
		return denied("UNVERIFIED-KYC", "")
	case who.deny != nil:
		return *who.deny
	}
	if lack := b.lack(from); len(lack) > 0 {
		return denied("LACK-OF-INFORMATION", list(lack))
	}
	if b.blacklisted(from) {
		return denied("BLACKLISTED", "")
	}
	return who.tell(q.Required, to.Accounts)
}

// owner finds the one customer who has all the accounts.
func (b *book) owner(symbol, network string, numbers []string) (*customer, verdict) {
	known := b.networks[strings.ToUpper(symbol)]
	switch {
	case known == nil:
		return nil, denied("UNKNOWN-SYMBOL", symbol)
	case network == "" && b.networkRequired, network != "" && !known[""] && !known[ivms101.Fold(network)]:
		return nil, denied("UNKNOWN-NETWORK", network)
	case len(numbers) == 0:
		return nil, denied("UNKNOWN-ADDRESS", "")
	}
	var who *customer
	for _, number := range numbers {
		a := b.accounts[keyOf(symbol, number)]
		if a == nil || !a.on(network) || (who != nil && who != a.customer) {
			return nil, denied("UNKNOWN-ADDRESS", number)
		}
		who = a.customer
	}
	return who, ok
}

func (a *account) on(network string) bool {
	return network == "" || a.networks == nil || a.networks[ivms101.Fold(network)]
}

// originatorCodes are what a robot can ask of an originator.
var originatorCodes = []ivms101.Code{
	ivms101.NaturalPersonName, ivms101.NaturalPersonDateAndPlaceOfBirth, ivms101.LegalPersonName,
}

// lack is what an originator did not bring. Of a company the representatives
// need not bring what a customer must.
func (b *book) lack(from []ivms101.Person) (codes []ivms101.Code) {
	company := slices.ContainsFunc(from, func(p ivms101.Person) bool { return p.Legal != nil })
	for _, code := range b.originatorNeeds {
		if (code == ivms101.LegalPersonName) != company {
			continue
		}
		if !slices.ContainsFunc(from, func(p ivms101.Person) bool { return brings(p, code) }) {
			codes = append(codes, code)
		}
	}
	return codes
}

func brings(p ivms101.Person, code ivms101.Code) bool {
	switch code {
	case ivms101.NaturalPersonName:
		return len(naturalKeys(p)) > 0
	case ivms101.LegalPersonName:
		return len(legalKeys(p)) > 0
	case ivms101.NaturalPersonDateAndPlaceOfBirth:
		return p.Natural != nil && p.Natural.DateAndPlaceOfBirth != nil && p.Natural.DateAndPlaceOfBirth.Date.Value != "" && p.Natural.DateAndPlaceOfBirth.Place.Value != ""
	}
	return false
}

func (b *book) blacklisted(from []ivms101.Person) bool {
	for _, p := range from {
		for _, l := range b.blacklist {
			if l.is(p) {
				return true
			}
		}
	}
	return false
}

func (l listed) is(p ivms101.Person) bool {
	if !slices.Contains(append(naturalKeys(p), legalKeys(p)...), l.key) {
		return false
	}
	if l.born == "" && l.place == "" {
		return true
	}
	if p.Natural == nil || p.Natural.DateAndPlaceOfBirth == nil {
		return false
	}
	born := p.Natural.DateAndPlaceOfBirth
	return (l.born == "" || l.born == born.Date.Value) && strings.Contains(ivms101.Fold(born.Place.Value), l.place)
}

// tell gives what was asked for of the customer, and no more, with the
// accounts as they were sent.
func (c *customer) tell(required string, accounts []string) verdict {
	codes, err := ivms101.ParseRequired(required)
	if err != nil {
		return denied("UNDEFINED-ERROR", err.Error())
	}
	has := c.has()
	missing := slices.DeleteFunc(slices.Clone(codes), func(code ivms101.Code) bool { return has[code] })
	if len(missing) > 0 {
		return denied("UNAVAILABLE-INFORMATION", list(missing))
	}
	told, _, err := ivms101.Strip(beneficiary(c.persons, accounts), codes)
	if err != nil {
		return denied("UNDEFINED-ERROR", err.Error())
	}
	return verdict{reason: "OK", beneficiary: told}
}

func list(codes []ivms101.Code) string {
	var words []string
	for _, c := range codes {
		words = append(words, string(c))
	}
	return strings.Join(words, ",")
}

// text appends members to a JSON object.
type text []byte

func (t *text) str(name, value string) {
	t.raw(name, nil)
	*t, _ = jsontext.AppendQuote(*t, value)
}

func (t *text) boolean(name string, value bool) { t.raw(name, strconv.AppendBool(nil, value)) }

func (t *text) raw(name string, value []byte) {
	sep := byte(',')
	if len(*t) == 0 {
		sep = '{'
	}
	*t = append(*t, sep, '"')
	*t = append(*t, name...)
	*t = append(*t, '"', ':')
	*t = append(*t, value...)
}

func (t *text) end() []byte { return append(*t, '}') }
