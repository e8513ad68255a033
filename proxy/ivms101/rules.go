package ivms101

// rule says what of a value may stay when codes are asked for. A value stays
// whole when one of its codes was asked for; otherwise its members or elements
// are judged each by their own rule, and what no rule names goes.
type rule struct {
	codes   codeSet
	members map[string]*rule // of an object
	first   *rule            // of an array: the element 0
	rest    *rule            // of an array: the elements after it
	list    bool             // is an array, and stays as [] when nothing else does
}

// all keeps what needs no asking: it is in every set that Strip judges by.
var all = setOf(AccountNumber)

func when(codes ...Code) *rule { return &rule{codes: setOf(codes...)} }

// names is the rule of a `name` object. Who asks for the local name gets both:
// the contract wants both filled then.
func names(name, local Code) *rule {
	return &rule{members: map[string]*rule{
		"nameIdentifier":      when(name, local),
		"localNameIdentifier": when(local),
	}}
}

// The rules of contract 8.4, one for each place that a code names.
var (
	naturalPerson = &rule{members: map[string]*rule{
		"name":                   names(NaturalPersonName, LocalNaturalPersonName),
		"dateAndPlaceOfBirth":    when(NaturalPersonDateAndPlaceOfBirth),
		"dataAndPlaceOfBirth":    when(NaturalPersonDateAndPlaceOfBirth), // as the guide's samples spell it
		"nationality":            when(NaturalPersonNationality),
		"geographicAddress":      when(NaturalPersonGeographicAddress),
		"nationalIdentification": when(NaturalPersonNationalIdentification),
		"customerIdentification": when(NaturalPersonCustomerIdentification),
		"countryOfResidence":     when(NaturalPersonCountryOfResidence),
	}}

	legalPerson = &rule{members: map[string]*rule{
		"name": names(LegalPersonName, LocalLegalPersonName),
		"geographicAddress": {
			first: when(HeadOfficeGeographicAddress),
			rest:  when(BranchOfficeGeographicAddress),
		},
		"customerIdentification": when(LegalPersonCustomerIdentification),
		"customerNumber":         when(LegalPersonCustomerIdentification), // the standard's older name
		"nationalIdentification": when(LegalPersonNationalIdentification),
		"countryOfRegistration":  when(LegalPersonCountryOfRegistration),
		"dateOfIncorporation":    when(LegalPersonDateOfIncorporation),
	}}

	// Of a representative the contract has fewer codes than of a customer;
	// the members without one are named so that they are known, and go.
	representative = &rule{members: map[string]*rule{
		"name":                   names(CorporateRepresentativeName, LocalCorporateRepresentativeName),
		"dateAndPlaceOfBirth":    when(CorporateRepresentativeDateAndPlaceOfBirth),
		"dataAndPlaceOfBirth":    when(CorporateRepresentativeDateAndPlaceOfBirth),
		"nationality":            when(CorporateRepresentativeNationality),
		"geographicAddress":      when(),
		"nationalIdentification": when(),
		"customerIdentification": when(),
		"countryOfResidence":     when(),
	}}
)

// A party is a person, element 0, or a company with its representatives
// (contract 8.3). Of a company the kind of an element decides and not its
// place: a backend that lists the representative first means the same.
var (
	personParty = beneficiary(
		&rule{members: map[string]*rule{"naturalPerson": naturalPerson, "legalPerson": legalPerson}},
		&rule{members: map[string]*rule{"naturalPerson": when(), "legalPerson": when()}},
	)
	companyParty = beneficiary(ofCompany, ofCompany)

	ofCompany = &rule{members: map[string]*rule{"naturalPerson": representative, "legalPerson": legalPerson}}
)

func beneficiary(first, rest *rule) *rule {
	return &rule{members: map[string]*rule{
		"accountNumber":      {codes: all},
		"beneficiaryPersons": {first: first, rest: rest, list: true},
	}}
}
