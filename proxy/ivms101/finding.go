package ivms101

// Finding is one thing that is wrong with a payload. It may be logged and sent
// to anybody: it holds no value and no name that a stranger chose.
type Finding struct {
	// Pointer is the JSON Pointer (RFC 6901) of the place, below the payload.
	// Of what is missing it is where it should stand. It is as
	// wirejson.Shown has it: a name that the contract does not know is "?".
	Pointer string `json:"pointer"`
	Code    Fault  `json:"code"`
	// Problem says what is wrong and what to write instead, in lower case and
	// without a full stop.
	Problem string `json:"problem"`
	// Warning says that the payload can pass all the same.
	Warning bool `json:"warning,omitempty"`
}

// Fault is what sort of thing is wrong, from a closed set.
type Fault string

// The faults.
const (
	Unreadable Fault = "UNREADABLE"  // no JSON text that all readers understand alike
	Missing    Fault = "MISSING"     // must be there
	Empty      Fault = "EMPTY"       // is there without a letter in it
	WrongKind  Fault = "WRONG-KIND"  // a number for a string, say
	WrongForm  Fault = "WRONG-FORM"  // no date, no country, no code of its list
	TooLong    Fault = "TOO-LONG"    // has more characters than the standard allows
	TooMany    Fault = "TOO-MANY"    // there are more than the contract allows
	WrongPlace Fault = "WRONG-PLACE" // does not belong where it stands
	NotAllowed Fault = "NOT-ALLOWED" // must not be there beside what is
	Unknown    Fault = "UNKNOWN"     // a member that the contract does not have
)

// Occasion is the message that a payload is part of, and which way it goes.
// The zero Occasion is a user verification that our backend sends.
type Occasion struct {
	Inbound      bool // from a counterparty
	AccountCheck bool // rather than a user verification
}

// Errors are the findings that are no warnings.
func Errors(all []Finding) (errors []Finding) {
	for _, f := range all {
		if !f.Warning {
			errors = append(errors, f)
		}
	}
	return errors
}
