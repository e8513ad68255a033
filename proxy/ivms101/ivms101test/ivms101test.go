// Package ivms101test makes realistic payloads for tests, each from a number:
// persons and companies in two dozen scripts, with many addresses, members
// that nobody knows at every level, and JSON text that is as odd as it may
// be. Every payload keeps all rules of the contract's section 8.
package ivms101test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Payload is one payload. The same number gives the same one.
type Payload struct {
	// Seed is the number that it was made from.
	Seed uint64
	// Script is the one that its originator writes.
	Script string
	// Required is requiredBeneficiaryInfo, and holds ACCOUNT_NUMBER.
	Required string
	// Originator and Beneficiary are the texts of these objects, as they
	// stand in the payload.
	Originator, Beneficiary string
	// Personal is every name, number, place and account in it, as it reads
	// and not as it is escaped. None is shorter than two characters.
	Personal []string

	ivms101       string // with the hole
	before, after string // of the payload's text
	request       string // with %s for the VASP and for the payload
}

// New makes a payload.
func New(seed uint64) *Payload {
	r := rand.New(rand.NewPCG(seed, 101))
	g := &generator{Rand: r, script: scripts[r.IntN(len(scripts))], other: scripts[r.IntN(len(scripts))]}
	p := &Payload{Seed: seed, Script: g.script.name, Required: g.required()}
	originator, beneficiary := g.participant("originatorPersons", g.script, true), g.participant("beneficiaryPersons", g.other, false)
	pen := newPen(r)
	write := func(v any) string {
		pen.b.Reset()
		pen.value(v)
		return pen.b.String()
	}
	p.Originator, p.Beneficiary = write(originator), write(beneficiary)
	ivms := object{{"originator", literal(p.Originator)}, {"beneficiary", literal(p.Beneficiary)}}
	p.ivms101 = write(g.around(ivms))
	const mark = "\x01"
	p.before, p.after, _ = strings.Cut(write(object{{"version", "1.0"}, {"ivms101", literal(mark)}}), mark)
	p.request = write(object{
		{"keyType", "PerVasp"}, {"beneficiaryVaspId", literal(`"` + mark + `"`)}, {"assetInfo", g.asset()},
		{"requiredBeneficiaryInfo", p.Required}, {"payload", literal("\x02")},
	})
	p.Personal = g.personal
	return p
}

// IVMS101 is the text of the ivms101 object.
func (p *Payload) IVMS101() string { return strings.Replace(p.ivms101, string(hole), "null", 1) }

// WithOriginatingVASP is that text after the originating VASP's own part was
// put into it, which happens when it has none, or null.
func (p *Payload) WithOriginatingVASP(part string) string {
	switch {
	case strings.Contains(p.ivms101, string(hole)):
		return strings.Replace(p.ivms101, string(hole), part, 1)
	case p.hasVASP():
		return p.ivms101
	}
	end := strings.LastIndexByte(p.ivms101, '}')
	return p.ivms101[:end] + `,"originatingVASP":` + part + "}"
}

func (p *Payload) hasVASP() bool { return strings.Contains(p.ivms101, ownVASP) }

// Text is the text of the payload object, with version and ivms101.
func (p *Payload) Text() string { return p.before + p.IVMS101() + p.after }

// Request is the body of POST /v1/verifications with it, for a beneficiary
// VASP's decimal id. Exactly Text stands in it.
func (p *Payload) Request(vaspID string) []byte {
	return []byte(strings.NewReplacer("\x01", vaspID, "\x02", p.Text()).Replace(p.request))
}

// generator chooses what a payload says.
type generator struct {
	*rand.Rand
	script, other script
	personal      []string
}

// tell remembers a value that is somebody's.
func (g *generator) tell(s string) string {
	if len([]rune(s)) > 1 {
		g.personal = append(g.personal, s)
	}
	return s
}

// one in n times it is so.
func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// form writes a text composed, or decomposed as a Mac does.
func (g *generator) form(s string) string {
	if g.one(4) {
		return norm.NFD.String(s)
	}
	return norm.NFC.String(s)
}

// case is a code in capitals or not: values are compared without case.
func (g *generator) code(s string) string {
	if g.one(6) {
		return strings.ToLower(s)
	}
	return s
}

func (g *generator) digits(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + g.IntN(10))
	}
	return string(b)
}

// around adds what stands beside the parties.
func (g *generator) around(ivms object) object {
	switch g.IntN(4) {
	case 0:
		ivms = ivms.with("originatingVASP", hole)
	case 1:
		ivms = ivms.with("originatingVASP", literal(ownVASP))
	}
	switch g.IntN(6) {
	case 0:
		ivms = ivms.with("beneficiaryVASP", literal("null"))
	case 1:
		ivms = ivms.with("beneficiaryVASP", object{{"legalPerson", g.legalPerson(g.other)}})
	}
	if g.script.method != "" && g.one(2) {
		ivms = ivms.with("payloadMetadata", object{{"transliterationMethod", array{g.code(g.script.method)}}})
	}
	return ivms
}

