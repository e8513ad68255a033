package ivms101

import (
	"iter"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// Strip takes out of a beneficiary object what was not asked for: the
// beneficiary VASP must not give away more of its customer than the originator
// requires (contract 3.2). The account always stays. What stays keeps its
// bytes and its order, spaces included; when all was asked for, kept is the
// text of beneficiary.
//
// Members that the contract does not know go too, unless a code was asked for
// that it does not know either: then one may be the answer to the other.
// Persons and addresses are found by position, so one that goes while a later
// one stays leaves {} in its place.
//
// removed are JSON Pointers into beneficiary, fit to be logged. Errors are
// *wirejson.Error.
func Strip(beneficiary []byte, required []Code) (kept []byte, removed []string, err error) {
	p, err := ParseParty(beneficiary)
	if err != nil {
		return nil, nil, err
	}
	rules := personParty
	if p.Legal > 0 {
		rules = companyParty
	}
	e := &editor{asked: setOf(required...) | all}
	kept, some := e.value(nil, beneficiary, "", rules)
	if !some {
		kept = append(kept, "{}"...)
	}
	return kept, e.removed, nil
}

// editor writes what stays of a text.
type editor struct {
	asked   codeSet
	removed []string
}

// value appends what stays of raw to out. Nothing stays, and nothing is
// appended, when none of its parts does.
func (e *editor) value(out, raw []byte, at jsontext.Pointer, r *rule) (kept []byte, some bool) {
	switch k := kind(raw); {
	case r.codes&e.asked != 0:
		return append(out, raw...), true
	case k == '{' && r.members != nil:
		return e.parts(out, raw, at, r, members(raw))
	case k == '[' && r.first != nil:
		if kept, some = e.parts(out, raw, at, r, elements(raw)); !some && r.list {
			return append(out, "[]"...), true
		}
		return kept, some
	}
	e.remove(at)
	return out, false
}

// parts appends what stays of the parts of raw, each with the text that stands
// between it and the part before it.
func (e *editor) parts(out, raw []byte, at jsontext.Pointer, r *rule, all iter.Seq[part]) ([]byte, bool) {
	var (
		was   = len(out)
		open  []byte // the text before the first part
		gaps  int    // elements gone since the last that stayed
		some  bool
		until int // where the part before ended
	)
	for p := range all {
		lead := raw[until:p.start]
		if until = p.end; open == nil {
			open = lead
		}
		if !some {
			lead = open
		}
		here := len(out)
		out = append(out, lead...)
		if kind(raw) == '[' {
			out = append(out, strings.Repeat("{},", gaps)...)
		}
		out = append(out, raw[p.start:p.end-len(p.value)]...) // the name, of a member
		var stays bool
		if out, stays = e.part(out, p, at.AppendToken(p.name), r, kind(raw)); stays {
			some, gaps = true, 0
		} else {
			out, gaps = out[:here], gaps+1
		}
	}
	if !some {
		return out[:was], false
	}
	return append(out, raw[until:]...), true
}

// part judges one part by the rule for its name or index.
func (e *editor) part(out []byte, p part, at jsontext.Pointer, r *rule, in jsontext.Kind) ([]byte, bool) {
	of := r.members[p.name]
	switch {
	case in == '[' && p.name == "0":
		of = r.first
	case in == '[':
		of = r.rest
	case of == nil && e.asked&unknownCode != 0:
		return append(out, p.value...), true
	case of == nil:
		e.remove(at)
		return out, false
	}
	return e.value(out, p.value, at, of)
}

func (e *editor) remove(at jsontext.Pointer) { e.removed = append(e.removed, wirejson.Shown(at)) }
