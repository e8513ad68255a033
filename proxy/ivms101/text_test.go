package ivms101_test

import (
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
