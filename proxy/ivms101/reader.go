package ivms101

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// reader fills a View. Its methods take a value and the place where it stands,
// and note what they cannot read.
type reader struct{ View }

// object reads the members of an object: strings into texts, others by other,
// which says whether it knows the name. Members that are null are absent.
func (r *reader) object(raw []byte, at jsontext.Pointer, texts map[string]*Text, other func(name string, value []byte, at jsontext.Pointer) bool) {
	if !r.is('{', raw, at, "an object") {
		return
	}
	for m := range members(raw) {
		here := at.AppendToken(m.name)
		into, isText := texts[m.name]
		switch {
		case kind(m.value) == 'n':
		case isText:
			*into = r.text(m.value, here)
		case other == nil || !other(m.name, m.value, here):
			r.remark(Finding{Pointer: wirejson.Shown(here), Code: Unknown, Warning: true,
				Problem: "the contract has no such member here; it travels as it is, and few will read it"})
		}
	}
}

// list reads the elements of an array by read.
func list[T any](r *reader, raw []byte, at jsontext.Pointer, read func(raw []byte, at jsontext.Pointer) T) (all []T) {
	if !r.is('[', raw, at, "an array") {
		return nil
	}
	for e := range elements(raw) {
		all = append(all, read(e.value, at.AppendToken(e.name)))
	}
	return all
}

func (r *reader) text(raw []byte, at jsontext.Pointer) Text {
	if !r.is('"', raw, at, "a string") {
		return Text{}
	}
	t := Text{unquote(raw), at}
	r.Texts = append(r.Texts, t)
	return t
}

// is says whether a value is of a kind; one that is neither that nor null is
// noted.
func (r *reader) is(want jsontext.Kind, raw []byte, at jsontext.Pointer, spoken string) bool {
	got := kind(raw)
	if got != want && got != 'n' {
		r.remark(Finding{Pointer: wirejson.Shown(at), Code: WrongKind, Problem: "want " + spoken})
	}
	return got == want
}

func (r *reader) remark(f Finding) { r.Remarks = append(r.Remarks, f) }

func (r *reader) ivms101(raw []byte, at jsontext.Pointer) {
	if raw == nil {
		return
	}
	r.object(raw, at, nil, func(name string, value []byte, at jsontext.Pointer) bool {
		switch name {
		case "originator":
			r.Originator = r.participant(value, at, "originatorPersons")
		case "beneficiary":
			r.Beneficiary = r.participant(value, at, "beneficiaryPersons")
		case "originatingVASP":
			r.OriginatingVASP = r.vasp(value, at)
		case "beneficiaryVASP":
			r.BeneficiaryVASP = r.vasp(value, at)
		case "payloadMetadata":
			r.metadata(value, at)
		default:
			return false
		}
		return true
	})
}

func (r *reader) metadata(raw []byte, at jsontext.Pointer) {
	r.object(raw, at, nil, func(name string, value []byte, at jsontext.Pointer) bool {
		if name != "transliterationMethod" {
			return false
		}
		r.TransliterationMethods = list(r, value, at, r.text)
		return true
	})
}

func (r *reader) participant(raw []byte, at jsontext.Pointer, persons string) *Participant {
	p := &Participant{At: at}
	r.object(raw, at, nil, func(name string, value []byte, at jsontext.Pointer) bool {
		switch name {
		case persons:
			p.Persons = list(r, value, at, r.person)
		case "accountNumber":
			p.Accounts = list(r, value, at, r.text)
		default:
			return false
		}
		return true
	})
	return p
}

func (r *reader) vasp(raw []byte, at jsontext.Pointer) *Person {
	p := r.person(raw, at)
	return &p
}

func (r *reader) person(raw []byte, at jsontext.Pointer) Person {
	p := Person{At: at}
	r.object(raw, at, nil, func(name string, value []byte, at jsontext.Pointer) bool {
		switch name {
		case "naturalPerson":
			p.Natural = r.naturalPerson(value, at)
		case "legalPerson":
			p.Legal = r.legalPerson(value, at)
		default:
			return false
		}
		return true
	})
	return p
}