// ownVASP is the part of an originating VASP whose backend writes it itself.
const ownVASP = `{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":"Own Part S.A.","legalPersonNameIdentifierType":"LEGL"}]},` +
	` "countryOfRegistration" : "LU"}}`

func (g *generator) participant(persons string, s script, full bool) object {
	var who array
	if g.one(3) {
		who = append(who, object{{"legalPerson", g.legalPerson(s)}})
		for range g.IntN(4) { // its representatives
			who = append(who, object{{"naturalPerson", g.naturalPerson(s, g.one(2))}})
		}
	} else {
		who = append(who, object{{"naturalPerson", g.naturalPerson(s, full || g.one(2))}})
	}
	accounts := array{g.account()}
	for !full && g.one(4) {
		accounts = append(accounts, g.account())
	}
	return object{{persons, who}, {"accountNumber", accounts}}
}

// account is one of any chain, with a tag or without, or a customer's number.
func (g *generator) account() string {
	const base58, hex = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", "0123456789abcdefABCDEF"
	from := func(letters string, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[g.IntN(len(letters))]
		}
		return string(b)
	}
	var a string
	switch g.IntN(6) {
	case 0:
		a = "bc1q" + strings.ToLower(from(base58, 38))
	case 1:
		a = "0x" + from(hex, 40)
	case 2:
		a = "r" + from(base58, 33) + ":" + g.digits(1+g.IntN(9))
	case 3:
		a = "G" + strings.ToUpper(from(base58, 55)) + ":memo " + g.form("é/\"\\")
	case 4:
		a = g.form("고객-") + g.digits(12)
	default:
		a = from(base58, 44)
	}
	return g.tell(a)
}

func (g *generator) naturalPerson(s script, full bool) object {
	who := pick(g, s.people)
	p := object{{"name", g.naturalName(s, who)}}
	if full {
		p = p.with("customerIdentification", g.tell("c-"+g.digits(10)))
		born := "dateAndPlaceOfBirth"
		if g.one(4) {
			born = "dataAndPlaceOfBirth" // as the guide's samples have it
		}
		p = p.with(born, object{
			{"dateOfBirth", g.tell(fmt.Sprintf("%d-%02d-%02d", 1930+g.IntN(80), 1+g.IntN(12), 1+g.IntN(28)))},
			{"placeOfBirth", g.tell(g.form(pick(g, s.towns).primary))},
		})
	}
	if g.one(2) {
		p = p.with("geographicAddress", g.addresses(s, 1+g.IntN(3)))
	}
	if g.one(3) {
		p = p.with("nationalIdentification", object{
			{"nationalIdentifier", g.tell("N/" + g.digits(9))}, {"nationalIdentifierType", g.code(pick(g, []string{"ARNU", "CCPT", "DRLC", "FIIN", "TXID", "SOCS", "IDCD", "MISC"}))},
			{"countryOfIssue", s.country},
		})
	}
	if g.one(3) {
		p = p.with("nationality", g.code(s.country)).with("countryOfResidence", pick(g, scripts).country)
	}
	return g.nulls(p, "nationality", "geographicAddress", "customerIdentification", "dateAndPlaceOfBirth")
}

// nulls writes null for some of what is not there: it says the same.
func (g *generator) nulls(o object, names ...string) object {
	has := map[string]bool{}
	for _, m := range o {
		has[m.name] = true
	}
	for _, name := range names {
		if !has[name] && g.one(8) {
			o = o.with(name, literal("null"))
		}
	}
	return o
}

// naturalName is a name in Latin letters with the local one beside it, for a
// transfer between countries, or in local letters only.
func (g *generator) naturalName(s script, who spelling) object {
	local := g.nameIdentifier(who.primary, who.secondary, "LEGL")
	var name object
	if s.method == "" || g.one(2) {
		name = object{{"nameIdentifier", array{local}}}
	} else {
		name = object{{"nameIdentifier", array{g.nameIdentifier(who.latin, who.latinSecondary, "LEGL")}}, {"localNameIdentifier", array{local}}}
	}
	if g.one(4) {
		more := pick(g, s.people)
		names := name[0].value.(array)
		name[0].value = append(names, g.nameIdentifier(more.primary, "", pick(g, []string{"ALIA", "BIRT", "MAID", "MISC"})))
	}
	if g.one(6) {
		name = name.with("phoneticNameIdentifier", array{local})
	}
	return name
}

func (g *generator) nameIdentifier(primary, secondary, kind string) object {
	n := object{{"primaryIdentifier", g.tell(g.form(primary))}, {"nameIdentifierType", g.code(kind)}}
	if secondary != "" && !g.one(8) {
		n = n.with("secondaryIdentifier", g.tell(g.form(secondary)))
	}
	return n
}

