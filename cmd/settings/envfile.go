package settings

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxEnvFile bounds an env file and each of its lines, in bytes.
const MaxEnvFile = 1 << 20

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ParseEnvFile reads lines of the form NAME=value and returns them as Load
// wants them. Empty lines and lines that begin with ; or # are comments;
// blanks around name and value do not count. A value is taken as it is: there
// are no quotes, escapes or references to other variables.
//
// The error names the line and never shows a value.
func ParseEnvFile(r io.Reader) ([]string, error) {
	limited := &io.LimitedReader{R: r, N: MaxEnvFile + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, MaxEnvFile+1)
	var environ []string
	seen := map[string]int{}
	for number := 1; lines.Scan(); number++ {
		name, value, err := parseLine(number, lines.Text())
		if err != nil {
			return nil, fmt.Errorf("env file, line %d: %w", number, err)
		}
		if name == "" {
			continue
		}
		if first, twice := seen[name]; twice {
			return nil, fmt.Errorf("env file, line %d: %s was set on line %d already", number, name, first)
		}
		seen[name] = number
		environ = append(environ, name+"="+value)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read env file: %w", err)
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("env file is larger than %d bytes", MaxEnvFile)
	}
	return environ, nil
}

// parseLine gives an empty name for a comment.
func parseLine(number int, line string) (name, value string, err error) {
	if number == 1 {
		line = strings.TrimPrefix(line, "\ufeff") // the mark some editors put in front
	}
	line = strings.TrimSpace(line)
	if line == "" || line[0] == ';' || line[0] == '#' {
		return "", "", nil
	}
	name, value, found := strings.Cut(line, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	switch {
	case !found:
		return "", "", errors.New("not of the form NAME=value")
	case !envName.MatchString(name):
		return "", "", errors.New("the name before = must be letters, digits and _")
	case quoted(value):
		return "", "", fmt.Errorf("take the quotes around the value of %s away", name)
	case !printable(value):
		return "", "", fmt.Errorf("the value of %s has a control character or is not UTF-8", name)
	}
	return name, value, nil
}

func quoted(value string) bool {
	if len(value) < 2 {
		return false
	}
	first, last := value[0], value[len(value)-1]
	return first == last && (first == '"' || first == '\'')
}

func printable(value string) bool {
	return utf8.ValidString(value) && strings.IndexFunc(value, unicode.IsControl) < 0
}
