package settings

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// FileSuffix, put behind the name of a secret, names the variable that holds
// the path of a file with the secret in it.
const FileSuffix = "_FILE"

// maxSecretFile bounds how much of a secret's file is read, in bytes.
const maxSecretFile = 64 << 10

// resolve finds the text of each setting: under its own name, a name it had
// before, or in a file.
func (l *load) resolve() {
	for i := range l.fields {
		f := &l.fields[i]
		value, ok := l.given[f.Name]
		value, ok = l.viaAlias(f, value, ok)
		if f.Secret {
			value, ok = l.viaFile(f, value, ok)
		}
		switch {
		case ok:
			l.values[f.Name] = value
		case f.Required:
			l.fail("%s is not set: %s", f.Name, f.howToSet())
		case f.unset != "":
			l.warn("%s is not set: %s", f.Name, f.unset)
		}
	}
}

func (f field) howToSet() string {
	if f.Secret {
		return fmt.Sprintf("%s It may also be in the file that %s%s names.", f.Doc, f.Name, FileSuffix)
	}
	return f.Doc
}

// viaAlias takes the value from a deprecated name unless the current one is set.
func (l *load) viaAlias(f *field, value string, ok bool) (string, bool) {
	for _, old := range f.Aliases {
		was, set := l.given[old]
		switch {
		case !set:
			continue
		case ok && was != value:
			l.fail("%s and its former name %s are both set and differ: remove %s", f.Name, old, old)
			continue
		}
		l.warn("%s is now called %s: rename it", old, f.Name)
		value, ok = was, true
	}
	return value, ok
}

// viaFile reads a secret from the file that NAME_FILE names.
func (l *load) viaFile(f *field, value string, ok bool) (string, bool) {
	path, set := l.given[f.Name+FileSuffix]
	if !set {
		return value, ok
	}
	if ok {
		l.fail("%s and %s%s are both set: keep one of them", f.Name, f.Name, FileSuffix)
		return value, ok
	}
	text, err := readSecret(path)
	if err != nil {
		l.fail("%s%s: %w", f.Name, FileSuffix, err)
		return "", true // said once; not also "is not set"
	}
	f.fromFile = true
	return text, true
}

// readSecret reads a small file and takes one line break off its end. The
// error names the path and never the content.
func readSecret(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w; name a file that this user may read", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxSecretFile {
		return "", fmt.Errorf("file %s is larger than %d bytes: a secret is one short line", path, maxSecretFile)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if text == "" {
		return "", errors.New("file " + path + " is empty; put the secret into it, in one line")
	}
	return text, nil
}
