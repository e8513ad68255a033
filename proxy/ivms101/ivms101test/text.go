package ivms101test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf16"
)

// A payload is made as a tree, and then written down as odd as JSON allows.

type (
	object []member
	member struct {
		name  string
		value any // object, array, string, or literal
	}
	array   []any
	literal string // JSON text as it is
)

// hole is where originatingVASP is null: a rule puts a value there. It cannot
// occur in JSON text.
const hole = literal("\x00")

// with appends a member.
func (o object) with(name string, value any) object { return append(o, member{name, value}) }

// pen writes JSON text in a hand of its own.
type pen struct {
	*rand.Rand
	b      strings.Builder
	spaces int // of ten gaps, how many hold space
	escape int // of a hundred characters, how many are escaped for no reason
	extras int // of ten objects, how many have members that nobody knows
}

func newPen(r *rand.Rand) *pen {
	p := &pen{Rand: r}
	switch r.IntN(3) {
	case 1: // tidy
		p.spaces, p.extras = 5, 2
	case 2: // wild
		p.spaces, p.escape, p.extras = 3, 15, 6
	}
	return p
}

var spaces = []string{" ", "  ", "\n", "\t", "\r\n", "\n    "}

func (p *pen) gap() {
	if p.IntN(10) < p.spaces {
		p.b.WriteString(spaces[p.IntN(len(spaces))])
	}
}

func (p *pen) value(v any) {
	switch v := v.(type) {
	case object:
		p.object(v)
	case array:
		p.b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				p.b.WriteByte(',')
			}
			p.gap()
			p.value(e)
			p.gap()
		}
		p.b.WriteByte(']')
	case string:
		p.string(v)
	case literal:
		p.b.WriteString(string(v))
	default:
		panic(fmt.Sprintf("ivms101test: %T is no JSON", v))
	}
}

// object writes members in any order, and now and then some more.
func (p *pen) object(o object) {
	o = p.withExtras(append(object(nil), o...))
	p.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })
	p.b.WriteByte('{')
	p.gap()
	for i, m := range o {
		if i > 0 {
			p.b.WriteByte(',')
			p.gap()
		}
		p.string(m.name)
		p.gap()
		p.b.WriteByte(':')
		p.gap()
		p.value(m.value)
		p.gap()
	}
	p.b.WriteByte('}')
}

// extraNames are members that the contract does not have; case counts.
var extraNames = []string{"x", "X", "ACCOUNTNUMBER", "Name", "originatingVaspID", "memo", "이름", "nom d’usage", "", "a/b~c", "__proto__", "constructor", "🎏", "$ref", "\tx"}

// exotic are values of such members.
var exotic = []any{
	literal("null"), literal("true"), literal("0"), literal("-0"), literal("-0.0e+0"), literal("1E400"), literal("1e-400"), literal("0.1000000000000000055511151231257827"),
	literal("18446744073709551616"), literal("-99999999999999999999999999999999999999999999999999.50"), literal("123456789012345678901234567890E-5"), literal("1.0"), literal("[]"), literal("{}"), literal("[ ]"), literal("{\n}"),
	literal(`[null,[null,[null]]]`), literal(`{"a":null,"b":{"c":null}}`), literal(`"\ud83d\ude00\/"`),
	"", "a\tb\nc", "\u2028\u2029", "\ufeff", "</script>", `C:\new\folder`, "e\u0301", "\u00e9", "👩‍👩‍👧", strings.Repeat("長い", 40), "2026-01-02", "null",
}

func (p *pen) withExtras(o object) object {
	if p.IntN(10) >= p.extras {
		return o
	}
	used := map[string]bool{}
	for _, m := range o {
		used[m.name] = true
	}
	for range 1 + p.IntN(3) {
		if name := extraNames[p.IntN(len(extraNames))]; !used[name] {
			used[name] = true
			o = o.with(name, exotic[p.IntN(len(exotic))])
		}
	}
	return o
}

// string writes a string, with more escapes than it needs.
func (p *pen) string(s string) {
	p.b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			p.b.WriteByte('\\')
			p.b.WriteRune(c)
		case c == '\n':
			p.b.WriteString(`\n`)
		case c == '\t':
			p.b.WriteString(`\t`)
		case p.escape > 0 && c == '/' && p.IntN(2) == 0:
			p.b.WriteString(`\/`)
		case p.IntN(100) < p.escape:
			p.escaped(c)
		default:
			p.b.WriteRune(c)
		}
	}
	p.b.WriteByte('"')
}

// escaped writes a character by its number, in small or large digits.
func (p *pen) escaped(c rune) {
	form := `\u%04x`
	if p.IntN(2) == 0 {
		form = `\u%04X`
	}
	if high, low := utf16.EncodeRune(c); high != '\ufffd' {
		fmt.Fprintf(&p.b, form+form, high, low)
		return
	}
	fmt.Fprintf(&p.b, form, c)
}
