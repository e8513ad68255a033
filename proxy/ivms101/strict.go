package ivms101

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// Strict judges payloads by all that the contract says of them in 8.2 and 8.3,
// and by the lengths of the standard. What the contract's own samples lack,
// and what the standard wants and the contract does not, is a warning.
type Strict struct {
	// OutboundOnly leaves what counterparties send to Lenient.
	OutboundOnly bool
	// Now is the clock that days of birth are compared with; nil: time.Now.
	Now func() time.Time
}

// Validate judges a payload; see Occasion. Findings come in the order of their
// pointers. It may be called concurrently.
func (s Strict) Validate(o Occasion, p *Payload) []Finding {
	if o.Inbound && s.OutboundOnly {
		return Lenient{}.Validate(o, p)
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	j := &judge{now: now(), found: neededParts(o, p)}
	v := p.View()
	j.found = append(j.found, v.Remarks...)
	for _, t := range v.Texts {
		if code, problem := form(lastName(string(t.At)), t.Value); code != "" {
			j.found = append(j.found, t.finding(code, problem))
		}
	}
	j.view(o, v)
	slices.SortStableFunc(j.found, func(a, b Finding) int { return strings.Compare(a.Pointer, b.Pointer) })
	j.found = slices.DeleteFunc(j.found, misread(j.found))
	return slices.CompactFunc(j.found, func(a, b Finding) bool { return a.Pointer == b.Pointer && a.Code == b.Code })
}

// misread tells of findings that something is missing which is there, or whose
// place is, and of another kind: that has a finding of its own.
func misread(all []Finding) func(Finding) bool {
	wrong := map[string]bool{}
	for _, f := range all {
		wrong[f.Pointer] = wrong[f.Pointer] || f.Code == WrongKind
	}
	return func(f Finding) bool {
		for at := f.Pointer; f.Code == Missing && at != ""; at = at[:strings.LastIndexByte(at, '/')] {
			if wrong[at] {
				return true
			}
		}
		return false
	}
}

// judge collects findings on what texts cannot tell each by itself.
type judge struct {
	now   time.Time
	found []Finding
}

func (j *judge) say(at jsontext.Pointer, code Fault, problem string) {
	j.found = append(j.found, Finding{Pointer: wirejson.Shown(at), Code: code, Problem: problem})
}

func (j *judge) warn(at jsontext.Pointer, code Fault, problem string) {
	j.found = append(j.found, Finding{Pointer: wirejson.Shown(at), Code: code, Problem: problem, Warning: true})
}

// need wants a text to be there.
func (j *judge) need(t Text, at jsontext.Pointer, name, problem string) {
	if !t.Given() {
		j.say(at.AppendToken(name), Missing, problem)
	}
}

func (j *judge) view(o Occasion, v *View) {
	if v.Originator != nil && (!o.AccountCheck || len(v.Originator.Persons) > 0) {
		j.participant(v.Originator, "originatorPersons")
		j.accounts(v.Originator)
		if len(v.Originator.Persons) > 0 {
			j.identifiable(v.Originator.Persons[0])
		}
	}
	if v.Beneficiary != nil {
		if !o.AccountCheck || len(v.Beneficiary.Persons) > 0 { // contract 2.3: a name is optional there
			j.participant(v.Beneficiary, "beneficiaryPersons")
		}
		j.accounts(v.Beneficiary)
		if o.AccountCheck && len(v.Beneficiary.Accounts) > 1 {
			j.say(v.Beneficiary.At.AppendToken("accountNumber"), TooMany, "has more than one account; an account check takes one at a time")
		}
	}
	for _, vasp := range []*Person{v.OriginatingVASP, v.BeneficiaryVASP} {
		switch {
		case vasp == nil:
		case vasp.Legal == nil:
			j.say(vasp.At.AppendToken("legalPerson"), Missing, "is missing; a VASP is a legal person")
		default:
			j.legalPerson(vasp.Legal)
		}
		if vasp != nil && vasp.Natural != nil {
			j.say(vasp.Natural.At, WrongPlace, "stands where a VASP does; a VASP is a legal person")
		}
	}
}

func (j *judge) accounts(p *Participant) {
	if len(p.Accounts) == 0 {
		j.say(p.At.AppendToken("accountNumber"), Missing, "is missing; write an array with the account as a string")
	}
}

// participant wants one party (contract 8.3): a natural person, or a company
// and then its representatives.
func (j *judge) participant(p *Participant, name string) {
	at := p.At.AppendToken(name)
	if len(p.Persons) == 0 {
		j.say(at, Missing, "is missing; write an array with one person, or with a company and its representatives")
		return
	}
	company := p.Persons[0].Legal != nil
	for i, person := range p.Persons {
		switch {
		case person.Natural == nil && person.Legal == nil:
			j.say(person.At, Missing, "is no person; write an object with naturalPerson or legalPerson")
		case person.Natural != nil && person.Legal != nil:
			j.say(person.At, NotAllowed, "is a natural and a legal person; write two elements")
		case person.Legal != nil && i > 0 && company:
			j.say(person.At, TooMany, "is a second company; a transfer has one originator and one beneficiary")
		case person.Legal != nil && i > 0:
			j.say(person.At, WrongPlace, "is a company behind a person; write the company first and its representatives after it")
		case person.Natural != nil && i > 0 && !company && p.Persons[0].Natural != nil:
			j.say(person.At, TooMany, "is a second person without a company; a transfer has one originator and one beneficiary")
		}
		if person.Natural != nil {
			j.naturalPerson(person.Natural)
		}
		if person.Legal != nil {
			j.legalPerson(person.Legal)
		}
	}
}

// identifiable warns of an originator of whom there is nothing but a name:
// contract 8.2 wants more, and its samples have none.
func (j *judge) identifiable(p Person) {
	switch n, l := p.Natural, p.Legal; {
	case n != nil && len(n.Addresses) == 0 && n.NationalIdentification == nil && !n.CustomerIdentification.Given() && n.DateAndPlaceOfBirth == nil:
		j.warn(n.At, Missing, "has nothing but a name; add geographicAddress, nationalIdentification, customerIdentification or dateAndPlaceOfBirth")
	case l != nil && len(l.Addresses) == 0 && l.NationalIdentification == nil && !l.CustomerIdentification.Given() && !l.CustomerNumber.Given():
		j.warn(l.At, Missing, "has nothing but a name; add geographicAddress, nationalIdentification or customerIdentification")
	}
}

func (j *judge) naturalPerson(p *NaturalPerson) {
	var types []Text
	for _, n := range p.Name.all() {
		j.need(n.Primary, n.At, "primaryIdentifier", "is missing; write the surname, or all of the name")
		j.need(n.Type, n.At, "nameIdentifierType", "is missing; write LEGL for the legal name")
	}
	for _, n := range p.Name.Names {
		types = append(types, n.Type)
	}
	j.legalName(p.At.AppendToken("name"), types, "nameIdentifierType")
	j.addresses(p.Addresses)
	if b := p.DateAndPlaceOfBirth; b != nil {
		j.need(b.Date, b.At, "dateOfBirth", "is missing; write both the date and the place")
		j.need(b.Place, b.At, "placeOfBirth", "is missing; write both the date and the place, the residence when it is not known")
		j.past(b.Date, "lies in the future; write the day of birth")
	}
	if n := p.NationalIdentification; n != nil {
		j.national(n)
		if isWord(n.Type.Value, "LEIX") {
			j.say(n.Type.At, NotAllowed, "is LEIX, which a company has; write the type of a person's identifier")
		}
	}
	j.unknownCountries(p.CountryOfResidence, p.Nationality)
}

func (j *judge) legalPerson(p *LegalPerson) {
	var types []Text
	for _, n := range p.Name.all() {
		j.need(n.Name, n.At, "legalPersonName", "is missing; write the company's name")
		j.need(n.Type, n.At, "legalPersonNameIdentifierType", "is missing; write LEGL for the legal name")
	}
	for _, n := range p.Name.Names {
		types = append(types, n.Type)
	}
	j.legalName(p.At.AppendToken("name"), types, "legalPersonNameIdentifierType")
	j.addresses(p.Addresses)
	j.past(p.DateOfIncorporation, "lies in the future; write the day of incorporation")
	if n := p.NationalIdentification; n != nil {
		j.national(n)
		j.ofCompany(n)
	}
	j.unknownCountries(p.CountryOfRegistration)
}

// legalName wants one name that is the legal one (contract 8.2).
func (j *judge) legalName(at jsontext.Pointer, types []Text, member string) {
	legal := 0
	for _, t := range types {
		if isWord(t.Value, "LEGL") {
			if legal++; legal == 2 {
				j.say(t.At, TooMany, "is a second LEGL; one name is the legal one, write ALIA, SHRT or MISC as it fits for others")
			}
		}
	}
	switch names := at.AppendToken("nameIdentifier"); {
	case len(types) == 0:
		j.say(names, Missing, "is missing; write an array with the legal name")
	case legal == 0:
		j.say(names, Missing, "has no legal name; give one "+member+" LEGL")
	}
}

func (j *judge) addresses(all []Address) {
	for _, a := range all {
		j.need(a.Type, a.At, "addressType", "is missing; write HOME, BIZZ or GEOG")
		j.need(a.Country, a.At, "country", "is missing; write its two letters by ISO 3166-1")
		j.unknownCountries(a.Country)
		if len(a.Lines) == 0 && (!a.StreetName.Given() || !a.BuildingNumber.Given() && !a.BuildingName.Given()) {
			j.say(a.At, Missing, "has no street; write addressLine, or streetName with buildingNumber or buildingName")
		}
		if len(a.Lines) > maxLines {
			j.say(a.At.AppendToken("addressLine"), TooMany, "has more than "+itoa(maxLines)+" lines; join some")
		}
	}
}

func (j *judge) national(n *NationalIdentification) {
	j.need(n.Identifier, n.At, "nationalIdentifier", "is missing; write the number, or leave nationalIdentification out")
	j.need(n.Type, n.At, "nationalIdentifierType", "is missing; say what sort of number it is")
	j.unknownCountries(n.CountryOfIssue)
}

// ofCompany is what contract 8.2 says of a company's number.
func (j *judge) ofCompany(n *NationalIdentification) {
	if n.Type.Given() && isOneOf(n.Type.Value, words["nationalIdentifierType"]) && !isOneOf(n.Type.Value, legalIdentifiers) {
		j.say(n.Type.At, NotAllowed, "is a person's; a company has "+strings.Join(legalIdentifiers, ", "))
	}
	if n.CountryOfIssue.Given() {
		j.say(n.CountryOfIssue.At, NotAllowed, "does not belong to a company's number; leave it out")
	}
	switch lei := isWord(n.Type.Value, "LEIX"); {
	case lei && n.Authority.Given():
		j.say(n.Authority.At, NotAllowed, "does not belong to an LEI; leave it out")
	case !lei && n.Type.Given() && !n.Authority.Given():
		j.warn(n.At.AppendToken("registrationAuthority"), Missing, "is missing; the standard wants it, RA and six digits, with every number but an LEI")
	}
	if isWord(n.Type.Value, "LEIX") && n.Identifier.Given() && !isLEI(n.Identifier.Value) {
		j.say(n.Identifier.At, WrongForm, leiWanted)
	}
}

// past wants a day, when it is one, to be over or at least begun.
func (j *judge) past(t Text, problem string) {
	if day, err := time.Parse(time.DateOnly, t.Value); err == nil && !day.Before(j.now.UTC()) {
		j.say(t.At, WrongForm, problem)
	}
}

// unknownCountries warns of XX, which the standard has for a country that is
// not known and ISO 3166-1 has not.
func (j *judge) unknownCountries(all ...Text) {
	for _, t := range all {
		if isWord(t.Value, "XX") {
			j.warn(t.At, WrongForm, "is XX, a country that is not known; write the country when it is")
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
