package enclavecmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

func ivms101Command(catalog *plugins.Catalog) *cobra.Command {
	c := &cobra.Command{Use: "ivms101", Short: "Look at payloads, without an enclave"}
	c.AddCommand(checkPayloadCommand(catalog))
	return c
}

func checkPayloadCommand(catalog *plugins.Catalog) *cobra.Command {
	var lenient, strict, asJSON bool
	c := &cobra.Command{
		Use: "check FILE", Short: "Say what is wrong with a payload, field by field", Args: takes("FILE"),
		Long: "Says what is wrong with the payload in FILE, or on standard input for -, by JSON Pointer and without\n" +
			"quoting a value. FILE holds the body of a request, its payload, its ivms101 object, or the legal person\n" +
			"of VEGA_VASP_IVMS101_FILE. Of a body only the payload is judged.\n\n" +
			"Exit codes: 0 nothing but warnings, 1 there are errors, 2 FILE cannot be read.",
		RunE: func(c *cobra.Command, args []string) error {
			text, err := readPayloadFile(args[0], c.InOrStdin())
			if err != nil {
				return configError{err}
			}
			url := "strict:"
			if lenient {
				url = "lenient:"
			}
			v, err := catalog.PayloadValidators.Open(c.Context(), url)
			if err != nil {
				return configError{fmt.Errorf("%s %w", url, err)}
			}
			return examine(text, v).print(c.OutOrStdout(), asJSON)
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "judge by all rules of the contract; the default here")
	c.Flags().BoolVar(&lenient, "lenient", false, "judge by what an enclave asks with VEGA_PAYLOAD_VALIDATOR=lenient:")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.MarkFlagsMutuallyExclusive("strict", "lenient")
	return c
}

// maxPayloadFile is the longest text looked at, in bytes; JSON from elsewhere
// is never longer.
const maxPayloadFile = 1 << 20

func readPayloadFile(name string, stdin io.Reader) ([]byte, error) {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	return io.ReadAll(io.LimitReader(from, maxPayloadFile+1))
}

// examination is what there is to say of a text.
type examination struct {
	// Message is what the text was taken for.
	Message  string            `json:"message"`
	Errors   int               `json:"errors"`
	Warnings int               `json:"warnings"`
	Findings []ivms101.Finding `json:"findings"`
}

// excerpt is where in a text the payload is, and how a place in the payload is
// called in the text.
type excerpt struct {
	message  string
	payload  []byte
	occasion ivms101.Occasion
	within   string // a place in the payload that is the text
	under    string // a place in the text that is the payload
}

// examine finds the payload in a text and has it judged.
func examine(text []byte, v proxy.Validator) *examination {
	x, err := findPayload(text)
	if err != nil {
		return sum("text", []ivms101.Finding{unreadable(err)})
	}
	p, err := ivms101.ParsePayload(x.payload)
	if err != nil {
		return sum(x.message, x.placed(unreadable(err)))
	}
	if x.occasion.AccountCheck = x.occasion.AccountCheck && p.Originator.Raw == nil; x.occasion.AccountCheck {
		x.message += " of an account check"
	}
	return sum(x.message, x.placed(v.Validate(x.occasion, p)...))
}

// findPayload tells by its members what a text is.
func findPayload(text []byte) (*excerpt, error) {
	var in struct {
		Payload         jsontext.Value `json:"payload"`
		AssetInfo       jsontext.Value `json:"assetInfo"`
		Required        jsontext.Value `json:"requiredBeneficiaryInfo"`
		IVMS101         jsontext.Value `json:"ivms101"`
		Originator      jsontext.Value `json:"originator"`
		Beneficiary     jsontext.Value `json:"beneficiary"`
		OriginatingVASP jsontext.Value `json:"originatingVASP"`
		LegalPerson     jsontext.Value `json:"legalPerson"`
	}
	if err := wirejson.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	if err := ivms101.CheckText(text); err != nil {
		return nil, err
	}
	// A message without an originator may be an account check, but not when
	// it says what a verification says.
	maybe := ivms101.Occasion{AccountCheck: in.AssetInfo == nil && in.Required == nil}
	switch {
	case in.Payload != nil && len(text) > proxy.MaxRequest:
		return nil, &wirejson.Error{Problem: fmt.Sprintf("longer than the %d bytes that an enclave takes; send less", proxy.MaxRequest)}
	case in.Payload != nil:
		return &excerpt{message: "request", payload: in.Payload, under: "/payload", occasion: maybe}, nil
	case in.IVMS101 != nil:
		return &excerpt{message: "payload", payload: text, occasion: maybe}, nil
	case in.Originator != nil || in.Beneficiary != nil || in.OriginatingVASP != nil:
		return &excerpt{message: "ivms101 object", payload: slices.Concat([]byte(`{"version":"1.0","ivms101":`), text, []byte(`}`)), within: "/ivms101", occasion: maybe}, nil
	case in.LegalPerson != nil:
		return &excerpt{message: "VASP's own part", payload: slices.Concat([]byte(`{"version":"1.0","ivms101":{"originatingVASP":`), text, []byte(`}}`)), within: "/ivms101/originatingVASP"}, nil
	}
	return nil, &wirejson.Error{Problem: "is no message; want an object with payload, ivms101, originator, beneficiary or legalPerson"}
}

// placed gives findings their places in the text, and leaves out those that
// are about nothing in it.
func (x *excerpt) placed(all ...ivms101.Finding) []ivms101.Finding {
	placed := []ivms101.Finding{}
	for _, f := range all {
		if rest, inside := strings.CutPrefix(f.Pointer, x.within); inside || f.Pointer == "" {
			f.Pointer = x.under + rest
			placed = append(placed, f)
		}
	}
	return placed
}

// unreadable makes a finding of a refusal by a reader, which quotes nothing.
func unreadable(err error) ivms101.Finding {
	f := ivms101.Finding{Code: ivms101.Unreadable, Problem: "is refused by every reader"}
	var refused *wirejson.Error
	if errors.As(err, &refused) {
		f.Pointer, f.Problem = refused.Pointer, refused.Problem
	}
	return f
}

func sum(message string, found []ivms101.Finding) *examination {
	e := &examination{Message: message, Findings: found, Errors: len(ivms101.Errors(found))}
	e.Warnings = len(found) - e.Errors
	return e
}

// print writes the findings, and fails when there is an error among them.
func (e *examination) print(w io.Writer, asJSON bool) error {
	if err := e.write(w, asJSON); err != nil {
		return err
	}
	if e.Errors > 0 {
		return fmt.Errorf("the %s has %s", e.Message, count(e.Errors, "error"))
	}
	return nil
}

func (e *examination) write(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, e)
	}
	for _, f := range e.Findings {
		level, at := "error", f.Pointer
		if f.Warning {
			level = "warning"
		}
		if at == "" {
			at = "(all of it)"
		}
		fmt.Fprintf(w, "%-7s  %-11s  %s\n         %s\n", level, f.Code, at, f.Problem)
	}
	_, err := fmt.Fprintf(w, "%s: %s, %s\n", e.Message, count(e.Errors, "error"), count(e.Warnings, "warning"))
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
