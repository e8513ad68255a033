package robotcmd

import (
	_ "embed"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/text/unicode/norm"
	"sigs.k8s.io/yaml"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// sampleCustomers are the customers and rules of the alliance's own robot
// (contract 9.9).
//
//go:embed customers.yaml
var sampleCustomers []byte

// customersFile is a file of customers as customers.yaml explains it.
type customersFile struct {
	OriginatorNeeds []ivms101.Code `json:"originatorNeeds"`
	NetworkRequired bool           `json:"networkRequired"`
	Blacklist       []struct {
		Name         string `json:"name"`
		DateOfBirth  string `json:"dateOfBirth"`
		PlaceOfBirth string `json:"placeOfBirth"`
	} `json:"blacklist"`
	Customers []struct {
		Persons jsontext.Value `json:"persons"`
		KYC     *bool          `json:"kyc"`
		Tells   []ivms101.Code `json:"tells"`
		Deny    *struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"deny"`
		Accounts []accountEntry `json:"accounts"`
	} `json:"customers"`
}

// accountEntry is an account as a file has it.
type accountEntry struct {
	Symbol   string   `json:"symbol"`
	Networks []string `json:"networks"`
	Account  string   `json:"account"`
	Balance  *string  `json:"balance"`
}

// book is what a robot knows of its customers. It is never changed.
type book struct {
	originatorNeeds []ivms101.Code
	networkRequired bool
	blacklist       []listed
	customers       []*customer
	networks        map[string]map[string]bool // by symbol: the networks in use; true at "" when any will do
	accounts        map[accountKey]*account
}

type accountKey struct{ symbol, number string }

// account is one account and whose it is.
type account struct {
	*customer
	symbol, number string          // as the file has them
	networks       map[string]bool // nil for any
	balance        *big.Rat        // that it starts with
}

// startBalance is what an account without a balance of its own starts with.
const startBalance = "1000"

// customer is a person or company that has accounts.
type customer struct {
	persons        jsontext.Value
	natural, legal map[string]bool // the keys of their names
	accounts       []*account
	unverified     bool
	tells          []ivms101.Code // nil for all there is
	deny           *verdict       // nil for nothing against them
	// has is what can be told when it is asked for. It is found out when it
	// is first asked: most customers of a large file never are.
	has func() map[ivms101.Code]bool
}

// listed is an entry of the blacklist; empty fields fit everybody.
type listed struct{ key, born, place string }

// parseCustomers reads a file of customers. Errors say where it is wrong.
func parseCustomers(text []byte) (*book, error) {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	var file customersFile
	large := wirejson.Limits{Bytes: 256 << 20, Tokens: 50_000_000}
	if err := wirejson.Unmarshal(asJSON, &file, wirejson.RefuseUnknown(), wirejson.ShowNames(), wirejson.WithLimits(large)); err != nil {
		return nil, err
	}
	b := &book{networks: map[string]map[string]bool{}, accounts: map[accountKey]*account{}, networkRequired: file.NetworkRequired}
	for _, code := range file.OriginatorNeeds {
		if !slices.Contains(originatorCodes, code) {
			return nil, fmt.Errorf("originatorNeeds: want only %v", originatorCodes)
		}
		b.originatorNeeds = append(b.originatorNeeds, code)
	}
	for i, l := range file.Blacklist {
		if err := checkListed(l.Name, l.DateOfBirth); err != nil {
			return nil, fmt.Errorf("blacklist[%d]%w", i, err)
		}
		b.blacklist = append(b.blacklist, listed{nameKey(l.Name), l.DateOfBirth, ivms101.Fold(l.PlaceOfBirth)})
	}
	for i, c := range file.Customers {
		who, err := newCustomer(c.Persons)
		if err != nil {
			return nil, fmt.Errorf("customers[%d].persons: %w", i, err)
		}
		who.unverified = c.KYC != nil && !*c.KYC
		if who.tells, err = knownCodes(c.Tells); err != nil {
			return nil, fmt.Errorf("customers[%d].tells: %w", i, err)
		}
		if c.Deny != nil {
			if !slices.Contains(denials, c.Deny.Reason) {
				return nil, fmt.Errorf("customers[%d].deny.reason: want one of %v", i, denials)
			}
			v := denied(c.Deny.Reason, c.Deny.Message)
			who.deny = &v
		}
		for j, a := range c.Accounts {
			if err := b.add(who, a); err != nil {
				return nil, fmt.Errorf("customers[%d].accounts[%d]%w", i, j, err)
			}
		}
		b.customers = append(b.customers, who)
	}
	return b, nil
}

// denials are the reasons that a customer's `deny` may give: those of contract
// 6.2 that a backend gives for people, and not for what was asked.
var denials = []string{"BLACKLISTED", "NOT-ALLOWED", "UNDEFINED-ERROR", "UNVERIFIED-KYC"}

// checkListed checks an entry of the blacklist.
func checkListed(name, born string) error {
	if nameKey(name) == "" {
		return errors.New(".name: an entry without a name would fit nobody")
	}
	if _, err := time.Parse(time.DateOnly, born); born != "" && err != nil {
		return errors.New(".dateOfBirth: write it as \"2006-01-02\", in quotes")
	}
	return nil
}

// knownCodes refuses what is no code of contract 8.4: here it can only be a
// slip of the pen.
func knownCodes(codes []ivms101.Code) ([]ivms101.Code, error) {
	for _, c := range codes {
		if !c.Known() {
			return nil, fmt.Errorf("want only %v", ivms101.Codes())
		}
	}
	return codes, nil
}

// maxSymbol is the longest ticker (contract 8.6).
const maxSymbol = 16

func (b *book) add(who *customer, entry accountEntry) error {
	symbol, networks, number := entry.Symbol, entry.Networks, entry.Account
	key := keyOf(symbol, number)
	switch {
	case symbol == "" || number == "":
		return errors.New(": an account needs a symbol and an account")
	case len(symbol) > maxSymbol:
		return fmt.Errorf(".symbol: has more than %d characters", maxSymbol)
	case slices.Contains(networks, ""):
		return errors.New(".networks: one is empty; leave networks out when any will do")
	case b.accounts[key] != nil:
		return fmt.Errorf(": an account of %s has two owners", symbol)
	}
	start := startBalance
	if entry.Balance != nil {
		start = *entry.Balance
	}
	balance, err := parseAmount(start)
	if err != nil {
		return fmt.Errorf(".balance: %w", err)
	}
	a := &account{customer: who, symbol: symbol, number: number, balance: balance}
	who.accounts = append(who.accounts, a)
	if b.networks[key.symbol] == nil {
		b.networks[key.symbol] = map[string]bool{}
	}
	for _, n := range networks {
		if a.networks == nil {
			a.networks = map[string]bool{}
		}
		a.networks[ivms101.Fold(n)], b.networks[key.symbol][ivms101.Fold(n)] = true, true
	}
	if len(networks) == 0 {
		b.networks[key.symbol][""] = true
	}
	b.accounts[key] = a
	return nil
}

// keyOf compares symbols without case, and account numbers as written.
func keyOf(symbol, number string) accountKey {
	return accountKey{strings.ToUpper(symbol), norm.NFC.String(number)}
}

func newCustomer(raw jsontext.Value) (*customer, error) {
	persons, err := ivms101.ParsePersons(raw)
	if err != nil {
		return nil, err
	}
	c := &customer{persons: raw, natural: map[string]bool{}, legal: map[string]bool{}}
	for _, p := range persons {
		for _, key := range naturalKeys(p) {
			c.natural[key] = true
		}
		for _, key := range legalKeys(p) {
			c.legal[key] = true
		}
	}
	if len(c.natural)+len(c.legal) == 0 {
		return nil, errors.New("nobody has a name")
	}
	c.has = sync.OnceValue(c.learn)
	_, err = ivms101.ParseParty(beneficiary(raw, nil))
	return c, err
}

// learn finds out which codes the customer's data can answer: those that leave
// something when all else is stripped, and that may be told.
func (c *customer) learn() map[ivms101.Code]bool {
	// These are asked of everybody (contract 9.9).
	has := map[ivms101.Code]bool{ivms101.AccountNumber: true, ivms101.NaturalPersonName: true}
	all := beneficiary(c.persons, nil)
	nothing, _, _ := ivms101.Strip(all, nil)
	for _, code := range ivms101.Codes() {
		if c.tells != nil && !slices.Contains(c.tells, code) {
			continue
		}
		if left, _, err := ivms101.Strip(all, []ivms101.Code{code}); err == nil && string(left) != string(nothing) {
			has[code] = true
		}
	}
	return has
}

// beneficiary is a beneficiary object.
func beneficiary(persons jsontext.Value, accounts []string) []byte {
	b := append([]byte(`{"beneficiaryPersons":`), persons...)
	b = append(b, `,"accountNumber":[`...)
	for i, a := range accounts {
		if i > 0 {
			b = append(b, ',')
		}
		b, _ = jsontext.AppendQuote(b, a)
	}
	return append(b, `]}`...)
}
