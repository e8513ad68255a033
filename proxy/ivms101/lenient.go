package ivms101

import "bytes"

// Lenient judges payloads as the contract does: of what a backend sends it
// wants the parts that a message cannot do without, and a dateOfIncorporation
// that is a date (contract 2.4, change log 1.5.4). It says nothing against
// what a counterparty sends: strict validation breaks peers.
type Lenient struct{}

// Validate judges a payload; see Occasion. It may be called concurrently.
func (Lenient) Validate(o Occasion, p *Payload) []Finding {
	if o.Inbound {
		return nil
	}
	found := neededParts(o, p)
	if !mayHold(p.IVMS101, "dateOfIncorporation") {
		return found
	}
	v := p.View()
	for _, f := range v.Remarks { // one that is no string
		if f.Code == WrongKind && lastName(f.Pointer) == "dateOfIncorporation" {
			f.Problem = dateWanted
			found = append(found, f)
		}
	}
	for _, t := range v.Texts { // an empty one says no more than none
		if lastName(string(t.At)) == "dateOfIncorporation" && t.Value != "" && !isDate(t.Value) {
			found = append(found, t.finding(WrongForm, dateWanted))
		}
	}
	return found
}

// mayHold says whether a text may have a member of a name, so that most are
// not taken apart. An escape can spell any name.
func mayHold(raw []byte, name string) bool {
	return bytes.Contains(raw, []byte(name)) || bytes.Contains(raw, []byte(`\u`))
}

// neededParts are the parts that a message cannot do without.
func neededParts(o Occasion, p *Payload) (found []Finding) {
	for _, part := range []struct {
		lacks            bool
		pointer, problem string
	}{
		{p.Version == "", "/version", `is missing; write "1.0"`},
		{p.IVMS101 == nil, "/ivms101", "is missing; write an object with originator and beneficiary"},
		{!o.AccountCheck && p.IVMS101 != nil && p.Originator.Raw == nil, "/ivms101/originator",
			"is missing; write an object with originatorPersons and accountNumber"},
		{p.IVMS101 != nil && p.Beneficiary.Raw == nil, "/ivms101/beneficiary", "is missing; write an object with accountNumber"},
		{p.Beneficiary.Raw != nil && len(p.Beneficiary.Accounts) == 0, "/ivms101/beneficiary/accountNumber",
			"is missing; write an array with the account as a string"},
	} {
		if part.lacks {
			found = append(found, Finding{Pointer: part.pointer, Code: Missing, Problem: part.problem})
		}
	}
	for i, account := range p.Beneficiary.Accounts {
		if account == "" {
			found = append(found, Finding{Pointer: "/ivms101/beneficiary/accountNumber/" + itoa(i), Code: Empty, Problem: "is empty; write the account"})
		}
	}
	return found
}
