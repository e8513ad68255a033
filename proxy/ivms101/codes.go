package ivms101

import (
	"errors"
	"slices"
	"strings"
)

// Code asks for one piece of data about the beneficiary (contract 8.4).
// Codes are compared exactly. One that is not below is unknown.
type Code string

// The codes of contract 8.4.
const (
	AccountNumber Code = "ACCOUNT_NUMBER"

	NaturalPersonName                   Code = "NATURAL_PERSON_NAME"
	LocalNaturalPersonName              Code = "LOCAL_NATURAL_PERSON_NAME"
	NaturalPersonDateAndPlaceOfBirth    Code = "NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH"
	NaturalPersonNationality            Code = "NATURAL_PERSON_NATIONALITY"
	NaturalPersonGeographicAddress      Code = "NATURAL_PERSON_GEOGRAPHIC_ADDRESS"
	NaturalPersonNationalIdentification Code = "NATURAL_PERSON_NATIONAL_IDENTIFICATION"
	NaturalPersonCustomerIdentification Code = "NATURAL_PERSON_CUSTOMER_IDENTIFICATION"
	NaturalPersonCountryOfResidence     Code = "NATURAL_PERSON_COUNTRY_OF_RESIDENCE"

	LegalPersonName                   Code = "LEGAL_PERSON_NAME"
	LocalLegalPersonName              Code = "LOCAL_LEGAL_PERSON_NAME"
	HeadOfficeGeographicAddress       Code = "HEAD_OFFICE_GEOGRAPHIC_ADDRESS"
	BranchOfficeGeographicAddress     Code = "BRANCH_OFFICE_GEOGRAPHIC_ADDRESS"
	LegalPersonCustomerIdentification Code = "LEGAL_PERSON_CUSTOMER_IDENTIFICATION"
	LegalPersonNationalIdentification Code = "LEGAL_PERSON_NATIONAL_IDENTIFICATION"
	LegalPersonCountryOfRegistration  Code = "LEGAL_PERSON_COUNTRY_OF_REGISTRATION"
	LegalPersonDateOfIncorporation    Code = "LEGAL_PERSON_DATE_OF_INCORPORATION"

	CorporateRepresentativeName                Code = "CORPORATE_REPRESENTATIVE_NAME"
	LocalCorporateRepresentativeName           Code = "LOCAL_CORPORATE_REPRESENTATIVE_NAME"
	CorporateRepresentativeDateAndPlaceOfBirth Code = "CORPORATE_REPRESENTATIVE_DATE_AND_PLACE_OF_BIRTH"
	CorporateRepresentativeNationality         Code = "CORPORATE_REPRESENTATIVE_NATIONALITY"
)

// known is every Code above; a code's position is its bit in a set.
var known = []Code{
	AccountNumber,
	NaturalPersonName, LocalNaturalPersonName, NaturalPersonDateAndPlaceOfBirth, NaturalPersonNationality,
	NaturalPersonGeographicAddress, NaturalPersonNationalIdentification, NaturalPersonCustomerIdentification,
	NaturalPersonCountryOfResidence,
	LegalPersonName, LocalLegalPersonName, HeadOfficeGeographicAddress, BranchOfficeGeographicAddress,
	LegalPersonCustomerIdentification, LegalPersonNationalIdentification, LegalPersonCountryOfRegistration,
	LegalPersonDateOfIncorporation,
	CorporateRepresentativeName, LocalCorporateRepresentativeName, CorporateRepresentativeDateAndPlaceOfBirth,
	CorporateRepresentativeNationality,
}

// Codes are the codes of contract 8.4.
func Codes() []Code { return slices.Clone(known) }

// Known says whether c is a code of contract 8.4.
func (c Code) Known() bool { return slices.Contains(known, c) }

// maxCodes and maxCode bound requiredBeneficiaryInfo: it is kept with the row.
const (
	maxCodes = 64
	maxCode  = 64
)

// ParseRequired parses requiredBeneficiaryInfo, codes with commas between
// them. Space around a code, empty codes and repeats are dropped, the order
// stays. Codes that are unknown here are kept, since a newer counterparty may
// know them. The caller checks that what it needs is there, AccountNumber
// above all; an empty text is an empty list.
func ParseRequired(s string) ([]Code, error) {
	var codes []Code
	for word := range strings.SplitSeq(s, ",") {
		c := Code(strings.TrimSpace(word))
		switch {
		case c == "" || slices.Contains(codes, c):
			continue
		case len(c) > maxCode || strings.ContainsFunc(string(c), notInCode):
			return nil, errors.New("parse required beneficiary info: a code has more than 64 characters or others than letters, digits, _ and -")
		case len(codes) == maxCodes:
			return nil, errors.New("parse required beneficiary info: more than 64 codes")
		}
		codes = append(codes, c)
	}
	return codes, nil
}

// notInCode lets small letters and hyphens pass: they make a code unknown, and
// unknown codes are not ours to refuse.
func notInCode(r rune) bool {
	return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-'
}

// codeSet is a set of codes: a bit for each known one, and one for all others.
type codeSet uint32

const unknownCode codeSet = 1 << 31

func setOf(codes ...Code) (s codeSet) {
	for _, c := range codes {
		if i := slices.Index(known, c); i >= 0 {
			s |= 1 << i
		} else {
			s |= unknownCode
		}
	}
	return s
}
