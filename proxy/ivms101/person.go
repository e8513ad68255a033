package ivms101

import "github.com/vasp-enclave/vasp-enclave/proxy/wirejson"

// Person is a natural or a legal person; the other is nil. Of both only the
// members are here that programs of this repository read: a Person is for
// looking at, and is never written back.
type Person struct {
	Natural *NaturalPerson `json:"naturalPerson"`
	Legal   *LegalPerson   `json:"legalPerson"`
}

// NaturalPerson is a human being (contract 8.2).
type NaturalPerson struct {
	Name struct {
		Names      []NaturalName `json:"nameIdentifier"`
		LocalNames []NaturalName `json:"localNameIdentifier"`
	} `json:"name"`
	DateAndPlaceOfBirth *Birth `json:"dateAndPlaceOfBirth"`
	// DataAndPlaceOfBirth is the same, as the guide's samples misspell it.
	DataAndPlaceOfBirth *Birth `json:"dataAndPlaceOfBirth"`
}

// NaturalName is a name in one form. Primary is the surname or all of it.
type NaturalName struct {
	Primary   string `json:"primaryIdentifier"`
	Secondary string `json:"secondaryIdentifier"`
	Type      string `json:"nameIdentifierType"`
}

// Birth is when, as YYYY-MM-DD, and where somebody was born.
type Birth struct {
	Date  string `json:"dateOfBirth"`
	Place string `json:"placeOfBirth"`
}

// Born is the person's birth in either spelling, nil when neither is there.
func (p *NaturalPerson) Born() *Birth {
	if p.DateAndPlaceOfBirth != nil {
		return p.DateAndPlaceOfBirth
	}
	return p.DataAndPlaceOfBirth
}

// LegalPerson is a company (contract 8.2).
type LegalPerson struct {
	Name struct {
		Names      []LegalName `json:"nameIdentifier"`
		LocalNames []LegalName `json:"localNameIdentifier"`
	} `json:"name"`
}

// LegalName is a company's name in one form.
type LegalName struct {
	Name string `json:"legalPersonName"`
	Type string `json:"legalPersonNameIdentifierType"`
}

// ParsePersons decodes an array of persons, as Party.Persons is. Errors are
// *wirejson.Error; null elements are persons of neither kind.
func ParsePersons(raw []byte) ([]Person, error) {
	if raw == nil {
		return nil, nil
	}
	var persons []Person
	if err := wirejson.Unmarshal(raw, &persons); err != nil {
		return nil, err
	}
	return persons, nil
}
