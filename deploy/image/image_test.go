package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var epoch = time.Unix(1767225600, 0).UTC()

// file is an entry of an image's layers, and who may do what with it.
type file struct {
	Mode     fs.FileMode
	UID, GID int
	Content  []byte
}

// The images are built twice, from folders of different names, ages and modes,
// and are the same to the byte. What is in them is told in full, so that
// nothing comes in unseen: above all no shell.
func TestImages(t *testing.T) {
	dir := t.TempDir()
	first, err := build(options{Root: "../..", Out: filepath.Join(dir, "first"), Version: "v0.0.0-test", Arch: runtime.GOARCH, Time: epoch})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(dir, "a folder elsewhere")
	copyTree(t, "../..", elsewhere)
	second, err := build(options{Root: elsewhere, Out: filepath.Join(dir, "second"), Version: "v0.0.0-test", Arch: runtime.GOARCH, Time: epoch})
	if err != nil {
		t.Fatal(err)
	}
	for i := range first {
		for _, suffix := range []string{".tar", ".cdx.json"} {
			a, b := read(t, filepath.Join(dir, "first", first[i].Name+suffix)), read(t, filepath.Join(dir, "second", first[i].Name+suffix))
			if !bytes.Equal(a, b) || len(a) == 0 {
				t.Errorf("%s%s differs between two builds (%s, %s)", first[i].Name, suffix, first[i].Digest, second[i].Digest)
			}
		}
	}
	if len(first) != 3 {
		t.Fatalf("%d images, want three", len(first))
	}
	for _, i := range first {
		t.Run(i.Name, func(t *testing.T) {
			c, files := unpack(t, i)
			checkFiles(t, i.Name, files)
			checkConfig(t, i.Name, c)
			report := i.report()
			for _, want := range []string{i.Digest, i.Archive, fmt.Sprintf("%d layers", len(i.Layers)), fmt.Sprintf("from %d modules:", len(i.Parts)), " MIT"} {
				if !strings.Contains(report, want) {
					t.Errorf("the report lacks %q:\n%s", want, report)
				}
			}
			t.Logf("%s", report)
		})
		t.Run(i.Name+" sbom", func(t *testing.T) { checkSBOM(t, filepath.Join(dir, "first", i.Name+".cdx.json")) })
	}
}

func checkFiles(t *testing.T, name string, files map[string]file) {
	t.Helper()
	program := "usr/local/bin/" + name
	want := map[string]string{
		"etc": "drwxr-xr-x 0:0", "etc/group": "-rw-r--r-- 0:0", "etc/passwd": "-rw-r--r-- 0:0",
		"etc/ssl": "drwxr-xr-x 0:0", "etc/ssl/certs": "drwxr-xr-x 0:0", "etc/ssl/certs/ca-certificates.crt": "-rw-r--r-- 0:0",
		"usr": "drwxr-xr-x 0:0", "usr/local": "drwxr-xr-x 0:0", "usr/local/bin": "drwxr-xr-x 0:0", program: "-rwxr-xr-x 0:0",
		"usr/share": "drwxr-xr-x 0:0", "usr/share/doc": "drwxr-xr-x 0:0", "usr/share/doc/" + name: "drwxr-xr-x 0:0",
		"usr/share/doc/" + name + "/LICENSE": "-rw-r--r-- 0:0", "usr/share/doc/" + name + "/LICENSES-THIRD-PARTY": "-rw-r--r-- 0:0",
	}
	if name != "robotvasp" {
		want["var"], want["var/lib"], want["var/lib/"+name] = "drwxr-xr-x 0:0", "drwxr-xr-x 0:0", "drwx------ 65532:65532"
	}
	got := map[string]string{}
	for path, f := range files {
		got[path] = fmt.Sprintf("%s %d:%d", f.Mode, f.UID, f.GID)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("files\n%v\nwant\n%v", got, want)
	}

	roots, n := files["etc/ssl/certs/ca-certificates.crt"].Content, 0
	for block, rest := pem.Decode(roots); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err != nil || !c.IsCA {
			t.Errorf("root %d: %v", n, err)
		}
		n++
	}
	if n < 50 {
		t.Errorf("%d certificate authorities, want all", n)
	}

	binary := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(binary, files[program].Content, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "--help").Output()
	if err != nil || !bytes.Contains(out, []byte(name)) {
		t.Errorf("the program does not run: %v %s", err, out)
	}
	if name != "robotvasp" {
		if out, err := exec.Command(binary, "version").Output(); err != nil || !bytes.Contains(out, []byte("v0.0.0-test")) {
			t.Errorf("version = %s %v", out, err)
		}
	}
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(files[program].Content, []byte(here+"/")) {
		t.Errorf("the program tells where it was built: %s", here)
	}
}

