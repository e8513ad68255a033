package wirejson

import (
	"reflect"
	"strings"
)

// vocabulary is the member names that an error may show: those of the
// contract, and those of the type that is decoded into. Any other name was
// chosen by whoever wrote the text.
type vocabulary struct{ target reflect.Type }

func known(v any) vocabulary { return vocabulary{reflect.TypeOf(v)} }

func (v vocabulary) has(name string) bool {
	return contract[name] || (v.target != nil && hasMember(v.target, name, 0))
}

// hasMember looks for a JSON member in t and the types it is made of. It runs
// on the way to an error only. The depth bounds types that contain themselves.
func hasMember(t reflect.Type, name string, depth int) bool {
	if depth > 8 {
		return false
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return hasMember(t.Elem(), name, depth+1)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.IsExported() && (memberName(f) == name || hasMember(f.Type, name, depth+1)) {
				return true
			}
		}
	}
	return false
}

func memberName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return f.Name
	}
	return name
}

// contract holds every member name of the contract's sections 2, 3 and 8.
var contract = func() map[string]bool {
	set := make(map[string]bool)
	for name := range strings.FieldsSeq(`
		accountNumber accountVerificationResult addressLine addressType amount
		assetInfo beneficiary beneficiaryAccountNumber beneficiaryPersons
		beneficiaryVASP beneficiaryVaspId buildingName buildingNumber
		callbackType code country countryOfIssue countryOfRegistration
		countryOfResidence countrySubDivision createdAt customerIdentification
		customerNumber data dataAndPlaceOfBirth dateAndPlaceOfBirth dateOfBirth
		dateOfIncorporation department districtName floor geographicAddress
		isExceedingThreshold ivms101 keyType legalPerson legalPersonName
		legalPersonNameIdentifierType localNameIdentifier message name
		nameIdentifier nameIdentifierType nationalIdentification
		nationalIdentifier nationalIdentifierType nationality naturalPerson
		network originatingVASP originatingVaspId originator
		originatorAccountNumber originatorPersons payload payloadMetadata
		phoneticNameIdentifier placeOfBirth postBox postcode primaryIdentifier
		reason registrationAuthority requiredBeneficiaryInfo result room
		secondaryIdentifier streetName subDepartment symbol
		townLocationName townName tradeCurrency tradeISODateTime
		tradeISODatetime tradePrice transactionStatus transliterationMethod
		txHash verificationId verificationResult verificationUuid verifiedAt
		version vout`) {
		set[name] = true
	}
	return set
}()