func (r *reader) naturalPerson(raw []byte, at jsontext.Pointer) *NaturalPerson {
	if !r.is('{', raw, at, "an object") {
		return nil
	}
	p := &NaturalPerson{At: at}
	var misspelt *DateAndPlaceOfBirth
	r.object(raw, at, map[string]*Text{
		"customerIdentification": &p.CustomerIdentification,
		"countryOfResidence":     &p.CountryOfResidence,
		"nationality":            &p.Nationality,
	}, func(name string, value []byte, at jsontext.Pointer) bool {
		switch name {
		case "name":
			p.Name = nameLists(r, value, at, r.nameIdentifier)
		case "geographicAddress":
			p.Addresses = list(r, value, at, r.address)
		case "nationalIdentification":
			p.NationalIdentification = r.nationalIdentification(value, at)
		case "dateAndPlaceOfBirth":
			p.DateAndPlaceOfBirth = r.birth(value, at)
		case "dataAndPlaceOfBirth":
			misspelt = r.birth(value, at)
		default:
			return false
		}
		return true
	})
	if p.DateAndPlaceOfBirth == nil {
		p.DateAndPlaceOfBirth = misspelt
	}
	return p
}

func nameLists[T NameIdentifier | LegalNameIdentifier](r *reader, raw []byte, at jsontext.Pointer, read func([]byte, jsontext.Pointer) T) (n Names[T]) {
	if n.At = at; !r.is('{', raw, at, "an object") {
		return Names[T]{}
	}
	r.object(raw, at, nil, func(name string, value []byte, at jsontext.Pointer) bool {
		switch name {
		case "nameIdentifier":
			n.Names = list(r, value, at, read)
		case "localNameIdentifier":
			n.LocalNames = list(r, value, at, read)
		case "phoneticNameIdentifier":
			n.PhoneticNames = list(r, value, at, read)
		default:
			return false
		}
		return true
	})
	return n
}

func (r *reader) nameIdentifier(raw []byte, at jsontext.Pointer) NameIdentifier {
	n := NameIdentifier{At: at}
	r.object(raw, at, map[string]*Text{
		"primaryIdentifier": &n.Primary, "secondaryIdentifier": &n.Secondary, "nameIdentifierType": &n.Type,
	}, nil)
	return n
}

func (r *reader) birth(raw []byte, at jsontext.Pointer) *DateAndPlaceOfBirth {
	if !r.is('{', raw, at, "an object") {
		return nil
	}
	b := &DateAndPlaceOfBirth{At: at}
	r.object(raw, at, map[string]*Text{"dateOfBirth": &b.Date, "placeOfBirth": &b.Place}, nil)
	return b
}

func (r *reader) legalPerson(raw []byte, at jsontext.Pointer) *LegalPerson {
	if !r.is('{', raw, at, "an object") {
		return nil
	}
	p := &LegalPerson{At: at}
	r.object(raw, at, map[string]*Text{
		"customerIdentification": &p.CustomerIdentification,
		"customerNumber":         &p.CustomerNumber,
		"countryOfRegistration":  &p.CountryOfRegistration,
		"dateOfIncorporation":    &p.DateOfIncorporation,
	}, func(name string, value []byte, at jsontext.Pointer) bool {
		switch name {
		case "name":
			p.Name = nameLists(r, value, at, r.legalNameIdentifier)
		case "geographicAddress":
			p.Addresses = list(r, value, at, r.address)
		case "nationalIdentification":
			p.NationalIdentification = r.nationalIdentification(value, at)
		default:
			return false
		}
		return true
	})
	return p
}

func (r *reader) legalNameIdentifier(raw []byte, at jsontext.Pointer) LegalNameIdentifier {
	n := LegalNameIdentifier{At: at}
	r.object(raw, at, map[string]*Text{"legalPersonName": &n.Name, "legalPersonNameIdentifierType": &n.Type}, nil)
	return n
}

func (r *reader) nationalIdentification(raw []byte, at jsontext.Pointer) *NationalIdentification {
	if !r.is('{', raw, at, "an object") {
		return nil
	}
	n := &NationalIdentification{At: at}
	r.object(raw, at, map[string]*Text{
		"nationalIdentifier": &n.Identifier, "nationalIdentifierType": &n.Type,
		"countryOfIssue": &n.CountryOfIssue, "registrationAuthority": &n.Authority,
	}, nil)
	return n
}

func (r *reader) address(raw []byte, at jsontext.Pointer) Address {
	a := Address{At: at}
	r.object(raw, at, map[string]*Text{
		"addressType": &a.Type, "country": &a.Country, "department": &a.Department, "subDepartment": &a.SubDepartment,
		"streetName": &a.StreetName, "buildingNumber": &a.BuildingNumber, "buildingName": &a.BuildingName,
		"floor": &a.Floor, "postBox": &a.PostBox, "room": &a.Room, "postcode": &a.Postcode,
		"townName": &a.TownName, "townLocationName": &a.TownLocationName, "districtName": &a.DistrictName,
		"countrySubDivision": &a.CountrySubDivision,
	}, func(name string, value []byte, at jsontext.Pointer) bool {
		if name != "addressLine" {
			return false
		}
		a.Lines = list(r, value, at, r.text)
		return true
	})
	return a
}
