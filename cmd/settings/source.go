package settings

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// Source is where settings come from: the process's environment, and a file
// that counts more. It is read again at each call.
type Source struct {
	Own  []string // the process's environment
	File string   // lines NAME=value, see ParseEnvFile; "": none
}

// FileHelp is what a program says of its flag --env-file.
const FileHelp = "read settings from a file of NAME=value lines, too; they count more than the environment"

// Environ is both as Load wants them. The error names the flag, the file and
// the line, and no value.
func (s *Source) Environ() ([]string, error) {
	if s.File == "" {
		return s.Own, nil
	}
	f, err := os.Open(s.File)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w; name a file that this user may read", err)
	}
	defer f.Close()
	lines, err := ParseEnvFile(f)
	if err != nil {
		return nil, fmt.Errorf("--env-file %s: %w", s.File, err)
	}
	return append(s.Own[:len(s.Own):len(s.Own)], lines...), nil
}

// Load is the function Load, of what the source says now.
func (s *Source) Load(prefix string, into any) (warnings []string, err error) {
	environ, err := s.Environ()
	if err != nil {
		return nil, err
	}
	return Load(prefix, into, environ)
}

// Judge is as strict as can be: it gives what Load only warns about, variables
// that nobody reads, as an error of its own.
func (s *Source) Judge(prefix string, into any) (warnings []string, unknown, err error) {
	environ, err := s.Environ()
	if err != nil {
		return nil, nil, err
	}
	warnings, err = Load(prefix, into, environ)
	var misspelt []error
	for _, u := range Unknown(prefix, into, environ) {
		misspelt = append(misspelt, errors.New(u.String()))
		warnings = slices.DeleteFunc(warnings, func(w string) bool { return w == u.String() })
	}
	return warnings, errors.Join(misspelt...), err
}

// Files are those that a program that runs reads again when they change: the
// file itself, and those of the secrets of into that can be taken over.
func (s *Source) Files(into any) []string {
	environ, err := s.Environ()
	if err != nil {
		environ = s.Own
	}
	files := SecretFiles(into, environ)
	if s.File != "" {
		files = append(files, s.File)
	}
	return files
}
