package ivms101

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// The types of the contract's dialect (its section 8), for looking at: a
// payload's text is what is kept and sent, and nothing here is ever written
// back. Each part knows the JSON Pointer (RFC 6901) of the place where it
// stands, below the text that was read. A pointer may hold names that a
// stranger chose; show it by wirejson.Shown.

// Text is one string of a payload. The zero Text is one that is not there;
// null says the same as an absent member.
type Text struct {
	Value string
	At    jsontext.Pointer
}

// Given says whether the string is there, be it empty.
func (t Text) Given() bool { return t.At != "" }

// Participant is an originator or a beneficiary (contract 8.1): persons, and
// accounts beside them.
type Participant struct {
	At       jsontext.Pointer
	Persons  []Person
	Accounts []Text // as written; see SplitAccount
}

// Person is a natural or a legal person (contract 8.2); the other is nil, and
// both are when the payload says neither.
type Person struct {
	At      jsontext.Pointer
	Natural *NaturalPerson
	Legal   *LegalPerson
}

// NaturalPerson is a human being (contract 8.2).
type NaturalPerson struct {
	At                     jsontext.Pointer
	Name                   Names[NameIdentifier]
	Addresses              []Address
	NationalIdentification *NationalIdentification
	CustomerIdentification Text
	// DateAndPlaceOfBirth is read in the guide's misspelling dataAndPlaceOfBirth
	// too (contract 8.1); the right one wins.
	DateAndPlaceOfBirth *DateAndPlaceOfBirth
	CountryOfResidence  Text
	Nationality         Text // an extension of the dialect (contract 8.1)
}

// Names are what a person or a company is called. At is empty when there is no
// name.
type Names[T NameIdentifier | LegalNameIdentifier] struct {
	At            jsontext.Pointer
	Names         []T
	LocalNames    []T // in the script of the country (contract 8.3)
	PhoneticNames []T
}

func (n *Names[T]) all() []T { return slices.Concat(n.Names, n.LocalNames, n.PhoneticNames) }

// NameIdentifier is a name in one form. Primary is the surname, or all of the
// name. Type is LEGL, ALIA, BIRT, MAID or MISC; its member is called
// nameIdentifierType here, other than in the standard (contract 8.1).
type NameIdentifier struct {
	At                       jsontext.Pointer
	Primary, Secondary, Type Text
}

// DateAndPlaceOfBirth is when, as YYYY-MM-DD, and where somebody was born.
type DateAndPlaceOfBirth struct {
	At          jsontext.Pointer
	Date, Place Text
}

// LegalPerson is a company (contract 8.2).
type LegalPerson struct {
	At                     jsontext.Pointer
	Name                   Names[LegalNameIdentifier]
	Addresses              []Address // the head office, then branches (contract 8.3)
	NationalIdentification *NationalIdentification
	CustomerIdentification Text
	CustomerNumber         Text // the same by the standard's older name
	CountryOfRegistration  Text
	DateOfIncorporation    Text // YYYY-MM-DD; an extension of the dialect (contract 8.1)
}

// LegalNameIdentifier is a company's name in one form; Type is LEGL, SHRT or
// TRAD.
type LegalNameIdentifier struct {
	At         jsontext.Pointer
	Name, Type Text
}

// NationalIdentification is a number that a state knows somebody by (contract
// 8.2). Authority is the registration authority's code, RA and six digits.
type NationalIdentification struct {
	At                                          jsontext.Pointer
	Identifier, Type, CountryOfIssue, Authority Text
}

// Address is where somebody lives or works (contract 8.2). Type is HOME, BIZZ
// or GEOG.
type Address struct {
	At                                       jsontext.Pointer
	Type, Country                            Text
	Department, SubDepartment                Text
	StreetName, BuildingNumber, BuildingName Text
	Floor, PostBox, Room, Postcode           Text
	TownName, TownLocationName, DistrictName Text
	CountrySubDivision                       Text
	Lines                                    []Text
}

// View is an ivms101 object as types.
type View struct {
	Originator, Beneficiary          *Participant // nil when absent
	OriginatingVASP, BeneficiaryVASP *Person      // nil when absent
	TransliterationMethods           []Text

	// Texts are all strings above, in the order in which they stand.
	Texts []Text
	// Remarks are what could not be read because it is not of its kind, and
	// counts as absent, and members that the contract does not know.
	Remarks []Finding
}

// View reads the payload's ivms101 object. It cannot fail: what is not of the
// contract's shape is a remark. Pointers are below the payload.
func (p *Payload) View() *View {
	r := new(reader)
	r.ivms101(p.IVMS101, "/ivms101")
	return &r.View
}

// ParsePersons reads an array of persons, as Party.Persons is. A null element
// is a person of neither kind. Errors are *wirejson.Error: a part that is not
// of its kind is one.
func ParsePersons(raw []byte) ([]Person, error) {
	if raw == nil {
		return nil, nil
	}
	if err := wirejson.Check(raw, wirejson.Limits{}); err != nil {
		return nil, err
	}
	r := new(reader)
	persons := list(r, raw, "", r.person)
	for _, f := range r.Remarks {
		if !f.Warning {
			return nil, &wirejson.Error{Pointer: f.Pointer, Problem: f.Problem}
		}
	}
	return persons, nil
}

// UnmarshalJSONFrom reads a person within a larger value. Like View it passes
// over what is not of its kind.
func (p *Person) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	raw, err := d.ReadValue()
	if err == nil {
		*p = new(reader).person(raw, d.StackPointer())
	}
	return err
}
