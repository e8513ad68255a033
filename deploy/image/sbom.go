package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/licensecheck"
)

// component is a module that a program is linked from, Go's library included.
type component struct {
	Path, Version string
	Sum           string   // the h1: sum of go.sum
	Licences      []string // SPDX ids
	Texts         []string // the files that hold them
}

// componentsOf are the modules of a program, as the program itself tells.
func componentsOf(o options, info *buildinfo.BuildInfo) ([]component, error) {
	dirs, err := moduleDirs(o.Root)
	if err != nil {
		return nil, err
	}
	library, err := standardLibrary()
	if err != nil {
		return nil, err
	}
	parts := []component{{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}}
	where := []string{library}
	for _, d := range info.Deps {
		if d.Replace != nil {
			return nil, fmt.Errorf("module %s is replaced: what is shipped comes from go.sum; remove the replace line", d.Path)
		}
		parts = append(parts, component{Path: d.Path, Version: d.Version, Sum: d.Sum})
		where = append(where, dirs[d.Path+"@"+d.Version])
	}
	for i := range parts {
		p := &parts[i]
		if p.Licences, p.Texts, err = licencesIn(where[i]); err != nil {
			return nil, fmt.Errorf("module %s %s: %w", p.Path, p.Version, err)
		}
	}
	return parts, nil
}

func moduleDirs(root string) (map[string]string, error) {
	out, err := exec.Command("go", "list", "-C", root, "-m", "-f", "{{.Path}}@{{.Version}}\t{{.Dir}}", "all").Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m all: %w", err)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		dirs[name] = dir
	}
	return dirs, nil
}

func standardLibrary() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	return strings.TrimSpace(string(out)), err
}

// licencesIn reads the licence files at the top of a module.
func licencesIn(dir string) (ids, texts []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("its files are not there: %w", err)
	}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		licence := strings.HasPrefix(name, "LICENSE") || strings.HasPrefix(name, "LICENCE") || strings.HasPrefix(name, "COPYING") || strings.HasPrefix(name, "UNLICENSE")
		if e.IsDir() || !licence && !strings.HasPrefix(name, "NOTICE") && !strings.HasPrefix(name, "PATENTS") || strings.HasSuffix(name, ".GO") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, nil, err
		}
		texts = append(texts, strings.TrimSpace(string(text)))
		if !licence {
			continue
		}
		for _, match := range licensecheck.Scan(text).Match {
			if !match.IsURL && !slices.Contains(ids, match.ID) {
				ids = append(ids, match.ID)
			}
		}
	}
	if len(ids) == 0 {
		return nil, nil, fmt.Errorf("no licence was recognised in %d files at its top: look at it by hand before it is shipped", len(texts))
	}
	slices.Sort(ids)
	return ids, texts, nil
}

// notices are the licence texts that must go with the program.
func notices(parts []component) []byte {
	var b bytes.Buffer
	b.WriteString("This program is linked from the following, each under its own licence.\n")
	for _, p := range parts {
		fmt.Fprintf(&b, "\n%s\n%s %s (%s)\n\n%s\n", strings.Repeat("-", 80), p.Path, p.Version,
			strings.Join(p.Licences, " AND "), strings.Join(p.Texts, "\n\n"))
	}
	return b.Bytes()
}

// The part of CycloneDX 1.6 that we write.
type (
	bom struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		Serial       string       `json:"serialNumber,omitempty"`
		Version      int          `json:"version"`
		Metadata     bomMetadata  `json:"metadata"`
		Components   []bomPart    `json:"components"`
		Dependencies []bomDepends `json:"dependencies"`
	}
	bomMetadata struct {
		Timestamp string  `json:"timestamp"`
		Component bomPart `json:"component"`
	}
	bomPart struct {
		Type       string        `json:"type"`
		Ref        string        `json:"bom-ref"`
		Name       string        `json:"name"`
		Version    string        `json:"version"`
		Scope      string        `json:"scope,omitempty"`
		Hashes     []bomHash     `json:"hashes,omitempty"`
		Licences   []bomLicence  `json:"licenses"`
		PURL       string        `json:"purl"`
		Properties []bomProperty `json:"properties,omitempty"`
	}
	bomHash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	bomLicence struct {
		Licence struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	bomProperty struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	bomDepends struct {
		Ref string   `json:"ref"`
		On  []string `json:"dependsOn"`
	}
)

// sbom lists a program's components in CycloneDX.
func sbom(o options, name string, parts []component) ([]byte, error) {
	main := part("application", component{Path: module, Version: o.Version, Licences: []string{"Apache-2.0"}})
	main.PURL += "#cmd/" + name
	main.Ref = main.PURL
	b := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: bomMetadata{o.Time.Format(time.RFC3339), main},
	}
	depends := bomDepends{Ref: main.Ref}
	for _, c := range parts {
		p := part("library", c)
		p.Scope = "required"
		if sum, ok := strings.CutPrefix(c.Sum, "h1:"); ok {
			hash, err := base64.StdEncoding.DecodeString(sum)
			if err != nil {
				return nil, fmt.Errorf("sum of %s: %w", c.Path, err)
			}
			p.Hashes = []bomHash{{"SHA-256", hex.EncodeToString(hash)}}
			p.Properties = []bomProperty{{"go:h1", c.Sum}}
		}
		b.Components = append(b.Components, p)
		depends.On = append(depends.On, p.Ref)
	}
	b.Dependencies = []bomDepends{depends}
	content, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	b.Serial = serial(content)
	content, err = json.MarshalIndent(b, "", "  ")
	return append(content, '\n'), err
}

func part(kind string, c component) bomPart {
	ref := "pkg:golang/" + c.Path + "@" + url.PathEscape(c.Version)
	p := bomPart{Type: kind, Ref: ref, Name: c.Path, Version: c.Version, PURL: ref}
	for _, id := range c.Licences {
		var l bomLicence
		l.Licence.ID = id
		p.Licences = append(p.Licences, l)
	}
	return p
}

// serial is a UUID (version 8) of the content, so that the same list has the
// same number.
func serial(content []byte) string {
	id := sha256.Sum256(content)
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
