package settings

import (
	"log/slog"
	"reflect"
	"slices"
)

// Changes compares two structs of one type that Load filled, and gives the
// names of the settings that differ: those that can be taken over while the
// program runs, whose fields have the tag reload:"true", and those that need a
// restart. It gives no values.
func Changes(before, after any) (reload, restart []string) {
	fields, err := fieldsOf(before)
	if err != nil {
		return nil, nil
	}
	a, b := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()
	for _, f := range fields {
		switch {
		case same(a.FieldByIndex(f.index).Interface(), b.FieldByIndex(f.index).Interface()):
		case f.Reload:
			reload = append(reload, f.Name)
		default:
			restart = append(restart, f.Name)
		}
	}
	return reload, restart
}

// same compares secrets by their text: where it came from does not count.
func same(a, b any) bool {
	if s, ok := a.(Secret); ok {
		t, _ := b.(Secret)
		return s.Reveal() == t.Reveal()
	}
	return reflect.DeepEqual(a, b)
}

// SecretFiles are the files that the secrets of a struct with the tag
// reload:"true" are read from, as environ says.
func SecretFiles(into any, environ []string) []string {
	fields, err := fieldsOf(into)
	if err != nil {
		return nil
	}
	set := given(environ)
	var files []string
	for _, f := range fields {
		if path := set[f.Name+FileSuffix]; f.Secret && f.Reload && path != "" {
			files = append(files, path)
		}
	}
	return files
}

// News holds the warnings that a program that runs gave last, so that it gives
// each once for as long as it is true.
type News struct{ last []string }

// Log leaves those of warnings in the log that are not told yet.
func (n *News) Log(log *slog.Logger, warnings []string) {
	for _, w := range n.Of(warnings) {
		log.Warn("settings: " + w)
	}
}

// Of gives those of warnings that are not told yet, and takes all as told.
func (n *News) Of(warnings []string) []string {
	var fresh []string
	for _, w := range warnings {
		if !slices.Contains(n.last, w) {
			fresh = append(fresh, w)
		}
	}
	n.last = warnings
	return fresh
}
