// Package repository_test holds what is true of the repository as a whole:
// which package may import which, and that the papers say what the code does.
package repository_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rule says what some packages must not reach. Paths without a dot in their
// first element are ours, below the module; each stands for what is below it
// too.
type rule struct {
	from   []string // who; empty means every package of ours
	except []string // who may
	to     []string // what must not be reached
	direct bool     // only by an import of its own, rather than by any way
	reason string
}

// rules is the architecture. Arrows point down: cmd, then plugins and proxy,
// then storage, then crypto.
var rules = []rule{
	{from: []string{"crypto"}, to: []string{"storage", "proxy", "plugins", "cmd"},
		reason: "crypto knows nothing of disks, networks or settings: it is the part one reviews alone"},
	{from: []string{"storage"}, to: []string{"proxy", "plugins", "cmd"},
		reason: "storage remembers and does not know who asks"},
	{from: []string{"proxy"}, except: []string{"proxy/proxytest"}, to: []string{"storage/bolt", "storage/redis", "storage/memory"},
		reason: "proxy talks to storage's interfaces: which engine is behind them is the program's choice"},
	{from: []string{"proxy"}, to: []string{"plugins", "cmd"},
		reason: "a host owns its interface and never asks who fills it"},
	{from: []string{"plugins"}, to: []string{"storage/bolt", "storage/redis", "storage/memory", "cmd"},
		reason: "a plugin sees its host and nothing else"},

	{except: []string{"crypto"}, to: []string{"github.com/tink-crypto/tink-go/v2"}, direct: true,
		reason: "Tink stays below crypto: no other package touches a key, and a new major version of it touches one folder"},
	{except: []string{"storage/bolt"}, to: []string{"go.etcd.io/bbolt"}, direct: true,
		reason: "bbolt is the business of one engine"},
	{except: []string{"storage/memory"}, to: []string{"github.com/maypok86/otter/v2"}, direct: true,
		reason: "otter is the business of one cache"},
	{except: []string{"storage/redis"}, to: []string{"github.com/redis/go-redis/v9"}, direct: true,
		reason: "go-redis is the business of one cache"},
	{except: []string{"proxy/edge/acme"}, to: []string{"github.com/caddyserver/certmagic", "github.com/mholt/acmez/v3"}, direct: true,
		reason: "automatic certificates are the business of one package"},
	{except: []string{"proxy/relay"}, to: []string{"github.com/remitly-oss/httpsig-go"}, direct: true,
		reason: "request signatures are the business of the relay's wire"},
	{except: []string{"cmd/settings"}, to: []string{"github.com/caarlos0/env/v11", "github.com/agnivade/levenshtein"}, direct: true,
		reason: "environment variables are read in one place"},
	{except: []string{"cmd"}, to: []string{"github.com/spf13/cobra"}, direct: true,
		reason: "command lines belong to programs"},
	{except: []string{"proxy/openapi/openapitest"}, to: []string{"github.com/santhosh-tekuri/jsonschema/v6"}, direct: true,
		reason: "schemas are checked in tests, in one place"},
	{from: []string{"cmd/enclave", "cmd/central", "cmd/robotvasp"},
		to:     []string{"testing", "proxy/openapi/openapitest", "proxy/proxytest", "proxy/edge/edgetest", "proxy/ivms101/ivms101test", "storage/storagetest", "storage/redis/redistest", "github.com/google/go-cmp", "pgregory.net/rapid"},
		reason: "a program that is shipped contains no test code"},
}

// pkg is one package of ours, as go list tells.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Module     struct{ Path string }
}

func TestArrows(t *testing.T) {
	for _, broken := range violations(list(t, "../.."), rules) {
		t.Error(broken)
	}
}

// The test above must be able to fail.
func TestArrowsAreReported(t *testing.T) {
	got := violations(list(t, "testdata/broken"), []rule{
		{from: []string{"crypto"}, to: []string{"storage", "proxy"}, reason: "keys know no disks"},
		{from: []string{"proxy"}, to: []string{"storage/bolt"}, reason: "not even through another package"},
		{except: []string{"storage/bolt"}, to: []string{"encoding/json"}, direct: true, reason: "one importer"},
		{from: []string{"cmd/enclave"}, to: []string{"testing"}, reason: "no test code"},
		{from: []string{"storage"}, to: []string{"proxy", "bolt"}, reason: "this one holds"},
	})
	want := []string{
		"crypto/envelope must not reach storage/bolt: keys know no disks",
		"proxy must not reach storage/bolt: not even through another package",
		"cmd/enclave must not reach encoding/json: one importer",
		"cmd/enclave must not reach testing: no test code",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

// list asks go for every package of the module in a folder.
func list(t *testing.T, dir string) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-C", dir, "-json=ImportPath,Imports,Deps,Module", "./...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// violations holds every package against every rule, and gives a sentence per
// forbidden arrow.
func violations(pkgs []pkg, rules []rule) []string {
	var broken []string
	for _, r := range rules {
		for _, p := range pkgs {
			from := p.relative(p.ImportPath)
			if len(r.from) > 0 && !under(from, r.from) || under(from, r.except) {
				continue
			}
			reached := p.Deps
			if r.direct {
				reached = p.Imports
			}
			for _, path := range reached {
				if to := p.relative(path); under(to, r.to) {
					broken = append(broken, fmt.Sprintf("%s must not reach %s: %s", from, to, r.reason))
				}
			}
		}
	}
	return broken
}

// relative takes the module's own path off the front of an import path.
func (p pkg) relative(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, p.Module.Path), "/")
}

// under tells whether path is one of the given packages or below one.
func under(path string, packages []string) bool {
	return slices.ContainsFunc(packages, func(at string) bool {
		return path == at || strings.HasPrefix(path, at+"/")
	})
}
