// Package settings reads a program's settings from environment variables into
// a struct, and writes that struct's reference: the help text, the README's
// table and the effective configuration all come from the same tags.
//
// A setting is an exported field with these tags:
//
//	env:"VEGA_SERVER_PORT"   its variable
//	doc:"..."                one sentence, with the unit; obligatory
//	group:"Server"           heading in help and tables; a field without one joins the field before it
//	envDefault:"21117"       value when the variable is unset or empty
//	required:"true"          must be set
//	secret:"true"            may also come from the file named by VEGA_..._FILE; the field is a Secret
//	reload:"true"            a change is taken over while the program runs, see Changes
//	alias:"OLD_NAME"         names it had before, comma separated: accepted with a warning
//	oneof:"a|b"              the only texts accepted
//	range:"0-65535"          the only whole numbers accepted
//	min:"600000"             a smaller number is raised to this one with a warning
//	unset:"..."              warning to give when the variable is not set
//
// A variable set to the empty string counts as unset. No message of this
// package holds the value of a variable.
package settings

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Checker is a settings struct with rules beyond one field. Load calls Check
// last, also when single fields were wrong, so a rule about an empty field
// says nothing: that the field is required was said already.
type Checker interface{ Check() []error }

// Warner is a settings struct that warns about values which are allowed and
// seldom wise. Load calls Warnings when there is no error.
type Warner interface{ Warnings() []string }

// Refuser is a settings struct whose program once had, or in another edition
// has, variables that this one cannot honour.
type Refuser interface{ Refused() []Refusal }

// Refusal is variables that stop the program when they are set, because to
// ignore them would do something else than their owner believes.
type Refusal struct {
	Names   []string // exact names, with the prefix
	Instead string   // one sentence: why, and what to set instead
}

// Load fills the struct that into points to from environ, whose entries have
// the form NAME=value as os.Environ gives them; of two entries with the same
// name the last one counts. The prefix says which variables are ours: one that
// has it and that nobody reads is a warning (see Unknown).
//
// The error joins everything that is wrong, one line each, naming the variable
// and what to do. The warnings are sentences for the log. Neither holds a
// value.
func Load(prefix string, into any, environ []string) (warnings []string, err error) {
	fields, err := fieldsOf(into)
	if err != nil {
		return nil, err
	}
	l := &load{fields: fields, given: given(environ), values: map[string]string{}}
	l.resolve()
	l.refuse(into)
	l.parse(into)
	for _, u := range Unknown(prefix, into, environ) {
		l.warn("%s", u)
	}
	if c, ok := into.(Checker); ok {
		l.errs = append(l.errs, l.fresh(c.Check())...)
	}
	if w, ok := into.(Warner); ok && len(l.errs) == 0 {
		l.warnings = append(l.warnings, w.Warnings()...)
	}
	return l.warnings, errors.Join(l.errs...)
}

// fresh leaves out what a rule says of a setting that was found wrong already.
func (l *load) fresh(errs []error) []error {
	wrong := map[string]bool{}
	for _, err := range l.errs {
		wrong[subject(err)] = true
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil || wrong[subject(err)] })
}

// subject is the name that an error begins with.
func subject(err error) string {
	name, _, _ := strings.Cut(err.Error(), " ")
	return strings.TrimRight(name, ":,")
}

// load is one call of Load.
type load struct {
	fields   []field
	given    map[string]string // the environment, empty values left out
	values   map[string]string // by the setting's own name: what the parser sees
	warnings []string
	errs     []error
}

func (l *load) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

func (l *load) fail(format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf(format, args...))
}

// given turns environ into a map without the empty values: unset and empty are one.
func given(environ []string) map[string]string {
	m := env.ToMap(environ)
	for name, value := range m {
		if value == "" {
			delete(m, name)
		}
	}
	return m
}

// refuse reports the variables that must not be set, one error per reason.
func (l *load) refuse(into any) {
	r, ok := into.(Refuser)
	if !ok {
		return
	}
	for _, refusal := range r.Refused() {
		var set []string
		for _, name := range refusal.Names {
			if _, ok := l.given[name]; ok {
				set = append(set, name)
			}
		}
		if len(set) > 0 {
			l.fail("%s: %s", strings.Join(set, ", "), refusal.Instead)
		}
	}
}

// parse converts the resolved texts into the fields, and holds each to its tags.
func (l *load) parse(into any) {
	failed := l.convert(into)
	v := reflect.ValueOf(into).Elem()
	for _, f := range l.fields {
		if failed[f.goName] {
			continue
		}
		if err := f.judge(v.FieldByIndex(f.index), l); err != nil {
			l.errs = append(l.errs, err)
		}
	}
}

// convert runs the env package, and says which fields it could not fill.
func (l *load) convert(into any) (failed map[string]bool) {
	failed = map[string]bool{}
	err := env.ParseWithOptions(into, env.Options{Environment: l.values})
	all := env.AggregateError{}
	if err != nil && !errors.As(err, &all) {
		l.errs = append(l.errs, err)
	}
	for _, err := range all.Errors {
		var wrong env.ParseError
		if !errors.As(err, &wrong) {
			l.errs = append(l.errs, err)
			continue
		}
		failed[wrong.Name] = true
		f := l.byGoName(wrong.Name)
		l.fail("%s: %s", f.Name, f.advice(l.values[f.Name], wrong.Err))
	}
	return failed
}

func (l *load) byGoName(name string) field {
	for _, f := range l.fields {
		if f.goName == name {
			return f
		}
	}
	return field{Setting: Setting{Name: name}}
}
