package robotcmd

import (
	"strings"
	"unicode"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
)

// nameKey is a name to compare with: folded, and without spaces and
// punctuation. Who splits a name in two parts decides where the spaces are, and
// who transliterates one where the hyphens and apostrophes.
func nameKey(parts ...string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsPunct(r) {
			return -1
		}
		return r
	}, ivms101.Fold(strings.Join(parts, "")))
}

// naturalKeys are the keys of a natural person's names, in either order of
// their parts and in local script too. None are empty.
func naturalKeys(p ivms101.Person) (keys []string) {
	if p.Natural == nil {
		return nil
	}
	for _, list := range [][]ivms101.NameIdentifier{p.Natural.Name.Names, p.Natural.Name.LocalNames} {
		for _, n := range list {
			keys = appendKey(keys, nameKey(n.Primary.Value, n.Secondary.Value))
			if n.Secondary.Value != "" {
				keys = appendKey(keys, nameKey(n.Secondary.Value, n.Primary.Value))
			}
		}
	}
	return keys
}

// legalKeys are the keys of a company's names. None are empty.
func legalKeys(p ivms101.Person) (keys []string) {
	if p.Legal == nil {
		return nil
	}
	for _, list := range [][]ivms101.LegalNameIdentifier{p.Legal.Name.Names, p.Legal.Name.LocalNames} {
		for _, n := range list {
			keys = appendKey(keys, nameKey(n.Name.Value))
		}
	}
	return keys
}

func appendKey(keys []string, key string) []string {
	if key == "" {
		return keys
	}
	return append(keys, key)
}

// matches says whether the given persons can be the customer: every kind of
// person that is named must fit by one name at least. Of a company's
// representatives one is enough (contract 3.1).
func (c *customer) matches(given []ivms101.Person) bool {
	var natural, legal []string
	for _, p := range given {
		natural = append(natural, naturalKeys(p)...)
		legal = append(legal, legalKeys(p)...)
	}
	return len(natural)+len(legal) > 0 && fits(natural, c.natural) && fits(legal, c.legal)
}

// fits says whether one of the keys is in the set, or there are none.
func fits(keys []string, set map[string]bool) bool {
	for _, key := range keys {
		if set[key] {
			return true
		}
	}
	return len(keys) == 0
}