func checkConfig(t *testing.T, name string, c imageConfig) {
	t.Helper()
	if c.Config.User != "65532:65532" {
		t.Errorf("it runs as %q", c.Config.User)
	}
	if want := []string{"/usr/local/bin/" + name}; !slices.Equal(c.Config.Entrypoint, want) || !slices.Equal(c.Config.Cmd, []string{"run"}) {
		t.Errorf("it runs %q %q", c.Config.Entrypoint, c.Config.Cmd)
	}
	if c.Architecture != runtime.GOARCH || c.OS != "linux" || c.Created != "2026-01-01T00:00:00Z" {
		t.Errorf("made for %s/%s at %s", c.OS, c.Architecture, c.Created)
	}
	if got := c.Config.Labels["org.opencontainers.image.version"]; got != "v0.0.0-test" {
		t.Errorf("version label %q", got)
	}
	want := &healthcheck{Test: []string{"CMD", "/usr/local/bin/" + name, "healthcheck"}, Interval: 10 * time.Second, Timeout: 5 * time.Second, StartPeriod: time.Minute, Retries: 3}
	if name == "enclave" { // a start that upgrades the history is long
		want.StartPeriod = 10 * time.Minute
	}
	if !reflect.DeepEqual(c.Config.Healthcheck, want) {
		t.Errorf("health check %+v", c.Config.Healthcheck)
	}
}

// shipped are the licences under which something may be linked into what we
// ship. Another one is a decision that a person takes.
var shipped = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT"}

func checkSBOM(t *testing.T, path string) {
	t.Helper()
	text := read(t, path)
	schemas, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	for url, name := range map[string]string{
		"http://cyclonedx.org/schema/bom-1.6.schema.json":  "bom-1.6.schema.json",
		"http://cyclonedx.org/schema/spdx.schema.json":     "spdx.schema.json",
		"http://cyclonedx.org/schema/jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(read(t, filepath.Join(strings.TrimSpace(string(schemas)), "schema", name))))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(url, schema); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(document); err != nil {
		t.Errorf("no CycloneDX: %v", err)
	}

	var b cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(text), cyclonedx.BOMFileFormatJSON).Decode(&b); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range *b.Components {
		names = append(names, c.Name)
		for _, l := range *c.Licenses {
			if !slices.Contains(shipped, l.License.ID) {
				t.Errorf("%s is under %s: decide whether that may be shipped", c.Name, l.License.ID)
			}
		}
		if c.Name != "std" && (c.Hashes == nil || len((*c.Hashes)[0].Value) != 64) {
			t.Errorf("%s has no hash", c.Name)
		}
	}
	if !slices.Contains(names, "std") || !slices.Contains(names, "github.com/spf13/cobra") || slices.Contains(names, "github.com/google/go-cmp") {
		t.Errorf("components %q, want what is linked and nothing else", names)
	}
}

