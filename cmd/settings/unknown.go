package settings

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// UnknownVariable is a variable that has our prefix and that nothing reads: a
// misspelt setting, most often.
type UnknownVariable struct {
	Name    string
	Nearest string // the setting it may have meant; empty when none is near
}

// String is a sentence for the log.
func (u UnknownVariable) String() string {
	if u.Nearest == "" {
		return fmt.Sprintf("%s is not a setting of this program", u.Name)
	}
	return fmt.Sprintf("%s is not a setting of this program: did you mean %s?", u.Name, u.Nearest)
}

// Unknown lists the variables in environ that have the prefix and belong to no
// setting of into, sorted. Running on with one is right (a newer or older
// release may know it); checking a configuration should fail.
//
// The variables with which Kubernetes announces services (a service named
// vega-enclave sets VEGA_ENCLAVE_SERVICE_HOST and more) are not counted.
func Unknown(prefix string, into any, environ []string) []UnknownVariable {
	known := knownNames(into)
	var unknown []UnknownVariable
	for name, value := range given(environ) {
		if strings.HasPrefix(name, prefix) && !known[name] && !isServiceLink(name, value) {
			unknown = append(unknown, UnknownVariable{Name: name, Nearest: nearest(name, known)})
		}
	}
	slices.SortFunc(unknown, func(a, b UnknownVariable) int { return strings.Compare(a.Name, b.Name) })
	return unknown
}

// knownNames holds every name that into answers to. Names it refuses are
// known: the refusal has said what to do.
func knownNames(into any) map[string]bool {
	known := map[string]bool{}
	fields, _ := fieldsOf(into)
	for _, f := range fields {
		known[f.Name] = true
		if f.Secret {
			known[f.Name+FileSuffix] = true
		}
		for _, old := range f.Aliases {
			known[old] = true
		}
	}
	if r, ok := into.(Refuser); ok {
		for _, refusal := range r.Refused() {
			for _, name := range refusal.Names {
				known[name] = true
			}
		}
	}
	return known
}

// nearest finds the known name with the fewest edits, if a third of the
// letters or fewer differ.
func nearest(name string, known map[string]bool) string {
	best, bestDistance := "", len(name)/3+1
	for candidate := range known {
		d := levenshtein.ComputeDistance(name, candidate)
		if d < bestDistance || d == bestDistance && best != "" && candidate < best {
			best, bestDistance = candidate, d
		}
	}
	return best
}

var (
	linkName  = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?$`)
	linkValue = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// isServiceLink tells whether Kubernetes or Docker set the variable for a service.
func isServiceLink(name, value string) bool {
	return linkName.MatchString(name) || strings.HasSuffix(name, "_PORT") && isLink(value)
}

func isLink(value string) bool { return linkValue.MatchString(value) }
