package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// The user that every image runs as, by name for whoever looks.
const (
	passwd = "vasp:x:65532:65532:the program of this image:/:/usr/sbin/nologin\n"
	group  = "vasp:x:65532:\n"
)

// stageBase writes what all images have, and the empty folder that a volume
// with the program's state is laid over.
func stageBase(o options, stage string) error {
	roots, err := systemRoots()
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{
		"base/etc/passwd":                        []byte(passwd),
		"base/etc/group":                         []byte(group),
		"base/etc/ssl/certs/ca-certificates.crt": roots,
	} {
		if err := write(filepath.Join(stage, path), content); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(stage, "state"), 0o755)
}

// systemRoots are the public certificate authorities, of the module that go.sum
// pins and not of the building machine. One that Mozilla trusts under a
// condition is left out, since a PEM file cannot say the condition.
func systemRoots() ([]byte, error) {
	var roots bytes.Buffer
	n := 0
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if err := pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
		n++
	}
	if n < 50 {
		return nil, fmt.Errorf("the bundle of certificate authorities has %d of them, which cannot be all", n)
	}
	return roots.Bytes(), nil
}

// stageProgram compiles one program and writes its papers: our licence, those
// of everything it is linked from, and the list of that.
func stageProgram(o options, stage, name string) ([]component, error) {
	binary := filepath.Join(stage, name, "usr/local/bin", name)
	if err := compile(o, name, binary); err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	parts, err := componentsOf(o, info)
	if err != nil {
		return nil, err
	}
	list, err := sbom(o, name, parts)
	if err != nil {
		return nil, err
	}
	ours, err := os.ReadFile(filepath.Join(o.Root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	papers := filepath.Join(stage, name, "usr/share/doc", name)
	for path, content := range map[string][]byte{
		filepath.Join(papers, "LICENSE"):              ours,
		filepath.Join(papers, "LICENSES-THIRD-PARTY"): notices(parts),
		filepath.Join(o.Out, name+".cdx.json"):        list,
	} {
		if err := write(path, content); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// compile makes a static program that does not tell where it was made.
func compile(o options, name, binary string) error {
	path, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	stamp := "-s -w -buildid="
	for _, program := range []string{"enclavecmd", "centralcmd"} {
		stamp += fmt.Sprintf(" -X %s/cmd/%s.Version=%s", module, program, o.Version)
	}
	cmd := exec.Command("go", "build", "-C", o.Root, "-trimpath", "-buildvcs=false", "-ldflags", stamp, "-o", path, "./cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+o.Arch, "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GODEBUG=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
