package settings

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Setting is one entry of the reference.
type Setting struct {
	Name     string
	Type     string // what to write into it, for people
	Default  string
	Doc      string
	Group    string
	Required bool
	Secret   bool     // may also be given by file
	Reload   bool     // a change is taken over without a restart
	First    bool     // not required, and yet one meets it at first
	Aliases  []string // deprecated names
	OneOf    []string // the only texts accepted
}

// Describe lists the settings of the struct that into points to, in the order
// of their declaration. It panics when the struct's tags are wrong, which is a
// mistake in the program.
func Describe(into any) []Setting {
	fields, err := fieldsOf(into)
	if err != nil {
		panic(err)
	}
	list := make([]Setting, len(fields))
	for i, f := range fields {
		list[i] = f.Setting
	}
	return list
}

// WriteHelp writes the reference for a terminal of 80 columns.
func WriteHelp(w io.Writer, into any) error {
	var b strings.Builder
	group := ""
	for _, s := range Describe(into) {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&b, "\n%s\n", group)
		}
		fmt.Fprintf(&b, "  %s%s\n", s.Name, s.orFile())
		b.WriteString(wrap(fmt.Sprintf("%s (%s)", s.Doc, s.summary()), 6, 80))
	}
	_, err := io.WriteString(w, strings.TrimPrefix(b.String(), "\n"))
	return err
}

// WriteMarkdown writes the reference as one table per group.
func WriteMarkdown(w io.Writer, into any) error { return writeTables(w, Describe(into)) }

// WriteFirst writes those of it that are required, or met at first.
func WriteFirst(w io.Writer, into any) error {
	return writeTables(w, slices.DeleteFunc(Describe(into), func(s Setting) bool { return !s.Required && !s.First }))
}

// Groups has the settings by their headings, in the order of declaration.
func Groups(into any) []Group { return groupsOf(Describe(into)) }

// Group is one heading of the reference.
type Group struct {
	Name     string
	Settings []Setting
}

func groupsOf(list []Setting) (groups []Group) {
	for _, s := range list {
		if len(groups) == 0 || groups[len(groups)-1].Name != s.Group {
			groups = append(groups, Group{Name: s.Group})
		}
		last := &groups[len(groups)-1]
		last.Settings = append(last.Settings, s)
	}
	return groups
}

func writeTables(w io.Writer, list []Setting) error {
	var b strings.Builder
	for i, g := range groupsOf(list) {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "**%s**\n\n%s", g.Name, g.Table())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Table is the group's reference in Markdown.
func (g Group) Table() string {
	var b strings.Builder
	b.WriteString("| variable | default | meaning |\n| --- | --- | --- |\n")
	for _, s := range g.Settings {
		name := "`" + s.Name + "`"
		if s.Secret {
			name += " or `…" + FileSuffix + "`"
		}
		kind := s.Type
		if s.Reload {
			kind += "; changes without a restart"
		}
		fmt.Fprintf(&b, "| %s | %s | %s (%s) |\n", name, s.defaultCell(), cell(s.Doc), cell(kind))
	}
	return b.String()
}

// WriteEffective writes the values in the struct that into points to as an env
// file: what is set as NAME=value, what is not as a comment, secrets masked.
func WriteEffective(w io.Writer, into any) error {
	fields, err := fieldsOf(into)
	if err != nil {
		return err
	}
	var b strings.Builder
	v := reflect.ValueOf(into).Elem()
	for _, f := range fields {
		text := fmt.Sprint(v.FieldByIndex(f.index).Interface())
		if text == "" {
			fmt.Fprintf(&b, "; %s=\n", f.Name)
			continue
		}
		fmt.Fprintf(&b, "%s=%s\n", f.Name, text)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func (s Setting) orFile() string {
	if s.Secret {
		return ", or " + s.Name + FileSuffix
	}
	return ""
}

// summary is the part in brackets: type, and default or required.
func (s Setting) summary() string {
	switch {
	case s.Required:
		return s.Type + ", required"
	case s.Default != "":
		return s.Type + ", default " + s.Default
	}
	return s.Type
}

func (s Setting) defaultCell() string {
	switch {
	case s.Required:
		return "required"
	case s.Default != "":
		return "`" + s.Default + "`"
	}
	return ""
}

// cell escapes the one character that ends a table's cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// wrap breaks text at blanks into lines of at most width columns, indented.
func wrap(text string, indent, width int) string {
	var b strings.Builder
	margin := strings.Repeat(" ", indent)
	line := margin
	for _, word := range strings.Fields(text) {
		if line != margin && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			b.WriteString(line + "\n")
			line = margin
		}
		if line != margin {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}
