// Package ivms101 reads the payload of a Travel Rule message: who sends, who
// receives, and the accounts between them, in the dialect of IVMS101 that the
// contract's section 8 describes.
//
// A payload is kept as the text it came as. This package parses beside the
// text and hands out pieces of it, so order, spacing and members that nobody
// here knows arrive at the other side as they were sent. Only Strip takes
// something away, and leaves the rest of the text as it was.
//
// The contract validates little, and so does ParsePayload: persons may lack
// anything. What it does refuse are texts that two readers could understand
// differently (see wirejson) or that are made to mislead a human reviewer
// (see CheckText). What else is asked of a payload is a policy: Lenient, the
// contract's, or Strict. They look at a View, the payload as types, in which
// each part knows where it stands.
package ivms101

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// Payload is a `payload` object, {version, ivms101}. Its byte slices are parts
// of the text it was parsed from and nil where that has nothing or null.
type Payload struct {
	Version string
	IVMS101 []byte // the whole ivms101 object

	Originator  Party
	Beneficiary Party
	// OriginatingVASP and BeneficiaryVASP are the VASPs' own data, each
	// {"legalPerson": ...} (contract 8.1).
	OriginatingVASP []byte
	BeneficiaryVASP []byte
}

// Party is an originator or beneficiary object.
type Party struct {
	Raw []byte // the whole object; nil when absent
	// Accounts is accountNumber as written, never normalised: a memo or tag
	// is the part after the last colon (contract 8.3).
	Accounts []string
	// Persons is the array of persons, nil when absent.
	Persons []byte
	// Natural and Legal count the persons of either kind.
	Natural, Legal int
}

// Account is the party's first account, "" when there is none.
func (p Party) Account() string {
	if len(p.Accounts) == 0 {
		return ""
	}
	return p.Accounts[0]
}

// ParsePayload parses a payload object. It asks for the shape of what it finds
// and for nothing to be there: which parts a message needs is its receiver's
// business. Errors are *wirejson.Error with a pointer below raw.
func ParsePayload(raw []byte) (*Payload, error) {
	if err := checkObject(raw); err != nil {
		return nil, err
	}
	p := new(Payload)
	for m := range members(raw) {
		var err error
		switch m.name {
		case "version":
			p.Version, err = stringAt(m.value, "/version")
		case "ivms101":
			err = p.parts(m.value)
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Payload) parts(raw []byte) (err error) {
	if p.IVMS101, err = objectAt(raw, "/ivms101"); err != nil {
		return err
	}
	for m := range members(p.IVMS101) {
		switch m.name {
		case "originator":
			p.Originator, err = party(m.value, "/ivms101/originator")
		case "beneficiary":
			p.Beneficiary, err = party(m.value, "/ivms101/beneficiary")
		case "originatingVASP":
			p.OriginatingVASP, err = objectAt(m.value, "/ivms101/originatingVASP")
		case "beneficiaryVASP":
			p.BeneficiaryVASP, err = objectAt(m.value, "/ivms101/beneficiaryVASP")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ParseParty parses an originator or beneficiary object that stands alone.
// Errors are as those of ParsePayload.
func ParseParty(raw []byte) (Party, error) {
	if err := checkObject(raw); err != nil {
		return Party{}, err
	}
	return party(raw, "")
}

func party(raw []byte, at string) (p Party, err error) {
	if p.Raw, err = objectAt(raw, at); err != nil {
		return Party{}, err
	}
	for m := range members(p.Raw) {
		switch m.name {
		case "accountNumber":
			p.Accounts, err = stringsAt(m.value, at+"/accountNumber")
		case "originatorPersons", "beneficiaryPersons":
			err = p.persons(m.value, at+"/"+m.name)
		}
		if err != nil {
			return Party{}, err
		}
	}
	return p, nil
}

func (p *Party) persons(raw []byte, at string) (err error) {
	if p.Persons, err = arrayAt(raw, at); err != nil {
		return err
	}
	for e := range elements(p.Persons) {
		if _, err := objectAt(e.value, at+"/"+e.name); err != nil {
			return err
		}
		for m := range members(e.value) {
			switch {
			case kind(m.value) != '{':
			case m.name == "naturalPerson":
				p.Natural++
			case m.name == "legalPerson":
				p.Legal++
			}
		}
	}
	return nil
}

// checkObject is what every text must pass before it is taken apart.
func checkObject(raw []byte) error {
	if err := wirejson.Check(raw, wirejson.Limits{}); err != nil {
		return err
	}
	if err := CheckText(raw); err != nil {
		return err
	}
	if kind(raw) != '{' {
		return &wirejson.Error{Problem: "want an object"}
	}
	return nil
}

// objectAt, arrayAt, stringAt and stringsAt give a value of the wanted kind,
// or nothing for null, which says the same as an absent member.

func objectAt(raw []byte, at string) ([]byte, error) { return rawAt(raw, at, '{', "an object") }

func arrayAt(raw []byte, at string) ([]byte, error) { return rawAt(raw, at, '[', "an array") }

func rawAt(raw []byte, at string, want jsontext.Kind, spoken string) ([]byte, error) {
	switch kind(raw) {
	case want:
		return raw, nil
	case 'n':
		return nil, nil
	}
	return nil, &wirejson.Error{Pointer: at, Problem: "want " + spoken}
}

func stringAt(raw []byte, at string) (string, error) {
	switch kind(raw) {
	case '"':
		return unquote(raw), nil
	case 'n':
		return "", nil
	}
	return "", &wirejson.Error{Pointer: at, Problem: "want a string"}
}

func stringsAt(raw []byte, at string) (list []string, err error) {
	if raw, err = arrayAt(raw, at); err != nil {
		return nil, err
	}
	for e := range elements(raw) {
		if kind(e.value) != '"' {
			return nil, &wirejson.Error{Pointer: at + "/" + e.name, Problem: "want a string"}
		}
		list = append(list, unquote(e.value))
	}
	return list, nil
}
