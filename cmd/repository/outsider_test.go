package repository_test

import (
	"slices"
	"strings"
	"testing"
)

// foreign are the packages outside the standard library that a package of ours
// reaches, its own folder aside.
func foreign(t *testing.T, pkgs []pkg, path string) []string {
	t.Helper()
	at := slices.IndexFunc(pkgs, func(p pkg) bool { return p.relative(p.ImportPath) == path })
	if at < 0 {
		t.Fatalf("there is no package %s", path)
	}
	return slices.DeleteFunc(slices.Clone(pkgs[at].Deps), func(dep string) bool {
		first, _, _ := strings.Cut(dep, "/")
		return !strings.Contains(first, ".")
	})
}

// The outsider has the contract and the standard library, and none of our code
// that could be wrong in the same way.
func TestTheOutsiderKnowsTheContractOnly(t *testing.T) {
	pkgs := list(t, root)
	if found := foreign(t, pkgs, "cmd/sandbox/outsider"); len(found) > 0 {
		t.Errorf("cmd/sandbox/outsider reaches %q", found)
	}
	if found := foreign(t, pkgs, "cmd/sandbox"); len(found) == 0 {
		t.Error("the sandbox itself reaches nothing of ours, which cannot be")
	}
}
