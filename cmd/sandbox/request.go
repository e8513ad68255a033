package sandbox

import "fmt"

// Account is the address of the sandbox customer Taylor Robbins, whom every
// robot backend knows.
const Account = "0xFa230E9cCAF5e382539147294d7965Eeccbbfa5c"

// Request is a user verification that a robot backend with the sandbox's
// customers verifies, in the contract's JSON.
func Request(beneficiaryVASP string) []byte { return RequestFor(beneficiaryVASP, Account) }

// RequestFor is a Request to another account.
func RequestFor(beneficiaryVASP, account string) []byte {
	return RequestBy("PerVasp", beneficiaryVASP, account)
}

// RequestBy is a RequestFor that is sealed to a key of another type, by the
// contract's name of it.
func RequestBy(keyType, beneficiaryVASP, account string) []byte {
	return fmt.Appendf(nil, `{"keyType":%q,"beneficiaryVaspId":%q,`+
		`"assetInfo":{"symbol":"ETH","network":"Ethereum","amount":"1.25","isExceedingThreshold":true,"tradePrice":"4100.00","tradeCurrency":"USD","tradeISODatetime":"2026-01-15T09:30:00.000Z"},`+
		`"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME",`+
		`"payload":{"version":"1.0","ivms101":{`+
		`"originator":{"originatorPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Moreau","secondaryIdentifier":"Camille","nameIdentifierType":"LEGL"}]},`+
		`"geographicAddress":[{"addressType":"HOME","addressLine":["12 Rue de la République"],"townName":"Lyon","country":"FR"}],`+
		`"dateAndPlaceOfBirth":{"dateOfBirth":"1991-04-17","placeOfBirth":"Lyon"},"customerIdentification":"cust-20417"}}],"accountNumber":["0x8ba1f109551bD432803012645Ac136ddd64DBA72"]},`+
		`"beneficiary":{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Robbins","secondaryIdentifier":"Taylor","nameIdentifierType":"LEGL"}]}}}],"accountNumber":[%q]}}}}`,
		keyType, beneficiaryVASP, account)
}

// PersonalData is every piece of personal data in a Request.
var PersonalData = []string{
	"Moreau", "Camille", "12 Rue de la République", "Lyon", "1991-04-17", "cust-20417",
	"0x8ba1f109551bD432803012645Ac136ddd64DBA72", "Robbins", "Taylor", Account,
}
