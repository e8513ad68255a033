package ivms101_test

import (
	"fmt"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
)

func TestSameAccount(t *testing.T) {
	const hangul = "계좌번호-7"
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"bc1qreceiver", "bc1qreceiver", true},
		{"0xAbC0", "0xabc0", false}, // the case of an account counts
		{"rAddress:815", "rAddress", false},
		{"a", " a", false},
		{norm.NFC.String(hangul), norm.NFD.String(hangul), true}, // as a Mac writes it
		{"ａ", "a", false},                                        // full width is another character
		{"", "", true},
	} {
		if got := ivms101.SameAccount(c.a, c.b); got != c.want {
			t.Errorf("SameAccount(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// Attack P3: text that looks like something else is refused; text that people
// write is not.
func TestCheckText(t *testing.T) {
	for _, ok := range []string{
		`{"name":"Taylor Robbins"}`,
		`{"name":"Zoë O'Brien-Çelik"}`,
		`{"name":"` + norm.NFC.String("김철수") + `"}`,
		`{"name":"` + norm.NFD.String("김철수") + `"}`,
		`{"name":"محمد بن عبد الله"}`,
		"{\"name\":\"می\u200cخواهم\"}",      // Persian with a zero width non-joiner
		"{\"name\":\"\u200fשלום\u200e A\"}", // direction hints
		`{"name":"\u200f\u200e\u200d"}`,
		`{"address":"1 High St\nSingapore\t049145"}`,
		"{\n\t\"name\" : \"x\"\r\n}",
		`{"name":"\\u202e"}`, // six characters, no override
	} {
		if err := ivms101.CheckText([]byte(ok)); err != nil {
			t.Errorf("CheckText(%s) = %v, want nil", ok, err)
		}
	}
	for _, bad := range []string{
		"{\"name\":\"a\u202eb\"}", "{\"name\":\"a\u202ab\"}", "{\"name\":\"a\u2066b\"}", "{\"name\":\"a\u2069b\"}",
		`{"name":"a\u202eb"}`, `{"name":"a\u202Db"}`, `{"name":"a\u2067b"}`,
		`{"name":"\u001b[2J"}`, `{"name":"\u007f"}`, `{"name":"\u0085"}`,
		`{"a\u202e":1}`,
	} {
		if err := ivms101.CheckText([]byte(bad)); err == nil {
			t.Errorf("CheckText(%+q) = nil, want refusal", bad)
		}
	}
}

func FuzzCheckText(f *testing.F) {
	f.Add([]byte(`{"name":"\u202e"}`))
	f.Add([]byte("\u2066"))
	f.Add([]byte(`{"name":"\`))
	f.Fuzz(func(t *testing.T, text []byte) { ivms101.CheckText(text) })
}

// Contract 8.3: values are compared without case, however Unicode composes
// them; accounts with case.
func TestSameValue(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"LEGL", "legl", true},
		{"Zoë", "ZOE\u0308", true},
		{norm.NFC.String("김철수"), norm.NFD.String("김철수"), true},
		{"Straße", "STRASSE", true},
		{"ΣΊΣΥΦΟΣ", "σίσυφος", true},
		{"\u1fb3", "\u0391\u0345", true}, // alpha with iota below, by its capital
		{"Roe", "Rœ", false},
		{"a", "а", false}, // the other is Cyrillic
		{"می" + "\u200c" + "خواهم", "میخواهم", false},
		{"", "", true},
	} {
		if got := ivms101.SameValue(c.a, c.b); got != c.want {
			t.Errorf("SameValue(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// Contract 8.3: address:tag. A tag is part of the account and compared with it.
func TestAccountsWithTags(t *testing.T) {
	for account, want := range map[string][3]string{
		"rAddress":         {"rAddress", "", "false"},
		"rAddress:815":     {"rAddress", "815", "true"},
		"rAddress:":        {"rAddress", "", "true"},
		":815":             {"", "815", "true"},
		"bitcoincash:qq:7": {"bitcoincash:qq", "7", "true"},
		"":                 {"", "", "false"},
	} {
		address, tag, tagged := ivms101.SplitAccount(account)
		if got := [3]string{address, tag, fmt.Sprint(tagged)}; got != want {
			t.Errorf("SplitAccount(%q) = %q, want %q", account, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"rAddress:815", "rAddress:815", true},
		{"rAddress:815", "rAddress:816", false},
		{"rAddress:815", "rAddress", false},
		{"rAddress:", "rAddress", false},
		{"rAddress:0815", "rAddress:815", false},
		{"rAddress:Memo", "rAddress:memo", false},
		{norm.NFC.String("rAddress:메모"), norm.NFD.String("rAddress:메모"), true},
		{"a\u200cb", "ab", false}, // what names need does not make accounts alike
	} {
		if got := ivms101.SameAccount(c.a, c.b); got != c.want {
			t.Errorf("SameAccount(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// The ranges of CheckText, character by character: U+202A to U+202E and U+2066
// to U+2069 are refused, their neighbours and U+200C to U+200F are not; written
// plainly or by their number, in a name or a value.
func TestCheckTextRanges(t *testing.T) {
	refused := func(c rune) bool { return c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 }
	for c := rune(0x2000); c <= 0x2070; c++ {
		for _, text := range []string{`{"name":"a` + string(c) + `b"}`, fmt.Sprintf(`{"name":"a\u%04xb"}`, c), `{"a` + string(c) + `":1}`} {
			if err := ivms101.CheckText([]byte(text)); (err != nil) != refused(c) {
				t.Errorf("CheckText with %U in %q = %v", c, text, err)
			}
		}
	}
}

func FuzzSplitAccount(f *testing.F) {
	f.Add("rAddress:815")
	f.Add("::")
	f.Fuzz(func(t *testing.T, account string) {
		address, tag, tagged := ivms101.SplitAccount(account)
		if tagged {
			address += ":" + tag
		}
		if address != account || !ivms101.SameAccount(account, account) || !ivms101.SameValue(account, account) {
			t.Fatalf("SplitAccount(%q) = %q, %q, %v", account, address, tag, tagged)
		}
	})
}
