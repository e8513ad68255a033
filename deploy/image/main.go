// Image builds the container images of Dockerfile without a daemon and without
// a container: it compiles the programs, stages the files that the Dockerfile
// copies, and writes each of its stages as an OCI image in a tar archive, with
// a list of what is in the program (CycloneDX) beside it.
//
// The same source and the same Go make the same bytes: whatever depends on the
// place, the time or the user of the build is left out or fixed.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// module is the path of the programs' module.
const module = "github.com/vasp-enclave/vasp-enclave"

func main() {
	var o options
	flag.StringVar(&o.Root, "root", "../..", "the programs' module")
	flag.StringVar(&o.Out, "out", "", "folder for the images; made anew")
	flag.StringVar(&o.Version, "version", "devel", "version that programs and images say they have")
	flag.StringVar(&o.Arch, "arch", runtime.GOARCH, "machine to build for: amd64 or arm64")
	epoch := flag.String("epoch", os.Getenv("SOURCE_DATE_EPOCH"), "time of every file, in seconds since 1970; unset, that of the last commit")
	flag.Parse()
	if err := run(o, *epoch); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(o options, epoch string) error {
	if o.Out == "" {
		return fmt.Errorf("-out is not set: name the folder for the images, such as bin/image")
	}
	if o.Arch != "amd64" && o.Arch != "arm64" {
		return fmt.Errorf("-arch is %q: images are built for amd64 or arm64", o.Arch)
	}
	var err error
	if o.Time, err = buildTime(o.Root, epoch); err != nil {
		return err
	}
	images, err := build(o)
	if err != nil {
		return err
	}
	for _, i := range images {
		fmt.Print(i.report())
	}
	return nil
}

// buildTime is the one time that everything in an image has.
func buildTime(root, epoch string) (time.Time, error) {
	if epoch == "" {
		out, err := exec.Command("git", "-C", root, "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("the time of the last commit is not known (%w): set SOURCE_DATE_EPOCH", err)
		}
		epoch = strings.TrimSpace(string(out))
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q: give seconds since 1970", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

type options struct {
	Root    string // the programs' module
	Out     string
	Version string
	Arch    string
	Time    time.Time
}

// build writes everything below o.Out: stage, the folder that the Dockerfile
// copies from, and for each image its archive and its list of components.
func build(o options) ([]*image, error) {
	if err := os.RemoveAll(o.Out); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(o.Root, "deploy/image/Dockerfile"))
	if err != nil {
		return nil, err
	}
	stages, err := parseDockerfile(string(text), map[string]string{"VERSION": o.Version})
	if err != nil {
		return nil, fmt.Errorf("in the Dockerfile, %w", err)
	}
	stage := filepath.Join(o.Out, "stage")
	if err := stageBase(o, stage); err != nil {
		return nil, err
	}
	var images []*image
	for _, s := range stages {
		parts, err := stageProgram(o, stage, s.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		i, err := assemble(o, stage, s)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", s.Name, err)
		}
		i.Parts = parts
		images = append(images, i)
	}
	return images, nil
}