// unpack reads an archive as a container engine would: every blob by its
// digest, from index to layers.
func unpack(t *testing.T, i *image) (imageConfig, map[string]file) {
	t.Helper()
	archive := map[string][]byte{}
	for name, f := range untar(t, read(t, i.Archive)) {
		archive[name] = f.Content
	}
	blob := func(d string) []byte {
		t.Helper()
		content := archive["blobs/"+strings.Replace(d, ":", "/", 1)]
		if digest(content) != d {
			t.Fatalf("blob %s has the digest %s", d, digest(content))
		}
		return content
	}
	var x index
	decode(t, archive["index.json"], &x)
	if string(archive["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` || len(x.Manifests) != 1 || x.Manifests[0].Digest != i.Digest {
		t.Fatalf("index %+v", x)
	}
	var m manifest
	decode(t, blob(i.Digest), &m)
	var c imageConfig
	decode(t, blob(m.Config.Digest), &c)
	var old []struct {
		Config           string
		RepoTags, Layers []string
	}
	decode(t, archive["manifest.json"], &old)
	if len(old) != 1 || archive[old[0].Config] == nil || len(old[0].Layers) != len(m.Layers) || !strings.HasSuffix(old[0].RepoTags[0], ":v0.0.0-test") {
		t.Errorf("manifest.json %+v", old)
	}
	files := map[string]file{}
	for n, l := range m.Layers {
		z, err := gzip.NewReader(bytes.NewReader(blob(l.Digest)))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		if digest(plain) != c.RootFS.DiffIDs[n] {
			t.Errorf("layer %d is not the one that the config names", n)
		}
		for name, f := range untar(t, plain) {
			files[name] = f
		}
	}
	return c, files
}

func untar(t *testing.T, content []byte) map[string]file {
	t.Helper()
	files := map[string]file{}
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) {
			t.Errorf("%s has the time %s", h.Name, h.ModTime)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(h.Name, "/")] = file{h.FileInfo().Mode(), h.Uid, h.Gid, body}
	}
}

func decode(t *testing.T, content []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", content, err)
	}
}

// copyTree copies the source with other modes, which a build must not see.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case below == ".git" || below == "bin":
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, below), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, below), content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// What the builder does not know is refused with the line and what to write:
// left out quietly, it would be missing in the image.
func TestDockerfileRefuses(t *testing.T) {
	const good = "FROM scratch AS x\nCOPY a/ /\nUSER 1:1\nENTRYPOINT [\"/a\"]\n"
	if _, err := parseDockerfile(good, nil); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"RUN apk add bash":                `line 5: RUN: is not among what this builder knows`,
		"CMD run":                         `line 5: CMD: must be a JSON array`,
		"ENTRYPOINT []":                   `line 5: ENTRYPOINT: must be a JSON array`,
		"USER vasp":                       `line 5: USER: "vasp" must be two numbers`,
		"USER 1":                          `must be two numbers, user:group`,
		"COPY a b":                        `line 5: COPY: must name one folder and where it goes`,
		"COPY --link a/ /":                `line 5: COPY: --link is not among`,
		"COPY --chmod=9 a/ /":             `line 5: COPY: --chmod:`,
		"ENV A=b c":                       `write one name=value`,
		"LABEL a=${NOBODY}":               `NOBODY is no ARG of this stage`,
		"HEALTHCHECK NONE":                `line 5: HEALTHCHECK: has no CMD`,
		`HEALTHCHECK --every=1s CMD [""]`: `--every is not among`,
		"FROM debian":                     `line 5: FROM: must be: FROM scratch AS name`,
		"FROM scratch AS y":               `stage y: needs COPY, USER and ENTRYPOINT`,
	} {
		if _, err := parseDockerfile(good+line, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	for text, want := range map[string]string{"": "no FROM", "USER 1:1": "comes before FROM"} {
		if _, err := parseDockerfile(text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// A module without a licence that is known stops the build.
func TestLicencesMustBeKnown(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := licencesIn(dir); err == nil || !strings.Contains(err.Error(), "look at it by hand") {
		t.Errorf("no licence: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE"), []byte("Do what your conscience tells you."), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := licencesIn(dir); err == nil {
		t.Error("an unknown licence passes")
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE"), read(t, "../../LICENSE"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ids, texts, err := licencesIn(dir); err != nil || !slices.Equal(ids, []string{"Apache-2.0"}) || len(texts) != 1 {
		t.Errorf("our own licence: %q %v", ids, err)
	}
}

// The settings of the command line say what would be right.
func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		o     options
		epoch string
		want  string
	}{
		{options{}, "0", "-out is not set"},
		{options{Out: "x", Arch: "mips"}, "0", "amd64 or arm64"},
		{options{Out: "x", Arch: "amd64"}, "yesterday", "give seconds since 1970"},
		{options{Out: "x", Arch: "amd64", Root: t.TempDir()}, "", "set SOURCE_DATE_EPOCH"},
	} {
		if err := run(c.o, c.epoch); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("run(%+v, %q) = %v, want %s", c.o, c.epoch, err, c.want)
		}
	}
}
