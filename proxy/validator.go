package proxy

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// Validator judges a payload whose form is right: before it is stored and sent
// to a counterparty, and before our backend is asked about one that came.
type Validator interface {
	// Validate gives what is wrong with a payload, errors and warnings; a
	// payload with an error is refused. It must not change the payload or
	// keep it, does no I/O, and may be called concurrently. A finding goes to
	// our backend, to the counterparty and into the log: it names places and
	// never quotes a value.
	Validate(o ivms101.Occasion, p *ivms101.Payload) []ivms101.Finding
}

var (
	_ Validator = ivms101.Lenient{}
	_ Validator = ivms101.Strict{}
)

// maySend refuses what our validator does not let out, with the contract's
// code for the field of the first finding, and a message that names more.
func (e *Enclave) maySend(o ivms101.Occasion, p *ivms101.Payload) error {
	found := ivms101.Errors(e.Validator.Validate(o, p))
	if len(found) == 0 {
		return nil
	}
	e.metrics.objections.WithLabelValues("outbound").Inc()
	name := fieldName("/payload" + shown(found[0]))
	if name == "" { // a validator's own: nobody knows the field
		name = "payload"
	}
	return invalid("INVALID-"+kebab(name), "`%s` is invalid value: %s", name, sentences("/payload", found))
}

// objection is what our validator has against a counterparty's payload, "" for
// nothing. It goes to the counterparty as the message of our answer.
func (e *Enclave) objection(from identity.VASPID, o ivms101.Occasion, p *ivms101.Payload) string {
	found := ivms101.Errors(e.Validator.Validate(o, p))
	if len(found) == 0 {
		return ""
	}
	e.metrics.objections.WithLabelValues("inbound").Inc()
	said := sentences("", found)
	e.Logger.Warn("a counterparty's payload is refused by the validator; our backend is not asked", "vasp", from, "account_check", o.AccountCheck, "findings", said)
	return clip("The IVMS101 payload is refused: "+said, maxMessage)
}

// maxFindings is how many findings a message names.
const maxFindings = 5

// sentences names findings with their places.
func sentences(under string, found []ivms101.Finding) string {
	var b strings.Builder
	for i, f := range found[:min(len(found), maxFindings)] {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (at %s)", f.Problem, under+shown(f))
	}
	if more := len(found) - maxFindings; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String() + "."
}

// shown is a finding's place. A validator of somebody else's may have kept a
// stranger's words in it.
func shown(f ivms101.Finding) string { return wirejson.Shown(jsontext.Pointer(f.Pointer)) }
