package main

import (
	"slices"
	"strings"
	"time"
)

// The receiving side: another VASP's customer sends to one of ours.

// person is the part of an IVMS101 person that this backend speaks of. A
// customer may be a company, too: then there is a legalPerson.
type person struct {
	NaturalPerson struct {
		Name struct {
			NameIdentifier []nameIdentifier `json:"nameIdentifier"`
		} `json:"name"`
		Birth *birth `json:"dateAndPlaceOfBirth,omitempty"`
	} `json:"naturalPerson"`
}

type birth struct {
	Date  string `json:"dateOfBirth"`
	Place string `json:"placeOfBirth"`
}

type nameIdentifier struct {
	Primary   string `json:"primaryIdentifier"`
	Secondary string `json:"secondaryIdentifier,omitempty"`
	Type      string `json:"nameIdentifierType"`
}

// party is an originator or a beneficiary.
type party struct {
	OriginatorPersons  []person `json:"originatorPersons,omitempty"`
	BeneficiaryPersons []person `json:"beneficiaryPersons,omitempty"`
	AccountNumber      []string `json:"accountNumber"`
}

type ivms101 struct {
	Originator  *party `json:"originator,omitempty"`
	Beneficiary *party `json:"beneficiary,omitempty"`
}

func named(c customer) person {
	var p person
	p.NaturalPerson.Name.NameIdentifier = []nameIdentifier{{c.Last, c.First, "LEGL"}}
	return p
}

// sameName compares without case, order and spaces: "GARCÍA LÓPEZ, José" is
// "josé garcía lópez". How tolerant a VASP is, it decides for itself.
func sameName(c customer, given []person) bool {
	for _, p := range given {
		for _, n := range p.NaturalPerson.Name.NameIdentifier {
			if slices.Equal(words(n.Primary+" "+n.Secondary), words(c.Last+" "+c.First)) {
				return true
			}
		}
	}
	return false
}

func words(name string) []string {
	all := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == ' ' || r == ',' || r == '.' || r == '-' })
	slices.Sort(all)
	return all
}

// verdict is why a transfer may not come in: a reason of the contract with its
// message. The reason of one that may is OK.
type verdict struct{ reason, message string }

// offered tells whether we take a coin, and on that network.
func offered(symbol, network string) verdict {
	v := verdict{"UNKNOWN-SYMBOL", symbol}
	for _, c := range customers {
		for _, a := range c.Accounts {
			if a.holds(symbol, network) {
				return verdict{"OK", ""}
			}
			if a.holds(symbol, "") {
				v = verdict{"UNKNOWN-NETWORK", network}
			}
		}
	}
	return v
}

// owner finds the customer whose account it is, and whose name when one is
// given.
func owner(symbol, network string, to *party, mustBeNamed bool) (customer, verdict) {
	if v := offered(symbol, network); v.reason != "OK" {
		return customer{}, v
	}
	if to == nil || len(to.AccountNumber) == 0 {
		return customer{}, verdict{"UNKNOWN-ADDRESS", ""}
	}
	for _, c := range customers {
		if !slices.ContainsFunc(c.Accounts, func(a account) bool { return a.holds(symbol, network) && a.Number == to.AccountNumber[0] }) {
			continue
		}
		if (mustBeNamed || len(to.BeneficiaryPersons) > 0) && !sameName(c, to.BeneficiaryPersons) {
			return customer{}, verdict{"MISMATCHED-NAME", ""}
		}
		return c, verdict{"OK", ""}
	}
	return customer{}, verdict{"UNKNOWN-ADDRESS", to.AccountNumber[0]}
}

type accountQuestion struct {
	Symbol  string  `json:"symbol"`
	Network string  `json:"network"` // "" when it was not said
	IVMS101 ivms101 `json:"ivms101"`
}

// verifyAccount is asked before a customer elsewhere commits to an address.
// It has 1 s.
func (b *backend) verifyAccount(q *accountQuestion) any {
	_, v := owner(q.Symbol, q.Network, q.IVMS101.Beneficiary, false)
	answer := map[string]string{"accountVerificationResult": "VERIFIED", "verifiedAt": time.Now().UTC().Format("2006-01-02T15:04:05.000Z")}
	if v.reason != "OK" {
		answer["accountVerificationResult"], answer["reason"], answer["message"] = "DENIED", v.reason, v.message
	}
	return answer
}

type userQuestion struct {
	VerificationUUID        string  `json:"verificationUuid"`
	AssetInfo               asset   `json:"assetInfo"`
	RequiredBeneficiaryInfo string  `json:"requiredBeneficiaryInfo"`
	IVMS101                 ivms101 `json:"ivms101"`
}

type asset struct {
	Symbol               string `json:"symbol"`
	Network              string `json:"network,omitempty"`
	Amount               string `json:"amount"`
	IsExceedingThreshold bool   `json:"isExceedingThreshold"`
	TradePrice           string `json:"tradePrice"`
	TradeCurrency        string `json:"tradeCurrency"`
	TradeISODatetime     string `json:"tradeISODatetime"`
}

// verifyUser decides whether a transfer may come in, in 5 s: whose account it
// is, who sends (here belongs your sanctions screening), and whether we can
// tell what is asked for.
func (b *backend) verifyUser(q *userQuestion) any {
	c, v := owner(q.AssetInfo.Symbol, q.AssetInfo.Network, q.IVMS101.Beneficiary, true)
	if from := q.IVMS101.Originator; v.reason == "OK" && (from == nil || len(from.OriginatorPersons) == 0) {
		v = verdict{"LACK-OF-INFORMATION", "NATURAL_PERSON_NAME"}
	}
	if missing := unknown(q.RequiredBeneficiaryInfo); v.reason == "OK" && missing != "" {
		v = verdict{"UNAVAILABLE-INFORMATION", missing}
	}
	if v.reason != "OK" {
		return map[string]any{"result": "DENIED", "reason": v.reason, "message": v.message, "version": "1.0"}
	}
	b.expect(q.VerificationUUID)
	told := party{AccountNumber: q.IVMS101.Beneficiary.AccountNumber} // unchanged
	if strings.Contains(q.RequiredBeneficiaryInfo, "NATURAL_PERSON_NAME") {
		told.BeneficiaryPersons = []person{named(c)}
	}
	return map[string]any{"result": "VERIFIED", "reason": "OK", "message": "", "version": "1.0", "ivms101": ivms101{Beneficiary: &told}}
}

// expect keeps that coins may come. It may be asked again, and after a report.
func (b *backend) expect(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deposits[id] == nil {
		b.deposits[id] = &transfer{State: "EXPECTED"}
	}
}

// unknown are the codes that we have no answer to.
func unknown(required string) string {
	var codes []string
	for code := range strings.SplitSeq(required, ",") {
		if code = strings.TrimSpace(code); code != "ACCOUNT_NUMBER" && code != "NATURAL_PERSON_NAME" {
			codes = append(codes, code)
		}
	}
	return strings.Join(codes, ",")
}