func (g *generator) legalPerson(s script) object {
	who := pick(g, s.companies)
	identifier := func(name, kind string) object {
		return object{{"legalPersonName", g.tell(g.form(name))}, {"legalPersonNameIdentifierType", g.code(kind)}}
	}
	name := object{{"nameIdentifier", array{identifier(who.primary, "LEGL")}}}
	if who.latin != "" && g.one(2) {
		name = object{{"nameIdentifier", array{identifier(who.latin, "LEGL"), identifier(who.latin, "TRAD")}}, {"localNameIdentifier", array{identifier(who.primary, "LEGL")}}}
	}
	offices := 1 + g.IntN(3)
	if g.one(15) {
		offices = 40
	}
	p := object{
		{"name", name}, {"geographicAddress", g.addresses(s, offices)}, {"nationalIdentification", g.companyNumber()},
		{"countryOfRegistration", g.code(s.country)},
	}
	if g.one(2) {
		p = p.with("dateOfIncorporation", g.tell(fmt.Sprintf("%d-%02d-%02d", 1890+g.IntN(130), 1+g.IntN(12), 1+g.IntN(28))))
	}
	if g.one(3) {
		p = p.with(pick(g, []string{"customerIdentification", "customerNumber"}), g.tell("k-"+g.digits(10)))
	}
	return g.nulls(p, "dateOfIncorporation", "customerIdentification")
}

func (g *generator) companyNumber() object {
	if g.one(2) {
		return object{{"nationalIdentifier", g.tell(g.lei())}, {"nationalIdentifierType", g.code("LEIX")}}
	}
	return object{
		{"nationalIdentifier", g.tell(g.digits(9) + "A")}, {"nationalIdentifierType", pick(g, []string{"RAID", "TXID", "MISC"})},
		{"registrationAuthority", "RA" + g.digits(6)},
	}
}

// lei makes the check digits as ISO 17442 has it: those that leave 1 modulo 97.
func (g *generator) lei() string {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	code := g.digits(4) + "00"
	for len(code) < 18 {
		code += string(letters[g.IntN(len(letters))])
	}
	rest := 0
	for _, c := range code {
		if v := strings.IndexRune(letters, c); v < 10 {
			rest = (rest*10 + v) % 97
		} else {
			rest = (rest*100 + v) % 97
		}
	}
	return fmt.Sprintf("%s%02d", code, 98-rest*100%97)
}

func (g *generator) addresses(s script, n int) (all array) {
	for range n {
		all = append(all, g.address(s))
	}
	return all
}

func (g *generator) address(s script) object {
	street, town := pick(g, s.streets), pick(g, s.towns).primary
	a := object{{"addressType", g.code(pick(g, []string{"HOME", "BIZZ", "GEOG"}))}, {"country", g.code(s.country)}}
	if g.one(2) {
		lines := array{g.tell(g.form(street + " " + g.digits(2)))}
		for range g.IntN(7) {
			lines = append(lines, g.form(pick(g, []string{town, "c/o", "3/F", "a\nb", "\t" + town, "№ 7"})))
		}
		return a.with("addressLine", lines)
	}
	a = a.with("streetName", g.tell(g.form(street))).with("townName", g.tell(g.form(town))).with("postcode", g.digits(5))
	switch g.IntN(3) {
	case 0:
		a = a.with("buildingNumber", g.digits(3)).with("buildingName", "Tower/"+g.digits(1))
	case 1:
		a = a.with("buildingName", "Tower "+g.digits(1)).with("floor", g.digits(2)).with("room", "B")
	default:
		a = a.with("buildingNumber", g.digits(1)+"-"+g.digits(2)).with("postBox", g.digits(4)).with("department", "KYC")
	}
	return g.nulls(a, "addressLine", "countrySubDivision", "districtName")
}

func (g *generator) required() string {
	codes := []string{"ACCOUNT_NUMBER"}
	for _, code := range []string{
		"NATURAL_PERSON_NAME", "LOCAL_NATURAL_PERSON_NAME", "LEGAL_PERSON_NAME", "NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH",
		"HEAD_OFFICE_GEOGRAPHIC_ADDRESS", "BRANCH_OFFICE_GEOGRAPHIC_ADDRESS", "CORPORATE_REPRESENTATIVE_NAME", "NATURAL_PERSON_NATIONALITY", "A_CODE_OF_TOMORROW",
	} {
		if g.one(3) {
			codes = append(codes, code)
		}
	}
	g.Shuffle(len(codes), func(i, j int) { codes[i], codes[j] = codes[j], codes[i] })
	return strings.Join(codes, pick(g, []string{",", ", "}))
}

func (g *generator) asset() object {
	a := object{
		{"symbol", pick(g, []string{"BTC", "ETH", "XRP", "xlm"})}, {"amount", pick(g, []string{"0.5", "1", "0.000000000000000001", "21000000.00000000"})},
		{"isExceedingThreshold", literal(pick(g, []string{"true", "false"}))}, {"tradePrice", "45000000"}, {"tradeCurrency", "KRW"},
		{pick(g, []string{"tradeISODatetime", "tradeISODateTime"}), pick(g, []string{"2025-03-04T05:06:07.000Z", "20250304T050607.000Z", "2025-03-04T14:06:07+09:00"})},
	}
	if g.one(2) {
		a = a.with("network", pick(g, []string{"Bitcoin", "ETHEREUM", "a network of tomorrow"}))
	}
	return a
}
