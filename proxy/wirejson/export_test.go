package wirejson

import (
	"maps"
	"slices"
)

// Vocabulary is every name that an error may show of any text.
func Vocabulary() []string { return slices.Sorted(maps.Keys(contract)) }
